//! A stream or listener that is always ready does not starve the loop.

mod common;

use std::{cell::Cell, future::Future, io, rc::Rc};

use corio_net::{StreamReader, StreamWriter, TcpListener, open_connection};
use corio_runtime::{
    Faults,
    channel::channel,
    create_task,
    time::{Duration, sleep},
    yield_now,
};

/// Of what was buffered already a step may take the rest of an earlier step's share, and its own.
const SHARES: usize = 2 * 128;

fn on_every(program: impl AsyncFn() -> io::Result<()>) {
    common::on_every_seed(1, Faults::default(), program);
}

/// Runs `source`, which counts in the cell that it is given; the most in one turn.
async fn most_in_a_turn<F: Future<Output = ()> + 'static>(
    source: impl FnOnce(Rc<Cell<usize>>) -> F,
) -> usize {
    let (taken, most) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
    let (seen, noted) = (taken.clone(), most.clone());
    let looks_on = create_task(async move {
        loop {
            let before = seen.get();
            yield_now().await;
            noted.set(noted.get().max(seen.get() - before));
        }
    });
    create_task(source(taken)).await.unwrap();
    looks_on.cancel();
    most.get()
}

/// A reader to which 60,000 bytes have come: 30,000 lines.
async fn lines() -> io::Result<(StreamReader, StreamWriter, StreamWriter)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let (reader, ours) = open_connection(listener.local_addr()?).await?;
    let mut theirs = listener.accept().await?.0.into_streams().1;
    theirs.write_all(b"x\n".repeat(30_000)).await?;
    theirs.flush().await?;
    while !format!("{reader:?}").contains("60000") {
        sleep(Duration::from_millis(1)).await;
    }
    Ok((reader, ours, theirs))
}

type Reads = fn(StreamReader, Rc<Cell<usize>>) -> std::pin::Pin<Box<dyn Future<Output = ()>>>;

const READS: [Reads; 5] = [
    |mut reader, taken| {
        Box::pin(async move {
            for _ in 0..30_000 {
                assert_eq!(reader.readline().await.unwrap(), b"x\n");
                taken.set(taken.get() + 1);
            }
        })
    },
    |mut reader, taken| {
        Box::pin(async move {
            for _ in 0..30_000 {
                assert_eq!(reader.readexactly(2).await.unwrap(), b"x\n");
                taken.set(taken.get() + 1);
            }
        })
    },
    |mut reader, taken| {
        Box::pin(async move {
            for _ in 0..30_000 {
                assert_eq!(reader.readuntil(b"\n").await.unwrap(), b"x\n");
                taken.set(taken.get() + 1);
            }
        })
    },
    |mut reader, taken| {
        Box::pin(async move {
            for _ in 0..30_000 {
                assert_eq!(reader.read(2).await.unwrap(), b"x\n");
                taken.set(taken.get() + 1);
            }
        })
    },
    |mut reader, taken| {
        Box::pin(async move {
            let mut line = [0; 2];
            for _ in 0..30_000 {
                assert_eq!((reader.read_into(&mut line).await.unwrap(), &line), (2, b"x\n"));
                taken.set(taken.get() + 1);
            }
        })
    },
];

#[test]
fn reads_of_what_has_arrived_leave_the_loop_to_others_and_lose_nothing() {
    on_every(async || {
        for read in READS {
            let (reader, _ours, _theirs) = lines().await?;
            let most = most_in_a_turn(|taken| read(reader, taken)).await;
            assert!((128..=SHARES).contains(&most), "{most} in a turn");
        }
        Ok(())
    });
}

#[test]
fn accepts_count_with_whatever_else_a_step_takes() {
    const CLIENTS: usize = 100;
    on_every(async || {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let addr = listener.local_addr()?;
        let mut clients = Vec::new();
        for _ in 0..CLIENTS {
            clients.push(open_connection(addr).await?);
        }
        sleep(Duration::from_millis(20)).await;
        let (sender, mut receiver) = channel(100);
        (0..100).for_each(|n| sender.try_send(n).unwrap());
        let most = most_in_a_turn(|taken| async move {
            for _ in 0..100 {
                receiver.recv().await.unwrap();
                taken.set(taken.get() + 1);
            }
            for _ in 0..CLIENTS {
                drop(listener.accept().await.unwrap());
                taken.set(taken.get() + 1);
            }
        });
        assert_eq!(most.await, 128);
        Ok(())
    });
}
