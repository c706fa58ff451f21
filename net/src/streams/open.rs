//! New streams, with their handles.

use corio_runtime::fd::Fd;

use super::{
    addrs::Addrs, input_claim::InputClaim, reader::StreamReader, receive_state::BULK_START, slot::Origin,
    table::Streams, writer::StreamWriter,
};
use crate::ops::Way;

impl Streams {
    /// A new stream on `fd`. `ahead` arms its receive at once. An accepted stream's slot also serves its handler.
    pub(crate) fn open(
        &self,
        fd: Fd,
        addrs: Addrs,
        limit: usize,
        ahead: bool,
        origin: Origin,
    ) -> (StreamReader, StreamWriter) {
        let key = self.insert(fd, limit, |common, slot| {
            (slot.ahead, slot.listener) = (ahead, origin.listener());
            slot.handler = origin != Origin::Connected;
            slot.arm_receive(common);
        });
        (StreamReader::new(key), StreamWriter::new(key, addrs))
    }

    /// The reading end of a pipe, or what is used as one.
    pub(crate) fn open_read_pipe(
        &self,
        fd: Fd,
        limit: usize,
        way: Way,
        claim: Option<InputClaim>,
    ) -> StreamReader {
        let key = self.insert(fd, limit, |_, slot| {
            (slot.way, slot.one_way) = (way, true);
            slot.writer = false;
            if way == Way::Thread {
                slot.receive.bulk = BULK_START;
            }
            if claim.is_some() {
                slot.make_ending().claim = claim;
            }
        });
        StreamReader::new(key)
    }

    /// The writing end of a pipe, or what is used as one.
    pub(crate) fn open_write_pipe(&self, fd: Fd, way: Way) -> StreamWriter {
        let key = self.insert(fd, 0, |_, slot| {
            (slot.way, slot.one_way) = (way, true);
            slot.reader = false;
            slot.receive.discarded = true;
        });
        StreamWriter::new(key, Addrs::None)
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, rc::Rc, time::Duration};

    use corio_runtime::{Backend, Runner};
    use nix::sys::socket::{GetSockOpt, getsockopt, sockopt};

    use super::*;
    use crate::{Connection, ConnectionBuilder, Server, ServerBuilder, TcpListener, TcpStream};

    fn on_both(test: impl AsyncFn()) {
        for backend in [Backend::Uring, Backend::Epoll] {
            if let Ok(mut runner) = Runner::builder().backend(backend).build() {
                runner.run(test());
            }
        }
    }

    fn option<O: GetSockOpt>(writer: &StreamWriter, option: O) -> O::Val {
        let fd = writer.key.with(|_, slot| slot.fd.clone()).unwrap().unwrap();
        getsockopt(&fd.as_fd().unwrap(), option).unwrap()
    }

    /// The writers of a connection: the server's, and the client's.
    async fn pair(server: ServerBuilder, client: ConnectionBuilder) -> (StreamWriter, StreamWriter) {
        let accepted = Rc::new(RefCell::new(None));
        let its = accepted.clone();
        let server = server.start("127.0.0.1:0", move |_, writer| {
            its.replace(Some(writer));
            std::future::pending()
        });
        let server = server.await.unwrap();
        let (_reader, writer) = client.connect(server.local_addr().unwrap()).await.unwrap();
        while accepted.borrow().is_none() {
            corio_runtime::yield_now().await;
        }
        let accepted = accepted.take().unwrap();
        (accepted, writer)
    }

    #[test]
    fn tr_20_small_writes_leave_at_once_on_every_stream_by_default() {
        on_both(async || {
            let (accepted, connected) = pair(Server::builder(), Connection::builder()).await;
            assert!(option(&accepted, sockopt::TcpNoDelay) && option(&connected, sockopt::TcpNoDelay));
            let late = pair(Server::builder().nodelay(false), Connection::builder().nodelay(false)).await;
            assert!(!option(&late.0, sockopt::TcpNoDelay) && !option(&late.1, sockopt::TcpNoDelay));
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let connected = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            for stream in [connected, listener.accept().await.unwrap().0] {
                assert!(option(&stream.into_streams().1, sockopt::TcpNoDelay));
            }
        });
    }

    #[test]
    fn srv_25_keepalive_is_an_option_and_off_by_default() {
        on_both(async || {
            let asks = Server::builder().keepalive(Duration::from_secs(60));
            let (accepted, connected) = pair(asks, Connection::builder()).await;
            assert!(option(&accepted, sockopt::KeepAlive) && !option(&connected, sockopt::KeepAlive));
            assert_eq!(option(&accepted, sockopt::TcpKeepCount), 3);
            let seconds = Duration::from_secs;
            let table = [
                (seconds(60), (60, 20)),
                (Duration::ZERO, (1, 1)),
                (seconds(40_000), (32767, 13333)),
                (Duration::MAX, (32767, 32767)),
            ];
            for (idle, expected) in table {
                let server = Server::builder().keepalive(idle);
                let (accepted, _connected) = pair(server, Connection::builder()).await;
                let times =
                    (option(&accepted, sockopt::TcpKeepIdle), option(&accepted, sockopt::TcpKeepInterval));
                assert_eq!(times, expected, "{idle:?}");
            }
            let (accepted, _connected) = pair(Server::builder(), Connection::builder()).await;
            assert!(!option(&accepted, sockopt::KeepAlive), "the default");
        });
    }
}
