//! Makes a program smaller while it still differs.

use super::node::{Body, Node};

/// Drops a step, or puts the steps inside it in its place, as long as `differs` holds.
pub(super) fn smallest(mut program: Body, mut differs: impl FnMut(&Body) -> bool) -> Body {
    'smaller: loop {
        for at in 0..count(&program) {
            for unwrap in [false, true] {
                let mut smaller = program.clone();
                let changed = change(&mut smaller, &mut { at }, unwrap);
                if changed && differs(&smaller) {
                    program = smaller;
                    continue 'smaller;
                }
            }
        }
        return program;
    }
}

fn count(body: &Body) -> usize {
    body.iter().map(|node| 1 + node.bodies.iter().map(count).sum::<usize>()).sum()
}

/// Changes step number `left`, counted from the outside in; whether there is something to change.
fn change(body: &mut Body, left: &mut usize, unwrap: bool) -> bool {
    for at in 0..body.len() {
        if *left == 0 {
            let node = body.remove(at);
            if unwrap {
                let inner = inside(node);
                let found = !inner.is_empty();
                body.splice(at..at, inner);
                return found;
            }
            return true;
        }
        *left -= 1;
        if body[at].bodies.iter_mut().any(|inner| change(inner, left, unwrap)) {
            return true;
        }
    }
    false
}

/// The steps inside, unless they belong to another task.
fn inside(node: Node) -> Body {
    if node.op.has_bodies() { node.bodies.into_iter().next().unwrap_or_default() } else { Body::new() }
}
