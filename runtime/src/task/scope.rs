//! Children that may borrow from the caller.

use std::{
    cell::RefCell,
    fmt,
    future::{Future, poll_fn},
    ops::ControlFlow,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, Waker},
};

use super::many::Many;

/// Runs `body` and the children that it starts side by side inside the calling task, until all are done. The
/// children may borrow what was there before the call, because they live in the future of this function: it
/// cannot be left while one of them runs, and dropping it drops them.
///
/// They take turns on one task; for children that are tasks of their own there is
/// [`task_group`](crate::task_group). A panic of one goes on in the caller.
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
pub async fn scope<'env, R>(body: impl AsyncFnOnce(&Scope<'env>) -> R) -> R {
    let scope = Scope { started: Rc::default() };
    let mut children = Many::new([]);
    let mut body = pin!(body(&scope));
    let mut value = None;
    poll_fn(|cx| {
        if value.is_none()
            && let Poll::Ready(ready) = body.as_mut().poll(cx)
        {
            value = Some(ready);
        }
        loop {
            let started = scope.started.take();
            let none = started.is_empty();
            started.into_iter().for_each(|child| children.push(child));
            if none && children.live() == 0 {
                break;
            }
            let _ = children.poll(cx, |_, ()| ControlFlow::Continue(()));
            // Children may have started children.
            if scope.started.borrow().is_empty() {
                break;
            }
        }
        if children.live() > 0 { Poll::Pending } else { value.take().map_or(Poll::Pending, Poll::Ready) }
    })
    .await
}

type Child<'env> = Pin<Box<dyn Future<Output = ()> + 'env>>;

/// Where [`scope`] starts children. Clones are the same scope.
#[derive(Clone)]
pub struct Scope<'env> {
    started: Rc<RefCell<Vec<Child<'env>>>>,
}

impl<'env> Scope<'env> {
    /// Starts `future` as a child. Its output is what the returned handle gives; the handle need not be kept.
    pub fn spawn<T: 'env>(&self, future: impl Future<Output = T> + 'env) -> ScopedTask<T> {
        let place = Rc::new(RefCell::new(Output { value: None, waker: None }));
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
        self.started.borrow_mut().push(Box::pin(child));
        ScopedTask { place }
    }
}

impl fmt::Debug for Scope<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scope").finish_non_exhaustive()
    }
}

struct Output<T> {
    value: Option<T>,
    waker: Option<Waker>,
}

/// The output of a child of a [`Scope`]. If the scope is dropped before the child ends, it is never ready.
pub struct ScopedTask<T> {
    place: Rc<RefCell<Output<T>>>,
}

impl<T> Future for ScopedTask<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        if let Some(value) = self.place.borrow_mut().value.take() {
            return Poll::Ready(value);
        }
        let waker = cx.waker().clone();
        let old = self.place.borrow_mut().waker.replace(waker);
        drop(old);
        Poll::Pending
    }
}

impl<T> fmt::Debug for ScopedTask<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScopedTask").field("done", &self.place.borrow().value.is_some()).finish()
    }
}
