//! Makes a program from a seed. What is left out, because it differs here, is said where it is left out.

use std::collections::BTreeMap;

use super::node::{Body, Node, Op};

/// Sleeps are multiples of this (µs) in programs where many end at one instant.
const SLOT: u64 = 1 << 16;
/// Deepest nesting.
const DEPTH: u32 = 4;

/// The program of this seed.
pub(super) fn program(seed: u64) -> Body {
    let mut random = Random(seed);
    let left = 40 + random.below(60);
    let mut maker = Maker {
        random,
        kind: Kind::of(seed),
        left,
        names: 0,
        timeouts: 0,
        tasks: BTreeMap::new(),
        consumers: [None; 3],
        producers: [None; 3],
    };
    let mut around = Around::task(0, 0, false);
    let mut body = Body::new();
    while maker.left > 0 {
        body.extend(maker.body(&mut around));
    }
    body
}

/// How the steps of tasks meet.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Each sleep ends at an instant of its own.
    Apart,
    /// Many end at one instant, no task is cancelled by another, and no group is in another.
    Together,
    /// Many end at one instant, with cancels, and without groups.
    Crowded,
}

impl Kind {
    fn of(seed: u64) -> Kind {
        match seed % 4 {
            0 => Kind::Together,
            2 => Kind::Crowded,
            _ => Kind::Apart,
        }
    }

    fn has(self, op: Op) -> bool {
        match self {
            Kind::Apart => true,
            // What waits for several tasks is woken by the first end of a turn, in asyncio by the last.
            Kind::Together => !matches!(op, Op::Cancel | Op::Gather | Op::WaitAll | Op::WaitFirst),
            // These hear of an end, or of a cancel, in another turn than in asyncio.
            Kind::Crowded => !matches!(op, Op::Group | Op::Shield | Op::Gather | Op::WaitAll | Op::WaitFirst),
        }
    }
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[usize::try_from(self.below(all.len() as u64)).unwrap()]
    }

    fn op(&mut self) -> Op {
        let all = OPS.iter().map(|(_, times)| times).sum();
        let mut left = self.below(all);
        for (op, times) in OPS {
            if left < *times {
                return *op;
            }
            left -= times;
        }
        unreachable!("there are as many as were counted")
    }
}

/// How often each step is wanted.
const OPS: &[(Op, u64)] = &[
    (Op::Sleep, 4),
    (Op::Yield, 2),
    (Op::Spawn, 3),
    (Op::Child, 4),
    (Op::Await, 2),
    (Op::Shield, 1),
    (Op::Gather, 1),
    (Op::WaitAll, 1),
    (Op::WaitFirst, 1),
    (Op::Cancel, 3),
    (Op::Timeout, 2),
    (Op::Group, 3),
    (Op::Guard, 1),
    (Op::Cleanup, 1),
    (Op::Catch, 1),
    (Op::Resume, 2),
    (Op::Lock, 1),
    (Op::Permit, 1),
    (Op::Set, 1),
    (Op::Clear, 1),
    (Op::Wait, 1),
    (Op::Put, 1),
    (Op::Get, 1),
    (Op::Fail, 2),
    (Op::Try, 1),
];

/// These are left at once when they are dropped.
const HOLDING: &[Op] = &[Op::Guard, Op::Lock, Op::Permit];
const CATCHING: &[Op] = &[Op::Catch, Op::Resume];
/// These go on for a while after a cancel.
const LASTING: &[Op] = &[Op::Cleanup, Op::Catch, Op::Resume];

/// What is around the steps that are made.
#[derive(Clone)]
struct Around {
    task: u64,
    depth: u32,
    /// In this task, from the outside in.
    steps: Vec<Op>,
    /// A group is somewhere around, be it around the task.
    grouped: bool,
    /// A group around has children; one that ends takes none.
    takes_children: bool,
    /// Tasks made here that nobody has awaited.
    handles: Vec<u64>,
}

impl Around {
    fn task(task: u64, depth: u32, grouped: bool) -> Around {
        Around { task, depth, steps: Vec::new(), grouped, takes_children: false, handles: Vec::new() }
    }

    fn is_in(&self, ops: &[Op]) -> bool {
        self.steps.iter().any(|op| ops.contains(op))
    }

    fn inside(&self, op: Op) -> Around {
        let mut inner = self.clone();
        inner.depth += 1;
        inner.steps.push(op);
        inner.grouped |= op == Op::Group;
        inner.takes_children |= op == Op::Group;
        inner
    }

    /// Whether this step can be here, with others in it.
    fn takes(&self, op: Op, kind: Kind) -> bool {
        // A group that ends drops the children of groups further in at once, asyncio's a turn later.
        let crowded = kind == Kind::Together && self.grouped && op == Op::Group;
        // A group that ends drops its children before its body has cleaned up.
        let dropped = self.is_in(&[Op::Group]) && op == Op::Cleanup;
        // A destructor does not wait for a cleanup inside it.
        let outlived = self.is_in(HOLDING) && op == Op::Cleanup;
        self.depth < DEPTH && !crowded && !dropped && !outlived
    }
}

struct Maker {
    random: Random,
    kind: Kind,
    /// How many steps are still to be made.
    left: u64,
    names: u64,
    timeouts: u32,
    /// The tasks, and what they do.
    tasks: BTreeMap<u64, Body>,
    /// asyncio's queues let a newcomer overtake, ours do not: each has one task that gets, and one that puts.
    consumers: [Option<u64>; 3],
    producers: [Option<u64>; 3],
}

impl Maker {
    /// Some steps, one after the other.
    fn body(&mut self, around: &mut Around) -> Body {
        let steps = (1 + self.random.below(5)).min(self.left);
        let mut body = Body::new();
        for _ in 0..steps {
            // What is inside counts, too.
            self.left = self.left.saturating_sub(1);
            body.extend(self.step(around));
        }
        body
    }

    fn step(&mut self, around: &mut Around) -> Option<Node> {
        let op = self.random.op();
        if !self.kind.has(op) {
            return None;
        }
        let numbers = match op {
            Op::Sleep => vec![self.duration()],
            Op::Yield => vec![1 + self.random.below(3)],
            Op::Child if !around.takes_children => return None,
            Op::Spawn | Op::Child => return Some(self.task(op, around)),
            Op::Await | Op::Shield => vec![self.handle(op, around)?],
            Op::Gather | Op::WaitAll | Op::WaitFirst => self.handles(op, around)?,
            Op::Cancel => vec![self.random.below(self.names + 3), self.pause(), self.pause()],
            // The body's own error wakes the task of its group, for nothing.
            Op::Fail if self.kind == Kind::Together && around.is_in(&[Op::Group]) => return None,
            Op::Fail => vec![self.name(), self.pause()],
            Op::Timeout => vec![self.deadline()],
            Op::Lock | Op::Permit | Op::Set | Op::Clear | Op::Wait => vec![self.random.below(2)],
            Op::Group | Op::Guard | Op::Cleanup | Op::Catch | Op::Resume | Op::Try => vec![self.name()],
            Op::Put | Op::Get => vec![self.queue(op, around.task)?],
        };
        let bodies = if op.has_bodies() { self.bodies(op, around)? } else { vec![] };
        Some(Node { op, numbers, bodies })
    }

    /// The steps inside one.
    fn bodies(&mut self, op: Op, around: &mut Around) -> Option<Vec<Body>> {
        if !around.takes(op, self.kind) {
            return None;
        }
        let mut inner = around.inside(op);
        let mut bodies = vec![self.body(&mut inner)];
        if CATCHING.contains(&op) {
            // A group that may be ending takes none.
            inner.takes_children = false;
            around.takes_children = false;
            let handler = self.body(&mut inner);
            // A group that ends hears of the end of its children in another turn than in asyncio.
            let meets = around.grouped && has(&handler, &[Op::Spawn]);
            bodies.push(if meets { Body::new() } else { handler });
        } else if op == Op::Cleanup {
            // One that hangs would do so for good: nothing cancels a cleanup.
            bodies.push(vec![Node { op: Op::Sleep, numbers: vec![self.duration()], bodies: vec![] }]);
        }
        around.handles = inner.handles;
        // A destructor does not wait for the children of a group inside it.
        let outlived = HOLDING.contains(&op) && has(&bodies[0], &[Op::Group]) && has(&bodies[0], LASTING);
        // A group that ends drops at once which of its children it can, in asyncio's all are cancelled in their order.
        let mixed = op == Op::Group && has(&bodies[0], HOLDING) && has(&bodies[0], LASTING);
        (!outlived && !mixed).then_some(bodies)
    }

    fn task(&mut self, op: Op, around: &mut Around) -> Node {
        let task = self.name();
        let body = if around.depth < DEPTH {
            self.body(&mut Around::task(task, around.depth + 1, around.grouped))
        } else {
            Body::new()
        };
        around.handles.push(task);
        self.tasks.insert(task, body.clone());
        Node { op, numbers: vec![task], bodies: vec![body] }
    }

    /// A task for this step to wait for.
    fn handle(&mut self, op: Op, around: &mut Around) -> Option<u64> {
        let awaits = matches!(op, Op::Await | Op::Gather);
        // A destructor does not wait for a task inside it.
        if awaits && around.is_in(HOLDING) {
            return None;
        }
        // These do not go on with the value of a task inside that has caught their cancel.
        let ends = op == Op::Gather || around.grouped || around.is_in(&[Op::Timeout, Op::Catch, Op::Resume]);
        let fits = |task: &u64| {
            let does = &self.tasks[task];
            let catches = awaits && ends && has(does, CATCHING);
            // One that cancels who awaits it: its error stands in asyncio, and in a gather it ends after its siblings.
            let cancels = awaits && has(does, &[Op::Cancel]);
            !catches && !cancels
        };
        let fit: Vec<_> = around.handles.iter().copied().filter(fits).collect();
        if fit.is_empty() {
            return None;
        }
        let task = self.random.of(&fit);
        around.handles.retain(|handle| *handle != task);
        Some(task)
    }

    fn handles(&mut self, op: Op, around: &mut Around) -> Option<Vec<u64>> {
        let mut numbers = vec![self.pause()];
        numbers.extend((0..3).map_while(|_| self.handle(op, around)));
        (numbers.len() > 1).then_some(numbers)
    }

    fn name(&mut self) -> u64 {
        self.names += 1;
        self.names
    }

    fn duration(&mut self) -> u64 {
        match self.kind {
            Kind::Apart => 1 + self.random.below(4 * SLOT),
            Kind::Together | Kind::Crowded => (1 + self.random.below(4)) * SLOT,
        }
    }

    /// Around a cancel or an error: a group in what ends drops its children at once, asyncio's cancels them, so nothing
    /// else may happen at that instant. Before a wait for several tasks: the first end of a turn wakes it here, in
    /// asyncio the last.
    fn pause(&mut self) -> u64 {
        if self.kind == Kind::Apart { self.duration() } else { 0 }
    }

    /// Of a timeout: at no instant at which something else is due by itself. A value that is ready at the deadline wins
    /// here, and loses in asyncio.
    fn deadline(&mut self) -> u64 {
        self.timeouts += 1;
        self.random.below(4) * SLOT + (1 << (self.timeouts % 16))
    }

    fn queue(&mut self, op: Op, task: u64) -> Option<u64> {
        let queue = usize::try_from(self.random.below(3)).unwrap();
        let owner = if op == Op::Get { &mut self.consumers[queue] } else { &mut self.producers[queue] };
        (*owner.get_or_insert(task) == task).then_some(queue as u64)
    }
}

fn has(body: &Body, ops: &[Op]) -> bool {
    body.iter().any(|node| ops.contains(&node.op) || node.bodies.iter().any(|inner| has(inner, ops)))
}
