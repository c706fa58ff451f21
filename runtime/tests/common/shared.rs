//! Helpers of all crates' tests: runs on every kernel, waiting, counters of the process, and re-executed children for
//! tests that count or change process-wide state.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::{
    cell::RefCell,
    future::poll_fn,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    process::{Command, Output, Stdio},
    rc::Rc,
    sync::OnceLock,
    task::Poll,
    time::Duration,
};

use nix::sys::resource::{Resource, getrlimit, rlim_t, setrlimit};

use corio_runtime::{
    Backend, Faults, Runner, metrics, set_exception_handler,
    time::{now, sleep},
};

/// The kernels that there are: io_uring only where it is not refused.
pub(crate) fn kernels() -> Vec<Backend> {
    static OFFERED: OnceLock<bool> = OnceLock::new();
    let offered = *OFFERED
        .get_or_init(|| Runner::builder().backend(Backend::Uring).entries(1).buffers(1, 64).build().is_ok());
    let all = [Backend::Uring, Backend::Epoll, Backend::Sim { seed: 7 }];
    all.into_iter().filter(|backend| offered || *backend != Backend::Uring).collect()
}

/// The same without the simulator.
pub(crate) fn real_kernels() -> Vec<Backend> {
    kernels().into_iter().filter(|backend| !matches!(backend, Backend::Sim { .. })).collect()
}

/// A loop on this kernel.
pub(crate) fn on(backend: Backend) -> Runner {
    Runner::builder().backend(backend).build().unwrap()
}

/// Runs `test` on every kernel.
pub(crate) fn on_every(test: impl AsyncFn()) {
    for backend in kernels() {
        on(backend).run(test());
    }
}

/// Runs `test` on every kernel; in the simulator with so many seeds, the odd ones with `faults`.
pub(crate) fn on_every_seed(seeds: u64, faults: Faults, test: impl AsyncFn() -> io::Result<()>) {
    let run = |backend, faults| {
        let mut runner = Runner::builder().backend(backend).faults(faults).build().unwrap();
        runner.run(test()).unwrap_or_else(|e| panic!("on {backend:?}: {e}"));
        assert_eq!(runner.run(async { metrics().ring.strays }), 0, "on {backend:?}");
    };
    for backend in kernels() {
        if matches!(backend, Backend::Sim { .. }) {
            for seed in 0..seeds {
                run(Backend::Sim { seed }, if seed % 2 == 1 { faults.clone() } else { Faults::default() });
            }
        } else {
            run(backend, Faults::default());
        }
    }
}

/// Waits until `done`. What takes a minute hangs.
pub(crate) async fn until(mut done: impl FnMut() -> bool) {
    let hangs = now() + Duration::from_secs(60);
    while !done() {
        assert!(now() < hangs, "the test hangs");
        sleep(Duration::from_millis(1)).await;
    }
}

/// What the running loop's exception handler hears from now on; not that steps are slow, as the printing of a panic may
/// be.
pub(crate) fn reports() -> Rc<RefCell<Vec<String>>> {
    let reports = Rc::new(RefCell::new(Vec::new()));
    let heard = reports.clone();
    set_exception_handler(move |context| {
        if !context.message().contains("kept the loop for") {
            heard.borrow_mut().push(context.to_string());
        }
    });
    reports
}

/// What the panic says by which `future` ends.
pub(crate) async fn panic_of(future: impl Future<Output = ()>) -> String {
    let mut future = pin!(future);
    let payload = poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
        Ok(Poll::Ready(())) => panic!("it should have panicked"),
        Ok(Poll::Pending) => Poll::Pending,
        Err(payload) => Poll::Ready(payload),
    });
    let payload = payload.await;
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref().cloned()).expect("a panic with a text")
}

/// No more descriptors than these may be open until it is dropped: the detector of leaks needs some at the end.
pub(crate) struct FewDescriptors(rlim_t, rlim_t);

impl FewDescriptors {
    pub(crate) fn at_most(count: rlim_t) -> FewDescriptors {
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        setrlimit(Resource::RLIMIT_NOFILE, count, hard).unwrap();
        FewDescriptors(soft, hard)
    }
}

impl Drop for FewDescriptors {
    fn drop(&mut self) {
        setrlimit(Resource::RLIMIT_NOFILE, self.0, self.1).unwrap();
    }
}

/// Open descriptors of the process.
pub(crate) fn open_fds() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Memory that the process occupies, in KiB.
pub(crate) fn resident_kib() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 4
}

const CHILD: &str = "CORIO_TEST_CHILD";

/// Whether this process is the child that runs `test` alone.
pub(crate) fn is_child(test: &str) -> bool {
    std::env::var(CHILD).is_ok_and(|name| name == test)
}

/// What runs `test` again in a process of its own, where `is_child(test)` holds.
pub(crate) fn child(test: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture", "--test-threads=1"]).env(CHILD, test);
    command.stdin(Stdio::null());
    command
}

/// Fails unless the child ran `test` to its end.
pub(crate) fn assert_passed(test: &str, output: &Output) {
    let said =
        format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{test} failed in its own process ({}):\n{said}", output.status);
    assert!(said.contains("1 passed"), "there is no test {test}:\n{said}");
}

/// `true` in a process of its own; `false` in the usual one, once the other has succeeded.
pub(crate) fn in_own_process(test: &str) -> bool {
    if is_child(test) {
        return true;
    }
    assert_passed(test, &child(test).output().unwrap());
    false
}
