//! Low-level listeners and connections with owned buffers, for protocol implementations.

use std::{future::poll_fn, io, net::SocketAddr, os::fd::OwnedFd, sync::Arc};

use corio_runtime::{fd::Fd, socket::ListenOptions};

use crate::{
    addr::ToSocketAddrs,
    connect::Connection,
    listener::{Facts, ListenerKey},
    server::listen_first,
    streams::{Addrs, DEFAULT_LIMIT, Origin, OwnedReceive, StreamReader, StreamWriter, TABLE},
};

/// A listening TCP socket. It accepts up to 128 connections ahead, into a queue. When it is dropped, or its loop ends,
/// the queued connections are reset.
#[derive(Debug)]
#[must_use = "a dropped TcpListener stops listening at once"]
pub struct TcpListener {
    key: ListenerKey,
    facts: Arc<Facts>,
}

impl TcpListener {
    /// Listens on `addr`, with `SO_REUSEADDR` and a backlog of 1024.
    ///
    /// # Errors
    /// The kernel's error, with the address in the text.
    pub async fn bind(addr: impl ToSocketAddrs) -> io::Result<TcpListener> {
        let target = addr.target();
        let options = ListenOptions {
            backlog: 1024,
            reuse_addr: true,
            reuse_port: false,
            nodelay: true,
            v6_only: false,
        };
        let fd = listen_first(target.addresses().await?, options)?;
        let (key, facts) = ListenerKey::new(fd, usize::MAX, true)?;
        key.begin()?;
        Ok(TcpListener { key, facts })
    }

    /// The next connection, and its peer's address. `TCP_NODELAY` is on.
    ///
    /// Dropping the future loses no connection: it only waits for the listener's queue. Several tasks may accept at
    /// once. A connection that its peer has reset meanwhile is returned, too: its first read fails.
    ///
    /// ```
    /// use corio_net::{TcpListener, TcpStream};
    /// corio_runtime::run(async {
    ///     let listener = TcpListener::bind("127.0.0.1:0").await?;
    ///     let client = TcpStream::connect(listener.local_addr()?).await?;
    ///     let (_stream, peer) = listener.accept().await?;
    ///     assert_eq!(peer, client.local_addr()?);
    ///     std::io::Result::Ok(())
    /// }).unwrap();
    /// ```
    ///
    /// # Errors
    /// If the listening socket fails. Lack of descriptors is no error: the listener waits for some.
    pub async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        loop {
            let accepted = self.key.accept().await?;
            if let Some(peer) = accepted.peer {
                let addrs = accepted.addrs(&self.facts);
                return Ok((TcpStream::from_fd(accepted.fd, addrs), peer));
            }
        }
    }

    /// The address it listens on. Works on any thread.
    ///
    /// # Errors
    /// Once its loop has ended.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.facts.open_addr()
    }
}

impl Drop for TcpListener {
    fn drop(&mut self) {
        self.key.release();
    }
}

/// A TCP connection whose reads and writes take a buffer and give it back.
///
/// Dropping it closes the connection, after everything written is sent.
#[derive(Debug)]
pub struct TcpStream {
    reader: StreamReader,
    writer: StreamWriter,
}

impl TcpStream {
    /// Connects, as [`open_connection`](crate::open_connection) does.
    pub async fn connect(addr: impl ToSocketAddrs) -> io::Result<TcpStream> {
        let (fd, addrs) = Connection::builder().connect_fd(addr).await?;
        Ok(TcpStream::from_fd(fd, addrs))
    }

    fn from_fd(fd: Fd, addrs: Addrs) -> TcpStream {
        let (reader, writer) =
            TABLE.with(|streams| streams.open(fd, addrs, DEFAULT_LIMIT, false, Origin::Connected));
        TcpStream { reader, writer }
    }

    /// Reads up to `buf.len()` bytes into `buf`; straight from the kernel if nothing had arrived before. Returns 0 at
    /// the end of the stream, or if `buf` is empty.
    ///
    /// A dropped future loses the buffer, but no data: the next read gets what arrives. (If the buffer then panics, or
    /// gives a shorter slice than before, that read fails with `EIO`.) If `as_mut` panics before anything was received,
    /// the connection stays as it was.
    ///
    /// ```
    /// use corio_net::{TcpListener, TcpStream};
    /// corio_runtime::run(async {
    ///     let listener = TcpListener::bind("127.0.0.1:0").await?;
    ///     let mut client = TcpStream::connect(listener.local_addr()?).await?;
    ///     let (mut stream, _) = listener.accept().await?;
    ///     let (sent, _) = client.write_all(b"hello").await;
    ///     sent?;
    ///     let (n, buf) = stream.read(vec![0; 64]).await;
    ///     assert_eq!(&buf[..n?], b"hello");
    ///     std::io::Result::Ok(())
    /// }).unwrap();
    /// ```
    pub async fn read<B: AsMut<[u8]> + 'static>(&mut self, mut buf: B) -> (io::Result<usize>, B) {
        loop {
            let ready = poll_fn(|cx| self.reader.poll_owned(cx, buf.as_mut())).await;
            match ready {
                Ok(Some(n)) => return (Ok(n), buf),
                Err(e) => return (Err(e), buf),
                Ok(None) => {}
            }
            let receiving = match self.reader.receive_into(buf) {
                OwnedReceive::Started(op) => op,
                OwnedReceive::Over(result, buf) => return (result, buf),
                OwnedReceive::Changed(back) => {
                    buf = back;
                    continue;
                }
            };
            let (done, back) = receiving.await;
            match done {
                // Cancelled or interrupted: nothing was received, and the stream is fine.
                Err(e) if e.kind() == io::ErrorKind::Interrupted => buf = back,
                result => return (result, back),
            }
        }
    }

    /// Writes all of `buf` and waits until the kernel has taken it. After the first poll all of it is sent, in order,
    /// even if the future is dropped.
    pub async fn write_all<B: AsRef<[u8]>>(&mut self, buf: B) -> (io::Result<()>, B) {
        if let Err(e) = self.writer.write(buf.as_ref()) {
            return (Err(e), buf);
        }
        (self.writer.flush().await, buf)
    }

    /// The peer's address.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.writer.peer_addr()
    }

    /// The local address.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.writer.local_addr()
    }

    /// Half-closes the connection once everything written is sent.
    pub fn write_eof(&mut self) -> io::Result<()> {
        self.writer.write_eof()
    }

    /// The connection as a buffered reader and writer.
    pub fn into_streams(self) -> (StreamReader, StreamWriter) {
        self.reader.read_ahead();
        (self.reader, self.writer)
    }
}

impl TryFrom<std::net::TcpStream> for TcpStream {
    type Error = io::Error;

    /// The socket's options stay as they are: `TCP_NODELAY` is off by default.
    ///
    /// # Errors
    /// Outside a running loop.
    fn try_from(stream: std::net::TcpStream) -> io::Result<TcpStream> {
        let fd = Fd::from(OwnedFd::from(stream));
        let addrs = Addrs::of(&fd);
        let opened =
            TABLE.try_with(|streams| streams.open(fd, addrs, DEFAULT_LIMIT, false, Origin::Connected));
        let (reader, writer) = opened.ok_or_else(|| io::Error::other("no running event loop"))?;
        Ok(TcpStream { reader, writer })
    }
}
