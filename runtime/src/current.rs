//! The loop, and the one that runs on this thread.

use std::{
    cell::{Cell, OnceCell, RefCell},
    collections::HashMap,
    future::Future,
    io,
    mem::ManuallyDrop,
    os::fd::OwnedFd,
    panic::{self, AssertUnwindSafe, Location},
    rc::{Rc, Weak},
    time::Duration,
};

use nix::sys::eventfd::EventFd;

use crate::{
    budget::Suspended,
    exception::{self, ExceptionContext, ExceptionHandler},
    handle::{Handle, LoopInbox, Registration},
    kernel::{
        driver::Driver,
        operation::{Done, Operation},
        receive::Receivers,
        ring::{Ring, unpark::Unpark},
        sqe::Sqe,
    },
    metrics::Watch,
    scheduler::{
        calls::{CallKey, Calls},
        clock::Clock,
        loop_id::LoopId,
        ready::Ready,
        task_error::{PanicPayload, discard},
        task_info::TaskInfo,
        task_key::TaskKey,
        task_table::{Ended, Plain, TaskTable},
        timers::{Due, TimerKey, Timers},
    },
    service::{Services, tidy_later},
    signals::{Interrupt, Listener},
    slow::SlowWatch,
    spin::Spin,
    task::{CleanupScope, Task, waker},
    threads::pool::Pool,
    turn::no_main,
};

/// One event loop: everything that belongs to it, each part behind its own cell.
pub(crate) struct Loop {
    id: LoopId,
    pub(crate) clock: Clock,
    pub(crate) tasks: TaskTable,
    pub(crate) calls: Calls,
    pub(crate) timers: RefCell<Timers>,
    pub(crate) driver: Driver,
    pub(crate) receivers: Receivers,
    pub(crate) services: Services,
    pub(crate) exceptions: ExceptionHandler,
    pub(crate) inbox: &'static LoopInbox,
    /// The timers of one turn; kept for its capacity.
    pub(crate) due: RefCell<Vec<Due>>,
    pub(crate) slow_callback: Option<Duration>,
    pub(crate) slow_watch: SlowWatch,
    pub(crate) spin: Spin,
    pub(crate) watch: Watch,
    /// Tasks polled since the last `enter`, and messages that came while the loop looked out for them.
    pub(crate) polls: Cell<u32>,
    /// At how many of them the ring's flags are looked at.
    pub(crate) next_look: Cell<u32>,
    /// The main future is done: this turn does not sleep.
    pub(crate) stopping: Cell<bool>,
    /// Something holds far more memory than it uses: looked at again at this time.
    pub(crate) untidy: Cell<bool>,
    pub(crate) tidy_at: Cell<u64>,
    /// SIGINT arrived.
    pub(crate) interrupted: Cell<bool>,
    pub(crate) interrupt: Cell<Option<Interrupt>>,
    /// By the number of their signal.
    pub(crate) signal_handlers: RefCell<HashMap<i32, Listener>>,
    /// The loop is at its end: its tasks are cancelled, then its services close.
    pub(crate) ending: Cell<bool>,
    pub(crate) closing: Cell<bool>,
    /// A round is on its way.
    pub(crate) round: Cell<bool>,
    /// Who waits for the cleanups of what is polled or dropped now.
    pub(crate) scope: RefCell<Option<Rc<dyn CleanupScope>>>,
    /// Made when first used.
    pool: OnceCell<Pool>,
    /// Signalled at every completion, once another loop drives this one.
    pub(crate) embedded: OnceCell<EventFd>,
    _listed: Listed,
    // Last: the index is free for another loop once everything above is gone.
    _registration: Registration,
}

type Known = (LoopId, Weak<Loop>);

thread_local! {
    /// Without a destructor, so that no access asks whether it has run: outside any run there is nothing in it.
    static CURRENT: ManuallyDrop<RefCell<Option<Rc<Loop>>>> = const { ManuallyDrop::new(RefCell::new(None)) };
    /// The loops of this thread. Likewise: it is empty when they are gone.
    static LOOPS: ManuallyDrop<RefCell<Vec<Known>>> = const { ManuallyDrop::new(RefCell::new(Vec::new())) };
}

/// Runs `f` with this thread's running loop.
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

/// What is attached to a loop is used on another, or on none.
#[cold]
#[track_caller]
pub(crate) fn away(what: &str) -> ! {
    with(|_| panic!("{what} is attached to a different loop"))
}

/// As `with`; `None` outside a running loop. No borrow is held while `f` runs: it may drop another loop, which
/// closes as the running one.
#[inline]
pub(crate) fn try_with<R>(f: impl FnOnce(&Loop) -> R) -> Option<R> {
    let lp = CURRENT.with(|current| current.borrow().clone())?;
    Some(f(&lp))
}

/// As `try_with`, a little cheaper: `f` runs no foreign code.
#[inline(always)]
pub(crate) fn peek<R>(f: impl FnOnce(&Loop) -> R) -> Option<R> {
    CURRENT.with(|current| Some(f(current.borrow().as_deref()?)))
}

/// Runs `f` on the loop `id`, here and now and as the running one, if it is of this thread.
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

/// As `at_home`, or through the loop's inbox if it is of another thread. A loop that has closed has nothing left to
/// do it to.
pub(crate) fn on_loop(id: LoopId, f: impl FnOnce(&Loop) + Send + 'static) {
    let mut f = Some(f);
    at_home(id, |lp| {
        if let Some(f) = f.take() {
            f(lp);
        }
    });
    if let Some(f) = f {
        let _ = Handle { loop_id: id }.post(Box::new(f));
    }
}

/// The loop is among those of its thread until this is dropped.
struct Listed(LoopId);

impl Drop for Listed {
    fn drop(&mut self) {
        LOOPS.with(|loops| loops.borrow_mut().retain(|(id, _)| *id != self.0));
    }
}

/// Makes a loop the running one of this thread until it is dropped; then the one before is it again.
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
    /// `wakes` are of the ring's `unpark`.
    pub(crate) fn new(
        ring: Ring,
        wakes: (Unpark, Option<OwnedFd>),
        clock: Clock,
        slow_callback: Option<Duration>,
    ) -> io::Result<Rc<Loop>> {
        let (unpark, wake_fd) = wakes;
        let registration = Registration::new()?;
        let id = registration.loop_id();
        let inbox = registration.inbox();
        inbox.open(id.number(), unpark);
        let real = !ring.is_simulated();
        let lp = Rc::new(Loop {
            id,
            exceptions: ExceptionHandler::new(clock.clone()),
            clock,
            tasks: TaskTable::new(id, &waker::VTABLE, tidy_later),
            calls: Calls::new(tidy_later),
            timers: RefCell::new(Timers::new(tidy_later)),
            driver: Driver::new(ring, tidy_later),
            receivers: Receivers::default(),
            services: Services::default(),
            inbox,
            due: RefCell::new(Vec::new()),
            slow_callback,
            slow_watch: SlowWatch::new(real && slow_callback.is_none()),
            spin: Spin::new(real),
            watch: Watch::new(id),
            polls: Cell::new(0),
            next_look: Cell::new(0),
            stopping: Cell::new(false),
            untidy: Cell::new(false),
            tidy_at: Cell::new(0),
            interrupted: Cell::new(false),
            interrupt: Cell::new(None),
            signal_handlers: RefCell::default(),
            ending: Cell::new(false),
            closing: Cell::new(false),
            round: Cell::new(false),
            scope: RefCell::new(None),
            pool: OnceCell::new(),
            embedded: OnceCell::new(),
            _listed: Listed(id),
            _registration: registration,
        });
        LOOPS.with(|loops| loops.borrow_mut().push((id, Rc::downgrade(&lp))));
        if let Some(fd) = wake_fd {
            let read = ReadWakes { loop_id: id, fd: fd.into(), count: [0; 8] };
            lp.driver.start(Box::new(read));
        }
        Ok(lp)
    }

    /// Tells every service, also after a panic of one: what another keeps for the running loop is in place.
    fn enter_services(&self) {
        self.services.each(|service| self.guard(None, || service.entered()));
    }

    fn leave_services(&self) {
        self.services.each(|service| self.guard(None, || service.left()));
    }

    pub(crate) fn id(&self) -> LoopId {
        self.id
    }

    /// The threads for work that blocks.
    pub(crate) fn pool(&self) -> &Pool {
        self.pool.get_or_init(|| Pool::new(self.handle()))
    }

    /// Drops blocking work that has not begun; how much is left.
    pub(crate) fn close_pool(&self) -> usize {
        let Some(pool) = self.pool.get() else { return 0 };
        let (jobs, busy) = pool.close();
        self.discard(jobs);
        busy
    }

    pub(crate) fn handle(&self) -> Handle {
        Handle { loop_id: self.id }
    }

    pub(crate) fn create_task<F: Future + 'static>(
        &self,
        future: F,
        location: &'static Location<'static>,
    ) -> Task<F::Output> {
        let (key, id) = self.tasks.create::<Plain, F>(future, location);
        Task::new(self.homed(key), id)
    }

    /// As `create_task`, with the first step made here and now.
    pub(crate) fn create_eager_task<F: Future + 'static>(
        &self,
        future: F,
        location: &'static Location<'static>,
    ) -> Task<F::Output>
    where
        F::Output: 'static,
    {
        let (key, id) = self.tasks.create_eager(future, location);
        self.step_task(key.slot, &mut no_main);
        Task::new(self.homed(key), id)
    }

    pub(crate) fn detach(&self, key: TaskKey) {
        if let Some(ended) = self.tasks.detach(key) {
            self.announce(ended);
        }
    }

    /// Queues `callback` for the next turn.
    pub(crate) fn call_now(&self, callback: Box<dyn FnOnce()>) -> CallKey {
        let key = self.calls.insert(callback);
        self.tasks.ready.push(Ready::Call(key.slot));
        key
    }

    #[inline(always)]
    pub(crate) fn remove_timer(&self, key: TimerKey) -> Option<Due> {
        self.timers.borrow_mut().remove(key)
    }

    /// Runs what the end of a task sets off, and reports a panic that nobody will see otherwise.
    pub(crate) fn announce(&self, ended: Ended) {
        if let Some(message) = ended.panic_message() {
            let text = format!("Task exception was never retrieved: panicked: {message}");
            self.exceptions.report(&ExceptionContext::new(text).with_task(Some(ended.info.clone())));
        }
        let Ended { info, joiner, callbacks, unwanted, locals, outcome: _ } = ended;
        if let Some(joiner) = joiner {
            exception::wake(joiner);
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

    /// Drops each of `left`: destructors are foreign code.
    pub(crate) fn discard<T: 'static>(&self, left: Vec<T>) {
        for value in left {
            self.guard(None, || drop(value));
        }
    }

    /// Runs foreign code; its panic goes to the exception handler.
    pub(crate) fn guard(&self, task: Option<&TaskInfo>, f: impl FnOnce()) {
        if let Err(payload) = panic::catch_unwind(AssertUnwindSafe(f)) {
            let payload = PanicPayload::new(payload);
            let text = format!("Exception in callback: panicked: {}", payload.message());
            discard(payload);
            self.exceptions.report(&ExceptionContext::new(text).with_task(task.cloned()));
        }
    }
}

/// Reads the eventfd that other threads wake the loop by.
struct ReadWakes {
    loop_id: LoopId,
    fd: crate::fd::Fd,
    count: [u8; 8],
}

impl Operation for ReadWakes {
    type Output = ();

    fn prepare(&mut self) -> Sqe<'_> {
        Sqe::read(&self.fd, &mut self.count)
    }

    fn complete(self: Box<Self>, _: Done) {
        try_with(|lp| {
            if lp.id == self.loop_id && !lp.closing.get() {
                lp.driver.start(self);
            }
        });
    }
}
