//! Notices steps that keep the loop for long, at the cost of a few nanoseconds per turn.
//!
//! A look at the clock after each step would cost a busy loop more than it is worth. So a turn of few steps is looked
//! at after each of them, and a step that was long is known; a longer turn once, at its end, and then its tasks are
//! named together. After that, for a minute, each step is looked at, so that the next time it is one that is named.
//! Turns of a phase that never enters the kernel are looked at as it does.

use std::{cell::Cell, time::Duration};

use nix::time::{ClockId, clock_gettime};

use crate::{
    current::Loop,
    exception::ExceptionContext,
    scheduler::{
        ready::Ready,
        task_info::{TaskId, TaskInfo},
    },
};

/// From this time on it is worth a report.
const LONG: Duration = Duration::from_secs(1);
/// Steps of a turn that are looked at one by one: where there are more, the looks would cost a message one percent.
const FEW: usize = 4;
/// Steps since the last `enter` that are: a loop of pure computation has more.
const FIRST: u32 = 16;
/// How long each step is looked at once some that were long could not be told apart.
const CLOSELY: Duration = Duration::from_secs(60);
/// Tasks that a report names at most.
const NAMES: usize = 16;

/// See the head of the file.
pub(crate) struct SlowWatch {
    enabled: bool,
    /// The last look.
    since: Cell<Duration>,
    /// When the loop last left the kernel, or what kept it was last reported.
    left_kernel: Cell<Duration>,
    /// Steps were made since the last look.
    pending: Cell<bool>,
    /// `FEW`, or more while each step is looked at.
    few: Cell<usize>,
    closely_until: Cell<Duration>,
    /// The last task with a name that is gone.
    ended: Cell<Option<TaskInfo>>,
}

impl SlowWatch {
    /// In the simulator the machine's time is of no account.
    pub(crate) fn new(enabled: bool) -> SlowWatch {
        SlowWatch {
            enabled,
            since: Cell::default(),
            left_kernel: Cell::default(),
            pending: Cell::new(false),
            few: Cell::new(if enabled { FEW } else { 0 }),
            closely_until: Cell::default(),
            ended: Cell::new(None),
        }
    }

    /// The loop left the kernel.
    pub(crate) fn start(&self) {
        if self.enabled {
            let now = coarse_now();
            self.since.set(now);
            self.left_kernel.set(now);
            self.pending.set(false);
        }
    }

    /// Whether to look at each of the `steps` of a turn, after `polls` since the last `enter`.
    #[inline(always)]
    pub(crate) fn is_close(&self, steps: usize, polls: u32) -> bool {
        steps <= self.few.get() && (polls < FIRST || self.few.get() > FEW)
    }

    /// Looks: how long it is since the last time, if that is long.
    fn look(&self) -> Option<Duration> {
        if !self.enabled {
            return None;
        }
        let now = coarse_now();
        let kept = now.saturating_sub(self.since.replace(now));
        self.pending.set(false);
        if self.few.get() != FEW && now >= self.closely_until.get() {
            self.few.set(FEW);
        }
        if kept < LONG {
            return None;
        }
        self.left_kernel.set(now);
        Some(kept)
    }

    fn look_closely(&self) {
        self.closely_until.set(self.since.get() + CLOSELY);
        self.few.set(usize::MAX);
    }

    /// How long all the steps since the kernel was left have kept the loop, if that is long and was not reported.
    fn all(&self) -> Option<Duration> {
        let kept = self.since.get().saturating_sub(self.left_kernel.replace(self.since.get()));
        (kept >= LONG).then_some(kept)
    }
}

impl Loop {
    /// A turn of many steps is over, or has made few and was not looked at.
    #[inline(always)]
    pub(crate) fn look_at_turn(&self, steps: &[Ready]) {
        if steps.len() > FEW {
            self.look_at_steps(steps);
        } else if !steps.is_empty() {
            self.slow_watch.pending.set(true);
        }
    }

    /// A step of `task` is over, or a callback.
    pub(crate) fn look_at_step(&self, step: Ready, task: Option<TaskId>) {
        if let Some(kept) = self.slow_watch.look() {
            self.report_step(kept, step, task);
        }
    }

    #[inline(never)]
    fn look_at_steps(&self, steps: &[Ready]) {
        if let Some(kept) = self.slow_watch.look() {
            self.report_turn(kept, steps);
        }
    }

    /// Calls from other threads were made.
    pub(crate) fn look_at_messages(&self) {
        if let Some(kept) = self.slow_watch.look() {
            let text =
                format!("calls from other threads kept the loop for {:.1} seconds", kept.as_secs_f64());
            self.exceptions.report(&ExceptionContext::new(text));
        }
    }

    /// Before the loop enters the kernel, and at the end of a run. Whether there was a report, whose handler may have
    /// made something ready, or written something.
    #[inline(always)]
    pub(crate) fn look_before_enter(&self) -> bool {
        let kept = if self.slow_watch.pending.get() { self.slow_watch.look() } else { None };
        match kept.or_else(|| self.slow_watch.all()) {
            Some(kept) => {
                self.report_steps(kept);
                true
            }
            None => false,
        }
    }

    #[cold]
    #[inline(never)]
    fn report_steps(&self, kept: Duration) {
        self.slow_watch.look_closely();
        let (steps, seconds) = (self.polls.get(), kept.as_secs_f64());
        let text = format!("{steps} step(s) of tasks kept the loop for {seconds:.1} seconds");
        self.exceptions.report(&ExceptionContext::new(text));
    }

    #[cold]
    #[inline(never)]
    fn report_step(&self, kept: Duration, step: Ready, task: Option<TaskId>) {
        let what = if matches!(step, Ready::Call(_)) { "a callback" } else { "a step of a task" };
        let text = format!("{what} kept the loop for {:.1} seconds", kept.as_secs_f64());
        let task = self.info_of_step(step).filter(|info| Some(info.id()) == task);
        self.exceptions.report(&ExceptionContext::new(text).with_task(task));
    }

    #[cold]
    #[inline(never)]
    fn report_turn(&self, kept: Duration, steps: &[Ready]) {
        self.slow_watch.look_closely();
        let tasks: Vec<TaskInfo> = steps.iter().filter_map(|step| self.info_of_step(*step)).collect();
        let name = |task: &TaskInfo| format!("{} created at {}", task.name(), task.location());
        let names: Vec<String> = tasks.iter().take(NAMES).map(name).collect();
        let (names, more) = (names.join(", "), if tasks.len() > NAMES { ", …" } else { "" });
        let (count, seconds) = (steps.len(), kept.as_secs_f64());
        let text = format!("{count} steps kept the loop for {seconds:.1} seconds: of {names}{more}");
        self.exceptions.report(&ExceptionContext::new(text));
    }

    pub(crate) fn id_of_step(&self, step: Ready) -> Option<TaskId> {
        let Ready::Task(slot) = step else { return None };
        self.tasks.id_of(slot)
    }

    /// A task that is over has its name no more.
    fn info_of_step(&self, step: Ready) -> Option<TaskInfo> {
        let Ready::Task(slot) = step else { return None };
        let info = self.tasks.info_of(slot)?;
        let ended = self.slow_watch.ended.take();
        let named = ended.clone().filter(|ended| ended.id() == info.id());
        self.slow_watch.ended.set(ended);
        Some(named.unwrap_or(info))
    }

    /// A task is over.
    #[inline(always)]
    pub(crate) fn note_ended(&self, info: &TaskInfo) {
        if info.name.is_some() {
            self.slow_watch.ended.set(Some(info.clone()));
        }
    }
}

/// Some milliseconds coarse, and so several times cheaper than the exact clock.
fn coarse_now() -> Duration {
    clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE).map_or(Duration::ZERO, Duration::from)
}
