//! One turn of the loop. The order is a contract: ready tasks, services, one `enter`, completions, timers, inbox.

use std::{
    hint, io, mem,
    panic::{self, AssertUnwindSafe},
    time::{Duration, Instant},
};

use crate::{
    event_loop::{
        current::Loop,
        exception::{self},
        exceptions::ExceptionContext,
        registry::Message,
        turn_end::TurnEnd,
        waker::waker,
    },
    kernel::{To, ring::terms::Wait},
    scheduler::{
        ready::{Ready, Turn},
        task_error::discard,
        task_info::TaskInfo,
        task_key::{Outcome, TaskKey},
        task_table::{Ended, PollMain},
        timers::Due,
    },
};

/// The ring's flags are checked once per so many polls of a busy loop, or once per turn of more polls.
const POLLS_PER_LOOK: u32 = 4;
/// A spinning loop checks its inbox this often for each check of the ring and the clock.
const LOOKS_PER_CLOCK: u32 = 8;
/// Most messages taken from the inbox in a turn: a flood of them must not delay the loop's timers.
const MESSAGES_PER_TURN: usize = 256;

/// Why a loop stops spinning.
enum WakeReason {
    /// The inbox has a message.
    Message,
    /// The kernel must be entered, or has completions.
    Kernel,
}

impl Loop {
    /// Runs one turn: the tasks and callbacks that are ready now, in order, then the kernel. Sleeps if nothing is ready
    /// after that, until `deadline` (of the loop's clock) at most. Returns how many tasks and callbacks ran.
    pub(crate) fn turn(&self, main: PollMain<'_>, deadline: u64) -> io::Result<usize> {
        if self.watch.turn() {
            self.now_and_then();
        }
        let ran = self.run_ready(main);
        self.driver.check()?;
        let cut_short = CutShort(self);
        self.services.each(|service| service.before_submit(TurnEnd::new(self.id(), &self.driver)));
        self.driver.check()?;
        self.enter(deadline)?;
        mem::forget(cut_short);
        self.fire_timers();
        self.take_in();
        Ok(ran)
    }

    /// Tasks that become ready meanwhile run in the next turn.
    #[expect(clippy::while_let_on_iterator, reason = "through a borrow each step would load the list anew")]
    fn run_ready(&self, main: PollMain<'_>) -> usize {
        let mut turn = self.tasks.ready.begin_turn();
        let count = turn.len();
        if self.slow_watch.is_close(count, self.polls.get()) {
            self.run_closely(turn, main);
        } else {
            while let Some(next) = turn.next() {
                self.run_next(next, main);
            }
            self.look_at_turn(turn.list());
        }
        self.polls.set(self.polls.get().saturating_add(count as u32));
        count
    }

    #[inline(always)]
    fn run_next(&self, next: Ready, main: PollMain<'_>) {
        match next {
            Ready::Task(slot) => self.run_task(slot, main),
            Ready::Call(slot) => self.run_call(slot),
        }
    }

    /// Reads the clock after each step.
    #[inline(never)]
    fn run_closely(&self, turn: Turn<'_>, main: PollMain<'_>) {
        for next in turn {
            // Read before the step: afterwards the slot may have another task.
            let task = self.id_of_step(next);
            self.run_next(next, main);
            self.look_at_step(next, task);
        }
    }

    #[inline(never)]
    fn run_call(&self, slot: u32) {
        if let Some((callback, place)) = self.calls.take(slot) {
            self.timed("a callback", || self.guard_call(place, callback));
        }
    }

    /// Calls `f`, which is not a task's step; debug mode measures its time.
    #[inline(always)]
    fn timed(&self, what: &str, f: impl FnOnce()) {
        match self.slow_callback {
            None => f(),
            Some(limit) => {
                let started = Instant::now();
                f();
                self.look_at_time(what, started.elapsed(), limit, || None);
            }
        }
    }

    /// Reports what took as long as debug mode's limit, or longer.
    #[cold]
    #[inline(never)]
    fn look_at_time(
        &self,
        what: &str,
        took: Duration,
        limit: Duration,
        task: impl FnOnce() -> Option<TaskInfo>,
    ) {
        if took >= limit {
            let text = format!("Executing {what} took {:.3} seconds", took.as_secs_f64());
            self.exceptions.report(&ExceptionContext::new(text).with_task(task()));
        }
    }

    #[inline(always)]
    fn run_task(&self, slot: u32, main: PollMain<'_>) {
        match self.slow_callback {
            None => self.step_task(slot, main),
            Some(limit) => self.step_task_timed(slot, main, limit),
        }
    }

    /// Runs one step of a task, and its end if it was the last.
    #[inline(always)]
    pub(crate) fn step_task(&self, slot: u32, main: PollMain<'_>) {
        if let Some((key, outcome)) = self.tasks.run_one(slot, main, waker) {
            self.end_task(key, outcome);
        }
    }

    #[inline(never)]
    fn end_task(&self, key: TaskKey, outcome: Outcome) {
        if let Some(ended) = self.tasks.end(key, outcome) {
            self.tell_end(ended);
        }
    }

    #[inline(never)]
    fn tell_end(&self, ended: Ended) {
        self.note_ended(&ended.info);
        self.announce(ended);
    }

    #[cold]
    #[inline(never)]
    fn step_task_timed(&self, slot: u32, main: PollMain<'_>, limit: Duration) {
        let started = Instant::now();
        let end = self.tasks.run_one(slot, main, waker);
        let took = started.elapsed();
        let ended = end.and_then(|(key, outcome)| self.tasks.end(key, outcome));
        let task = || ended.as_ref().map(|e| e.info.clone()).or_else(|| self.tasks.info_of(slot));
        self.look_at_time("a task's step", took, limit, task);
        if let Some(ended) = ended {
            self.announce(ended);
        }
    }

    fn enter(&self, deadline: u64) -> io::Result<()> {
        let restless = self.driver.stays_awake();
        let mut wait = if restless { Wait::No } else { self.wait(deadline) };
        let mut due = restless || wait != Wait::No || self.enter_is_due();
        if wait != Wait::No && self.spin.is_due() {
            match self.look_out(wait) {
                None => {}
                Some(WakeReason::Kernel) => wait = Wait::No,
                Some(WakeReason::Message) => (wait, due) = (Wait::No, self.enter_is_due()),
            }
        }
        if !due {
            return Ok(());
        }
        if self.look_before_enter() {
            wait = Wait::No;
        }
        self.polls.set(0);
        self.next_look.set(POLLS_PER_LOOK);
        // Announced before the last check of the inbox: see `scheduler/inbox.rs`.
        let sleeps = wait != Wait::No && self.inbox.prepare_sleep();
        if sleeps {
            self.note_numbers();
        }
        let entered = self.driver.enter(if sleeps { wait } else { Wait::No }, self.to());
        if sleeps {
            self.inbox.awake();
            if !self.inbox.is_empty() {
                self.woken_by_messages();
            }
        }
        self.slow_watch.start();
        entered
    }

    /// The receivers of completions.
    pub(crate) fn to(&self) -> To<'_> {
        To { receivers: &self.receivers, tasks: &self.tasks, wake: exception::wake }
    }

    #[inline(never)]
    fn woken_by_messages(&self) {
        self.spin.woken(self.clock.now_ns());
    }

    /// Spins until there is a reason to wake, or the time is up.
    #[inline(never)]
    fn look_out(&self, wait: Wait) -> Option<WakeReason> {
        // Do not delay what was submitted; its completions are for the next turn.
        if self.driver.submitted() {
            return Some(WakeReason::Kernel);
        }
        let until = self.spin.until_ns();
        let end = if let Wait::Until(at) = wait { at.min(until) } else { until };
        loop {
            let now = self.clock.now_ns();
            for _ in 0..LOOKS_PER_CLOCK {
                if !self.inbox.is_empty() {
                    self.spin.paid(now);
                    // A stream of messages must not delay I/O for ever either.
                    self.polls.set(self.polls.get() + 1);
                    return Some(WakeReason::Message);
                }
                hint::spin_loop();
            }
            if self.driver.wants_enter() {
                return Some(WakeReason::Kernel);
            }
            if now >= until {
                self.spin.was_vain();
            }
            if now >= end {
                return None;
            }
        }
    }

    /// Whether a busy loop should enter the kernel: if it has submitted something, after many polls, or if the ring's
    /// flags, checked every few polls, say so.
    fn enter_is_due(&self) -> bool {
        let polls = self.polls.get();
        if polls >= self.driver.polls_per_enter() || self.driver.submitted() {
            return true;
        }
        if polls < self.next_look.get() {
            return false;
        }
        self.next_look.set(polls + POLLS_PER_LOOK);
        self.driver.wants_enter()
    }

    /// Makes the next turn enter the kernel.
    pub(crate) fn look_at_kernel(&self) {
        self.polls.set(self.driver.polls_per_enter());
    }

    /// How long the kernel may wait.
    fn wait(&self, deadline: u64) -> Wait {
        if !self.tasks.ready.is_empty() {
            return Wait::No;
        }
        // One test for both flags is as fast as for one.
        if self.stopping.get() | self.untidy.get() {
            return self.wait_untidy(deadline);
        }
        self.wait_for_timer(deadline)
    }

    /// As `wait`, while memory may be freed: waits until that time at most.
    #[cold]
    #[inline(never)]
    fn wait_untidy(&self, deadline: u64) -> Wait {
        if self.stopping.get() || self.tidy_if_due() {
            return Wait::No;
        }
        self.wait_for_timer(deadline.min(self.tidy_at.get()))
    }

    #[inline(always)]
    fn wait_for_timer(&self, deadline: u64) -> Wait {
        let timer = self.timers.borrow().look_at();
        match timer.map_or(deadline, |timer| timer.min(deadline)) {
            0 => Wait::No,
            u64::MAX => Wait::Forever,
            at => Wait::Until(at),
        }
    }

    #[inline(always)]
    fn fire_timers(&self) {
        if self.timers.borrow().armed() > 0 {
            self.fire_armed_timers();
        }
    }

    #[inline(never)]
    fn fire_armed_timers(&self) {
        let mut due = std::mem::take(&mut *self.due.borrow_mut());
        self.timers.borrow_mut().take_due(self.clock.now_ns(), &mut due);
        for action in due.drain(..) {
            match action {
                Due::Wake(waker) => exception::wake(waker),
                Due::Call(slot) => self.tasks.ready.push(Ready::Call(slot)),
            }
        }
        *self.due.borrow_mut() = due;
    }

    /// Takes messages from other threads: those present at the start, up to the limit.
    #[inline(always)]
    fn take_in(&self) {
        if !self.inbox.is_empty() {
            self.take_in_some();
        }
    }

    #[inline(never)]
    fn take_in_some(&self) {
        for _ in 0..self.inbox.len().min(MESSAGES_PER_TURN) {
            // Foreign code: the call itself, and destructors of calls to an earlier loop.
            let next = panic::catch_unwind(AssertUnwindSafe(|| self.take_in_one()));
            match next {
                Ok(true) => {}
                Ok(false) => break,
                Err(payload) => {
                    discard(payload);
                    let context = ExceptionContext::new("a call from another thread panicked");
                    self.exceptions.report(&context);
                }
            }
        }
        self.look_at_messages();
    }

    /// Takes one message. `false` if the inbox is empty.
    fn take_in_one(&self) -> bool {
        match self.inbox.receive(self.id().number()) {
            Some(Message::Wake(key)) => {
                self.tasks.wake(key);
            }
            Some(Message::Call(f)) => self.timed("a call from another thread", f),
            None => return false,
        }
        true
    }
}

/// If a panic or a kernel error cuts a turn short, the next turn may wait for its silent sends.
struct CutShort<'a>(&'a Loop);

impl Drop for CutShort<'_> {
    fn drop(&mut self) {
        self.0.driver.leave_silent();
    }
}
