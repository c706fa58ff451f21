//! Two ends of a socket pair answer each other and block the loop meanwhile (S3 sample11).

use std::{
    io,
    os::{fd::OwnedFd, unix::net::UnixStream},
    time::Duration,
};

use corio::{create_task, net::TcpStream};

const ROUNDS: usize = 3;

async fn answer(mut socket: TcpStream, text: &'static str, answers: usize) -> io::Result<()> {
    for round in 0..ROUNDS {
        let (count, data) = socket.read(vec![0; 100]).await;
        println!("{}", String::from_utf8_lossy(&data[..count?]));
        // The point of the sample: no other task runs while this sleeps.
        std::thread::sleep(Duration::from_millis(20));
        if round < answers {
            socket.write_all(text.as_bytes().to_vec()).await.0?;
        }
    }
    Ok(())
}

#[corio::main]
async fn main() -> io::Result<()> {
    let (a, b) = UnixStream::pair()?;
    let (mut ping, pong) = (stream(a)?, stream(b)?);
    ping.write_all(b"Ping".to_vec()).await.0?;
    let pong = create_task(answer(pong, "Pong", ROUNDS));
    answer(ping, "Ping", ROUNDS - 1).await?;
    pong.await?
}

/// One end of a socket pair as a stream.
fn stream(socket: UnixStream) -> io::Result<TcpStream> {
    TcpStream::try_from(std::net::TcpStream::from(OwnedFd::from(socket)))
}
