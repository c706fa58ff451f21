//! The counters of a loop.
//!
//! They are plain cells. As the loop goes to sleep, and once in a thousand turns of a busy one, it copies them to
//! where other threads read them. Being watched costs nothing else.

use std::{
    fs,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use nix::unistd::gettid;

use crate::{
    kernel::ring::terms::RingCounters,
    scheduler::{
        clock::nanos,
        loop_id::{LoopId, MAX_LOOPS},
    },
};

/// A busy loop writes its numbers down once in this many turns.
const TURNS_PER_NOTE: u64 = 1024;

/// Numbers of one loop at one moment. Reading them costs nothing while nobody does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metrics {
    /// What the ring counted since the loop was made.
    pub ring: RingCounters,
    /// Turns of the loop.
    pub turns: u64,
    /// Operations that the kernel owns, the loop's own wake-up read included, the wait for its round not.
    pub operations: usize,
    /// Tasks that are not done, the main one included.
    pub tasks: usize,
    /// Tasks and callbacks that are ready to run.
    pub ready: usize,
    /// Timers that have not fired.
    pub timers: usize,
    /// Receive buffers of the pool that are free.
    pub buffers_available: usize,
    /// Streams that are open.
    pub connections: usize,
    /// Memory that the loop holds.
    pub memory: Memory,
    /// Processor time of the loop's thread since the loop was made; zero where the kernel does not tell
    /// (`/proc/self/task/*/schedstat`).
    pub busy: Duration,
    /// The rest of the time since then: asleep, or waiting for a processor.
    pub idle: Duration,
}

/// Memory that a loop's tables, lists and pools hold, in bytes: what they have room for, in use or not. What has grown
/// in a peak goes back a moment (100 ms) after that is over: a table keeps 64 KiB, or at most four times what is in
/// use.
///
/// What a task or an operation itself owns, such as its future or buffer, is not in it: that is freed at its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Memory {
    /// The table of tasks.
    pub tasks_bytes: usize,
    /// The ready queue.
    pub ready_bytes: usize,
    /// The timers and their heap.
    pub timers_bytes: usize,
    /// The table of callbacks (`call_soon`, `call_later`).
    pub calls_bytes: usize,
    /// The table of operations in flight.
    pub operations_bytes: usize,
    /// What services hold: the table and lists of the streams, the listeners, and the free blocks that received data
    /// goes to, which all loops of a thread share.
    pub services_bytes: usize,
}

impl Memory {
    /// All of it.
    ///
    /// ```
    /// corio_runtime::run(async {
    ///     let memory = corio_runtime::metrics().memory;
    ///     assert!(memory.total_bytes() >= memory.tasks_bytes && memory.tasks_bytes > 0);
    /// });
    /// ```
    pub fn total_bytes(&self) -> usize {
        let Memory { tasks_bytes, ready_bytes, timers_bytes, .. } = self;
        let Memory { calls_bytes, operations_bytes, services_bytes, .. } = self;
        tasks_bytes + ready_bytes + timers_bytes + calls_bytes + operations_bytes + services_bytes
    }
}

/// A loop's part: where its numbers are written down.
pub(crate) struct Watch {
    pub(crate) turns: std::cell::Cell<u64>,
    pub(super) notes: &'static Notes,
}

impl Watch {
    pub(crate) fn new(id: LoopId) -> Watch {
        let notes = NOTES[id.index()].get_or_init(Notes::default);
        notes.begin(id);
        Watch { turns: std::cell::Cell::new(0), notes }
    }

    /// Counts a turn; whether a busy loop should write its numbers down.
    pub(crate) fn turn(&self) -> bool {
        let turns = self.turns.get() + 1;
        self.turns.set(turns);
        turns.is_multiple_of(TURNS_PER_NOTE)
    }

    /// Those that were counted.
    pub(crate) fn turns(&self) -> u64 {
        self.turns.get()
    }

    pub(super) fn timed(&self, metrics: Metrics) -> Metrics {
        self.notes.timed(metrics)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.notes.writer.store(0, Ordering::Relaxed);
    }
}

/// The numbers of a loop, as it wrote them last.
pub(super) fn of(id: LoopId) -> Option<Metrics> {
    NOTES[id.index()].get()?.read(id)
}

/// By the index of the loop; used again by the next loop with the index.
static NOTES: [OnceLock<Notes>; MAX_LOOPS] = [const { OnceLock::new() }; MAX_LOOPS];

/// Written by the loop's thread alone: relaxed stores, as cheap as plain ones. Each number is right, though not all of
/// them need be of the same moment.
#[derive(Default)]
pub(super) struct Notes {
    /// The loop that writes here; 0 for none.
    writer: AtomicU64,
    thread: AtomicU64,
    /// When the loop was made, and the processor time of its thread then; in nanoseconds.
    born_ns: AtomicU64,
    born_busy_ns: AtomicU64,
    ring: NotedRing,
    numbers: NotedNumbers,
    memory: NotedMemory,
}

/// A copy of `$of` that its loop writes and any thread reads, without the fields behind the semicolon.
macro_rules! noted {
    ($name:ident: $of:ident { $($field:ident),+; $($not:ident),* }) => {
        #[derive(Default)]
        struct $name {
            $($field: AtomicU64),+
        }

        impl $name {
            #[inline(always)]
            fn write(&self, of: &$of) {
                let $of { $($field,)+ $($not: _),* } = of;
                $(self.$field.store(*$field as u64, Ordering::Relaxed);)+
            }

            fn read(&self) -> $of {
                $of {
                    $($field: self.$field.load(Ordering::Relaxed) as _,)+
                    $($not: Default::default()),*
                }
            }
        }
    };
}

noted!(NotedRing: RingCounters { enters, sqes, cqes, overflows, cancels, enobufs, strays, silent; });
noted!(NotedNumbers: Metrics {
    turns, operations, tasks, ready, timers, buffers_available, connections; ring, memory, busy, idle
});
noted!(NotedMemory: Memory {
    tasks_bytes, ready_bytes, timers_bytes, calls_bytes, operations_bytes, services_bytes;
});

impl Notes {
    fn begin(&self, id: LoopId) {
        let thread = gettid().as_raw().cast_unsigned().into();
        self.thread.store(thread, Ordering::Relaxed);
        self.born_ns.store(since_start_ns(), Ordering::Relaxed);
        self.born_busy_ns.store(busy_ns(thread), Ordering::Relaxed);
        self.write(&Metrics::default());
        self.write_memory(&Memory::default());
        self.writer.store(id.number(), Ordering::Release);
    }

    #[inline(always)]
    pub(super) fn write(&self, metrics: &Metrics) {
        self.ring.write(&metrics.ring);
        self.numbers.write(metrics);
    }

    pub(super) fn write_memory(&self, memory: &Memory) {
        self.memory.write(memory);
    }

    /// `None` if they are another loop's.
    fn read(&self, id: LoopId) -> Option<Metrics> {
        let theirs = || self.writer.load(Ordering::Acquire) == id.number();
        if !theirs() {
            return None;
        }
        let (ring, memory) = (self.ring.read(), self.memory.read());
        let metrics = self.timed(Metrics { ring, memory, ..self.numbers.read() });
        theirs().then_some(metrics)
    }

    fn timed(&self, mut metrics: Metrics) -> Metrics {
        let busy = busy_ns(self.thread.load(Ordering::Relaxed));
        let busy = busy.saturating_sub(self.born_busy_ns.load(Ordering::Relaxed));
        let lived = since_start_ns().saturating_sub(self.born_ns.load(Ordering::Relaxed));
        metrics.busy = Duration::from_nanos(busy);
        metrics.idle = Duration::from_nanos(lived.saturating_sub(busy));
        metrics
    }
}

/// Processor time of a thread of this process; 0 if it is not to be had.
fn busy_ns(thread: u64) -> u64 {
    let told = fs::read_to_string(format!("/proc/self/task/{thread}/schedstat")).unwrap_or_default();
    told.split(' ').next().and_then(|busy| busy.parse().ok()).unwrap_or(0)
}

fn since_start_ns() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    nanos(START.get_or_init(Instant::now).elapsed())
}
