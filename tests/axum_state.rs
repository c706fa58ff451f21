//! What is of one core in axum's handlers and `State`, which ask for `Send`: by `OnLoop` and `on_loop`.

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{Path, State},
    routing::get,
};
use corio::{
    Backend, Lock, Queue, Runner, Semaphore, create_task, select,
    signal::ctrl_c,
    sleep,
    task::{OnLoop, on_loop, task_group},
    yield_now,
};
use hyper::{Request, service::Service};
use hyper_util::service::TowerToHyperService;
use std::{cell::Cell, io, rc::Rc, time::Duration};

#[path = "../runtime/tests/common/shared.rs"]
mod shared;
use shared::*;

/// The state of the application: `Clone + Send + Sync`, of names alone.
#[derive(Clone, Copy)]
struct App {
    visits: OnLoop<Rc<Lock<Vec<String>>>>,
    jobs: OnLoop<Rc<Queue<u32>>>,
    room: OnLoop<Rc<Semaphore>>,
    /// The most handlers that had room at once.
    inside: OnLoop<(Cell<u32>, Cell<u32>)>,
}

impl App {
    fn new() -> App {
        App {
            visits: OnLoop::new(Rc::default()),
            jobs: OnLoop::new(Rc::new(Queue::new(1))),
            room: OnLoop::new(Rc::new(Semaphore::new(2))),
            inside: OnLoop::new((Cell::new(0), Cell::new(0))),
        }
    }

    fn router(self) -> Router {
        Router::new()
            .route("/group/{n}", get(group))
            .route("/lock/{name}", get(lock))
            .route("/queue", get(queue))
            .route("/room", get(room))
            .route("/wait", get(wait))
            .with_state(self)
    }
}

/// `task_group`: a child for each number.
async fn group(Path(n): Path<u32>) -> String {
    let sum = on_loop(async move {
        task_group(async |group| {
            let children: Vec<_> = (1..=n)
                .map(|n| {
                    group.create_task(async move {
                        yield_now().await;
                        if n == 13 { Err(io::Error::other("unlucky")) } else { Ok(n) }
                    })
                })
                .collect();
            let mut sum = 0;
            for child in children {
                sum += child.await?;
            }
            Ok(sum)
        })
        .await
    });
    sum.await.map_or_else(|e| e.errors()[0].to_string(), |sum: u32| sum.to_string())
}

/// `Lock`, held over an await.
async fn lock(State(app): State<App>, Path(name): Path<String>) -> String {
    on_loop(async move {
        let visits = app.visits.get();
        let mut visits = visits.acquire().await;
        yield_now().await;
        visits.push(name);
        visits.join(",")
    })
    .await
}

/// `Queue`: answers once a worker has given a job.
async fn queue(State(app): State<App>) -> String {
    let jobs = app.jobs.get();
    let job = on_loop(async move { jobs.get().await });
    job.await.map_or_else(|e| e.to_string(), |job| job.to_string())
}

/// `Semaphore`: two at once.
async fn room(State(app): State<App>) -> String {
    on_loop(async move {
        let room = app.room.get();
        let _permit = room.acquire().await;
        app.inside.with(|(now, most)| {
            now.set(now.get() + 1);
            most.set(most.get().max(now.get()));
        });
        sleep(Duration::from_millis(1)).await;
        app.inside.with(|(now, most)| {
            now.set(now.get() - 1);
            most.get().to_string()
        })
    })
    .await
}

/// `ctrl_c`, in a `select!`.
async fn wait() -> String {
    on_loop(async {
        select! {
            interrupted = ctrl_c() => format!("{:?}", interrupted.is_ok()),
            () = sleep(Duration::from_millis(1)) => "in peace".to_owned(),
        }
    })
    .await
}

/// The answer to a request, on the running loop and without a socket.
async fn ask(router: Router, path: &str) -> String {
    let request = Request::builder().uri(path).body(Body::empty()).unwrap();
    let response = TowerToHyperService::new(router).call(request).await.unwrap();
    let status = response.status();
    let body = to_bytes(response.into_body(), 1 << 16).await.unwrap();
    assert!(status.is_success(), "{path}: {status} {body:?}");
    String::from_utf8(body.to_vec()).unwrap()
}

#[test]
fn a_handler_has_a_task_group() {
    on_every(async || {
        let router = App::new().router();
        assert_eq!(ask(router.clone(), "/group/4").await, "10");
        assert_eq!(ask(router, "/group/20").await, "unlucky");
    });
}

#[test]
fn the_state_holds_a_lock() {
    on_every(async || {
        let router = App::new().router();
        let (first, second) = (ask(router.clone(), "/lock/ann"), ask(router.clone(), "/lock/bob"));
        assert_eq!(corio::join!(biased; first, second), ("ann".to_owned(), "ann,bob".to_owned()));
    });
}

#[test]
fn the_state_holds_a_queue() {
    on_every(async || {
        let app = App::new();
        let answer = create_task(async move { ask(app.router(), "/queue").await });
        yield_now().await;
        app.jobs.get().put(7).await.unwrap();
        assert_eq!(answer.await.unwrap(), "7");
        app.jobs.with(|jobs| jobs.shutdown(false));
        assert!(ask(app.router(), "/queue").await.contains("shut down"));
    });
}

#[test]
fn the_state_holds_a_semaphore() {
    on_every(async || {
        let router = App::new().router();
        let answers = corio::gather((0..5).map(|_| ask(router.clone(), "/room"))).await;
        assert_eq!(answers.iter().max().unwrap(), "2");
    });
}

#[test]
fn a_handler_waits_for_ctrl_c() {
    for backend in real_kernels() {
        on(backend).run(async {
            assert_eq!(ask(App::new().router(), "/wait").await, "in peace");
        });
    }
}

#[test]
fn a_handler_that_is_given_up_gives_back_what_it_held() {
    let mut runner = Runner::builder().backend(Backend::Sim { seed: 1 }).build().unwrap();
    runner.run(async {
        let app = App::new();
        let held = app.visits.get();
        let held = held.acquire().await;
        let given_up = corio::timeout(Duration::from_millis(1), ask(app.router(), "/lock/ann")).await;
        assert!(given_up.is_err());
        drop(held);
        assert_eq!(ask(app.router(), "/lock/bob").await, "bob");
    });
}
