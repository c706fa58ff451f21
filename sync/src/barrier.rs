//! A point that a number of tasks pass together (asyncio `Barrier`).
//!
//! ```text
//!             the last of the parties arrives              the last one leaves
//!    filling ───────────────────────────────▶ draining ─────────────────────▶ filling
//!       │ reset, with tasks inside                │ reset
//!       ▼                                         ▼
//!    resetting ◀──────────────────────────────────┘     (filling, once all have left)
//!    any ── abort ──▶ broken ── reset ──▶ resetting or filling
//! ```
//! Tasks that come while others drain or leave wait outside for the next round. A task that comes just as that round
//! begins may enter before them, as in asyncio.

use std::{cell::Cell, fmt};

use crate::{error::error, waiters::Waiters};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Filling,
    Draining,
    Resetting,
    Broken,
}

/// Lets `parties` tasks wait for each other, again and again (asyncio `Barrier`).
///
/// ```
/// # futures::executor::block_on(async {
/// let barrier = corio_sync::Barrier::new(2);
/// let (a, b) = futures::join!(barrier.wait(), barrier.wait());
/// assert_eq!((a, b), (Ok(0), Ok(1)));
/// # });
/// ```
pub struct Barrier {
    parties: usize,
    state: Cell<State>,
    inside: Cell<usize>,
    /// Tasks inside, until the round is full.
    filling: Waiters,
    /// Tasks outside, until the previous round has left.
    outside: Waiters,
}

impl Barrier {
    /// A barrier for `parties` tasks.
    ///
    /// # Panics
    /// If `parties` is 0.
    pub const fn new(parties: usize) -> Barrier {
        assert!(parties > 0, "a barrier needs at least one party");
        Barrier {
            parties,
            state: Cell::new(State::Filling),
            inside: Cell::new(0),
            filling: Waiters::new(),
            outside: Waiters::new(),
        }
    }

    /// Waits until all parties wait (asyncio `wait`). Returns the task's place in the order of arrival, from 0. The
    /// last one to come continues at once.
    ///
    /// If the future is dropped while it waits, its place becomes free for another task.
    ///
    /// # Errors
    /// [`BrokenBarrier`] if the barrier is or gets broken by [`abort`](Barrier::abort), or on [`reset`](Barrier::reset)
    /// while this task is inside.
    pub async fn wait(&self) -> Result<usize, BrokenBarrier> {
        while matches!(self.state.get(), State::Draining | State::Resetting) {
            self.outside.wait(|| ()).await;
        }
        if self.state.get() == State::Broken {
            return Err(BrokenBarrier(()));
        }
        let place = self.inside.get();
        self.inside.set(place + 1);
        let inside = Inside(self);
        if place + 1 == self.parties {
            self.state.set(State::Draining);
            self.filling.grant_all();
        } else {
            self.filling.wait(|| ()).await;
        }
        let broken = matches!(self.state.get(), State::Broken | State::Resetting);
        drop(inside);
        if broken { Err(BrokenBarrier(())) } else { Ok(place) }
    }

    /// Empties the barrier (asyncio `reset`): all tasks inside get [`BrokenBarrier`].
    pub fn reset(&self) {
        if self.inside.get() == 0 {
            self.state.set(State::Filling);
        } else {
            self.state.set(State::Resetting);
        }
        self.wake();
    }

    /// Breaks the barrier (asyncio `abort`): all tasks inside, and those that come later, get [`BrokenBarrier`] until
    /// [`reset`](Barrier::reset).
    pub fn abort(&self) {
        self.state.set(State::Broken);
        self.wake();
    }

    /// Number of tasks that pass together.
    pub fn parties(&self) -> usize {
        self.parties
    }

    /// Number of tasks waiting inside; 0 while a full round leaves.
    pub fn n_waiting(&self) -> usize {
        if self.state.get() == State::Filling { self.inside.get() } else { 0 }
    }

    /// Whether the barrier is broken.
    pub fn broken(&self) -> bool {
        self.state.get() == State::Broken
    }

    fn wake(&self) {
        self.filling.grant_all();
        self.outside.grant_all();
    }
}

/// A task inside. The last one to leave starts the next round.
struct Inside<'a>(&'a Barrier);

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        let barrier = self.0;
        barrier.inside.set(barrier.inside.get() - 1);
        if barrier.inside.get() == 0 && matches!(barrier.state.get(), State::Draining | State::Resetting) {
            barrier.state.set(State::Filling);
            barrier.outside.grant_all();
        }
    }
}

impl fmt::Debug for Barrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state.get() {
            State::Filling => "filling",
            State::Draining => "draining",
            State::Resetting => "resetting",
            State::Broken => return f.write_str("<Barrier [broken]>"),
        };
        write!(f, "<Barrier [{state}, waiters:{}/{}]>", self.n_waiting(), self.parties)
    }
}

/// The barrier is broken, or was reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BrokenBarrier(());

error!(BrokenBarrier, Other, "the barrier was aborted or reset");
