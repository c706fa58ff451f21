//! Groups of tasks that end together (asyncio `TaskGroup`).
//!
//! ```text
//!    open ── a child or the body fails ──▶ aborting ──▶ all children gone: returns the errors
//!     │ └── cancel() ──▶ cancelled ──▶ all children gone: returns the body's result
//!     └── body and children are done ──▶ closed: returns the body's result
//! ```
//! Aborting ends the body where it is suspended and cancels every child, once. A child's failure aborts in the next
//! turn, so that siblings that fail in the same turn are heard. If the group's own future is dropped, as by an outside
//! cancel, the children's futures are dropped at once.

mod eager;

use std::{
    any::Any,
    cell::{Cell, RefCell},
    fmt,
    future::{Future, poll_fn},
    io,
    panic::{self, AssertUnwindSafe, Location},
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, Waker},
};

use pin_project_lite::pin_project;

use super::{Task, endable::Endable};
use crate::{
    event_loop::{
        current::{self, Loop},
        ends::{EnteredEnds, Leftovers},
        exception,
        exception::call_exception_handler,
        exceptions::ExceptionContext,
    },
    scheduler::{
        any_task::Fallible,
        ends::EndsKey,
        homed::Homed,
        loop_id::LoopId,
        slab::{Held, Slab},
        task_error::{PanicPayload, TaskError},
        task_key::TaskKey,
    },
};

/// Runs `body` with a group, and waits for every task created in it (asyncio `TaskGroup`).
///
/// The first failure (a child's error or panic, or the body's error) cancels all children and the body, once, in the
/// next turn; all errors are collected, so also those of children that fail in the same turn. The group waits for all
/// children, and for the cleanups of what it ended. A cancelled child is no failure. The body and children may catch
/// the cancel by [`catch_cancel`](crate::catch_cancel). Dropping this future drops the children's futures at once;
/// those that catch it are cancelled. If the body panics, the panic continues in the caller after all children have
/// ended.
///
/// ```
/// use corio_runtime::task_group;
/// corio_runtime::run(async {
///     let sum = task_group::<_, std::io::Error>(async |group| {
///         let one = group.create_task(async { Ok(1) });
///         let two = group.create_task(async { Ok(2) });
///         Ok(one.await.unwrap() + two.await.unwrap())
///     });
///     assert_eq!(sum.await.unwrap(), 3);
///
///     let failed = task_group::<(), _>(async |group| {
///         group.create_task(async { Err::<(), _>("no") });
///         std::future::pending().await
///     });
///     assert_eq!(failed.await.unwrap_err().errors(), ["no"]);
/// });
/// ```
///
/// # Errors
/// The errors of the children and the body.
#[doc(alias = "JoinSet")]
pub async fn task_group<R, E: 'static>(
    body: impl AsyncFnOnce(&TaskGroup<E>) -> Result<R, E>,
) -> Result<R, TaskGroupError<E>> {
    let group = TaskGroup::<E>::new();
    let abandoned = DropChildren(&group.inner, Cell::new(true));
    let ended = group.run_body(body(&group)).await;
    group.inner.body_over.set(true);
    if let Some(Ok(Err(_)) | Err(_)) = &ended {
        group.inner.abort();
    }
    group.inner.children_gone().await;
    group.inner.phase.set(Phase::Closed);
    abandoned.1.set(false);
    drop(abandoned);
    let mut error = group.inner.take_error();
    match ended {
        Some(Err(payload)) => {
            error.report("its body panicked");
            panic::resume_unwind(payload)
        }
        Some(Ok(Ok(value))) if error.is_empty() => return Ok(value),
        Some(Ok(Err(e))) => error.errors.push(e),
        Some(Ok(Ok(_))) | None => {}
    }
    Err(error)
}

/// A group of tasks, made by [`task_group`]. Clones name the same group, so children can create siblings.
pub struct TaskGroup<E> {
    inner: Rc<Inner<E>>,
}

impl<E> Clone for TaskGroup<E> {
    fn clone(&self) -> TaskGroup<E> {
        TaskGroup { inner: Rc::clone(&self.inner) }
    }
}

impl<E: 'static> TaskGroup<E> {
    fn new() -> TaskGroup<E> {
        let inner = Inner {
            home: current::try_with(Loop::id),
            ends: current::try_with(|lp| lp.homed(lp.tasks.ends.open())),
            phase: Cell::new(Phase::Open),
            body_over: Cell::new(false),
            children: RefCell::new(Slab::new(|| ())),
            errors: RefCell::new(Vec::new()),
            panics: RefCell::new(Vec::new()),
            waiter: RefCell::new(None),
        };
        TaskGroup { inner: Rc::new(inner) }
    }

    /// Starts `future` as a task of the group. Its error or panic goes to the group; awaiting the task gives
    /// [`TaskError::Failed`] then. The handle need not be kept.
    ///
    /// If the group is already ending, `future` never runs, and the task gives [`TaskError::Cancelled`].
    #[track_caller]
    pub fn create_task<T: 'static>(&self, future: impl Future<Output = Result<T, E>> + 'static) -> Task<T> {
        let location = Location::caller();
        if self.inner.phase.get() != Phase::Open {
            let refused = async {
                drop(future);
                std::future::pending().await
            };
            let task = self.inner.on_loop(|lp| lp.create_task(refused, location));
            task.cancel();
            return task;
        }
        let place = self.inner.children.borrow_mut().insert(None).slot;
        let child = Child { future: Some(future), member: Member { group: Rc::clone(&self.inner), place } };
        let (task, key) = self.inner.on_loop(|lp| {
            let (key, id) = lp.tasks.create::<Fallible, _>(child, location);
            let key = lp.homed(key);
            (Task::new(key, id), key)
        });
        self.inner.children.borrow_mut()[place as usize].set(Some(key));
        task
    }

    /// Ends the group early, without an error: cancels the children and refuses new ones. The body continues, and
    /// [`task_group`] returns its result. A second call, or one after the end, changes nothing.
    pub fn cancel(&self) {
        if self.inner.phase.get() == Phase::Open {
            self.inner.phase.set(Phase::Cancelled);
            self.inner.cancel_children();
        }
    }

    /// Polls the body to its end. If a child fails first, the body is ended; `None` if it was dropped then.
    async fn run_body<R>(
        &self,
        body: impl Future<Output = Result<R, E>>,
    ) -> Option<Result<Result<R, E>, Payload>> {
        // The group's errors win over a cancel.
        let mut body = pin!(Endable::new(Scoped { future: Some(body), group: Rc::clone(&self.inner) }, None));
        let mut ended = false;
        poll_fn(|cx| {
            self.inner.wait(cx);
            if self.inner.phase.get() == Phase::Aborting && !ended {
                ended = true;
                return body.as_mut().end(cx);
            }
            body.as_mut().poll(cx)
        })
        .await
    }
}

impl<E> fmt::Debug for TaskGroup<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &self.inner;
        let tasks = inner.live();
        f.debug_struct("TaskGroup").field("phase", &inner.phase.get()).field("tasks", &tasks).finish()
    }
}

type Payload = Box<dyn Any + Send>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
enum Phase {
    Open,
    Cancelled,
    Aborting,
    Closed,
}

struct Inner<E> {
    /// The loop of the group and its tasks; `None` if it was made outside any.
    home: Option<LoopId>,
    phase: Cell<Phase>,
    body_over: Cell<bool>,
    /// What its children and its body leave behind, for which it waits.
    ends: Option<Homed<EndsKey>>,
    /// Unfinished children. `None` is one that is being created.
    children: RefCell<Slab<Held<Option<Homed<TaskKey>>>>>,
    errors: RefCell<Vec<E>>,
    panics: RefCell<Vec<PanicPayload>>,
    /// Waker of the task in `task_group`.
    waiter: RefCell<Option<Waker>>,
}

impl<E> Inner<E> {
    /// Runs `f` on the group's loop, even if another loop of this thread is running.
    #[track_caller]
    fn on_loop<R>(&self, f: impl FnOnce(&Loop) -> R) -> R {
        let mut f = Some(f);
        let done = self.home.and_then(|home| current::at_home(home, |lp| f.take().map(|f| f(lp)))).flatten();
        match (done, f) {
            (Some(done), _) => done,
            // Its loop has closed, and so has the group.
            (None, Some(f)) => current::with(f),
            (None, None) => unreachable!("what was run has given something"),
        }
    }

    fn live(&self) -> usize {
        self.children.borrow().used()
    }

    fn tasks(&self) -> Vec<Homed<TaskKey>> {
        self.children.borrow().values().filter_map(|(_, task)| *task).collect()
    }

    /// A child has ended, in any way.
    fn gone(&self, place: u32) {
        let mut children = self.children.borrow_mut();
        children.remove_at(place);
        if children.used() == 0 {
            // Frees the memory of a large group.
            children.shrink();
            drop(children);
            if self.body_over.get() {
                self.wake();
            }
        }
    }

    fn fail(self: &Rc<Self>, e: E)
    where
        E: 'static,
    {
        self.errors.borrow_mut().push(e);
        self.abort_soon();
    }

    fn panicked(self: &Rc<Self>, payload: Payload)
    where
        E: 'static,
    {
        self.panics.borrow_mut().push(PanicPayload::new(payload));
        self.abort_soon();
    }

    /// Aborts in the next turn: what is ready in this one runs first, and may fail, too.
    fn abort_soon(self: &Rc<Self>)
    where
        E: 'static,
    {
        if self.phase.get() >= Phase::Aborting {
            return;
        }
        let group = Rc::clone(self);
        let queue = |lp: &Loop| lp.call_now(Box::new(move || group.abort()), None);
        if self.home.and_then(|home| current::at_home(home, queue)).is_none() {
            self.abort();
        }
    }

    fn abort(&self) {
        if self.phase.get() < Phase::Aborting {
            self.phase.set(Phase::Aborting);
            self.cancel_children();
            if !self.body_over.get() {
                self.wake();
            }
        }
    }

    fn cancel_children(&self) {
        let keys = self.tasks();
        for key in keys {
            key.at_home(|lp, key| lp.tasks.cancel(key));
        }
    }

    fn wait(&self, cx: &Context<'_>) {
        let known = self.waiter.borrow().as_ref().is_some_and(|w| w.will_wake(cx.waker()));
        if !known {
            let waker = cx.waker().clone();
            let old = self.waiter.replace(Some(waker));
            drop(old);
        }
    }

    fn wake(&self) {
        let waiter = self.waiter.take();
        if let Some(waiter) = waiter {
            exception::wake(waiter);
        }
    }

    async fn children_gone(&self) {
        poll_fn(|cx| {
            if self.live() == 0 {
                return self.poll_ends(cx);
            }
            self.wait(cx);
            Poll::Pending
        })
        .await
    }

    /// Whether what the children and the body left behind has ended.
    fn poll_ends(&self, cx: &Context<'_>) -> Poll<()> {
        let over = self.ends.and_then(|ends| ends.here(|lp, key| lp.tasks.ends.poll_over(key, cx)));
        if over.unwrap_or(true) { Poll::Ready(()) } else { Poll::Pending }
    }

    fn take_error(&self) -> TaskGroupError<E> {
        TaskGroupError { errors: self.errors.take(), panics: self.panics.take() }
    }
}

impl<E> Drop for Inner<E> {
    fn drop(&mut self) {
        if let Some(ends) = self.ends {
            ends.on_loop(|lp, key| lp.tasks.ends.disown(key));
        }
    }
}

/// Counts as a child of the group until it is dropped.
struct Member<E> {
    group: Rc<Inner<E>>,
    place: u32,
}

impl<E> Drop for Member<E> {
    fn drop(&mut self) {
        self.group.gone(self.place);
    }
}

/// If the group's future is dropped, drops the children's futures; who drops it waits for the children's ends.
struct DropChildren<'a, E>(&'a Rc<Inner<E>>, Cell<bool>);

impl<E> Drop for DropChildren<'_, E> {
    fn drop(&mut self) {
        // Children that were cancelled before may still catch that: they are only awaited.
        let cancelled = self.0.phase.replace(Phase::Closed) != Phase::Open;
        let keys = self.0.tasks();
        for key in keys {
            key.at_home(|lp, key| {
                if !cancelled && !lp.tasks.drop_future(key) {
                    lp.tasks.cancel(key);
                }
                lp.hold_until_done(key);
            });
        }
        if self.1.get() {
            // Who drops the group waits for what is left of it.
            self.0
                .ends
                .and_then(|ends| ends.here(|lp, key| lp.tasks.ends.also(key, lp.tasks.ends.current())));
            self.0.take_error().report("it was cancelled");
        }
    }
}

pin_project! {
    /// A child's future; its failures go to the group.
    struct Child<F, T, E>
    where
        F: Future<Output = Result<T, E>>,
        E: 'static,
    {
        #[pin]
        future: Option<F>,
        member: Member<E>,
    }

    impl<F, T, E> PinnedDrop for Child<F, T, E>
    where
        F: Future<Output = Result<T, E>>,
        E: 'static,
    {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            drop_in_scope(this.future, &this.member.group);
        }
    }
}

impl<F: Future<Output = Result<T, E>>, T, E: 'static> Future for Child<F, T, E> {
    type Output = Result<T, TaskError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let group = &this.member.group;
        match poll_in_scope(this.future, group, cx) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(Ok(value))) => Poll::Ready(Ok(value)),
            Ok(Poll::Ready(Err(e))) => {
                group.fail(e);
                Poll::Ready(Err(TaskError::Failed))
            }
            Err(payload) => {
                group.panicked(payload);
                Poll::Ready(Err(TaskError::Failed))
            }
        }
    }
}

pin_project! {
    /// The group's body; the group adopts its cleanups.
    struct Scoped<F, E>
    where
        E: 'static,
    {
        #[pin]
        future: Option<F>,
        group: Rc<Inner<E>>,
    }

    impl<F, E> PinnedDrop for Scoped<F, E>
    where
        E: 'static,
    {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            drop_in_scope(this.future, this.group);
        }
    }
}

impl<F: Future, E: 'static> Future for Scoped<F, E> {
    type Output = Result<F::Output, Payload>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        match poll_in_scope(this.future, this.group, cx) {
            Ok(polled) => polled.map(Ok),
            Err(payload) => Poll::Ready(Err(payload)),
        }
    }
}

fn poll_in_scope<F: Future, E: 'static>(
    mut future: Pin<&mut Option<F>>,
    group: &Rc<Inner<E>>,
    cx: &mut Context<'_>,
) -> Result<Poll<F::Output>, Payload> {
    let _ends = EnteredEnds::new(group.ends);
    panic::catch_unwind(AssertUnwindSafe(|| {
        let polled = future.as_mut().as_pin_mut().expect("the future is there until it is ready").poll(cx);
        if polled.is_ready() {
            future.set(None);
        }
        polled
    }))
}

/// Drops the future; a panic of its destructor goes to the group.
fn drop_in_scope<F, E: 'static>(mut future: Pin<&mut Option<F>>, group: &Rc<Inner<E>>) {
    if future.is_none() {
        return;
    }
    let left = Leftovers::of_ended(|| {
        if let Err(payload) = panic::catch_unwind(AssertUnwindSafe(|| future.set(None))) {
            group.panicked(payload);
        }
    });
    if let (Some(left), Some(ends)) = (left, group.ends) {
        left.also(ends);
    }
}

/// The failures of a group (asyncio's `ExceptionGroup`).
pub struct TaskGroupError<E> {
    errors: Vec<E>,
    panics: Vec<PanicPayload>,
}

impl<E> TaskGroupError<E> {
    /// The children's errors, in the order in which they failed, then the body's.
    pub fn errors(&self) -> &[E] {
        &self.errors
    }

    /// Takes the errors.
    pub fn into_errors(self) -> Vec<E> {
        self.errors
    }

    /// The children's panics.
    pub fn panics(&self) -> &[PanicPayload] {
        &self.panics
    }

    fn is_empty(&self) -> bool {
        self.errors.is_empty() && self.panics.is_empty()
    }

    /// Reports failures that are lost to the exception handler.
    fn report(&self, why: &str) {
        if !self.is_empty() {
            let panics: String =
                self.panics.iter().map(|panic| format!("; panicked: {}", panic.message())).collect();
            call_exception_handler(&ExceptionContext::new(format!("{self}, lost because {why}{panics}")));
        }
    }
}

impl<E> fmt::Display for TaskGroupError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.errors.len() + self.panics.len();
        let plural = if count == 1 { "" } else { "s" };
        write!(f, "unhandled errors in a TaskGroup ({count} sub-error{plural})")
    }
}

impl<E: fmt::Debug> fmt::Debug for TaskGroupError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskGroupError").field("errors", &self.errors).field("panics", &self.panics).finish()
    }
}

impl<E: fmt::Debug + 'static> std::error::Error for TaskGroupError<E> {
    /// The first error, if it is an `io::Error` or a boxed error.
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        let first: &dyn Any = self.errors.first()?;
        if let Some(e) = first.downcast_ref::<io::Error>() {
            return Some(e);
        }
        let boxed = first.downcast_ref::<Box<dyn std::error::Error + Send + Sync>>()?;
        Some(&**boxed)
    }
}

impl<E: fmt::Debug + Send + Sync + 'static> From<TaskGroupError<E>> for io::Error {
    fn from(e: TaskGroupError<E>) -> io::Error {
        io::Error::other(e)
    }
}
