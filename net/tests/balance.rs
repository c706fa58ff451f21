//! One address on several cores: every connection is served, by the core that the balance picks, even while servers
//! close.

mod common;

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use common::{in_own_process, open_fds};
use corio_net::{Balance, Server, StreamReader, StreamWriter, open_connection};
use corio_runtime::{
    Backend, Core, Cores, Runner, run, run_coroutine_threadsafe, run_per_core,
    time::{sleep, timeout},
};

/// The index of the core that serves a connection; it lives until it is dropped.
fn connect(addr: SocketAddr) -> (TcpStream, usize) {
    let mut stream = TcpStream::connect(addr).unwrap();
    let mut index = [0];
    stream.read_exact(&mut index).unwrap();
    (stream, index[0].into())
}

/// Says which core it is, and reads to the end.
async fn say(index: u8, mut reader: StreamReader, mut writer: StreamWriter) -> io::Result<()> {
    writer.write_all(vec![index]).await?;
    while !reader.read(100).await?.is_empty() {}
    Ok(())
}

/// Servers on so many cores, until `client` is done with their address.
fn served<R, H, Fut>(
    cores: usize,
    balance: Balance,
    handler: H,
    client: impl FnOnce(SocketAddr, Core) -> R + Send + 'static,
) -> R
where
    R: Send + 'static,
    H: Fn(u8, StreamReader, StreamWriter) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = io::Result<()>> + 'static,
{
    let client = Arc::new(std::sync::Mutex::new(Some(client)));
    let results = run_per_core(Cores::Count(cores), move |core| {
        let (client, handler) = (client.clone(), handler.clone());
        async move {
            let index = core.index() as u8;
            let server = Server::builder()
                .balance(balance)
                .start("127.0.0.1:0", move |reader, writer| handler(index, reader, writer))
                .await
                .unwrap();
            if core.index() > 0 {
                // Its loop serves on until all mains are over.
                STARTED.with_borrow_mut(|servers| servers.push(server));
                return None;
            }
            // The others start before anybody connects.
            for other in 1..core.count() {
                while !run_coroutine_threadsafe(&core.handle(other), || async {
                    STARTED.with_borrow(|servers| !servers.is_empty())
                })
                .await
                .unwrap()
                {
                    sleep(Duration::from_millis(1)).await;
                }
            }
            let addr = server.local_addr().unwrap();
            let client = client.lock().unwrap().take().unwrap();
            Some(corio_runtime::to_thread(move || client(addr, core)).await)
        }
    });
    results.into_iter().flatten().next().unwrap()
}

thread_local!(static STARTED: std::cell::RefCell<Vec<Server>> = const { std::cell::RefCell::new(Vec::new()) });

#[test]
fn least_connections_gives_every_core_its_share_exactly() {
    let counts = served(3, Balance::LeastConnections, say, |addr, core| {
        let connections: Vec<_> = (0..60).map(|_| connect(addr)).collect();
        let mut counts = [0; 3];
        connections.iter().for_each(|(_, index)| counts[*index] += 1);
        // Those of one core end: the next ones are its.
        let (gone, kept): (Vec<_>, Vec<_>) = connections.into_iter().partition(|(_, index)| *index == 1);
        let count = gone.len();
        for (mut stream, _) in gone {
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            assert_eq!(stream.read(&mut [0]).unwrap(), 0);
        }
        while core.handle(1).metrics().connections > 0 {
            thread::yield_now();
        }
        let next: Vec<_> = (0..count).map(|_| connect(addr)).collect();
        assert!(next.iter().all(|(_, index)| *index == 1), "{next:?}");
        drop(kept);
        counts
    });
    assert_eq!(counts, [20, 20, 20]);
}

#[test]
fn hash_serves_on_every_core_by_the_same_port() {
    let counts = served(2, Balance::Hash, say, |addr, _| {
        let connections: Vec<_> = (0..200).map(|_| connect(addr)).collect();
        let mut counts = [0; 2];
        connections.iter().for_each(|(_, index)| counts[*index] += 1);
        counts
    });
    assert!(counts[0] + counts[1] == 200 && counts[0] > 20 && counts[1] > 20, "{counts:?}");
}

#[test]
fn the_next_core_accepts_when_the_accepting_server_closes_and_no_connection_is_lost() {
    let name = "the_next_core_accepts_when_the_accepting_server_closes_and_no_connection_is_lost";
    if !in_own_process(name) {
        return;
    }
    let fds = open_fds();
    let (tell, told) = mpsc::channel::<SocketAddr>();
    let (started, served) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let count = served.clone();
    let closed = Arc::new(AtomicBool::new(false));
    let over = closed.clone();
    let client = thread::spawn(move || {
        let addr = told.recv().unwrap();
        let mut answered = 0;
        // Until the last server is closed.
        while let Ok(mut stream) = TcpStream::connect(addr) {
            stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
            // One that connects as the last one closes is accepted by nobody, and the kernel does not always say so.
            let answer = loop {
                match stream.read(&mut [0]) {
                    Err(e) if e.kind() == ErrorKind::WouldBlock && !over.load(Ordering::SeqCst) => {}
                    answer => break answer,
                }
            };
            match answer {
                Ok(1) => answered += 1,
                Ok(_) | Err(_) => break,
            }
        }
        answered
    });
    run_per_core(Cores::Count(3), move |core| {
        let (started, count, tell) = (started.clone(), count.clone(), tell.clone());
        async move {
            let index = core.index();
            let counted = count.clone();
            while started.load(Ordering::SeqCst) < index {
                sleep(Duration::from_millis(1)).await;
            }
            let server = Server::builder()
                .balance(Balance::LeastConnections)
                .start("127.0.0.1:0", move |_, mut writer| {
                    counted.fetch_add(1, Ordering::SeqCst);
                    async move { writer.write_all(vec![index as u8]).await }
                })
                .await
                .unwrap();
            started.fetch_add(1, Ordering::SeqCst);
            // One that started when the others had closed would get a port of its own.
            if index + 1 == core.count() {
                tell.send(server.local_addr().unwrap()).unwrap();
            }
            // One after the other: the first to go is the one that accepts.
            while count.load(Ordering::SeqCst) < 100 * (index + 1) {
                sleep(Duration::from_millis(1)).await;
            }
            drop(server);
        }
    });
    closed.store(true, Ordering::SeqCst);
    let answered = client.join().unwrap();
    assert!(answered > 50, "{answered}");
    assert!(
        served.load(Ordering::SeqCst) - answered <= 1,
        "{served:?} were served, {answered} were answered"
    );
    assert_eq!(open_fds(), fds);
}

#[test]
fn a_mixed_balance_and_the_simulator_are_refused() {
    let handler = |_, _| async { Ok(()) };
    run(async {
        let hash = Server::builder().balance(Balance::Hash).start("127.0.0.1:0", handler).await.unwrap();
        let error = Server::builder()
            .balance(Balance::LeastConnections)
            .start("127.0.0.1:0", handler)
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("Hash"), "{error}");
        // Once it has closed, the address is asked for anew.
        hash.close();
        let least = Server::builder().balance(Balance::LeastConnections);
        drop(least.start("127.0.0.1:0", handler).await.unwrap());
    });
    let mut simulated = Runner::builder().backend(Backend::Sim { seed: 1 }).build().unwrap();
    let refused = simulated.run(Server::builder().balance(Balance::Hash).start("127.0.0.1:0", handler));
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Unsupported);
}

#[test]
fn one_loop_alone_can_share_with_itself() {
    run(async {
        let start = || {
            Server::builder()
                .balance(Balance::LeastConnections)
                .start("127.0.0.1:0", |_, mut writer| async move { writer.write_all("x").await })
        };
        let (first, second) = (start().await.unwrap(), start().await.unwrap());
        let addr = first.local_addr().unwrap();
        assert_eq!(second.local_addr().unwrap(), addr);
        let clients = corio_runtime::to_thread(move || {
            (0..10)
                .map(|_| {
                    let mut stream = TcpStream::connect(addr).unwrap();
                    stream.write_all(b"?").unwrap();
                    stream.read(&mut [0; 8]).unwrap()
                })
                .sum::<usize>()
        });
        assert_eq!(clients.await, 10);
    });
}

#[test]
fn a_handler_that_keeps_one_core_does_not_stall_another() {
    let answered = served(2, Balance::LeastConnections, say_and_answer, |addr, _| {
        // One connection to each core; the first one's handler blocks its thread until it is told.
        let mut streams: Vec<_> = (0..2).map(|_| connect(addr)).collect();
        streams.sort_by_key(|(_, index)| *index);
        let (mut other, _) = streams.pop().unwrap();
        let (mut blocked, _) = streams.pop().unwrap();
        blocked.write_all(b"B").unwrap();
        while !BLOCKED.load(Ordering::SeqCst) {
            thread::yield_now();
        }
        let mut answered = 0;
        for _ in 0..1000 {
            other.write_all(b"?").unwrap();
            answered += other.read(&mut [0; 8]).unwrap();
        }
        assert!(BLOCKED.load(Ordering::SeqCst));
        RELEASED.store(true, Ordering::SeqCst);
        assert_eq!(blocked.read(&mut [0; 8]).unwrap(), 1);
        answered
    });
    assert_eq!(answered, 1000);
}

static BLOCKED: AtomicBool = AtomicBool::new(false);
static RELEASED: AtomicBool = AtomicBool::new(false);

/// Says which core it is, then answers each byte; `B` blocks the loop until it is released.
async fn say_and_answer(index: u8, mut reader: StreamReader, mut writer: StreamWriter) -> io::Result<()> {
    writer.write_all(vec![index]).await?;
    loop {
        let data = reader.read(1).await?;
        if data.is_empty() {
            return Ok(());
        }
        if data == b"B" {
            BLOCKED.store(true, Ordering::SeqCst);
            while !RELEASED.load(Ordering::SeqCst) {
                thread::sleep(Duration::from_millis(1));
            }
        }
        writer.write_all("!").await?;
    }
}

#[test]
fn the_last_server_accepts_when_the_others_close_at_once() {
    run(async {
        let start = |name: &'static str| {
            Server::builder()
                .balance(Balance::LeastConnections)
                .start("127.0.0.1:0", move |_, mut writer| async move { writer.write_all(name).await })
        };
        let servers = (start("a").await.unwrap(), start("b").await.unwrap(), start("c").await.unwrap());
        let addr = servers.2.local_addr().unwrap();
        // The one that accepts, and then the one that is to go on, before it has begun to.
        servers.0.close();
        servers.1.close();
        let (mut reader, _writer) = open_connection(addr).await.unwrap();
        let served = timeout(Duration::from_secs(5), reader.read(1)).await;
        assert_eq!(served.expect("nobody accepts").unwrap(), b"c");
    });
}

#[test]
fn connections_beyond_the_most_wait_to_be_accepted_also_where_one_core_accepts_for_all() {
    const CLIENTS: usize = 300;
    if !in_own_process("connections_beyond_the_most_wait_to_be_accepted_also_where_one_core_accepts_for_all")
    {
        return;
    }
    run(async {
        let start = || {
            let builder = Server::builder().balance(Balance::LeastConnections).max_connections(1);
            builder.start("127.0.0.1:0", |mut reader, mut writer| async move {
                writer.write_all("x").await?;
                while !reader.read(100).await?.is_empty() {}
                Ok(())
            })
        };
        let servers = (start().await.unwrap(), start().await.unwrap());
        let addr = servers.0.local_addr().unwrap();
        sleep(Duration::from_millis(1)).await;
        let fds = open_fds();
        let mut clients = Vec::new();
        while clients.len() < CLIENTS {
            // A few at a time: all that come in one turn are accepted.
            clients.extend((0..10).map(|_| TcpStream::connect(addr).unwrap()));
            sleep(Duration::from_millis(1)).await;
        }
        // One for each server.
        assert_eq!(open_fds() - fds - CLIENTS, 2, "no more are accepted than may be handled");
        // In any order, as two serve them.
        let answers = clients
            .into_iter()
            .map(|client| corio_runtime::to_thread(move || (&client).read(&mut [0]).unwrap()));
        let answered = timeout(Duration::from_secs(20), corio_runtime::gather(answers)).await;
        assert_eq!(answered.expect("not all are served").into_iter().sum::<usize>(), CLIENTS);
    });
}

#[test]
fn the_next_core_accepts_although_the_accepts_of_the_closed_one_end_late() {
    let (started, over) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let served = run_per_core(Cores::Count(2), move |core| {
        let (started, over) = (started.clone(), over.clone());
        async move {
            let index = core.index();
            while started.load(Ordering::SeqCst) < index {
                sleep(Duration::from_millis(1)).await;
            }
            let server = Server::builder()
                .balance(Balance::LeastConnections)
                .max_connections(1)
                .start("127.0.0.1:0", move |reader, writer| say(index as u8, reader, writer))
                .await
                .unwrap();
            started.fetch_add(1, Ordering::SeqCst);
            if index == 1 {
                while !over.load(Ordering::SeqCst) {
                    sleep(Duration::from_millis(1)).await;
                }
                return None;
            }
            while started.load(Ordering::SeqCst) < 2 {
                sleep(Duration::from_millis(1)).await;
            }
            // By now it accepts for both.
            sleep(Duration::from_millis(5)).await;
            let addr = server.local_addr().unwrap();
            server.close();
            // The other one is told meanwhile, and finds these accepts in its way.
            thread::sleep(Duration::from_millis(50));
            let served = corio_runtime::to_thread(move || {
                let mut stream = TcpStream::connect(addr).unwrap();
                stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
                let mut index = [0];
                stream.read_exact(&mut index).map(|()| index[0])
            });
            let served = served.await;
            over.store(true, Ordering::SeqCst);
            Some(served)
        }
    });
    let served = served.into_iter().flatten().next().unwrap();
    assert_eq!(served.expect("nobody accepts"), 1);
}
