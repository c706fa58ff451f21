//! Builds a loop from its parts.

use std::{
    cell::{Cell, OnceCell, RefCell},
    io,
    os::fd::OwnedFd,
    rc::Rc,
    time::Duration,
};

use crate::{
    event_loop::{
        backend::{Backend, BackendInfo},
        current::{Listed, Loop, try_with},
        exception,
        exceptions::ExceptionHandler,
        registry::Registration,
        services::Services,
        slow_watch::SlowWatch,
        spin::Spin,
        tidy::tidy_later,
        waker,
        watch::Watch,
    },
    kernel::{
        driver::Driver,
        fd::Fd,
        operation::{Done, Operation},
        receive::Receivers,
        ring::{Ring, unpark::Unpark},
        sqe::Sqe,
    },
    scheduler::{
        calls::Calls, clock::Clock, loop_id::LoopId, rng::Rng, task_table::TaskTable, timers::Timers,
        values::Values,
    },
};

impl Loop {
    /// `wakes` comes from the ring's `unpark`.
    pub(crate) fn new(
        ring: Ring,
        wakes: (Unpark, Option<OwnedFd>),
        backend: BackendInfo,
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
            backend,
            exceptions: ExceptionHandler::new(clock.clone(), exception::look_again_later),
            clock,
            tasks: TaskTable::new(id, &waker::VTABLE, exception::wake, tidy_later),
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
            reads_wakes: Cell::new(wake_fd.is_some()),
            values: Values::new(tidy_later),
            random: Cell::new(random(backend.backend())),
            debug: Cell::new(false),
            pool: OnceCell::new(),
            embedded: OnceCell::new(),
            _listed: Listed::new(id),
            _registration: registration,
        });
        Listed::list(&lp);
        if let Some(fd) = wake_fd {
            let read = ReadWakes { loop_id: id, fd: fd.into(), count: [0; 8] };
            lp.driver.start(Box::new(read));
        }
        Ok(lp)
    }
}

/// The generator of a loop. The simulator's network has one of its own: they do not shift each other's numbers.
fn random(backend: Backend) -> Rng {
    match backend {
        Backend::Sim { seed } => Rng::new(!seed),
        _ => Rng::unseeded(),
    }
}

/// Reads the eventfd by which other threads wake the loop.
struct ReadWakes {
    loop_id: LoopId,
    fd: Fd,
    count: [u8; 8],
}

impl Operation for ReadWakes {
    type Output = ();

    fn prepare(&mut self) -> Sqe<'_> {
        Sqe::read(&self.fd, &mut self.count)
    }

    fn complete(self: Box<Self>, _: Done) {
        try_with(|lp| {
            if lp.id != self.loop_id {
                return;
            }
            lp.reads_wakes.set(!lp.closing.get());
            if lp.reads_wakes.get() {
                lp.driver.start(self);
            }
        });
    }
}
