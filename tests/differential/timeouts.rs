//! Timeouts.

use corio::{sleep, time::timeout, wait_for};

use crate::scenario::{Trace, ms, turns};

scenarios! {
    everywhere: a_timeout_that_is_not_needed, timeouts_in_timeouts;
    simulated: ;
}

async fn a_timeout_that_is_not_needed(t: Trace) {
    let said = t.clone();
    let in_time = timeout(ms(60_000), async move {
        turns(2).await;
        said.say("in time");
    });
    assert!(in_time.await.is_ok());
    let value = async {
        turns(1).await;
        "value"
    };
    t.say(wait_for(value, ms(60_000)).await.unwrap());
}

async fn timeouts_in_timeouts(t: Trace) {
    let outer = timeout(ms(60_000), async move {
        if timeout(ms(10), sleep(ms(60_000))).await.is_err() {
            t.say("inner");
        }
        t.say("still here");
    });
    assert!(outer.await.is_ok());
}
