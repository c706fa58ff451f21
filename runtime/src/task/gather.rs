//! Several futures, and all their outputs (asyncio `gather`).

use std::{
    cell::Cell,
    convert::Infallible,
    fmt,
    future::{Future, poll_fn},
    io,
    ops::ControlFlow,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use super::{Task, many::Many};
use crate::{kernel::error, scheduler::task_error::TaskError};

/// Runs `futures` concurrently in the calling task, and returns their outputs in the order of the arguments (asyncio
/// `gather`). Tasks work, too: their outputs are their results.
///
/// If one panics, the others are dropped and the caller panics. Dropping this drops all of them: tasks are cancelled,
/// as by asyncio.
///
/// ```
/// use corio_runtime::{gather, time::{Duration, sleep}};
/// corio_runtime::run(async {
///     let twice = |n: u64| async move {
///         sleep(Duration::from_millis(10 - n)).await;
///         2 * n
///     };
///     assert_eq!(gather([twice(1), twice(2), twice(3)]).await, [2, 4, 6]);
/// });
/// ```
///
/// ```compile_fail,E0382
/// // GATH-08: a future has one owner, so that it cannot be given twice.
/// corio_runtime::run(async {
///     let once = async { 1 };
///     corio_runtime::gather([once, once]).await;
/// });
/// ```
#[doc(alias = "join_all")]
pub fn gather<I>(futures: I) -> Gather<I::Item>
where
    I: IntoIterator,
    I::Item: Future,
{
    Gather(Values::new(futures))
}

/// The future of [`gather`].
#[must_use = "futures do nothing unless awaited"]
pub struct Gather<F: Future>(Values<F, F::Output>);

impl<F: Future> Future for Gather<F> {
    type Output = Vec<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.poll(cx, Ok::<_, Infallible>).map(|Ok(outputs)| outputs)
    }
}

impl<F: Future> fmt::Debug for Gather<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Values { many, values } = &self.0;
        f.debug_struct("Gather").field("of", &values.len()).field("running", &many.live()).finish()
    }
}

/// Runs futures of different types concurrently; returns a tuple of their outputs in the order of the arguments, `()`
/// for no arguments. Takes up to 128 futures; the function [`gather()`] takes more.
///
/// ```
/// corio_runtime::run(async {
///     let (a, b, c) = corio_runtime::gather!(async { 1 }, async { "two" }, async { 3.0 }).await;
///     assert_eq!((a, b, c), (1, "two", 3.0));
///     assert_eq!(corio_runtime::gather!().await, ());
/// });
/// ```
#[macro_export]
#[doc(alias = "join")]
macro_rules! gather {
    () => {
        async {}
    };
    ($($future:expr),+ $(,)?) => {
        $crate::__gather!([] [4 4 4 4 4 4 4 4 4 4 4 4 4 4 4 4 4 4 4 4 4 4 4 4 4 4 4 4 4 4 4 4] $($future,)+)
    };
}

/// Names each future and its output; macro hygiene keeps the names of different expansions apart. Each `4` pays for
/// four futures, which keeps the recursion far below the compiler's limit.
///
/// More than 128 futures are refused:
/// ```compile_fail
/// let f = || async {};
/// let _ = corio_runtime::gather!(
///     f(), f(), f(), f(), f(), f(), f(), f(), f(), f(), f(), f(), f(), f(), f(), f(), f(), f(), f(), f(),
///     f(), f(), f(), f(), f(), f(), f(), f(), f(), f(), f(), f(), f(), f(), f(), f(), f(), f(), f(), f(),
///     f(), f(), f(), f(), f(), f(), f(), f(), f(), f(), f(), f(), f(), f(), f(), f(), f(), f(), f(), f(),
///     f(), f(), f(), f(), f(), f(), f(), f(), f(), f(), f(), f(), f(), f(), f(), f(), f(), f(), f(), f(),
///     f(), f(), f(), f(), f(), f(), f(), f(), f(), f(), f(), f(), f(), f(), f(), f(), f(), f(), f(), f(),
///     f(), f(), f(), f(), f(), f(), f(), f(), f(), f(), f(), f(), f(), f(), f(), f(), f(), f(), f(), f(),
///     f(), f(), f(), f(), f(), f(), f(), f(), f(),
/// );
/// ```
#[doc(hidden)]
#[macro_export]
macro_rules! __gather {
    ([$(($name:ident $output:ident $future:expr))*] [$($fours:tt)*]) => {
        async {
            $(
                let mut $output = ::core::option::Option::None;
            )*
            {
                $(
                    let $name = ::core::pin::pin!(async {
                        $output = ::core::option::Option::Some($future.await);
                    });
                )*
                $crate::gather([
                    $($name as ::core::pin::Pin<&mut dyn ::core::future::Future<Output = ()>>,)*
                ])
                .await;
            }
            ($($output.expect("every future is over"),)*)
        }
    };
    ([$($done:tt)*] [] $($rest:tt)+) => {
        ::core::compile_error!("gather! takes 128 futures at most: give more to the function gather()")
    };
    ([$($done:tt)*] [4 $($fours:tt)*] $a:expr, $b:expr, $c:expr, $d:expr, $($rest:tt)*) => {
        $crate::__gather!(
            [$($done)* (a out_a $a) (b out_b $b) (c out_c $c) (d out_d $d)] [$($fours)*] $($rest)*
        )
    };
    ([$($done:tt)*] [$($fours:tt)*] $future:expr, $($rest:tt)*) => {
        $crate::__gather!([$($done)* (name output $future)] [$($fours)*] $($rest)*)
    };
}

/// As [`gather`], for futures that can fail: it returns the first error at once, and drops the other futures.
///
/// ```
/// corio_runtime::run(async {
///     let checked = |n: u32| async move { if n < 3 { Ok(n) } else { Err(n) } };
///     assert_eq!(corio_runtime::try_gather([checked(1), checked(2)]).await, Ok(vec![1, 2]));
///     assert_eq!(corio_runtime::try_gather([checked(1), checked(3), checked(4)]).await, Err(3));
/// });
/// ```
#[doc(alias = "try_join_all")]
pub fn try_gather<I, T, E>(futures: I) -> TryGather<I::Item, T>
where
    I: IntoIterator,
    I::Item: Future<Output = Result<T, E>>,
{
    TryGather(Values::new(futures))
}

/// The future of [`try_gather`].
#[must_use = "futures do nothing unless awaited"]
pub struct TryGather<F, T>(Values<F, T>);

impl<T, E, F: Future<Output = Result<T, E>>> Future for TryGather<F, T> {
    type Output = Result<Vec<T>, E>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.poll(cx, |output| output)
    }
}

impl<F: Future, T> fmt::Debug for TryGather<F, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TryGather").field("running", &self.0.many.live()).finish()
    }
}

/// Concurrent futures, and the values of the finished ones, in the order of the futures.
struct Values<F, T> {
    many: Many<F>,
    values: Vec<Option<T>>,
}

impl<F, T> Unpin for Values<F, T> {}

impl<F: Future, T> Values<F, T> {
    fn new(futures: impl IntoIterator<Item = F>) -> Values<F, T> {
        let many = Many::new(futures);
        let values = (0..many.live()).map(|_| None).collect();
        Values { many, values }
    }

    /// All values, or the first error of `value`, which drops the other futures.
    fn poll<E>(
        &mut self,
        cx: &mut Context<'_>,
        value: impl Fn(F::Output) -> Result<T, E>,
    ) -> Poll<Result<Vec<T>, E>> {
        let Values { many, values } = self;
        let polled = many.poll(cx, |place, output| match value(output) {
            Ok(value) => {
                values[place] = Some(value);
                ControlFlow::Continue(())
            }
            Err(e) => ControlFlow::Break(e),
        });
        match polled {
            ControlFlow::Break(e) => {
                *many = Many::new([]);
                Poll::Ready(Err(e))
            }
            ControlFlow::Continue(()) if many.live() > 0 => Poll::Pending,
            ControlFlow::Continue(()) => {
                Poll::Ready(Ok(std::mem::take(values).into_iter().flatten().collect()))
            }
        }
    }
}

/// Returns the values of `tasks`, in order, or the first failure at once. The other tasks continue then, as after a
/// failure in asyncio's `gather`; dropping this cancels all of them.
///
/// ```
/// use corio_runtime::{TryGatherError, create_task, try_gather_tasks, yield_now};
/// corio_runtime::run(async {
///     let mut slow = create_task(async { yield_now().await; Ok::<_, &str>(1) });
///     let mut bad = create_task(async { Err("no") });
///     let failed = try_gather_tasks([&mut slow, &mut bad]).await;
///     assert!(matches!(failed, Err(TryGatherError::Failed("no"))));
///     assert_eq!(slow.await.unwrap(), Ok(1));
/// });
/// ```
///
/// # Errors
/// The error of a task, or the reason why it returned nothing: cancelled or panicked.
pub async fn try_gather_tasks<'a, I, T, E>(tasks: I) -> Result<Vec<T>, TryGatherError<E>>
where
    I: IntoIterator<Item = &'a mut Task<Result<T, E>>>,
    T: 'static,
    E: 'static,
{
    let failed = Rc::new(Cell::new(false));
    let outcome = |task: &'a mut Task<Result<T, E>>| {
        let mut watched = Watched { task, failed: Rc::clone(&failed) };
        async move {
            let outcome = match poll_fn(|cx| watched.poll(cx)).await {
                Ok(Ok(value)) => return Ok(value),
                Ok(Err(e)) => TryGatherError::Failed(e),
                Err(e) => TryGatherError::Task(e),
            };
            watched.failed.set(true);
            Err(outcome)
        }
    };
    try_gather(tasks.into_iter().map(outcome)).await
}

/// A task of a gather: its end is awaited without a poll of its handle. Cancelled if the gather is dropped, but not if
/// a task has failed.
struct Watched<'a, T> {
    task: &'a mut Task<T>,
    failed: Rc<Cell<bool>>,
}

impl<T: 'static> Watched<'_, T> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<T, TaskError>> {
        if self.task.watch(cx) { Pin::new(&mut *self.task).poll(cx) } else { Poll::Pending }
    }
}

impl<T> Drop for Watched<'_, T> {
    fn drop(&mut self) {
        if !self.failed.get() && self.task.taken.is_none() {
            self.task.key.at_home(|lp, key| lp.cancel_awaited(key));
        }
    }
}

/// Why [`try_gather_tasks`] failed.
#[derive(Debug)]
pub enum TryGatherError<E> {
    /// A task returned an error.
    Failed(E),
    /// A task was cancelled or panicked.
    Task(TaskError),
}

impl<E: fmt::Display> fmt::Display for TryGatherError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TryGatherError::Failed(e) => e.fmt(f),
            TryGatherError::Task(e) => e.fmt(f),
        }
    }
}

impl<E: fmt::Debug + fmt::Display> std::error::Error for TryGatherError<E> {}

impl<E: std::error::Error + Send + Sync + 'static> From<TryGatherError<E>> for io::Error {
    fn from(e: TryGatherError<E>) -> io::Error {
        match e {
            TryGatherError::Failed(e) => error::into_io(e),
            TryGatherError::Task(e) => e.into(),
        }
    }
}
