//! tokio drives a corio loop on the same thread: `embed_in_tokio [MESSAGE]`.
//!
//! A corio server echoes the message of a tokio client, after a pause on a corio timer. tokio sleeps for both: until
//! the loop's descriptor is readable, or until the loop's next deadline. Each side prints its thread.

use std::{io, net::SocketAddr, thread, time::Duration};

use clap::Parser;
use corio::{
    Handle, Runner, run_coroutine_threadsafe, start_server,
    streams::{Server, StreamReader, StreamWriter},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, Interest, unix::AsyncFd},
    net::TcpStream,
    task::yield_now,
    time::{Instant, sleep_until},
};

/// Sends a message from tokio to corio and back.
#[derive(Parser)]
struct Args {
    /// What to send.
    #[arg(default_value = "hello")]
    message: String,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let args = Args::parse();
    let mut runner = Runner::new()?;
    let home = runner.handle();
    tokio::select! {
        reply = talk(home, &args.message) => println!("tokio's client, on {}, got {}", thread_id(), reply?),
        driven = drive(&mut runner) => driven?,
    }
    runner.close();
    Ok(())
}

/// Runs a turn of the loop whenever it wants one.
async fn drive(runner: &mut Runner) -> io::Result<()> {
    #[allow(deprecated, reason = "what replaces it is unsafe; the descriptor is owned here")]
    let fd = AsyncFd::with_interest(runner.as_fd().try_clone_to_owned()?, Interest::READABLE)?;
    loop {
        if runner.turn(Some(Duration::ZERO))?.is_left() {
            yield_now().await;
            continue;
        }
        let deadline = runner.next_deadline().map(Instant::from_std);
        tokio::select! {
            ready = fd.readable() => ready?.clear_ready(),
            () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {}
        }
    }
}

/// tokio's part: starts the server on the loop, and is its client.
async fn talk(home: Handle, message: &str) -> io::Result<String> {
    let (_server, addr) = run_coroutine_threadsafe(&home, serve).await??;
    let mut stream = TcpStream::connect(addr).await?;
    stream.write_all(message.as_bytes()).await?;
    stream.shutdown().await?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply).await?;
    Ok(reply)
}

/// corio's part.
async fn serve() -> io::Result<(Server, SocketAddr)> {
    let server = start_server("127.0.0.1:0", echo).await?;
    let addr = server.local_addr()?;
    Ok((server, addr))
}

async fn echo(mut reader: StreamReader, mut writer: StreamWriter) -> io::Result<()> {
    println!("corio's server, on {}, has a client", thread_id());
    corio::sleep(Duration::from_millis(100)).await;
    let data = reader.read_to_end().await?;
    writer.write_all(data).await
}

fn thread_id() -> String {
    format!("{:?}", thread::current().id())
}
