//! An open socket becomes a pair of streams (S3 sample13).

use std::{
    io::{self, Write},
    os::{fd::OwnedFd, unix::net::UnixStream},
};

use corio::{event_loop::call_soon, net::TcpStream};

#[corio::main]
async fn main() -> io::Result<()> {
    let (ours, mut theirs) = UnixStream::pair()?;
    let (mut reader, mut writer) = stream(ours)?.into_streams();
    call_soon(move || drop(theirs.write_all(b"abc")));
    let data = reader.read(100).await?;
    println!("Received: {}", String::from_utf8_lossy(&data));
    writer.close();
    writer.wait_closed().await
}

/// One end of a socket pair as a stream.
fn stream(socket: UnixStream) -> io::Result<TcpStream> {
    TcpStream::try_from(std::net::TcpStream::from(OwnedFd::from(socket)))
}
