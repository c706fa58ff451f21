//! `Loop`, which owns all tables, and the thread-local that names the running loop.

use std::{
    any::Any,
    cell::{Cell, OnceCell, RefCell},
    collections::HashMap,
    mem::ManuallyDrop,
    panic::{self, AssertUnwindSafe},
    rc::{Rc, Weak},
    task::Context,
    time::Duration,
};

use crate::{
    event_loop::{
        backend::BackendInfo,
        blocking_pool::Pool,
        exceptions::{ExceptionContext, ExceptionHandler},
        registry,
        registry::{LoopClosed, LoopInbox, Registration},
        services::Services,
        slow_watch::SlowWatch,
        spin::Spin,
        step_budget::Suspended,
        watch::Watch,
    },
    kernel::{driver::Driver, receive::Receivers, ring::embedded::Embedded},
    scheduler::{
        calls::{CallKey, Calls, Place},
        clock::Clock,
        loop_id::LoopId,
        ready::Ready,
        rng::Rng,
        task_error::{PanicPayload, discard},
        task_info::TaskInfo,
        task_table::{Ended, TaskTable},
        timers::{Due, TimerKey, Timers},
        values::Values,
    },
};

/// An event loop; each part is in a cell of its own.
pub(crate) struct Loop {
    pub(super) id: LoopId,
    pub(super) backend: BackendInfo,
    pub(crate) clock: Clock,
    pub(crate) tasks: TaskTable,
    pub(crate) calls: Calls,
    pub(crate) timers: RefCell<Timers>,
    pub(crate) driver: Driver,
    pub(crate) receivers: Receivers,
    pub(crate) services: Services,
    pub(crate) exceptions: ExceptionHandler,
    pub(crate) inbox: &'static LoopInbox,
    /// The timers that fire in a turn; kept for its capacity.
    pub(crate) due: RefCell<Vec<Due>>,
    pub(crate) slow_callback: Option<Duration>,
    pub(crate) slow_watch: SlowWatch,
    pub(crate) spin: Spin,
    pub(crate) watch: Watch,
    /// Tasks polled since the last `enter`, and messages received while spinning.
    pub(crate) polls: Cell<u32>,
    /// The value of `polls` at which the ring's flags are checked next.
    pub(crate) next_look: Cell<u32>,
    /// The main future has ended, or `stop` was called: this turn does not sleep, and is the run's last.
    pub(crate) stopping: Cell<bool>,
    /// Something holds far more memory than it uses. `tidy_at` is the time to free some.
    pub(crate) untidy: Cell<bool>,
    pub(crate) tidy_at: Cell<u64>,
    /// SIGINT arrived.
    pub(crate) interrupted: Cell<bool>,
    pub(crate) interrupt: Cell<Option<Box<dyn Any>>>,
    /// By signal number.
    pub(crate) signal_handlers: RefCell<HashMap<i32, Box<dyn Any>>>,
    /// The loop is ending: its tasks are cancelled (`ending`), then its services close (`closing`).
    pub(crate) ending: Cell<bool>,
    pub(crate) closing: Cell<bool>,
    /// A round was requested.
    pub(crate) round: Cell<bool>,
    /// An operation of the loop's own reads the eventfd of its wake-ups.
    pub(crate) reads_wakes: Cell<bool>,
    /// What `OnLoop` names.
    pub(crate) values: Values,
    /// For choices at random, such as the order of `select!`.
    pub(crate) random: Cell<Rng>,
    /// Debug mode is on.
    pub(crate) debug: Cell<bool>,
    /// Made at first use.
    pub(super) pool: OnceCell<Pool>,
    /// Once another loop drives this one.
    pub(crate) embedded: OnceCell<Embedded>,
    pub(super) _listed: Listed,
    // Last: frees the loop's index for another loop once everything above is dropped.
    pub(super) _registration: Registration,
}

type Known = (LoopId, Weak<Loop>);

thread_local! {
    /// No destructor, so an access need not check for it: it is empty outside a run.
    static CURRENT: ManuallyDrop<RefCell<Option<Rc<Loop>>>> = const { ManuallyDrop::new(RefCell::new(None)) };
    /// The loops of this thread. No destructor either: it is empty when they are gone.
    static LOOPS: ManuallyDrop<RefCell<Vec<Known>>> = const { ManuallyDrop::new(RefCell::new(Vec::new())) };
}

/// Calls `f` with this thread's running loop.
///
/// # Panics
/// If there is none: "no running event loop".
#[track_caller]
pub(crate) fn with<R>(f: impl FnOnce(&Loop) -> R) -> R {
    match try_with(f) {
        Some(value) => value,
        None => absent(),
    }
}

#[cold]
#[track_caller]
pub(crate) fn absent() -> ! {
    panic!("no running event loop: call this from inside corio::run")
}

/// Panics: something attached to a loop was used on another one, or on none.
#[cold]
#[track_caller]
pub(crate) fn away(what: &str) -> ! {
    with(|_| panic!("{what} is attached to a different loop"))
}

/// As `with`; `None` outside a running loop. No borrow is held while `f` runs: it may drop another loop, which runs as
/// the current one while it closes.
#[inline]
pub(crate) fn try_with<R>(f: impl FnOnce(&Loop) -> R) -> Option<R> {
    let lp = CURRENT.with(|current| current.borrow().clone())?;
    Some(f(&lp))
}

/// As `try_with`, a little cheaper: `f` must not run foreign code.
#[inline(always)]
pub(crate) fn peek<R>(f: impl FnOnce(&Loop) -> R) -> Option<R> {
    CURRENT.with(|current| Some(f(current.borrow().as_deref()?)))
}

/// Calls `f` with the loop `id` as the running one, if that loop is of this thread.
pub(crate) fn at_home<R>(id: LoopId, f: impl FnOnce(&Loop) -> R) -> Option<R> {
    let mut f = Some(f);
    let done = try_with(|lp| if lp.id == id { f.take().map(|f| f(lp)) } else { None }).flatten();
    let Some(f) = f else { return done };
    let lp = LOOPS.with(|loops| loops.borrow().iter().find(|(known, _)| *known == id)?.1.upgrade())?;
    let entered = Entered::over(&lp);
    let done = f(&lp);
    drop(entered);
    lp.tell_host();
    Some(done)
}

/// As `at_home`; for a loop of another thread, through its inbox. If the loop has closed, `f` is dropped.
pub(crate) fn on_loop(id: LoopId, f: impl FnOnce(&Loop) + Send + 'static) {
    let mut f = Some(f);
    at_home(id, |lp| {
        if let Some(f) = f.take() {
            f(lp);
        }
    });
    if let Some(f) = f {
        let _ = post(id, f);
    }
}

/// Makes the loop `id` call `f` in a turn; works from any thread.
pub(crate) fn post(id: LoopId, f: impl FnOnce(&Loop) + Send + 'static) -> Result<(), LoopClosed> {
    registry::post(
        id,
        Box::new(move || {
            try_with(f);
        }),
    )
}

/// Keeps a loop in its thread's list until dropped.
pub(super) struct Listed(LoopId);

impl Listed {
    pub(super) fn new(id: LoopId) -> Listed {
        Listed(id)
    }

    /// Adds the loop to its thread's list.
    pub(super) fn list(lp: &Rc<Loop>) {
        LOOPS.with(|loops| loops.borrow_mut().push((lp.id, Rc::downgrade(lp))));
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        LOOPS.with(|loops| {
            let mut loops = loops.borrow_mut();
            loops.retain(|(id, _)| *id != self.0);
            if loops.is_empty() {
                // Freed here, as the thread-local has no destructor.
                *loops = Vec::new();
            }
        });
    }
}

/// Makes a loop the running one of this thread until dropped; then the former one runs again.
pub(crate) struct Entered {
    outer: Option<Rc<Loop>>,
    _budget: Suspended,
}

impl Entered {
    #[track_caller]
    pub(crate) fn new(lp: &Rc<Loop>) -> Entered {
        CURRENT.with(|current| {
            let free = current.borrow().is_none();
            assert!(free, "run() cannot be called from a running event loop");
            *current.borrow_mut() = Some(Rc::clone(lp));
        });
        lp.enter_services();
        Entered { outer: None, _budget: Suspended::new() }
    }

    /// As `new`, also inside another loop's run: for a loop that closes there.
    pub(crate) fn over(lp: &Rc<Loop>) -> Entered {
        let outer = CURRENT.with(|current| current.borrow_mut().replace(Rc::clone(lp)));
        if let Some(outer) = &outer {
            outer.leave_services();
        }
        lp.enter_services();
        Entered { outer, _budget: Suspended::new() }
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        let outer = self.outer.take();
        let left = CURRENT.with(|current| std::mem::replace(&mut *current.borrow_mut(), outer.clone()));
        if let Some(left) = left {
            left.leave_services();
        }
        if let Some(outer) = outer {
            outer.enter_services();
        }
    }
}

impl Loop {
    /// Tells all services, even if one panics: each must find its own loop's state in place.
    fn enter_services(&self) {
        self.services.each(|service| self.guard(None, || service.entered()));
    }

    fn leave_services(&self) {
        self.services.each(|service| self.guard(None, || service.left()));
    }

    pub(crate) fn id(&self) -> LoopId {
        self.id
    }

    /// The thread pool for blocking work.
    pub(crate) fn pool(&self) -> &Pool {
        self.pool.get_or_init(|| Pool::new(self.id))
    }

    /// Drops blocking jobs that have not started. Returns the number of busy threads.
    pub(crate) fn close_pool(&self) -> usize {
        let Some(pool) = self.pool.get() else { return 0 };
        let (jobs, busy) = pool.close();
        self.discard(jobs);
        busy
    }

    /// Queues `callback` for the next turn.
    pub(crate) fn call_now(&self, callback: Box<dyn FnOnce()>, place: Place) -> CallKey {
        let key = self.calls.insert(callback, place);
        self.tasks.ready.push(Ready::Call(key.slot));
        key
    }

    /// Queues `callback` for a time on the loop's clock.
    pub(crate) fn call_at(&self, deadline_ns: u64, callback: Box<dyn FnOnce()>) -> (CallKey, TimerKey) {
        let call = self.calls.insert(callback, None);
        (call, self.timers.borrow_mut().insert(deadline_ns, Due::Call(call.slot)))
    }

    #[inline(always)]
    pub(crate) fn remove_timer(&self, key: TimerKey) -> Option<Due> {
        self.timers.borrow_mut().remove(key)
    }

    /// Wakes the joiner of an ended task and calls its callbacks. Reports a panic that nobody else will see.
    pub(crate) fn announce(&self, ended: Ended) {
        if let Some(message) = ended.panic_message() {
            let text = format!("Task exception was never retrieved: panicked: {message}");
            self.exceptions.report(&ExceptionContext::new(text).with_task(Some(ended.info.clone())));
        }
        let Ended { info, joiner, callbacks, unwanted, locals, outcome: _ } = ended;
        if let Some(joiner) = joiner {
            self.exceptions.wake(joiner);
        }
        for callback in callbacks {
            self.guard(Some(&info), || callback(&info));
        }
        if let Some(task) = unwanted {
            self.guard(Some(&info), || drop(task));
        }
        if let Some(locals) = locals {
            self.guard(Some(&info), || drop(locals));
        }
    }

    /// Drops each value; the destructors are foreign code.
    pub(crate) fn discard<T: 'static>(&self, left: Vec<T>) {
        for value in left {
            self.guard(None, || drop(value));
        }
    }

    /// Calls foreign code; its panic goes to the exception handler.
    pub(crate) fn guard(&self, task: Option<&TaskInfo>, f: impl FnOnce()) {
        if let Some(context) = caught(f) {
            self.exceptions.report(&context.with_task(task.cloned()));
        }
    }

    /// As `guard`, for a callback that was created at `place`.
    pub(crate) fn guard_call(&self, place: Place, callback: Box<dyn FnOnce()>) {
        if let Some(context) = caught(callback) {
            self.exceptions.report(&context.with_place(place));
        }
    }
}

/// Calls foreign code. Returns a report of its panic.
fn caught(f: impl FnOnce()) -> Option<ExceptionContext> {
    let payload = panic::catch_unwind(AssertUnwindSafe(f)).err()?;
    let payload = PanicPayload::new(payload);
    let text = format!("Exception in callback: panicked: {}", payload.message());
    discard(payload);
    Some(ExceptionContext::new(text))
}

/// For turns without a main future.
pub(crate) fn no_main(_: &mut Context<'_>) {}

#[cfg(test)]
mod tests {
    use super::LOOPS;
    use crate::run;

    #[test]
    fn a_thread_that_has_run_a_loop_holds_no_memory_for_it() {
        run(async {});
        LOOPS.with(|loops| assert_eq!(loops.borrow().capacity(), 0));
    }
}
