#!/usr/bin/env python3
"""Breaks the implementation on purpose, one mutation at a time, and sees whether the test of the row fails.

    tests/mutations/run.py                 # all: half an hour or more
    tests/mutations/run.py --only WF-05    # some rows

The mutations are in the `.txt` files beside this one: blocks of

    row WF-05                                 the row or rows of `tests/conformance_rows.txt`
    test corio-runtime endings wf_05          package, test target (`lib` for its unit tests), filter
    file runtime/src/time/timeout.rs
    -text that occurs once in the file, in lines without their ends
    +what replaces it

and more `file` parts in one block are one mutation. All is built and run in a copy under `target/mutations`. A mutation
that does not compile, or whose text is not found, is an error of its entry. A test that hangs has failed.
"""

import argparse, fcntl, os, shutil, signal, subprocess, sys, time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
WORK = Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target") / "mutations"
COPY = WORK / "copy"
BUILD_LIMIT_S = 1200
HANG_S = 30


class Mutation:
    def __init__(self, where, block):
        self.where, self.rows, self.target, self.filter, self.edits = where, [], None, None, []
        for line in block:
            kind, text = line[:1], line[1:]
            if kind in "-+":
                self.edits[-1]["find" if kind == "-" else "replace"].append(text)
            else:
                word, *rest = line.split()
                if word == "row":
                    self.rows = rest
                elif word == "test":
                    package, name, self.filter = rest
                    self.target = (package, name)
                elif word == "file":
                    self.edits.append({"file": rest[0], "find": [], "replace": []})
                else:
                    sys.exit(f"{where}: {line!r} is no line of a mutation")

    def changed(self):
        """The files with the mutation, as path and text."""
        files = {}
        for edit in self.edits:
            path = COPY / edit["file"]
            text, find = files.get(path) or path.read_text(), "\n".join(edit["find"])
            if text.count(find) != 1:
                raise ValueError(f"{edit['file']} has {text.count(find)} times: {find}")
            files[path] = text.replace(find, "\n".join(edit["replace"]))
        return files


def mutations():
    found = []
    for path in sorted(HERE.glob("*.txt")):
        block, start = [], 0
        for number, line in enumerate([*path.read_text().split("\n"), ""], 1):
            if line and not line.startswith("#"):
                start = start if block else number
                block.append(line)
            elif not line and block:
                found.append(Mutation(f"{path.name}:{start}", block))
                block = []
    return found


def copy_tree():
    """All files that git knows or would take. Their times are new, so that cargo builds nothing of an earlier mutation."""
    shutil.rmtree(COPY, ignore_errors=True)
    listed = subprocess.run(["git", "ls-files", "-coz", "--exclude-standard"], cwd=ROOT, stdout=subprocess.PIPE, check=True)
    for name in listed.stdout.decode().split("\0"):
        if name and (ROOT / name).is_file():
            (COPY / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, COPY / name)
            shutil.copymode(ROOT / name, COPY / name)


def cargo(target, *arguments, limit):
    """Returns the exit code, or `None` if it took too long, and what was printed."""
    package, name = target
    which = ["--lib"] if name == "lib" else ["--test", name]
    command = ["cargo", "test", "--quiet", "-p", package, "--all-features", *which, *arguments]
    env = dict(os.environ, CARGO_TARGET_DIR=str(WORK / "build"), RUST_BACKTRACE="0", CARGO_TERM_COLOR="never")
    child = subprocess.Popen(
        command, cwd=COPY, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, errors="replace", start_new_session=True,
        # `nohup` ignores it, and a test sends it to a child.
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
    )
    try:
        text, _ = child.communicate(timeout=limit)
        return child.returncode, text
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        return None, child.communicate()[0]
    except BaseException:
        os.killpg(child.pid, signal.SIGKILL)
        raise


def limits(chosen):
    """How long the tests of each target may take: much longer than they do without a mutation, when all must pass."""
    filters = {}
    for mutation in chosen:
        filters.setdefault(mutation.target, set()).add(mutation.filter)
    limits = {}
    for target, names in sorted(filters.items()):
        code, text = cargo(target, "--no-run", limit=BUILD_LIMIT_S)
        start = time.monotonic()
        if code == 0:
            code, text = cargo(target, "--", *sorted(names), limit=BUILD_LIMIT_S)
        if code != 0:
            sys.exit(f"without any mutation, tests of {' '.join(target)} fail:\n{text}")
        limits[target] = HANG_S + 10 * (time.monotonic() - start)
    return limits


def judge(mutation, limit):
    """One of "killed", "SURVIVED", "ERROR", and a text."""
    try:
        files = mutation.changed()
    except (OSError, ValueError) as e:
        return "ERROR", f"stale: {e}"
    before = {path: path.read_text() for path in files}
    try:
        for path, text in files.items():
            path.write_text(text)
        code, text = cargo(mutation.target, "--no-run", limit=BUILD_LIMIT_S)
        if "internal compiler error" in text:
            # Incremental compilation has its own faults.
            shutil.rmtree(WORK / "build" / "debug" / "incremental", ignore_errors=True)
            code, text = cargo(mutation.target, "--no-run", limit=BUILD_LIMIT_S)
        if code != 0:
            return "ERROR", "it does not compile:\n" + text
        code, text = cargo(mutation.target, "--", mutation.filter, limit=limit)
    finally:
        for path, text_before in before.items():
            path.write_text(text_before)
    if code is None:
        return "killed", "it hangs"
    return ("SURVIVED", "") if code == 0 else ("killed", "")


def main():
    parser = argparse.ArgumentParser(description="Breaks the implementation, and expects the tests of the rows to fail.")
    parser.add_argument("--only", nargs="+", metavar="ROW", default=[])
    only = parser.parse_args().only
    chosen = [m for m in mutations() if not only or set(only) & set(m.rows)]
    if not chosen:
        sys.exit("no such row is in the list")
    # The copy is removed then, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by a signal"))
    WORK.mkdir(parents=True, exist_ok=True)
    with open(WORK / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            copy_tree()
            limit = limits(chosen)
            results = []
            for mutation in chosen:
                start = time.monotonic()
                verdict, text = judge(mutation, limit[mutation.target])
                results.append(verdict)
                took = f"{time.monotonic() - start:.0f} s"
                print(f"{verdict:8} {' '.join(mutation.rows):16} {mutation.where:16} {took:>5}  {text}", flush=True)
        finally:
            shutil.rmtree(COPY, ignore_errors=True)
    rows = {row for mutation in chosen for row in mutation.rows}
    areas = {row.split("-")[0] for row in rows}
    count = {verdict: results.count(verdict) for verdict in ("killed", "SURVIVED", "ERROR")}
    print(f"{len(results)} mutations of {len(rows)} rows in {len(areas)} areas: "
          + ", ".join(f"{number} {verdict}" for verdict, number in count.items()))
    sys.exit(count["killed"] != len(results))


if __name__ == "__main__":
    main()
