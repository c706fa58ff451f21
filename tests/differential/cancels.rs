//! Cancels of tasks.

use std::future::pending;

use crate::scenario::{Trace, job, turns};

scenarios! {
    everywhere: cancel_before_the_first_step, cancel_while_waiting;
    simulated: ;
}

async fn cancel_before_the_first_step(t: Trace) {
    let never = t.clone();
    let mut task = job(async move { never.say("never") });
    t.say(task.cancel());
    t.say(if (&mut task).await.is_err() { "cancelled" } else { "None" });
    t.say(task.cancel());
}

async fn cancel_while_waiting(t: Trace) {
    let begun = t.clone();
    let mut task = job(async move {
        begun.say("begun");
        pending::<()>().await;
        begun.say("never");
    });
    turns(2).await;
    task.cancel();
    t.say(task.done());
    t.say(if (&mut task).await.is_err() { "cancelled" } else { "None" });
    t.say(task.cancelled());
}
