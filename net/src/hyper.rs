//! hyper's executor and timer on the loop.
//!
//! With [`Stream`](crate::Stream) as the connection, hyper needs no other runtime.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use corio_runtime::{
    create_task,
    time::{self, Duration, Instant},
};
use hyper::rt::{Executor, Sleep, Timer};

/// hyper's executor: `create_task` on the running loop. Futures need not be `Send`; a panic goes to the exception
/// handler.
///
/// ```
/// use corio_net::hyper::CorioExecutor;
/// use hyper::rt::Executor;
/// corio_runtime::run(async {
///     let (resolver, done) = corio_runtime::create_future();
///     CorioExecutor.execute(async move { drop(resolver.set_result(7)) });
///     assert_eq!(done.await, Ok(7));
/// });
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct CorioExecutor;

impl<F: Future + 'static> Executor<F> for CorioExecutor {
    fn execute(&self, future: F) {
        drop(create_task(future));
    }
}

/// hyper's timer, on the loop's clock: in the simulator, timeouts pass in virtual time.
///
/// ```
/// use corio_net::hyper::CorioTimer;
/// use hyper::rt::Timer;
/// corio_runtime::run(async {
///     let before = CorioTimer.now();
///     let pause = std::time::Duration::from_millis(2);
///     CorioTimer.sleep(pause).await;
///     assert!(CorioTimer.now() >= before + pause);
/// });
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct CorioTimer;

impl Timer for CorioTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        Box::pin(TimerSleep(time::sleep(duration)))
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        Box::pin(TimerSleep(time::sleep_until(deadline)))
    }

    fn now(&self) -> Instant {
        time::now()
    }

    fn reset(&self, sleep: &mut Pin<Box<dyn Sleep>>, deadline: Instant) {
        match sleep.as_mut().downcast_mut_pin::<TimerSleep>() {
            Some(own) => own.get_mut().0.reset(deadline),
            None => *sleep = self.sleep_until(deadline),
        }
    }
}

/// corio's `Sleep` under hyper's trait.
struct TimerSleep(time::Sleep);

impl Future for TimerSleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.0).poll(cx)
    }
}

impl Sleep for TimerSleep {}

impl fmt::Debug for TimerSleep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
