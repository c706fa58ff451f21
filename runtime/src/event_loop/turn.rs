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

/// The ring's flags are looked at once in this many polls of a busy loop, or in each turn of more.
const POLLS_PER_LOOK: u32 = 4;
/// How often a loop that stays awake looks into its inbox before it looks at the ring and the clock again.
const LOOKS_PER_CLOCK: u32 = 8;
/// Messages of other threads that a turn takes in at most: a flood of them must not keep the loop from its timers.
const MESSAGES_PER_TURN: usize = 256;

/// Why a loop does not sleep after all.
enum News {
    /// The inbox has something.
    Message,
    /// The kernel has to be entered, or has something.
    Kernel,
}

impl Loop {
    /// Runs one turn: what is ready now, FIFO, then the kernel. Sleeps until `deadline` (of the loop's clock)
    /// at most if nothing is ready after that. How many tasks and callbacks ran.
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

    /// What becomes ready meanwhile runs in the next turn.
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

    /// With a look at the clock after each step.
    #[inline(never)]
    fn run_closely(&self, turn: Turn<'_>, main: PollMain<'_>) {
        for next in turn {
            // Another task may be in its place when it is over.
            let task = self.id_of_step(next);
            self.run_next(next, main);
            self.look_at_step(next, task);
        }
    }

    #[inline(never)]
    fn run_call(&self, slot: u32) {
        if let Some(callback) = self.calls.take(slot) {
            self.timed("a callback", || self.guard(None, callback));
        }
    }

    /// Runs what is no step of a task, and in debug mode looks how long it takes.
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

    /// Reports what took as long as debug mode allows, or longer.
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

    /// One step of a task, and what its end sets off if that was the last.
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
                Some(News::Kernel) => wait = Wait::No,
                Some(News::Message) => (wait, due) = (Wait::No, self.enter_is_due()),
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
        // Announced before the last look into the inbox: see `scheduler/inbox.rs`.
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

    /// Whom completions may be for.
    pub(crate) fn to(&self) -> To<'_> {
        To { receivers: &self.receivers, tasks: &self.tasks, wake: exception::wake }
    }

    #[inline(never)]
    fn woken_by_messages(&self) {
        self.spin.woken(self.clock.now_ns());
    }

    /// Looks out for a message, awake.
    #[inline(never)]
    fn look_out(&self, wait: Wait) -> Option<News> {
        // What was submitted is not put off, and what that brings is for the next turn.
        if self.driver.submitted() {
            return Some(News::Kernel);
        }
        let until = self.spin.until_ns();
        let end = if let Wait::Until(at) = wait { at.min(until) } else { until };
        loop {
            let now = self.clock.now_ns();
            for _ in 0..LOOKS_PER_CLOCK {
                if !self.inbox.is_empty() {
                    self.spin.paid(now);
                    // Messages one after the other do not put I/O off, either.
                    self.polls.set(self.polls.get() + 1);
                    return Some(News::Message);
                }
                hint::spin_loop();
            }
            if self.driver.wants_enter() {
                return Some(News::Kernel);
            }
            if now >= until {
                self.spin.was_vain();
            }
            if now >= end {
                return None;
            }
        }
    }

    /// Whether a busy loop should look at the kernel: at once if it submitted something, else if the ring says
    /// so, which it is asked every few polls.
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

    /// The next turn makes an `enter`.
    pub(crate) fn look_at_kernel(&self) {
        self.polls.set(self.driver.polls_per_enter());
    }

    /// How long the kernel may keep us.
    fn wait(&self, deadline: u64) -> Wait {
        if !self.tasks.ready.is_empty() {
            return Wait::No;
        }
        // One of both flags is as quick to see as one.
        if self.stopping.get() | self.untidy.get() {
            return self.wait_untidy(deadline);
        }
        self.wait_for_timer(deadline)
    }

    /// As `wait`, while something may be given back: at the latest when it is time for that.
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

    /// Takes in what other threads sent: of what was there when it began, as much as a turn may have.
    #[inline(always)]
    fn take_in(&self) {
        if !self.inbox.is_empty() {
            self.take_in_some();
        }
    }

    #[inline(never)]
    fn take_in_some(&self) {
        for _ in 0..self.inbox.len().min(MESSAGES_PER_TURN) {
            // Foreign code: the call itself, and the destructors of calls to an earlier loop.
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

    /// `false` if the inbox is empty.
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

/// A turn that a panic, or the kernel, cuts short: what it has sent silently may be waited for in the next.
struct CutShort<'a>(&'a Loop);

impl Drop for CutShort<'_> {
    fn drop(&mut self) {
        self.0.driver.leave_silent();
    }
}
