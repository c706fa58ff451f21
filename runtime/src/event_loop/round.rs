//! The round of a loop: once a minute each service checks for events that the kernel failed to report.

use crate::{
    event_loop::{
        current::{self, Loop},
        services::ROUND,
    },
    kernel::{
        operation::{Done, Operation},
        sqe::{Pause, Sqe},
    },
    scheduler::loop_id::LoopId,
};

/// Waits for the next round. An operation: a timer would make every turn read the clock.
struct Round {
    loop_id: LoopId,
    pause: Pause,
}

impl Operation for Round {
    type Output = ();

    fn prepare(&mut self) -> Sqe<'_> {
        Sqe::pause(&self.pause)
    }

    /// Runs the round, however the wait ended: too early does no harm.
    fn complete(self: Box<Self>, _: Done) {
        current::try_with(|lp| {
            if lp.id() == self.loop_id {
                lp.make_round();
            }
        });
    }
}

impl Loop {
    /// Schedules a round, unless one is scheduled.
    pub(crate) fn want_round(&self) {
        if !self.round.replace(true) {
            let pause = Pause::from(ROUND);
            self.driver.start(Box::new(Round { loop_id: self.id(), pause }));
        }
    }

    #[cold]
    fn make_round(&self) {
        self.round.set(false);
        if self.closing.get() {
            return;
        }
        self.services.each(|service| self.guard(None, || service.round()));
    }

    /// Operations in flight, without the loop's own: the wait for the next round, the read of its wake-ups.
    pub(crate) fn operations(&self) -> usize {
        let own = usize::from(self.round.get()) + usize::from(self.reads_wakes.get());
        self.driver.in_flight().saturating_sub(own)
    }
}
