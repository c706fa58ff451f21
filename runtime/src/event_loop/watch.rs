//! A loop's counters.
//!
//! They are plain cells. When the loop goes to sleep, and once in a thousand turns of a busy one, it copies them to
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

/// A busy loop publishes its numbers once in this many turns.
const TURNS_PER_NOTE: u64 = 1024;

/// A loop's numbers at one moment. They cost nothing unless they are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metrics {
    /// The ring's counters since the loop was made.
    pub ring: RingCounters,
    /// Turns of the loop.
    pub turns: u64,
    /// Operations in flight, without the loop's own: the read of its wake-ups, the wait for its round.
    pub operations: usize,
    /// Tasks that are not done, including the main task.
    pub tasks: usize,
    /// Tasks and callbacks in the ready queue.
    pub ready: usize,
    /// Timers that have not fired.
    pub timers: usize,
    /// Free receive buffers of the pool.
    pub buffers_available: usize,
    /// Open streams.
    pub connections: usize,
    /// Memory of the loop.
    pub memory: Memory,
    /// CPU time of the loop's thread since the loop was made; zero if the kernel does not report it
    /// (`/proc/self/task/*/schedstat`).
    pub busy: Duration,
    /// The rest of that time: asleep, or waiting for a CPU.
    pub idle: Duration,
}

/// Memory of a loop's tables, lists and pools, in bytes: their capacity, used or not. What has grown in a peak is freed
/// a moment (100 ms) after its end: a table keeps 64 KiB, or at most four times what it uses.
///
/// What a task or an operation itself owns, such as its future or buffer, does not count: it is freed at its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Memory {
    /// The task table.
    pub tasks_bytes: usize,
    /// The ready queue.
    pub ready_bytes: usize,
    /// The timers and their heap.
    pub timers_bytes: usize,
    /// The tables of callbacks (`call_soon`, `call_later`) and of the values of `OnLoop`.
    pub calls_bytes: usize,
    /// The table of operations in flight.
    pub operations_bytes: usize,
    /// Memory of services: the table and lists of the streams, the listeners, and the free blocks for received data,
    /// which all loops of a thread share.
    pub services_bytes: usize,
}

impl Memory {
    /// The sum.
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

/// A loop's part: its turn counter, and where it publishes its numbers.
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

    /// Counts a turn. Whether a busy loop should publish its numbers.
    pub(crate) fn turn(&self) -> bool {
        let turns = self.turns.get() + 1;
        self.turns.set(turns);
        turns.is_multiple_of(TURNS_PER_NOTE)
    }

    /// Turns so far.
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

/// A loop's numbers, as published last.
pub(super) fn of(id: LoopId) -> Option<Metrics> {
    NOTES[id.index()].get()?.read(id)
}

/// By loop index; reused by the next loop with that index.
static NOTES: [OnceLock<Notes>; MAX_LOOPS] = [const { OnceLock::new() }; MAX_LOOPS];

/// Written by the loop's thread only, by relaxed stores, which cost no more than plain ones. Each number is right, but
/// they may be of different moments.
#[derive(Default)]
pub(super) struct Notes {
    /// The loop that publishes here; 0 for none.
    writer: AtomicU64,
    thread: AtomicU64,
    /// When the loop was made, and the CPU time of its thread then; in nanoseconds.
    born_ns: AtomicU64,
    born_busy_ns: AtomicU64,
    ring: NotedRing,
    numbers: NotedNumbers,
    memory: NotedMemory,
}

/// A copy of `$of` that its loop writes and any thread reads, without the fields after the semicolon.
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

noted!(NotedRing: RingCounters { enters, calls, sqes, cqes, overflows, cancels, enobufs, strays, silent; });
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

    /// `None` if another loop publishes here now.
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

/// CPU time of a thread of this process; 0 if unknown.
fn busy_ns(thread: u64) -> u64 {
    let told = fs::read_to_string(format!("/proc/self/task/{thread}/schedstat")).unwrap_or_default();
    told.split(' ').next().and_then(|busy| busy.parse().ok()).unwrap_or(0)
}

fn since_start_ns() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    nanos(START.get_or_init(Instant::now).elapsed())
}
