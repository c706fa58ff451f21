//! `create_eager_task`, as asyncio's eager tasks; and `TaskInfo`.

mod common;

use std::{cell::Cell, rc::Rc};

use common::{Log, on_every, turns};
use corio_runtime::{
    TaskError, TaskState, all_tasks, create_eager_task, create_task, create_task_named, current_task, gather,
    metrics, task_group, yield_now,
};

#[test]
fn eag_01_eag_02_without_a_suspension_it_is_done_at_once() {
    on_every(async || {
        let log = Log::new();
        let theirs = log.clone();
        let other = create_task(async {});
        let task = create_eager_task(async move {
            theirs.push(1);
            "hello"
        });
        assert!(task.done());
        assert_eq!(log.get(), [1]);
        assert_eq!(task.await.unwrap(), "hello");
        assert!(!other.done(), "no turn was needed");
    });
}

#[test]
fn eag_03_then_it_is_a_task_like_any_other() {
    on_every(async || {
        let log = Log::new();
        let theirs = log.clone();
        let task = create_eager_task(async move {
            theirs.push("inline");
            yield_now().await;
            theirs.push("later");
        });
        log.push("creator");
        assert!(!task.done());
        task.await.unwrap();
        assert_eq!(log.get(), ["inline", "creator", "later"]);
    });
}

#[test]
fn eag_04_eag_05_cancel_reaches_it_only_while_it_waits() {
    on_every(async || {
        let done = create_eager_task(async { 1 });
        assert!(!done.cancel());
        assert_eq!(done.await.unwrap(), 1);
        let waits = create_eager_task(std::future::pending::<()>());
        assert!(waits.cancel());
        assert!(matches!(waits.await, Err(TaskError::Cancelled)));
    });
}

#[test]
fn eag_06_eag_07_eag_08_it_is_the_current_task_during_its_step() {
    on_every(async || {
        let creator = current_task().unwrap().id();
        let task = create_eager_task(async move {
            let me = current_task().unwrap();
            assert_ne!(me.id(), creator);
            assert_eq!((me.parent(), me.state()), (Some(creator), TaskState::Running));
            assert!(all_tasks().iter().any(|task| task.id() == me.id()));
            yield_now().await;
            me.id()
        });
        assert_eq!(current_task().unwrap().id(), creator);
        assert_eq!(all_tasks().len(), 2);
        let id = task.await.unwrap();
        assert!(all_tasks().iter().all(|task| task.id() != id));
    });
}

/// Body of a group of 5 children, each with such a body, 4 levels deep. Counts itself: in the call that made the root,
/// or later.
fn groups(
    depth: u32,
    eager: bool,
    root: Rc<Root>,
) -> std::pin::Pin<Box<dyn Future<Output = Result<u32, ()>>>> {
    Box::pin(async move {
        let count = if root.is_being_made.get() { &root.inline } else { &root.scheduled };
        count.set(count.get() + 1);
        if depth == 0 {
            return Ok(1);
        }
        let sum = task_group(async move |group| {
            let mut children = Vec::new();
            for _ in 0..5 {
                let child = groups(depth - 1, eager, root.clone());
                children.push(if eager { group.create_eager_task(child) } else { group.create_task(child) });
            }
            let mut sum = 0;
            for child in children {
                sum += child.await.unwrap();
            }
            Ok::<u32, ()>(sum)
        });
        Ok(sum.await.unwrap())
    })
}

#[derive(Default)]
struct Root {
    is_being_made: Cell<bool>,
    inline: Cell<u32>,
    scheduled: Cell<u32>,
}

#[test]
fn eag_10_of_nested_groups_no_task_is_scheduled_eagerly_and_781_lazily() {
    on_every(async || {
        for (eager, expected) in [(true, (781, 0)), (false, (0, 781))] {
            let root = Rc::new(Root::default());
            let tree = groups(4, eager, root.clone());
            root.is_being_made.set(true);
            let task = if eager { create_eager_task(tree) } else { create_task(tree) };
            root.is_being_made.set(false);
            assert_eq!((task.done(), metrics().ready), if eager { (true, 0) } else { (false, 1) });
            assert_eq!(task.await.unwrap(), Ok(625));
            assert_eq!((root.inline.get(), root.scheduled.get()), expected);
        }
    });
}

#[test]
fn eag_10_an_eager_child_of_a_group_fails_suspends_and_ends_like_any_other() {
    on_every(async || {
        let failed = task_group::<(), &str>(async |group| {
            let child = group.create_eager_task(async { Err::<(), _>("at once") });
            assert!(matches!(child.await, Err(TaskError::Failed)));
            std::future::pending().await
        });
        assert_eq!(failed.await.unwrap_err().errors(), ["at once"]);
        let log = Log::new();
        let theirs = log.clone();
        let ended = task_group::<(), ()>(async |group| {
            let log = theirs.clone();
            drop(group.create_eager_task(async move {
                log.push("inline");
                turns(2).await;
                log.push("later");
                Ok(())
            }));
            theirs.push("body");
            Ok(())
        });
        ended.await.unwrap();
        assert_eq!(log.get(), ["inline", "body", "later"]);
        let refused = task_group::<(), ()>(async |group| {
            group.cancel();
            let late = group.create_eager_task::<()>(async { unreachable!("the group is ending") });
            assert!(matches!(late.await, Err(TaskError::Cancelled)));
            Ok(())
        });
        refused.await.unwrap();
    });
}

#[test]
fn eag_11_eag_12_eager_trees_never_enter_the_ready_queue() {
    fn tree(depth: u32) -> std::pin::Pin<Box<dyn Future<Output = u32>>> {
        Box::pin(async move {
            if depth == 0 {
                return 1;
            }
            let children: Vec<_> = (0..5).map(|_| create_eager_task(tree(depth - 1))).collect();
            gather(children).await.into_iter().map(Result::unwrap).sum()
        })
    }
    on_every(async || {
        let root = create_eager_task(tree(4));
        assert!(root.done() && metrics().ready == 0);
        assert_eq!(root.await.unwrap(), 625);
    });
}

#[test]
fn eag_13_a_panic_of_the_first_step_stays_in_the_task() {
    on_every(async || {
        let task = create_eager_task(async { panic!("at once") });
        assert!(task.done());
        assert!(matches!(task.await, Err::<(), _>(TaskError::Panicked(p)) if p.message() == "at once"));
    });
}

#[test]
fn task_06_task_22_the_states_of_a_task() {
    on_every(async || {
        let state = |name: &str| all_tasks().into_iter().find(|t| t.name() == name).map(|t| t.state());
        let seen = Rc::new(Cell::new(None));
        let last = seen.clone();
        let task = create_task_named("abc", std::future::pending::<()>());
        task.add_done_callback(move |info| last.set(Some(info.state())));
        assert_eq!(state("abc"), Some(TaskState::Pending));
        assert!(task.cancel());
        assert!(task.cancel(), "it is not done yet");
        assert_eq!(state("abc"), Some(TaskState::Cancelling));
        turns(1).await;
        assert_eq!((state("abc"), seen.get()), (None, Some(TaskState::Cancelled)));
        assert!(!task.cancel() && task.cancelled(), "it is done");
        assert!(format!("{task:?}").contains("cancelled"));
        let info = current_task().unwrap();
        assert!(info.to_string().contains("<Task running name='Task-"), "{info}");
        assert!(info.to_string().contains("created at"), "{info}");
    });
}

#[test]
fn a_task_info_cancels_its_task() {
    on_every(async || {
        let task = create_task_named("victim", std::future::pending::<()>());
        let info = all_tasks().into_iter().find(|task| task.name() == "victim").unwrap();
        assert!(info.cancel());
        assert!(matches!(task.await, Err(TaskError::Cancelled)));
        assert!(!info.cancel(), "and no other one in its place");
        let next = create_task(async { 1 });
        assert!(!info.cancel());
        assert_eq!(next.await.unwrap(), 1);
    });
}

#[test]
fn an_owned_task_ends_with_its_handle() {
    on_every(async || {
        let task = create_task(std::future::pending::<()>()).cancel_on_drop();
        assert!(!task.done());
        drop(task);
        turns(1).await;
        assert_eq!(all_tasks().len(), 1);
        assert_eq!(create_task(async { 5 }).cancel_on_drop().await.unwrap(), 5);
    });
}

#[test]
fn task_02_awaiting_a_function_is_a_plain_call() {
    async fn inner() -> u32 {
        1000 + u32::from(all_tasks().len() == 1)
    }
    on_every(async || assert_eq!(41 + inner().await, 1042, "no task was made for it"));
}

#[test]
fn main_is_no_task_that_others_can_cancel() {
    on_every(async || {
        let main = current_task().unwrap();
        assert!(!create_task(async move { main.cancel() }).await.unwrap());
        assert_eq!(current_task().unwrap().state(), TaskState::Running);
    });
}
