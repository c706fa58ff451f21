//! Shutdown of a server: no accepted connection is dropped, handlers are awaited, and every cut is counted.

mod common;

use std::{
    cell::{Cell, RefCell},
    fs,
    io::{self, ErrorKind, Read},
    net::TcpStream,
    rc::Rc,
    thread,
    time::Duration,
};

use common::{echo, in_own_process, reports, reset, run, until};
use corio_net::{Server, StreamReader, StreamWriter, open_connection, start_server};
use corio_runtime::{
    Faults, all_tasks, create_task, current_task, handle, run_coroutine_threadsafe, set_exception_handler,
    time::{sleep, timeout},
    yield_now,
};

const HOST: &str = "127.0.0.1:0";
const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(20);

fn on_every(program: impl AsyncFn() -> io::Result<()>) {
    let faults = Faults::default().delay(Duration::from_millis(2)).reorder(true).success_after_cancel(0.5);
    common::on_every_seed(60, faults, program);
}

/// Sets its flag when it is dropped.
struct Flag(Rc<Cell<bool>>);

impl Drop for Flag {
    fn drop(&mut self) {
        self.0.set(true);
    }
}

fn open_sockets() -> usize {
    let links =
        fs::read_dir("/proc/self/fd").unwrap().filter_map(|fd| fs::read_link(fd.unwrap().path()).ok());
    links.filter(|link| link.to_string_lossy().starts_with("socket:")).count()
}

/// Until the server has so many connections.
async fn connected(server: &Server, count: usize) {
    while server.connections() != count {
        sleep(Duration::from_millis(1)).await;
    }
}

#[test]
fn a_shutdown_waits_for_handlers_that_outlive_their_connections() {
    on_every(async || {
        let saved = Rc::new(Cell::new(false));
        let save = saved.clone();
        let server = start_server(HOST, move |mut reader, mut writer| {
            let save = save.clone();
            async move {
                let line = reader.readline().await?;
                writer.write_all(line).await?;
                writer.close();
                sleep(Duration::from_millis(300)).await;
                save.set(true);
                Ok(())
            }
        })
        .await?;
        let (mut reader, mut writer) = open_connection(server.local_addr()?).await?;
        writer.write_all("order\n").await?;
        assert_eq!(reader.readline().await?, b"order\n");
        writer.close();
        sleep(SHORT).await;
        let report = server.shutdown(LONG).await;
        assert!(saved.get(), "the work is lost");
        assert_eq!((report.cut, report.connections, report.handlers), (0, 0, 0));
        Ok(())
    });
}

#[test]
fn a_shutdown_cancels_the_handlers_that_outlive_the_grace_and_counts_them() {
    on_every(async || {
        let dropped = Rc::new(Cell::new(false));
        let flag = dropped.clone();
        let server = start_server(HOST, move |_reader, mut writer| {
            let flag = Flag(flag.clone());
            async move {
                let _flag = flag;
                writer.abort();
                std::future::pending().await
            }
        })
        .await?;
        let (mut reader, _writer) = open_connection(server.local_addr()?).await?;
        assert!(reader.read(1).await.is_err());
        connected(&server, 0).await;
        let report = server.shutdown(SHORT).await;
        assert_eq!((report.cut, report.connections, report.handlers), (1, 0, 1));
        assert!(dropped.get(), "the handler is gone when the shutdown is over");
        Ok(())
    });
}

#[test]
fn a_client_that_is_cut_is_counted_once_with_its_handler() {
    on_every(async || {
        let heard = reports();
        let server = start_server(HOST, echo).await?;
        let (mut reader, _writer) = open_connection(server.local_addr()?).await?;
        connected(&server, 1).await;
        let report = server.shutdown(SHORT).await;
        assert_eq!((report.cut, report.connections, report.handlers), (1, 1, 1));
        assert_eq!(server.connections(), 0);
        assert_eq!(reader.read(1).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
        assert!(heard.borrow().is_empty(), "a handler that was cut has no error: {heard:?}");
        Ok(())
    });
}

#[test]
fn a_connection_that_its_handler_gave_away_is_counted_too() {
    on_every(async || {
        let server = start_server(HOST, |reader, writer| async move {
            drop(create_task(echo(reader, writer)));
            Ok(())
        })
        .await?;
        set_exception_handler(|_| {});
        let (_reader, _writer) = open_connection(server.local_addr()?).await?;
        connected(&server, 1).await;
        yield_now().await;
        yield_now().await;
        let report = server.shutdown(SHORT).await;
        assert_eq!((report.cut, report.connections, report.handlers), (1, 1, 0));
        Ok(())
    });
}

#[test]
fn tasks_that_a_handler_began_are_not_its_servers_to_cut() {
    run(async {
        let server = start_server(HOST, |_reader, _writer| {
            // Made in the accepting task, as the handlers are.
            drop(create_task(std::future::pending::<()>()));
            async { std::future::pending().await }
        });
        let server = server.await.unwrap();
        let _client = open_connection(server.local_addr().unwrap()).await.unwrap();
        connected(&server, 1).await;
        let report = server.shutdown(SHORT).await;
        assert_eq!((report.cut, report.handlers), (1, 1));
        assert_eq!(all_tasks().len(), 2, "this one, and what the handler began: {:?}", all_tasks());
    });
}

#[test]
fn a_handler_that_shuts_its_server_down_does_not_wait_for_itself() {
    on_every(async || {
        let shared: Rc<RefCell<Option<Rc<Server>>>> = Rc::default();
        let cut = Rc::new(Cell::new(None));
        let (for_handler, told) = (shared.clone(), cut.clone());
        let server = start_server(HOST, move |mut reader, mut writer| {
            let (shared, told) = (for_handler.clone(), told.clone());
            async move {
                let quit = reader.readline().await? == b"quit\n";
                writer.close();
                writer.wait_closed().await?;
                let server = shared.borrow().clone();
                if quit && let Some(server) = server {
                    told.set(Some(server.shutdown(Duration::from_secs(3600)).await.cut));
                }
                Ok(())
            }
        })
        .await?;
        let server = Rc::new(server);
        shared.replace(Some(server.clone()));
        let (_reader, mut writer) = open_connection(server.local_addr()?).await?;
        writer.write_all("quit\n").await?;
        writer.close();
        let over = timeout(LONG, async {
            while cut.get().is_none() {
                sleep(Duration::from_millis(1)).await;
            }
        });
        over.await.expect("it waits for itself");
        assert_eq!(cut.get(), Some(0));
        shared.take();
        Ok(())
    });
}

#[test]
fn a_shutdown_from_another_loop_is_done_at_home() {
    run(async {
        let home = handle();
        let server = start_server(HOST, echo).await.unwrap();
        let (mut reader, mut writer) = open_connection(server.local_addr().unwrap()).await.unwrap();
        writer.write_all("x").await.unwrap();
        assert_eq!(reader.readexactly(1).await.unwrap(), b"x");
        let elsewhere = thread::spawn(move || {
            corio_runtime::run(async move {
                assert_eq!(server.connections(), 1);
                let error = server.serve_forever().await.unwrap_err();
                assert!(error.to_string().contains("different loop") && server.is_serving(), "{error}");
                let report = server.shutdown(SHORT).await;
                server.wait_closed().await;
                assert!(!server.is_serving() && server.connections() == 0);
                // Nothing of this loop's.
                run_coroutine_threadsafe(&home, || async {}).await.unwrap();
                report.cut
            })
        });
        assert_eq!(common::join(elsewhere).await, 1);
        assert_eq!(reader.read(1).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    });
}

#[test]
fn no_more_are_accepted_than_may_be_handled_and_a_shutdown_cuts_and_counts_these() {
    if !in_own_process("no_more_are_accepted_than_may_be_handled_and_a_shutdown_cuts_and_counts_these") {
        return;
    }
    run(async {
        let begun = Rc::new(Cell::new(0));
        let count = begun.clone();
        let server = Server::builder().max_connections(2).start(HOST, move |reader, writer| {
            count.set(count.get() + 1);
            echo(reader, writer)
        });
        let server = server.await.unwrap();
        let addr = server.local_addr().unwrap();
        let sockets = open_sockets();
        let mut clients = Vec::new();
        for _ in 0..20 {
            clients.push(TcpStream::connect(addr).unwrap());
            sleep(Duration::from_millis(1)).await;
        }
        connected(&server, 2).await;
        assert_eq!(open_sockets() - sockets, 20 + 2, "the kernel's backlog keeps the others");
        let report = server.shutdown(SHORT).await;
        assert_eq!((report.cut, report.connections, report.handlers), (2, 2, 2));
        assert_eq!(begun.get(), 2);
        for mut client in clients {
            let end = client.read(&mut [0]).unwrap_err();
            assert_eq!(end.kind(), ErrorKind::ConnectionReset, "nobody is told of a clean end");
        }
        // Its own is closed, too.
        until(|| open_sockets() < sockets).await;
    });
}

#[test]
fn a_place_is_taken_until_connection_and_handler_have_ended() {
    on_every(async || {
        let (running, most) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
        let counts = (running.clone(), most.clone());
        let server = Server::builder().max_connections(2).start(HOST, move |mut reader, mut writer| {
            let (running, most) = counts.clone();
            running.set(running.get() + 1);
            most.set(most.get().max(running.get()));
            async move {
                let line = reader.readline().await?;
                writer.write_all(line).await?;
                writer.close();
                // At work still, without a connection.
                sleep(Duration::from_millis(5)).await;
                running.set(running.get() - 1);
                Ok(())
            }
        });
        let server = server.await?;
        let addr = server.local_addr()?;
        let client = move || async move {
            let (mut reader, mut writer) = open_connection(addr).await?;
            writer.write_all("x\n").await?;
            assert_eq!(reader.read_to_end().await?, b"x\n");
            io::Result::Ok(())
        };
        let clients: Vec<_> = (0..12).map(|_| create_task(client())).collect();
        for client in clients {
            client.await.unwrap()?;
        }
        assert_eq!(most.get(), 2);
        assert_eq!(server.shutdown(LONG).await.cut, 0);
        Ok(())
    });
}

/// Answers, and closes.
async fn answer(
    served: Rc<Cell<usize>>,
    mut reader: StreamReader,
    mut writer: StreamWriter,
) -> io::Result<()> {
    served.set(served.get() + 1);
    writer.write_all("served").await?;
    writer.write_eof()?;
    reader.read(1).await.map(drop)
}

#[test]
fn whoever_was_accepted_when_the_server_closes_is_served() {
    let round = Cell::new(0_u64);
    on_every(async || {
        round.set(round.get() + 1);
        let served = Rc::new(Cell::new(0));
        let count = served.clone();
        let limit = if round.get().is_multiple_of(3) { 2 } else { 100 };
        let server = Server::builder()
            .max_connections(limit)
            .start(HOST, move |reader, writer| answer(count.clone(), reader, writer))
            .await?;
        let addr = server.local_addr()?;
        let clients: Vec<_> = (0..30_u64)
            .map(|n| {
                create_task(async move {
                    sleep(Duration::from_micros(n * 20)).await;
                    let Ok((mut reader, mut writer)) = open_connection(addr).await else { return false };
                    match reader.read_to_end().await {
                        Ok(all) => {
                            assert_eq!(all, b"served", "a clean end without an answer");
                            true
                        }
                        Err(_) => {
                            writer.abort();
                            false
                        }
                    }
                })
            })
            .collect();
        sleep(Duration::from_micros(round.get() * 37 % 700)).await;
        server.close();
        server.close();
        let mut answered = 0;
        for client in clients {
            // Those that were answered are waited for by their handlers until they leave.
            answered += usize::from(timeout(LONG, async { client.await.unwrap() }).await.expect("a hang"));
        }
        assert_eq!(answered, served.get());
        timeout(LONG, server.wait_closed()).await.expect("a hang");
        Ok(())
    });
}

#[test]
fn clients_that_reset_before_they_are_accepted_take_no_place_for_ever() {
    run(async {
        set_exception_handler(|_| {});
        let server = Server::builder().max_connections(1).start(HOST, echo).await.unwrap();
        let addr = server.local_addr().unwrap();
        for _ in 0..50 {
            reset(TcpStream::connect(addr).unwrap());
        }
        let (mut reader, mut writer) = open_connection(addr).await.unwrap();
        writer.write_all("x").await.unwrap();
        assert_eq!(reader.readexactly(1).await.unwrap(), b"x");
    });
}

#[test]
fn a_server_whose_accepting_task_is_cancelled_closes_and_reports() {
    on_every(async || {
        let heard = reports();
        let server = start_server(HOST, echo).await?;
        let addr = server.local_addr()?;
        let (mut reader, mut writer) = open_connection(addr).await?;
        writer.write_all("x").await?;
        assert_eq!(reader.readexactly(1).await?, b"x");
        let own = current_task().map(|task| task.id());
        let parents: Vec<_> = all_tasks().iter().filter_map(|task| task.parent()).collect();
        // The parent of the handler.
        let accepting = all_tasks().into_iter().find(|t| Some(t.id()) != own && parents.contains(&t.id()));
        assert!(accepting.unwrap().cancel());
        timeout(LONG, server.serve_forever()).await.expect("open and deaf").unwrap();
        assert!(!server.is_serving());
        assert_eq!(open_connection(addr).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
        sleep(SHORT).await;
        let heard = heard.borrow().clone();
        assert_eq!(heard.len(), 1, "{heard:?}");
        assert!(heard[0].contains(&addr.to_string()) && heard[0].contains("was cancelled"), "{heard:?}");
        // Its connections go on.
        writer.write_all("y").await?;
        assert_eq!(reader.readexactly(1).await?, b"y");
        Ok(())
    });
}

#[test]
fn a_server_that_is_cancelled_before_its_first_step_closes_and_reports() {
    run(async {
        let heard = reports();
        let server = start_server(HOST, echo).await.unwrap();
        let own = current_task().map(|task| task.id());
        for task in all_tasks() {
            assert!(Some(task.id()) == own || task.cancel());
        }
        until(|| !server.is_serving()).await;
        until(|| !heard.borrow().is_empty()).await;
        server.wait_closed().await;
    });
}

#[test]
fn the_end_of_a_loop_reports_no_server_that_outlives_it() {
    let heard = Rc::new(RefCell::new(Vec::new()));
    let said = heard.clone();
    let server = corio_runtime::run(async move {
        set_exception_handler(move |context| said.borrow_mut().push(context.to_string()));
        start_server(HOST, echo).await.unwrap()
    });
    assert!(heard.borrow().is_empty(), "{heard:?}");
    assert!(!server.is_serving() && server.local_addr().is_err());
}
