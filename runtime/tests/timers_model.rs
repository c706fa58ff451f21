//! Random sequences of timer calls against a plain model: each timer fires once, in the order of (deadline, creation),
//! never early, and never after its cancel.

mod common;

use std::time::Duration;

use common::Log;
use corio_runtime::{
    Backend, Runner, TimerHandle, call_at, metrics,
    time::{Instant, now, sleep},
};
use proptest::{prelude::*, test_runner::TestCaseResult};

struct Timers {
    fired: Log<(usize, Instant)>,
    handles: Vec<TimerHandle>,
    /// The model: deadline and number of those that wait.
    waiting: Vec<(Instant, usize)>,
    seen: usize,
}

impl Timers {
    fn create(&mut self, delay_us: u64) {
        let (number, at, log) =
            (self.handles.len(), now() + Duration::from_micros(delay_us), self.fired.clone());
        self.handles.push(call_at(at, move || log.push((number, now()))));
        self.waiting.push((at, number));
    }

    fn cancel(&mut self, which: usize) -> TestCaseResult {
        if !self.handles.is_empty() {
            let number = which % self.handles.len();
            let place = self.waiting.iter().position(|(_, waiting)| *waiting == number);
            self.handles[number].cancel();
            if let Some(place) = place {
                self.waiting.remove(place);
            }
        }
        Ok(())
    }

    async fn advance(&mut self, time_us: u64) -> TestCaseResult {
        sleep(Duration::from_micros(time_us)).await;
        // What is due at this very time runs in the turn after the sleep's.
        corio_runtime::yield_now().await;
        corio_runtime::yield_now().await;
        let mut due: Vec<_> = self.waiting.extract_if(.., |(at, _)| *at <= now()).collect();
        due.sort_unstable();
        let fired = self.fired.get();
        let new = &fired[self.seen..];
        self.seen = fired.len();
        let expected: Vec<_> = due.iter().map(|(_, number)| *number).collect();
        prop_assert_eq!(new.iter().map(|(number, _)| *number).collect::<Vec<_>>(), expected);
        for ((at, _), (number, when)) in due.iter().zip(new) {
            prop_assert!(when >= at, "{} fired early", number);
        }
        Ok(())
    }
}

proptest! {
    #[test]
    fn loop_07_timers_fire_in_their_order_whatever_is_cancelled(
        history in prop::collection::vec((0u8..4, 0u64..500), 1..300),
    ) {
        let mut runner = Runner::builder().backend(Backend::Sim { seed: 5 }).build().unwrap();
        let outcome: TestCaseResult = runner.run(async {
            let mut timers =
                Timers { fired: Log::new(), handles: Vec::new(), waiting: Vec::new(), seen: 0 };
            for (action, value) in history {
                match action {
                    0 | 1 => timers.create(value),
                    2 => timers.cancel(value as usize)?,
                    _ => timers.advance(value).await?,
                }
            }
            timers.advance(1000).await?;
            prop_assert!(timers.waiting.is_empty());
            prop_assert_eq!(metrics().timers, 0);
            Ok(())
        });
        outcome?;
    }
}
