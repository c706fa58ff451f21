//! Our half of the random programs, in the simulator.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    fmt::Display,
    future::Future,
    pin::Pin,
    rc::Rc,
    time::Duration,
};

use corio::{
    Backend, Event, Lock, Queue, ReturnWhen, Runner, Semaphore, Task, TaskError, TaskGroup, create_task,
    gather, shield, sleep,
    task::{CancelHandle, catch_cancel, with_cleanup},
    task_group,
    time::{Instant, now, timeout},
    wait, yield_now,
};

use super::{
    children::{BodyOf, Children, Counted},
    node::{Body, Node, Op},
};

/// What a step may end with: an error.
type Ended = Result<(), u64>;

/// What the tasks of a program share.
struct Program {
    begun: Instant,
    trace: RefCell<String>,
    /// Handles that nobody has taken, to await them.
    tasks: RefCell<BTreeMap<u64, Task<Ended>>>,
    cancels: RefCell<BTreeMap<u64, CancelHandle>>,
    /// Tasks that have begun and not left their steps.
    inside: RefCell<BTreeSet<u64>>,
    locks: [Lock; 2],
    permits: [Semaphore; 2],
    events: [Event; 2],
    queues: [Queue<u64>; 3],
}

/// Where a step is: its task, and the group around it.
#[derive(Clone)]
struct Place {
    program: Rc<Program>,
    task: u64,
    group: Option<InGroup>,
}

#[derive(Clone)]
struct InGroup {
    group: TaskGroup<u64>,
    children: Rc<Children>,
}

/// The trace of a program.
pub(super) fn trace(body: &Body) -> String {
    let mut runner = Runner::builder().backend(Backend::Sim { seed: 1 }).build().unwrap();
    let body = body.clone();
    runner.run(async move {
        let program = Program {
            begun: now(),
            trace: RefCell::default(),
            tasks: RefCell::default(),
            cancels: RefCell::default(),
            inside: RefCell::default(),
            locks: [const { Lock::new(()) }; 2],
            permits: [Semaphore::new(1), Semaphore::new(2)],
            events: [const { Event::new() }; 2],
            queues: [Queue::new(0), Queue::new(1), Queue::new(2)],
        };
        let main = Place { program: Rc::new(program), task: 0, group: None };
        main.spawn(0, body);
        main.cancel_the_rest().await;
        main.program.trace.take()
    })
}

/// Says something if it is dropped before it is disarmed: the step inside was left by a cancel.
struct OnCancel(Option<(Place, String)>);

impl Drop for OnCancel {
    fn drop(&mut self) {
        if let Some((place, text)) = self.0.take() {
            place.say(text);
        }
    }
}

impl OnCancel {
    fn disarm(mut self) {
        self.0 = None;
    }
}

impl Program {
    fn say(&self, who: impl Display, text: impl Display) {
        let at = (now() - self.begun).as_micros();
        self.trace.borrow_mut().push_str(&format!("{at} {who}: {text}\n"));
    }
}

impl Place {
    fn say(&self, text: impl Display) {
        self.program.say(self.task, text);
    }

    fn on_cancel(&self, text: impl Display) -> OnCancel {
        OnCancel(Some((self.clone(), text.to_string())))
    }

    /// What still waits is cancelled, in order; what catches that, again.
    async fn cancel_the_rest(&self) {
        for _ in 0..2 {
            sleep(Duration::from_micros(1 << 40)).await;
            let handles: Vec<_> = self.program.cancels.borrow().iter().map(|(t, h)| (*t, *h)).collect();
            for (task, handle) in handles {
                if handle.cancel() {
                    self.program.say("main", format!("cancels {task}"));
                }
                sleep(Duration::from_micros(1 << 32)).await;
            }
        }
    }

    /// All steps of a task.
    async fn whole(self, body: Body) -> Ended {
        self.say("starts");
        self.program.inside.borrow_mut().insert(self.task);
        let ended = self.run(&body).await;
        self.program.inside.borrow_mut().remove(&self.task);
        match ended {
            Ok(()) => self.say("ends"),
            Err(e) => self.say(format!("fails with {e}")),
        }
        ended
    }

    fn run<'a>(&'a self, body: &'a [Node]) -> Pin<Box<dyn Future<Output = Ended> + 'a>> {
        Box::pin(async move {
            for node in body {
                self.step(node).await?;
            }
            Ok(())
        })
    }

    async fn step(&self, node: &Node) -> Ended {
        let (numbers, bodies) = (&node.numbers[..], &node.bodies[..]);
        match node.op {
            Op::Spawn
            | Op::Child
            | Op::Await
            | Op::Shield
            | Op::Gather
            | Op::WaitAll
            | Op::WaitFirst
            | Op::Cancel => {
                self.task_step(node).await;
                Ok(())
            }
            Op::Lock | Op::Permit | Op::Set | Op::Clear | Op::Wait | Op::Put | Op::Get => {
                self.sync_step(node).await
            }
            Op::Sleep => {
                sleep(Duration::from_micros(numbers[0])).await;
                self.say(format!("slept {}", numbers[0]));
                Ok(())
            }
            Op::Yield => {
                for _ in 0..numbers[0] {
                    yield_now().await;
                }
                self.say(format!("yielded {}", numbers[0]));
                Ok(())
            }
            Op::Timeout => self.timeout(numbers[0], &bodies[0]).await,
            Op::Group => {
                self.group(numbers[0], &bodies[0]).await;
                Ok(())
            }
            Op::Guard => {
                let guard = self.on_cancel(format!("guard {}", numbers[0]));
                let ended = self.run(&bodies[0]).await;
                guard.disarm();
                ended
            }
            Op::Cleanup => self.cleanup(numbers[0], &bodies[0], &bodies[1]).await,
            Op::Catch | Op::Resume => self.catch(node).await,
            Op::Fail => {
                pause(numbers[1]).await;
                Err(numbers[0])
            }
            Op::Try => {
                if let Err(e) = self.run(&bodies[0]).await {
                    self.say(format!("try {} caught {e}", numbers[0]));
                }
                Ok(())
            }
        }
    }

    async fn timeout(&self, duration: u64, body: &[Node]) -> Ended {
        match timeout(Duration::from_micros(duration), self.run(body)).await {
            Ok(ended) => {
                ended?;
                self.say(format!("timeout {duration} not needed"));
            }
            Err(_) => self.say(format!("timeout {duration} expired")),
        }
        Ok(())
    }

    async fn group(&self, name: u64, body: &[Node]) {
        let children = Rc::new(Children::default());
        let ended = task_group(async |group| {
            let _body = BodyOf(&children);
            let group = InGroup { group: group.clone(), children: children.clone() };
            Place { group: Some(group), ..self.clone() }.run(body).await
        })
        .await;
        children.end_of_asyncio().await;
        match ended {
            Ok(()) => self.say(format!("group {name} over")),
            Err(e) => self.say(format!("group {name} failed with {}", list(e.errors()))),
        }
    }

    async fn cleanup(&self, name: u64, body: &[Node], cleanup: &[Node]) -> Ended {
        let (place, cleanup) = (self.clone(), cleanup.to_vec());
        let cleanup = move || async move {
            match place.run(&cleanup).await {
                Ok(()) => place.say(format!("cleaned {name}")),
                Err(_) => place.say(format!("cleanup {name} failed")),
            }
        };
        with_cleanup(self.run(body), cleanup).await
    }

    async fn catch(&self, node: &Node) -> Ended {
        let name = node.numbers[0];
        let cancelled = match catch_cancel(self.run(&node.bodies[0])).await {
            Ok(ended) => return ended,
            Err(cancelled) => cancelled,
        };
        self.say(format!("caught {name}"));
        self.run(&node.bodies[1]).await?;
        if node.op == Op::Resume {
            self.say(format!("resumes {name}"));
            cancelled.resume().await;
        }
        Ok(())
    }

    async fn task_step(&self, node: &Node) {
        let numbers = &node.numbers[..];
        match node.op {
            Op::Spawn => self.spawn(numbers[0], node.bodies[0].clone()),
            Op::Child => self.child(numbers[0], &node.bodies[0]),
            Op::Await => {
                if let Some(task) = self.take(numbers[0]) {
                    self.say(format!("awaited {}: {}", numbers[0], outcome(task.await)));
                }
            }
            Op::Shield => {
                if let Some(task) = self.take(numbers[0]) {
                    let waits = !task.done();
                    let ended = shield(task).await;
                    self.heard_by_callback(waits).await;
                    self.say(format!("shielded {}: {}", numbers[0], outcome(ended)));
                }
            }
            Op::Gather => {
                pause(numbers[0]).await;
                let tasks = self.take_all(&numbers[1..]);
                let waits = !tasks.iter().all(Task::done);
                let ended = gather(tasks).await;
                self.heard_by_callback(waits).await;
                self.say(format!("gathered {}", list(ended.into_iter().map(outcome))));
            }
            Op::WaitAll => self.wait(numbers, ReturnWhen::AllCompleted).await,
            Op::WaitFirst => self.wait(numbers, ReturnWhen::FirstCompleted).await,
            _ => {
                pause(numbers[1]).await;
                self.cancel(numbers[0]);
                pause(numbers[2]).await;
            }
        }
    }

    /// asyncio tells a shield, a gather and a wait by a callback, a turn later than who awaits the task itself.
    async fn heard_by_callback(&self, waited: bool) {
        if waited {
            yield_now().await;
        }
    }

    fn child(&self, name: u64, body: &Body) {
        let Some(InGroup { group, children }) = &self.group else { return };
        let place = Place { task: name, group: None, ..self.clone() };
        let counted = Counted::new(children);
        let body = body.clone();
        let task = group.create_task(async move {
            let _counted = counted;
            // Its error goes to the group.
            place.whole(body).await.map(Ok)
        });
        self.keep(name, task);
    }

    fn spawn(&self, name: u64, body: Body) {
        let place = Place { task: name, group: None, ..self.clone() };
        let task = create_task(place.clone().whole(body));
        // In its last step, after what it has to end by awaiting. A child of a group does not tell: if its group ends,
        // it is dropped at once.
        task.add_done_callback(move |_| {
            if place.program.inside.borrow_mut().remove(&name) {
                place.say("is cancelled");
            }
        });
        self.keep(name, task);
    }

    fn keep(&self, name: u64, task: Task<Ended>) {
        self.program.cancels.borrow_mut().insert(name, task.cancel_handle());
        self.program.tasks.borrow_mut().insert(name, task);
    }

    fn take(&self, name: u64) -> Option<Task<Ended>> {
        self.program.tasks.borrow_mut().remove(&name)
    }

    fn take_all(&self, names: &[u64]) -> Vec<Task<Ended>> {
        names.iter().filter_map(|name| self.take(*name)).collect()
    }

    async fn wait(&self, numbers: &[u64], when: ReturnWhen) {
        pause(numbers[0]).await;
        let tasks = self.take_all(&numbers[1..]);
        if tasks.is_empty() {
            return;
        }
        let enough = match when {
            ReturnWhen::FirstCompleted => tasks.iter().any(Task::done),
            _ => tasks.iter().all(Task::done),
        };
        let (mut tasks, pending) = wait(tasks, when, None).await;
        self.heard_by_callback(true).await;
        if enough {
            // It looks at no task: those that are done tell it by a callback, too.
            yield_now().await;
        }
        tasks.extend(pending);
        let done = tasks.iter().filter(|task| task.done()).count();
        self.say(format!("waited: {done} done, {} pending", tasks.len() - done));
    }

    fn cancel(&self, name: u64) {
        let handle = self.program.cancels.borrow().get(&name).copied();
        if let Some(handle) = handle.filter(|_| name != self.task) {
            self.say(format!("cancels {name}: {}", truth(handle.cancel())));
        }
    }

    async fn sync_step(&self, node: &Node) -> Ended {
        let (program, n) = (&self.program, node.numbers[0]);
        let at = usize::try_from(n).unwrap();
        match node.op {
            Op::Lock => {
                let guard = program.locks[at].acquire().await;
                self.say(format!("has lock {n}"));
                self.run(&node.bodies[0]).await?;
                drop(guard);
                self.say(format!("gave lock {n} back"));
            }
            Op::Permit => {
                let permit = program.permits[at].acquire().await;
                self.say(format!("has permit {n}"));
                self.run(&node.bodies[0]).await?;
                drop(permit);
                self.say(format!("gave permit {n} back"));
            }
            Op::Set => program.events[at].set(),
            Op::Clear => program.events[at].clear(),
            Op::Wait => {
                program.events[at].wait().await;
                self.say(format!("saw event {n}"));
            }
            Op::Put => {
                program.queues[at].put(self.task).await.expect("it is never shut down");
                self.say(format!("put into {n}"));
            }
            _ => {
                let item = program.queues[at].get().await.expect("it is never shut down");
                self.say(format!("got {item} from {n}"));
            }
        }
        Ok(())
    }
}

async fn pause(duration: u64) {
    if duration > 0 {
        sleep(Duration::from_micros(duration)).await;
    }
}

fn outcome(ended: Result<Ended, TaskError>) -> String {
    match ended {
        Ok(Ok(())) => "value".to_owned(),
        // The error of a group's child is the group's.
        Ok(Err(_)) | Err(TaskError::Failed) => "failed".to_owned(),
        Err(TaskError::Cancelled) => "cancelled".to_owned(),
        Err(e) => format!("{e:?}"),
    }
}

fn list<T: Display>(items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(", ")
}

/// As Python writes it.
fn truth(value: bool) -> &'static str {
    if value { "True" } else { "False" }
}
