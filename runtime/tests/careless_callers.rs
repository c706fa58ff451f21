//! Misused operations: a mistake costs the caller a panic or nothing, never memory or a result.

mod common;

use std::{
    cell::{Cell, RefCell},
    future::{pending, poll_fn},
    io::{self, Write},
    panic::{self, AssertUnwindSafe, catch_unwind},
    rc::Rc,
    sync::{Arc, Mutex},
    task::{Poll, Wake, Waker},
    thread,
};

use common::{Nop, assert_passed, child, is_child, kernels, pair, recv};
use corio_runtime::{
    Backend, Handle, Resolver, Runner, call_soon, create_future, create_task,
    fd::Fd,
    handle, metrics,
    op::{self, Done, Multishot, Op, OpKey, Operation, Payload, Receiver, Sqe, TurnEnd, submit},
    run,
    service::{LoopLocal, Service},
    socket::{self, ListenOptions},
    time::{Duration, sleep, timeout},
    yield_now,
};

/// Panics as the loop is entered, once it is told to.
struct Faulty;

thread_local!(static PANICS: Cell<bool> = const { Cell::new(false) });

impl Service for Faulty {
    fn entered(&self) {
        assert!(!PANICS.get(), "a service panics");
    }
}

static FAULTY: LoopLocal<Faulty> = LoopLocal::new(|| Faulty);

/// Notes whether its memory was freed before the kernel's last word.
struct Watched {
    fd: Fd,
    buf: Vec<u8>,
    last_word: bool,
    freed_early: Rc<Cell<bool>>,
}

impl Operation for Watched {
    type Output = ();

    fn prepare(&mut self) -> Sqe<'_> {
        Sqe::recv(&self.fd, &mut self.buf)
    }

    fn complete(mut self: Box<Self>, _: Done) {
        self.last_word = true;
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.freed_early.set(self.freed_early.get() | !self.last_word);
    }
}

#[test]
fn b2_a_service_that_panics_as_its_loop_is_dropped_frees_nothing_under_an_operation() {
    let freed_early = Rc::new(Cell::new(false));
    let (fd, _peer) = pair();
    let mut runner = Runner::new().unwrap();
    let op = Watched { fd, buf: vec![0; 64], last_word: false, freed_early: freed_early.clone() };
    runner.run(async {
        FAULTY.with(|_| ());
        op::start(Box::new(op));
        sleep(Duration::from_millis(1)).await;
    });
    PANICS.set(true);
    let _ = catch_unwind(AssertUnwindSafe(|| drop(runner)));
    PANICS.set(false);
    assert!(!freed_early.get());
    // The thread is fit for another loop.
    run(sleep(Duration::from_millis(1)));
}

/// Ten bytes, and whom to tell.
struct Ten(Resolver<(u32, i32)>);

impl Payload for Ten {
    fn bytes(&self) -> &[u8] {
        &[1; 10]
    }

    fn sent(self: Box<Self>, token: u32, result: i32) {
        self.0.set_result((token, result)).unwrap();
    }

    fn sent_silently(self: Box<Self>) {
        self.0.set_result((0, 10)).unwrap();
    }
}

#[test]
fn a_send_amid_a_turn_ends_the_sleep_of_who_waits_for_it() {
    run(async {
        let (fd, _peer) = pair();
        let (resolver, sent) = create_future();
        op::send(&fd, Box::new(Ten(resolver)), 3);
        // No timer, no other operation: only the send's own completion ends this.
        assert_eq!(sent.await, Ok((3, 10)));
        assert_eq!(metrics().ring.silent, 0);
    });
}

#[test]
fn a_send_that_fails_tells_its_error_and_lets_go_of_the_descriptor() {
    run(async {
        let (fd, peer) = pair();
        drop(peer);
        let (resolver, sent) = create_future();
        op::send(&fd, Box::new(Ten(resolver)), 3);
        assert_eq!(sent.await, Ok((3, -libc::EPIPE)));
        assert!(fd.try_into_owned().is_ok());
    });
}

/// A send with one result that calls itself one with many.
struct SendOfMany(Fd, RefCell<Option<Resolver<io::Result<usize>>>>);

impl Multishot for SendOfMany {
    fn prepare(&self) -> Sqe<'_> {
        Sqe::send(&self.0, &[1; 10])
    }

    fn item(&self, _: Done) {}

    fn end(&self, done: Done) {
        self.1.take().unwrap().set_result(done.count()).unwrap();
    }
}

#[test]
fn a_send_that_is_started_as_a_multishot_tells_its_end() {
    run(async {
        let (fd, _peer) = pair();
        let (resolver, sent) = create_future();
        op::start_multishot(SendOfMany(fd, RefCell::new(Some(resolver))));
        assert_eq!(sent.await.unwrap().unwrap(), 10);
    });
}

#[test]
fn what_needs_a_loop_and_has_none_names_its_caller() {
    static PLACE: Mutex<Option<(String, u32)>> = Mutex::new(None);
    let (own, earlier) = (thread::current().id(), panic::take_hook());
    panic::set_hook(Box::new(move |info| match info.location() {
        Some(at) if thread::current().id() == own => {
            *PLACE.lock().unwrap() = Some((at.file().to_owned(), at.line()));
        }
        _ => earlier(info),
    }));
    let line = line!() + 1;
    catch_unwind(|| FAULTY.with(|_| ())).unwrap_err();
    let place = PLACE.lock().unwrap().take().unwrap();
    assert!(place.0.ends_with("careless_callers.rs") && place.1 == line, "{place:?}");
}

/// Ends another loop as it is prepared.
struct EndsALoop(Option<Runner>, Resolver<i32>);

impl Operation for EndsALoop {
    type Output = ();

    fn prepare(&mut self) -> Sqe<'_> {
        drop(self.0.take());
        Sqe::nop()
    }

    fn complete(self: Box<Self>, done: Done) {
        self.1.set_result(done.number()).unwrap();
    }
}

/// Notes on which loop it is dropped.
struct Home(Rc<Cell<Option<Handle>>>);

impl Drop for Home {
    fn drop(&mut self) {
        self.0.set(Some(handle()));
    }
}

#[test]
fn an_operation_may_end_another_loop_as_it_is_prepared() {
    let dropped_on = Rc::new(Cell::new(None));
    let other = Runner::new().unwrap();
    let home = other.enter(|| {
        let kept = Home(dropped_on.clone());
        drop(corio_runtime::create_task(async move { drop((std::future::pending::<()>().await, kept)) }));
        handle()
    });
    run(async {
        let (resolver, done) = create_future();
        op::start(Box::new(EndsALoop(Some(other), resolver)));
        assert_eq!(dropped_on.get(), Some(home));
        assert_eq!(done.await, Ok(0));
    });
}

/// Sends silently at the end of the turn in which it was asked to.
#[derive(Default)]
struct AtTurnEnd(RefCell<Vec<(Fd, Ten)>>);

impl Service for AtTurnEnd {
    fn before_submit(&self, end: TurnEnd<'_>) {
        for (fd, ten) in self.0.take() {
            end.sends().send(&fd, Box::new(ten), 3);
        }
    }
}

static AT_TURN_END: LoopLocal<AtTurnEnd> = LoopLocal::new(AtTurnEnd::default);

#[test]
fn a_silent_send_is_over_in_its_turn_and_tells_no_length() {
    run(async {
        let (fd, _peer) = pair();
        let (resolver, sent) = create_future();
        AT_TURN_END.with(|service| service.0.borrow_mut().push((fd, Ten(resolver))));
        sleep(Duration::from_millis(1)).await;
        assert!(sent.done());
        assert_eq!(sent.await, Ok((0, 10)));
        assert_eq!(metrics().ring.silent, 1);
    });
}

#[test]
fn a_silent_send_that_would_block_says_so_in_its_turn() {
    run(async {
        let (fd, _peer) = pair();
        let mut full =
            std::os::unix::net::UnixStream::from(fd.as_fd().unwrap().try_clone_to_owned().unwrap());
        full.set_nonblocking(true).unwrap();
        while full.write(&[0; 4096]).is_ok() {}
        full.set_nonblocking(false).unwrap();
        let (resolver, sent) = create_future();
        AT_TURN_END.with(|service| service.0.borrow_mut().push((fd, Ten(resolver))));
        assert_eq!(sent.await, Ok((3, -libc::EAGAIN)));
        assert_eq!(metrics().ring.silent, 0);
    });
}

/// Panics once at the end of a turn, behind the silent sends.
struct PanicsOnce(Cell<bool>);

impl Service for PanicsOnce {
    fn before_submit(&self, _: TurnEnd<'_>) {
        assert!(!self.0.take(), "a service panics");
    }
}

static PANICS_ONCE: LoopLocal<PanicsOnce> = LoopLocal::new(|| PanicsOnce(Cell::new(false)));

#[test]
fn a_silent_send_whose_turn_a_panic_cut_short_ends_the_sleep_of_the_next() {
    let mut runner = Runner::new().unwrap();
    let (fd, _peer) = pair();
    let (resolver, sent) = create_future();
    let cut_short = catch_unwind(AssertUnwindSafe(|| {
        runner.run(async {
            AT_TURN_END.with(|service| service.0.borrow_mut().push((fd, Ten(resolver))));
            PANICS_ONCE.with(|service| service.0.set(true));
            pending::<()>().await
        })
    }));
    assert!(cut_short.is_err());
    // No timer, no other operation, and the kernel reports nothing.
    assert_eq!(runner.run(sent), Ok((0, 10)));
}

/// Asks for a silent send at the end of a turn, of a service that it may be the first to use.
struct AsksForASend(RefCell<Option<(Fd, Ten)>>);

impl Service for AsksForASend {
    fn before_submit(&self, _: TurnEnd<'_>) {
        if let Some(send) = self.0.take() {
            AT_TURN_END.with(|service| service.0.borrow_mut().push(send));
        }
    }
}

static ASKS_FOR_A_SEND: LoopLocal<AsksForASend> = LoopLocal::new(|| AsksForASend(RefCell::new(None)));

#[test]
fn a_service_that_is_made_at_the_end_of_a_turn_sees_that_end() {
    // The indices, in this order.
    run(async { ASKS_FOR_A_SEND.with(|_| AT_TURN_END.with(|_| ())) });
    run(async {
        let (fd, _peer) = pair();
        let (resolver, sent) = create_future();
        ASKS_FOR_A_SEND.with(|service| service.0.replace(Some((fd, Ten(resolver)))));
        sleep(Duration::from_millis(1)).await;
        assert!(sent.done());
    });
}

#[test]
fn a6_a_key_of_a_closed_loop_cancels_nothing_on_the_next() {
    let (fd, _peer) = pair();
    let old = run(async move { op::start(Box::new(Ignored(recv(&fd, 8)))) });
    run(async move {
        let (fd, _peer) = pair();
        let pending = submit(recv(&fd, 8));
        op::cancel(old);
        let cancelled = corio_runtime::time::timeout(Duration::from_millis(10), pending).await;
        assert!(cancelled.is_err(), "still waiting");
        assert_eq!(metrics().ring.cancels, 1, "of the timeout");
    });
}

struct Ignored<O: Operation>(O);

impl<O: Operation> Operation for Ignored<O> {
    type Output = ();

    fn prepare(&mut self) -> Sqe<'_> {
        self.0.prepare()
    }

    fn complete(self: Box<Self>, _: Done) {}
}

/// Panics instead of describing itself, and owns what needs the loop when it is dropped.
struct Indescribable(#[expect(dead_code, reason = "owned to be dropped")] Op<Nop>);

impl Operation for Indescribable {
    type Output = ();

    fn prepare(&mut self) -> Sqe<'_> {
        panic!("prepare panics")
    }

    fn complete(self: Box<Self>, _: Done) {}
}

#[test]
fn c3_a_panic_in_prepare_reaches_the_caller_and_drops_the_operation() {
    run(async {
        let inner = submit(Nop);
        let thrown = catch_unwind(AssertUnwindSafe(|| submit(Indescribable(inner)))).unwrap_err();
        assert_eq!(thrown.downcast_ref(), Some(&"prepare panics"));
        submit(Nop).await.unwrap();
        assert_eq!(metrics().ring.cancels, 1, "of the operation that the other owned");
    });
}

/// Describes itself once.
struct Forgetful {
    fd: Fd,
    buf: [u8; 8],
    described: bool,
}

impl Operation for Forgetful {
    type Output = i32;

    fn prepare(&mut self) -> Sqe<'_> {
        assert!(!std::mem::replace(&mut self.described, true), "once is enough");
        Sqe::recv(&self.fd, &mut self.buf)
    }

    fn complete(self: Box<Self>, done: Done) -> i32 {
        done.number()
    }
}

/// As the simulator does while it executes an operation.
#[test]
fn a_panic_in_a_later_prepare_fails_the_operation_and_nothing_else() {
    let mut runner = Runner::builder().backend(Backend::Sim { seed: 1 }).build().unwrap();
    runner.run(async {
        let options =
            ListenOptions { backlog: 8, reuse_addr: true, reuse_port: false, nodelay: true, v6_only: false };
        let fd = socket::listen(([127, 0, 0, 1], 0).into(), options).unwrap();
        let described = submit(Forgetful { fd, buf: [0; 8], described: false });
        assert_eq!(described.await, -nix::libc::EFAULT);
        submit(Nop).await.unwrap();
        assert_eq!(metrics().operations, 0);
    });
}

/// Describes many results, and can take one.
struct OneOfMany(Fd);

impl Operation for OneOfMany {
    type Output = ();

    fn prepare(&mut self) -> Sqe<'_> {
        Sqe::recv_multi(&self.0, 0)
    }

    fn complete(self: Box<Self>, _: Done) {}
}

#[test]
fn an_operation_that_describes_many_results_is_refused() {
    run(async {
        let (fd, _peer) = pair();
        let thrown = catch_unwind(AssertUnwindSafe(|| op::start(Box::new(OneOfMany(fd))))).unwrap_err();
        let text = thrown.downcast_ref::<String>().unwrap();
        assert!(text.contains("recv_multi") && text.contains("start_multishot"), "{text}");
    });
}

#[test]
fn b2_a_loop_dropped_by_a_destructor_that_another_loop_runs_closes_as_itself() {
    let freed_early = Rc::new(Cell::new(false));
    let (fd, _peer) = pair();
    let mut inner = Runner::new().unwrap();
    let op = Watched { fd, buf: vec![0; 64], last_word: false, freed_early: freed_early.clone() };
    let ran_on = Rc::new(Cell::new(None));
    let note = NoteLoop(ran_on.clone());
    let _task = inner.create_task(async move {
        let _note = note;
        std::future::pending::<()>().await;
    });
    inner.run(async move {
        op::start(Box::new(op));
        sleep(Duration::from_millis(1)).await;
    });
    let inner_loop = inner.handle();
    run(async move {
        let outer_loop = handle();
        // The callback's destructor runs inside the loop's own code.
        call_soon(move || drop(inner)).cancel();
        assert_eq!((ran_on.get(), handle()), (Some(inner_loop), outer_loop));
        sleep(Duration::from_millis(1)).await;
    });
    assert!(!freed_early.get());
}

/// Notes the loop that it is dropped on.
struct NoteLoop(Rc<Cell<Option<Handle>>>);

impl Drop for NoteLoop {
    fn drop(&mut self) {
        self.0.set(Some(handle()));
    }
}

/// What came, by the tokens of its receives; one of them panics when it gets a `!`.
type Arrived = Vec<(u32, Vec<u8>)>;

thread_local! {
    static ARRIVED: RefCell<Arrived> = RefCell::default();
    static ENDED: Cell<u32> = const { Cell::new(0) };
    static WAITING: RefCell<Vec<Waker>> = RefCell::default();
}

static COLLECTS: Receiver = Receiver {
    data: |arrivals| {
        arrivals.each(|token, data, _| {
            ARRIVED.with_borrow_mut(|arrived| arrived.push((token, data.to_vec())));
            assert!(data != b"!", "a receiver panics");
            WAITING.with_borrow_mut(Vec::pop)
        })
    },
    end: |_, _| ENDED.set(ENDED.get() + 1),
};

static COLLECTS_TOO: Receiver = Receiver {
    data: |arrivals| {
        arrivals.each(|token, data, _| {
            ARRIVED.with_borrow_mut(|arrived| arrived.push((token, data.to_vec())));
            None
        })
    },
    end: |_, _| ENDED.set(ENDED.get() + 1),
};

static LOOKS_AWAY: Receiver = Receiver { data: |_| {}, end: |_, _| ENDED.set(ENDED.get() + 1) };

/// Lets the peers of receives write, in one turn, then ends the receives. What arrived.
async fn receive_all<const N: usize>(to: [&'static Receiver; N], data: &[&[u8]; N]) -> Arrived {
    let pairs: [_; N] = std::array::from_fn(|_| pair());
    for (token, ((fd, _), to)) in pairs.iter().zip(to).enumerate() {
        op::receive(fd, 0, token as u32, to);
    }
    yield_now().await;
    let free = metrics().buffers_available;
    for ((_, peer), data) in pairs.iter().zip(data) {
        (&*peer).write_all(data).unwrap();
    }
    sleep(Duration::from_millis(1)).await;
    assert_eq!(metrics().buffers_available, free, "every buffer is back");
    drop(pairs.map(|(_, peer)| peer));
    while ENDED.get() < N as u32 {
        yield_now().await;
    }
    ENDED.set(0);
    ARRIVED.take()
}

fn all(data: &[&[u8]]) -> Arrived {
    data.iter().zip(0..).map(|(data, token)| (token, data.to_vec())).collect()
}

#[test]
fn receives_of_two_kinds_each_get_their_own_in_the_order_of_its_arrival() {
    run(async {
        let to = [&COLLECTS, &COLLECTS, &COLLECTS_TOO, &COLLECTS, &COLLECTS_TOO, &COLLECTS_TOO];
        let data: [&[u8]; 6] = [b"a", b"bb", b"c", b"d", b"ee", b"f"];
        let cqes = metrics().ring.cqes;
        assert_eq!(receive_all(to, &data).await, all(&data));
        assert_eq!(metrics().ring.cqes - cqes, 12, "data and an end of each");
        assert_eq!(metrics().ring.strays, 0);
    });
}

#[test]
fn b4_a_receiver_that_panics_costs_the_others_neither_data_nor_wakes() {
    run(async {
        let woken = Rc::new(Cell::new(0));
        let counts = Rc::clone(&woken);
        let task = create_task(async move {
            let mut first = true;
            poll_fn(|cx| {
                WAITING.with_borrow_mut(|waiting| waiting.push(foreign(cx.waker())));
                if std::mem::replace(&mut first, false) { Poll::Pending } else { Poll::Ready(()) }
            })
            .await;
            counts.set(counts.get() + 1);
        });
        yield_now().await;
        let data: [&[u8]; 4] = [b"first", b"!", b"behind", b"last"];
        assert_eq!(receive_all([&COLLECTS; 4], &data).await, all(&data));
        timeout(Duration::from_secs(60), task).await.expect("it is woken").unwrap();
        assert_eq!(woken.get(), 1);
    });
}

#[test]
fn b4_a_receiver_that_looks_away_loses_the_first_and_no_buffer() {
    run(async {
        let data: [&[u8]; 3] = [b"a", b"b", b"c"];
        let to = [&LOOKS_AWAY, &COLLECTS, &LOOKS_AWAY];
        assert_eq!(receive_all(to, &data).await, [(1, b"b".to_vec())]);
    });
}

/// Another kind of waker that wakes the same.
fn foreign(waker: &Waker) -> Waker {
    struct Wakes(Waker);
    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.wake_by_ref();
        }
    }
    Waker::from(Arc::new(Wakes(waker.clone())))
}

#[test]
fn a_silent_send_is_in_flight_until_the_kernel_has_taken_it() {
    /// Notes its key, and whether it is in flight at the turn's end.
    struct Notes(Cell<Option<Fd>>, Cell<Option<OpKey>>);
    impl Service for Notes {
        fn before_submit(&self, end: TurnEnd<'_>) {
            let Some(fd) = self.0.take() else { return };
            let (resolver, sent) = create_future();
            drop(sent);
            let key = end.sends().send(&fd, Box::new(Ten(resolver)), 0);
            assert!(key.is_silent() && op::is_in_flight(key) && !end.silent_left());
            self.1.set(Some(key));
        }
    }
    static NOTES: LoopLocal<Notes> = LoopLocal::new(|| Notes(Cell::new(None), Cell::new(None)));
    run(async {
        let (fd, _peer) = pair();
        NOTES.with(|notes| notes.0.set(Some(fd)));
        yield_now().await;
        let key = NOTES.with(|notes| notes.1.get()).expect("it was sent");
        assert!(!op::is_in_flight(key));
    });
}

/// Does at the next end of a turn what it was told to.
struct Told;

thread_local!(static ORDER: Cell<Option<fn(TurnEnd<'_>)>> = const { Cell::new(None) });

impl Service for Told {
    fn before_submit(&self, end: TurnEnd<'_>) {
        if let Some(f) = ORDER.take() {
            f(end);
        }
    }
}

static TOLD: LoopLocal<Told> = LoopLocal::new(|| Told);

/// Runs a loop that has operations in flight and tasks that hold some, and does `f` at the end of a turn: what the run
/// panics with, and what the loop reports.
fn run_with(backend: Backend, f: fn(TurnEnd<'_>)) -> (String, Vec<String>, usize) {
    let said = Rc::new(RefCell::new(Vec::new()));
    let heard = said.clone();
    let mut runner = Runner::builder().backend(backend).build().unwrap();
    let payload = catch_unwind(AssertUnwindSafe(|| {
        runner.run(async move {
            corio_runtime::set_exception_handler(move |context| heard.borrow_mut().push(context.to_string()));
            TOLD.with(|_| ());
            let _held = [submit(Nop), submit(Nop)];
            drop(create_task(async { submit(Nop).await }));
            ORDER.set(Some(f));
            pending::<()>().await;
        });
    }));
    let text = text_of(payload.unwrap_err());
    let left = runner.enter(corio_runtime::all_tasks).len();
    drop(runner);
    (text, said.take(), left)
}

fn text_of(payload: Box<dyn std::any::Any + Send>) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap()
}

#[test]
fn sends_that_somebody_forgets_cost_the_loop_its_ring_and_not_the_process() {
    const TEST: &str = "sends_that_somebody_forgets_cost_the_loop_its_ring_and_not_the_process";
    if !is_child(TEST) {
        // The ring's memory is leaked on purpose: the kernel may still write there.
        return assert_passed(TEST, &child(TEST).env("ASAN_OPTIONS", "detect_leaks=0").output().unwrap());
    }
    for backend in kernels() {
        let (text, said, _) = run_with(backend, |end| std::mem::forget(end.sends()));
        assert!(text.contains("the event loop failed: a Sends was forgotten"), "{text}");
        assert!(said.iter().any(|said| said.contains("a Sends was forgotten")), "{said:?}");
        // The thread can have another loop.
        assert_eq!(run(async { 7 }), 7);
    }
}

#[test]
fn a_run_that_a_services_panic_ends_ends_its_main_task_too() {
    for backend in kernels() {
        let (text, said, left) = run_with(backend, |_| panic!("a service panics"));
        assert_eq!((text.as_str(), said), ("a service panics", Vec::new()));
        assert_eq!(left, 1, "only the task that was left behind");
    }
}
