//! The order in which `select!`, `join!` and `try_join!` poll their futures.

use std::cell::Cell;

use crate::{event_loop::current, scheduler::rng::Rng};

thread_local! {
    /// For threads without a running loop.
    static RANDOM: Cell<Rng> = Cell::new(Rng::unseeded());
}

/// The numbers of the arms to poll, each once. For the macros alone.
///
/// ```
/// use corio_runtime::Arms;
/// assert!(Arms::in_order(0b1101).eq([0, 2, 3]));
/// assert!(Arms::from(2, 0b1101).eq([2, 3, 0]));
/// let mut shuffled: Vec<u32> = Arms::shuffled(0b1101).collect();
/// shuffled.sort();
/// assert_eq!(shuffled, [0, 2, 3]);
/// ```
#[derive(Debug)]
#[doc(hidden)]
pub struct Arms {
    /// Bits of the arms that come next, and of those that come after all of these.
    now: u64,
    later: u64,
    random: Option<Rng>,
}

impl Arms {
    /// In the order of their numbers.
    pub fn in_order(arms: u64) -> Arms {
        Arms { now: arms, later: 0, random: None }
    }

    /// In the order of their numbers, from `first` on.
    pub fn from(first: u32, arms: u64) -> Arms {
        let ahead = u64::MAX.checked_shl(first).unwrap_or(0);
        Arms { now: arms & ahead, later: arms & !ahead, random: None }
    }

    /// In a random order, by the loop's generator: the simulator repeats it.
    pub fn shuffled(arms: u64) -> Arms {
        let random = (arms.count_ones() > 1).then(draw);
        Arms { now: arms, later: 0, random }
    }

    fn take_random(&mut self) -> Option<u64> {
        let nth = self.random.as_mut()?.below(u64::from(self.now.count_ones()));
        let below = |arms: u64, _| arms & arms.wrapping_sub(1);
        Some((0..nth).fold(self.now, below))
    }
}

impl Iterator for Arms {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        if self.now == 0 {
            self.now = std::mem::take(&mut self.later);
        }
        if self.now == 0 {
            return None;
        }
        let arm = self.take_random().unwrap_or(self.now).trailing_zeros();
        self.now &= !(1 << arm);
        Some(arm)
    }
}

/// A generator for one order: one step of the loop's, or of the thread's if no loop runs.
fn draw() -> Rng {
    let step = |random: &Cell<Rng>| {
        let mut rng = random.get();
        let seed = rng.next();
        random.set(rng);
        Rng::new(seed)
    };
    current::peek(|lp| step(&lp.random))
        .unwrap_or_else(|| RANDOM.try_with(step).unwrap_or_else(|_| Rng::unseeded()))
}
