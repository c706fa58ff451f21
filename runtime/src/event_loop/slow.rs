//! Reports of steps that block the loop (`slow_watch.rs` says when the clock is read).

use std::time::Duration;

use super::{current::Loop, exceptions::ExceptionContext, slow_watch::FEW};
use crate::scheduler::{
    ready::Ready,
    task_info::{TaskId, TaskInfo},
};

/// Most tasks named in a report.
const NAMES: usize = 16;

impl Loop {
    /// After a turn whose steps were not timed one by one.
    #[inline(always)]
    pub(crate) fn look_at_turn(&self, steps: &[Ready]) {
        if steps.len() > FEW {
            self.look_at_steps(steps);
        } else if !steps.is_empty() {
            self.slow_watch.pending.set(true);
        }
    }

    /// After a step of `task`, or a callback.
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

    /// After calls from other threads.
    pub(crate) fn look_at_messages(&self) {
        if let Some(kept) = self.slow_watch.look() {
            let text =
                format!("calls from other threads kept the loop for {:.1} seconds", kept.as_secs_f64());
            self.exceptions.report(&ExceptionContext::new(text));
        }
    }

    /// Before an `enter`, and at the end of a run. Whether there was a report: its handler may have made a task ready,
    /// or written data.
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

    /// The task of a step. An ended task's name comes from `ended`.
    fn info_of_step(&self, step: Ready) -> Option<TaskInfo> {
        let Ready::Task(slot) = step else { return None };
        let info = self.tasks.info_of(slot)?;
        let ended = self.slow_watch.ended.take();
        let named = ended.clone().filter(|ended| ended.id() == info.id());
        self.slow_watch.ended.set(ended);
        Some(named.unwrap_or(info))
    }

    /// Keeps the name of an ended task for a report.
    #[inline(always)]
    pub(crate) fn note_ended(&self, info: &TaskInfo) {
        if info.name.is_some() {
            self.slow_watch.ended.set(Some(info.clone()));
        }
    }
}
