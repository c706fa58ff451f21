//! Child futures that may borrow from their caller.

use std::{
    cell::RefCell,
    fmt,
    future::{Future, poll_fn},
    mem,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, Waker},
};

use super::many::Many;

/// Runs `body` and the children that it starts concurrently in the calling task, until all are done. Children may
/// borrow whatever exists before the call, as they live inside this future: dropping it drops them.
///
/// They share one task; [`task_group`](crate::task_group) gives each child its own. If a child panics, the others are
/// dropped and the caller panics.
///
/// ```
/// use corio_runtime::{scope, yield_now};
/// use std::cell::RefCell;
/// corio_runtime::run(async {
///     let words = vec!["on", "the", "stack"];
///     let lengths = RefCell::new(Vec::new());
///     scope(async |scope| {
///         for word in &words {
///             scope.spawn(async {
///                 yield_now().await;
///                 lengths.borrow_mut().push(word.len());
///             });
///         }
///     })
///     .await;
///     assert_eq!(*lengths.borrow(), [2, 3, 5]);
/// });
/// ```
///
/// The body's own variables end before its children, so children cannot borrow them:
/// ```compile_fail
/// # use corio_runtime::scope;
/// corio_runtime::run(scope(async |scope| {
///     let word = String::from("in the body");
///     let lent = &word;
///     scope.spawn(async move { println!("{lent}") });
/// }));
/// ```
pub async fn scope<'env, R>(body: impl AsyncFnOnce(&Scope<'env>) -> R) -> R {
    let scope = Scope { started: Rc::new(RefCell::new(Some(Vec::new()))) };
    let _closes = Closes(&scope);
    let mut children = Many::new([]);
    let mut body = pin!(body(&scope));
    let mut value = None;
    poll_fn(|cx| {
        if value.is_none()
            && let Poll::Ready(ready) = body.as_mut().poll(cx)
        {
            value = Some(ready);
        }
        scope.take_started().for_each(|child| children.push(child));
        children.poll_all(cx, |_, ()| ());
        // Children started by children are polled next time.
        scope.take_started().for_each(|child| children.push(child));
        if children.live() > 0 { Poll::Pending } else { value.take().map_or(Poll::Pending, Poll::Ready) }
    })
    .await
}

type Child<'env> = Pin<Box<dyn Future<Output = ()> + 'env>>;

/// Starts children of a [`scope`]. Clones name the same scope.
#[derive(Clone)]
pub struct Scope<'env> {
    /// `None` once the scope has ended.
    started: Rc<RefCell<Option<Vec<Child<'env>>>>>,
}

impl<'env> Scope<'env> {
    /// Starts `future` as a child. The returned handle gives its output, and need not be kept. After the end of the
    /// scope, `future` is dropped at once.
    ///
    /// ```
    /// corio_runtime::run(async {
    ///     let words = ["one", "three"];
    ///     let sum = corio_runtime::scope(async |scope| {
    ///         let [a, b] = words.each_ref().map(|word| scope.spawn(async { word.len() }));
    ///         a.await + b.await
    ///     });
    ///     assert_eq!(sum.await, 8);
    /// });
    /// ```
    pub fn spawn<T: 'env>(&self, future: impl Future<Output = T> + 'env) -> ScopedTask<T> {
        let place = Rc::new(RefCell::new(Output { value: None, given: false, waker: None }));
        let theirs = Rc::clone(&place);
        let child = async move {
            let value = future.await;
            let waker = {
                let mut place = theirs.borrow_mut();
                place.value = Some(value);
                place.waker.take()
            };
            if let Some(waker) = waker {
                waker.wake();
            }
        };
        // Boxed before the borrow, and dropped after it.
        let child: Child<'env> = Box::pin(child);
        let refused = match &mut *self.started.borrow_mut() {
            Some(started) => {
                started.push(child);
                None
            }
            None => Some(child),
        };
        drop(refused);
        ScopedTask { place }
    }

    fn take_started(&self) -> impl Iterator<Item = Child<'env>> + use<'env> {
        self.started.borrow_mut().as_mut().map(mem::take).unwrap_or_default().into_iter()
    }
}

/// At the scope's end, drops children that never ran; they may hold the scope itself.
struct Closes<'a, 'env>(&'a Scope<'env>);

impl Drop for Closes<'_, '_> {
    fn drop(&mut self) {
        let left = self.0.started.take();
        drop(left);
    }
}

impl fmt::Debug for Scope<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scope").finish_non_exhaustive()
    }
}

struct Output<T> {
    value: Option<T>,
    given: bool,
    waker: Option<Waker>,
}

impl<T> Output<T> {
    fn is_done(&self) -> bool {
        self.given || self.value.is_some()
    }
}

/// The output of a child of a [`Scope`]. If the scope is dropped before the child ends, it stays pending.
///
/// # Panics
/// If polled after completion.
pub struct ScopedTask<T> {
    place: Rc<RefCell<Output<T>>>,
}

impl<T> Future for ScopedTask<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let waker = cx.waker().clone();
        let mut place = self.place.borrow_mut();
        assert!(!place.given, "a ScopedTask was polled after it was ready");
        if let Some(value) = place.value.take() {
            place.given = true;
            return Poll::Ready(value);
        }
        let old = place.waker.replace(waker);
        drop(place);
        drop(old);
        Poll::Pending
    }
}

impl<T> fmt::Debug for ScopedTask<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScopedTask").field("done", &self.place.borrow().is_done()).finish()
    }
}
