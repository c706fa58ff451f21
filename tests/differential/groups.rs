//! Groups of tasks.

use std::future::pending;

use corio::{TaskGroupError, task_group};

use crate::scenario::{Trace, turns};

scenarios! {
    everywhere: a_group_waits_for_all, a_group_fails_with_its_first_child;
    simulated: ;
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
