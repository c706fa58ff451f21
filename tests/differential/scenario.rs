//! What the scenarios share.

use std::{
    cell::RefCell,
    fmt::Display,
    future::{Future, pending},
    pin::Pin,
    rc::Rc,
    time::Duration,
};

use corio::{
    Task, create_task, sleep,
    time::{Instant, now, timeout},
    yield_now,
};

/// Of the loop's clock.
const HANGS: Duration = Duration::from_secs(60);

type Run = fn(Trace) -> Pin<Box<dyn Future<Output = ()>>>;

/// One of the programs that are written by hand.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) run: Run,
    /// Its times are exact, which only the simulator's are.
    pub(crate) simulated: bool,
}

macro_rules! scenarios {
    (everywhere: $($everywhere:ident),* $(,)?; simulated: $($simulated:ident),* $(,)?;) => {
        pub(crate) const SCENARIOS: &[$crate::scenario::Scenario] = &[
            $(scenarios!($everywhere, false),)*
            $(scenarios!($simulated, true),)*
        ];
    };
    ($name:ident, $simulated:literal) => {
        $crate::scenario::Scenario { name: stringify!($name), run: |t| Box::pin($name(t)), simulated: $simulated }
    };
}

/// What a scenario tells.
#[derive(Clone)]
pub(crate) struct Trace {
    begun: Instant,
    lines: Rc<RefCell<Vec<String>>>,
}

impl Trace {
    /// The trace of a scenario.
    pub(crate) async fn of(run: Run) -> String {
        let trace = Trace { begun: now(), lines: Rc::default() };
        if timeout(HANGS, run(trace.clone())).await.is_err() {
            trace.say("hangs");
        }
        trace.lines.borrow().join("\n")
    }

    pub(crate) fn say(&self, line: impl Display) {
        self.lines.borrow_mut().push(line.to_string());
    }

    /// With the time.
    pub(crate) fn at(&self, line: impl Display) {
        self.say(format!("{} ms: {line}", (now() - self.begun).as_millis()));
    }

    pub(crate) fn list<T: Display>(&self, items: impl IntoIterator<Item = T>) {
        let items: Vec<_> = items.into_iter().map(|item| item.to_string()).collect();
        self.say(format!("[{}]", items.join(", ")));
    }

    /// Tells if it is dropped before [`Guard::over`].
    pub(crate) fn guard(&self, name: impl Display) -> Guard {
        Guard(self.clone(), Some(format!("{name} cancelled")))
    }
}

/// Tells that a step was left by a cancel.
pub(crate) struct Guard(Trace, Option<String>);

impl Guard {
    pub(crate) fn over(mut self) {
        self.1 = None;
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(line) = self.1.take() {
            self.0.say(line);
        }
    }
}

pub(crate) const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

pub(crate) async fn turns(n: usize) {
    for _ in 0..n {
        yield_now().await;
    }
}

pub(crate) async fn result<T: Display + 'static>(task: Task<T>) -> String {
    task.await.map_or_else(|_| "cancelled".to_owned(), |value| value.to_string())
}

/// What Python would call the value.
pub(crate) async fn none(future: impl Future<Output = ()>) -> &'static str {
    future.await;
    "None"
}

/// A task without a value.
pub(crate) fn job(future: impl Future<Output = ()> + 'static) -> Task<&'static str> {
    create_task(none(future))
}

/// Tells when it is cancelled, and when it ends: after so many milliseconds.
pub(crate) async fn sleep_in_guard(t: &Trace, name: impl Display, duration: u64) -> &'static str {
    let guard = t.guard(&name);
    sleep(ms(duration)).await;
    guard.over();
    t.at(format!("{name} ends"));
    "None"
}

/// A task of this.
pub(crate) fn sleeper(t: &Trace, name: impl Display, duration: u64) -> Task<&'static str> {
    let (t, name) = (t.clone(), name.to_string());
    create_task(async move { sleep_in_guard(&t, name, duration).await })
}

/// A task that tells when it is cancelled, and does nothing else.
pub(crate) fn waiter(t: &Trace, name: impl Display) -> Task<&'static str> {
    let guarded = t.clone();
    let name = name.to_string();
    job(async move {
        let _guard = guarded.guard(name);
        pending().await
    })
}

pub(crate) async fn join<T: 'static>(tasks: impl IntoIterator<Item = Task<T>>) {
    for task in tasks {
        assert!(task.await.is_ok());
    }
}
