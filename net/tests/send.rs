//! The handles, and the futures of their methods, are `Send`.

use corio_net::{Chunk, Server, Stream, StreamReader, StreamWriter, TcpListener, TcpStream, open_connection};

fn send<T: Send>(_: T) {}

/// Compiled, never run.
#[allow(dead_code, reason = "that it compiles is the test")]
fn futures(
    mut reader: StreamReader,
    mut writer: StreamWriter,
    server: &Server,
    listener: &TcpListener,
    mut stream: TcpStream,
) {
    send(reader.read(1));
    send(reader.read_into(&mut [0]));
    send(reader.readline());
    send(reader.readexactly(1));
    send(reader.readuntil(b"\n"));
    send(reader.read_to_end());
    send(writer.write_all("x"));
    send(writer.drain());
    send(writer.flush());
    send(writer.wait_closed());
    send(server.serve_forever());
    send(server.wait_closed());
    send(server.shutdown(std::time::Duration::ZERO));
    send(listener.accept());
    send(stream.read(Vec::new()));
    send(stream.write_all(Vec::new()));
    send(open_connection("localhost:80"));
    send(TcpStream::connect("localhost:80"));
    send(TcpListener::bind("localhost:80"));
}

#[test]
fn handles_are_send() {
    fn is_send<T: Send>() {}
    is_send::<Stream>();
    is_send::<StreamReader>();
    is_send::<StreamWriter>();
    is_send::<Server>();
    is_send::<Chunk>();
    is_send::<TcpListener>();
    is_send::<TcpStream>();
}

#[test]
fn a_stream_used_elsewhere_says_so_and_one_dropped_elsewhere_is_released_at_home() {
    corio_runtime::run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (mut reader, mut writer) = open_connection(listener.local_addr().unwrap()).await.unwrap();
        let (mut stream, _) = listener.accept().await.unwrap();
        std::thread::spawn(move || {
            let write = writer.write(b"x").unwrap_err();
            let read = corio_runtime::run(reader.read(1)).unwrap_err();
            for error in [write, read] {
                assert!(error.to_string().contains("different loop"), "{error}");
            }
        })
        .join()
        .unwrap();
        // Both ends were dropped there: the connection closes here.
        assert_eq!(stream.read(vec![0; 8]).await.0.unwrap(), 0);
    });
}
