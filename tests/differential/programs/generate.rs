//! Makes a program from a seed.

use super::node::{Body, Node, Op};

/// Sleeps are multiples of this (µs) in programs where many end at one instant.
const SLOT: u64 = 1 << 16;

/// The program of this seed.
pub(super) fn program(seed: u64) -> Body {
    let mut random = Random(seed);
    let steps = 15 + random.below(45);
    let mut maker = Maker {
        random,
        left: steps,
        names: 0,
        timeouts: 0,
        kind: Kind::of(seed),
        consumers: [None; 3],
        producers: [None; 3],
    };
    let mut body = Body::new();
    while maker.left > 0 {
        body.extend(maker.body(&mut Around::task(0, 0)));
    }
    body
}

/// How the steps of tasks meet.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Each sleep ends at an instant of its own.
    Apart,
    /// Many end at one instant, and no task is cancelled by another.
    Together,
    /// The same, with cancels, and without groups.
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
            Kind::Together => op != Op::Cancel,
            Kind::Crowded => op != Op::Group,
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
}

/// What is around the steps that are made.
#[derive(Clone)]
struct Around {
    task: u64,
    depth: u32,
    /// Tasks made here that nobody has awaited.
    handles: Vec<u64>,
    in_group: bool,
}

impl Around {
    fn task(task: u64, depth: u32) -> Around {
        Around { task, depth, handles: Vec::new(), in_group: false }
    }
}

struct Maker {
    random: Random,
    /// How many steps are still to be made.
    left: u64,
    names: u64,
    timeouts: u32,
    kind: Kind,
    /// asyncio's queues let a newcomer overtake, ours do not: each has one task that gets, and one that puts.
    consumers: [Option<u64>; 3],
    producers: [Option<u64>; 3],
}

impl Maker {
    /// Some steps, one after the other.
    fn body(&mut self, around: &mut Around) -> Body {
        let steps = 1 + self.random.below(5);
        let mut body = Body::new();
        for _ in 0..steps {
            if self.left == 0 {
                break;
            }
            self.left -= 1;
            if let Some(step) = self.step(around) {
                body.extend(self.spaced(step));
            }
        }
        body
    }

    /// A cancelled group drops its children at once, asyncio's cancels them: nothing else may happen at that instant.
    fn spaced(&mut self, step: Node) -> Body {
        if self.kind == Kind::Apart && step.op == Op::Cancel {
            let [before, after] =
                [(); 2].map(|()| Node { op: Op::Sleep, numbers: vec![self.duration()], bodies: vec![] });
            vec![before, step, after]
        } else {
            vec![step]
        }
    }

    fn step(&mut self, around: &mut Around) -> Option<Node> {
        let op = self.random.of(OPS);
        if !self.kind.has(op) {
            return None;
        }
        let node = |op, number| Some(Node { op, numbers: vec![number], bodies: vec![] });
        match op {
            Op::Sleep => node(op, self.duration()),
            Op::Yield => node(op, 1 + self.random.below(3)),
            Op::Spawn => Some(self.task(op, around)),
            Op::Child => around.in_group.then(|| self.task(op, around)),
            Op::Await | Op::Shield => self.handle(around).and_then(|task| node(op, task)),
            Op::Gather | Op::WaitAll | Op::WaitFirst => {
                let numbers: Vec<_> = (0..3).map_while(|_| self.handle(around)).collect();
                (!numbers.is_empty()).then(|| Node { op, numbers, bodies: vec![] })
            }
            Op::Cancel => node(op, self.random.below(self.names + 3)),
            Op::Timeout => {
                let duration = self.deadline();
                self.around(op, duration, around)
            }
            Op::Lock | Op::Permit => {
                let number = self.random.below(2);
                self.around(op, number, around)
            }
            Op::Group | Op::Guard | Op::Cleanup | Op::Catch | Op::Resume | Op::Try => {
                let name = self.name();
                self.around(op, name, around)
            }
            Op::Set | Op::Clear | Op::Wait => node(op, self.random.below(2)),
            Op::Put | Op::Get => {
                let queue = self.queue(op, around.task)?;
                node(op, queue)
            }
            Op::Fail => node(op, self.name()),
        }
    }

    /// A step with others inside.
    fn around(&mut self, op: Op, number: u64, around: &mut Around) -> Option<Node> {
        if around.depth >= 4 {
            return None;
        }
        let mut inner = around.clone();
        inner.depth += 1;
        inner.in_group |= op == Op::Group;
        let mut bodies = vec![self.body(&mut inner)];
        if matches!(op, Op::Cleanup | Op::Catch | Op::Resume) {
            // A group that ends takes no children.
            inner.in_group = false;
            bodies.push(self.body(&mut inner));
        }
        around.handles = inner.handles;
        Some(Node { op, numbers: vec![number], bodies })
    }

    fn task(&mut self, op: Op, around: &mut Around) -> Node {
        let task = self.name();
        let body =
            if around.depth < 4 { self.body(&mut Around::task(task, around.depth + 1)) } else { Body::new() };
        around.handles.push(task);
        Node { op, numbers: vec![task], bodies: vec![body] }
    }

    fn handle(&mut self, around: &mut Around) -> Option<u64> {
        if around.handles.is_empty() {
            return None;
        }
        let at = self.random.below(around.handles.len() as u64);
        Some(around.handles.swap_remove(usize::try_from(at).unwrap()))
    }

    fn name(&mut self) -> u64 {
        self.names += 1;
        self.names
    }

    fn duration(&mut self) -> u64 {
        if self.kind != Kind::Apart {
            (1 + self.random.below(4)) * SLOT
        } else {
            1 + self.random.below(4 * SLOT)
        }
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

/// Each as often as it is wanted.
const OPS: &[Op] = &[
    Op::Sleep,
    Op::Sleep,
    Op::Sleep,
    Op::Sleep,
    Op::Yield,
    Op::Yield,
    Op::Spawn,
    Op::Spawn,
    Op::Spawn,
    Op::Child,
    Op::Child,
    Op::Child,
    Op::Child,
    Op::Shield,
    Op::WaitAll,
    Op::WaitFirst,
    Op::Cancel,
    Op::Cancel,
    Op::Cancel,
    Op::Timeout,
    Op::Timeout,
    Op::Group,
    Op::Group,
    Op::Guard,
    Op::Lock,
    Op::Permit,
    Op::Set,
    Op::Clear,
    Op::Wait,
    Op::Put,
    Op::Get,
    Op::Fail,
    Op::Try,
];
