//! Groups of tasks.

use std::{fmt::Display, future::pending};

use corio::{Task, TaskGroup, TaskGroupError, gather, sleep, task_group};

use crate::scenario::{Trace, job, ms, result, sleep_in_guard, turns};

scenarios! {
    everywhere: a_group_waits_for_all, a_group_fails_with_its_first_child;
    simulated: a_failed_child_cancels_its_siblings, a_child_fails_after_the_body,
        a_body_that_fails_cancels_the_children, a_body_that_fails_at_once,
        a_cancelled_child_is_no_failure, a_group_in_a_group_fails_alone,
        a_group_in_a_child_of_a_failed_group, a_group_is_cancelled_from_outside,
        a_group_is_cancelled_after_its_body, a_child_makes_siblings, a_group_without_children,
        children_that_are_awaited, groups_side_by_side;
}

async fn a_group_waits_for_all(t: Trace) {
    let ended: Result<(), TaskGroupError<()>> = task_group(async |group| {
        for n in [3, 1, 2] {
            let t = t.clone();
            drop(group.create_task(async move {
                turns(n).await;
                t.say(n);
                Ok(())
            }));
        }
        t.say("body");
        Ok(())
    })
    .await;
    assert!(ended.is_ok());
    t.say("after");
}

async fn a_group_fails_with_its_first_child(t: Trace) {
    struct Say(Trace, &'static str);
    impl Drop for Say {
        fn drop(&mut self) {
            self.0.say(self.1);
        }
    }
    let ended: Result<(), _> = task_group(async |group| {
        drop(group.create_task(async {
            turns(1).await;
            Err::<(), _>("bad")
        }));
        let sibling = t.clone();
        drop(group.create_task(async move {
            let _said = Say(sibling, "sibling dropped");
            pending::<Result<(), _>>().await
        }));
        let _said = Say(t.clone(), "body dropped");
        pending().await
    })
    .await;
    t.say(ended.unwrap_err().errors().len());
}

type Group = TaskGroup<String>;
type Ended = Result<(), String>;

/// A child that sleeps, and may fail then.
fn child(t: &Trace, group: &Group, name: impl Display, duration: u64, fails: bool) -> Task<()> {
    let (t, name) = (t.clone(), name.to_string());
    group.create_task(async move {
        sleep_in_guard(&t, &name, duration).await;
        if fails { Err(name) } else { Ok(()) }
    })
}

/// Tells how the group ends.
async fn grouped(t: &Trace, name: &str, body: impl AsyncFnOnce(&Group) -> Ended) {
    match task_group(body).await {
        Ok(()) => t.at(format!("{name} over")),
        Err(e) => t.at(format!("{name} failed with {}", e.errors().join(", "))),
    }
}

async fn a_failed_child_cancels_its_siblings(t: Trace) {
    let body = async |group: &Group| {
        for (name, duration, fails) in
            [("slow", 30, false), ("bad", 20, true), ("quick", 10, false), ("late", 40, true)]
        {
            drop(child(&t, group, name, duration, fails));
        }
        let _guard = t.guard("body");
        pending().await
    };
    grouped(&t, "group", body).await;
}

async fn a_child_fails_after_the_body(t: Trace) {
    let body = async |group: &Group| {
        drop(child(&t, group, "bad", 10, true));
        drop(child(&t, group, "slow", 20, false));
        t.at("body over");
        Ok(())
    };
    grouped(&t, "group", body).await;
}

async fn a_body_that_fails_cancels_the_children(t: Trace) {
    let body = async |group: &Group| {
        drop(child(&t, group, "slow", 30, false));
        drop(child(&t, group, "quick", 10, false));
        sleep(ms(20)).await;
        Err("body".to_owned())
    };
    grouped(&t, "group", body).await;
}

async fn a_body_that_fails_at_once(t: Trace) {
    let body = async |group: &Group| {
        drop(child(&t, group, "never begun", 10, false));
        Err("body".to_owned())
    };
    grouped(&t, "group", body).await;
}

async fn a_cancelled_child_is_no_failure(t: Trace) {
    let body = async |group: &Group| {
        let task = child(&t, group, "cancelled", 20, false);
        drop(child(&t, group, "sibling", 30, false));
        sleep(ms(10)).await;
        t.say(task.cancel());
        t.say(task.await.map_or("cancelled", |()| "None"));
        Ok(())
    };
    grouped(&t, "group", body).await;
}

async fn a_group_in_a_group_fails_alone(t: Trace) {
    let inner = async |group: &Group| {
        drop(child(&t, group, "bad", 10, true));
        drop(child(&t, group, "inner", 20, false));
        Ok(())
    };
    let outer = async |group: &Group| {
        drop(child(&t, group, "outer", 15, false));
        grouped(&t, "inner group", inner).await;
        sleep(ms(10)).await;
        t.at("body goes on");
        Ok(())
    };
    grouped(&t, "outer group", outer).await;
}

async fn a_group_in_a_child_of_a_failed_group(t: Trace) {
    let outer = async |group: &Group| {
        let inner = t.clone();
        drop(group.create_task(async move {
            let body = async |group: &Group| {
                drop(child(&inner, group, "grandchild", 40, false));
                drop(child(&inner, group, "quick grandchild", 5, false));
                let _guard = inner.guard("inner body");
                pending().await
            };
            grouped(&inner, "inner group", body).await;
            Ok(())
        }));
        drop(child(&t, group, "bad", 10, true));
        Ok(())
    };
    grouped(&t, "outer group", outer).await;
}

async fn a_group_is_cancelled_from_outside(t: Trace) {
    let said = t.clone();
    let task = job(async move {
        let body = async |group: &Group| {
            drop(child(&said, group, "slow", 30, false));
            drop(child(&said, group, "quick", 5, false));
            let _guard = said.guard("body");
            pending().await
        };
        grouped(&said, "group", body).await;
    });
    sleep(ms(10)).await;
    task.cancel();
    t.at(result(task).await);
}

async fn a_group_is_cancelled_after_its_body(t: Trace) {
    let said = t.clone();
    let task = job(async move {
        let body = async |group: &Group| {
            drop(child(&said, group, "slow", 30, false));
            said.say("body over");
            Ok(())
        };
        grouped(&said, "group", body).await;
    });
    sleep(ms(10)).await;
    task.cancel();
    t.at(result(task).await);
}

async fn a_child_makes_siblings(t: Trace) {
    let body = async |group: &Group| {
        let (siblings, parent) = (group.clone(), t.clone());
        drop(group.create_task(async move {
            for n in [20, 10] {
                drop(child(&parent, &siblings, n, n, false));
            }
            parent.say("parent ends");
            Ok(())
        }));
        t.say("body over");
        Ok(())
    };
    grouped(&t, "group", body).await;
}

async fn a_group_without_children(t: Trace) {
    let body = async |_: &Group| {
        t.say("body");
        Ok(())
    };
    grouped(&t, "group", body).await;
}

async fn children_that_are_awaited(t: Trace) {
    let body = async |group: &Group| {
        let tasks = [20, 10].map(|n| {
            group.create_task(async move {
                sleep(ms(n)).await;
                Ok(n)
            })
        });
        for task in tasks {
            t.at(result(task).await);
        }
        Ok(())
    };
    grouped(&t, "group", body).await;
}

async fn groups_side_by_side(t: Trace) {
    let body = async |group: &Group, name: &str, fails: bool| {
        for n in [10, 20] {
            drop(child(&t, group, format!("{name} {n}"), n, fails));
        }
        if fails {
            pending::<()>().await;
        }
        sleep(ms(5)).await;
        Ok(())
    };
    let good = grouped(&t, "good group", async |group: &Group| body(group, "good", false).await);
    let bad = grouped(&t, "bad group", async |group: &Group| body(group, "bad", true).await);
    gather!(good, bad).await;
}
