//! A callback sends data through a socket pair (S3 sample10).

use std::{
    io::{self, Write},
    os::{fd::OwnedFd, unix::net::UnixStream},
};

use corio::{event_loop::call_soon, net::TcpStream};

#[corio::main]
async fn main() -> io::Result<()> {
    let (ours, mut theirs) = UnixStream::pair()?;
    let mut reading = stream(ours)?;
    call_soon(move || drop(theirs.write_all(b"abc")));
    let (count, data) = reading.read(vec![0; 100]).await;
    println!("Received: {}", String::from_utf8_lossy(&data[..count?]));
    Ok(())
}

/// One end of a socket pair as a stream.
fn stream(socket: UnixStream) -> io::Result<TcpStream> {
    TcpStream::try_from(std::net::TcpStream::from(OwnedFd::from(socket)))
}
