//! HTTP as asyncio's documentation has it: a request over `open_connection`, on every kernel.

mod common;

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener as StdListener},
    process::{Child, Command, Stdio},
    thread,
};

use common::{on_every_seed, real_kernels, reports};
use corio_net::{StreamReader, StreamWriter, open_connection, start_server};

const PAGE: &str = "<html>Test page</html>";

/// Gets `/`: the status line, and all behind it.
async fn get(addr: SocketAddr) -> io::Result<(String, String)> {
    let (mut reader, mut writer) = open_connection(addr).await?;
    writer.write("GET / HTTP/1.0\r\n\r\n")?;
    let status = reader.readline().await?;
    let rest = reader.read_to_end().await?;
    assert!(reader.at_eof());
    writer.close();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok((text(&status), text(&rest)))
}

/// Gets the page, and nobody hears of an error.
async fn gets_the_page(addr: SocketAddr) -> io::Result<()> {
    let heard = reports();
    for _ in 0..3 {
        let (status, rest) = get(addr).await?;
        assert!(status.starts_with("HTTP/1.") && status.ends_with(" 200 OK\r\n"), "{status:?}");
        assert!(rest.ends_with(&format!("\r\n\r\n{PAGE}")), "{rest:?}");
    }
    assert!(heard.borrow().is_empty(), "{heard:?}");
    Ok(())
}

/// Python's HTTP server, if there is a Python. It ends with its standard input.
fn pythons_server() -> Option<(Child, SocketAddr)> {
    const SERVER: &str = "
import http.server, sys, threading
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(sys.argv[1].encode())
    def log_message(self, *_):
        pass
server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Page)
threading.Thread(target=server.serve_forever, daemon=True).start()
print(server.server_address[1], flush=True)
sys.stdin.read()
";
    let mut python = Command::new("python3");
    python.args(["-c", SERVER, PAGE]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = python.spawn().ok()?;
    let mut port = String::new();
    BufReader::new(child.stdout.take()?).read_line(&mut port).ok()?;
    match port.trim().parse::<u16>() {
        Ok(port) => Some((child, SocketAddr::from(([127, 0, 0, 1], port)))),
        Err(_) => {
            let _ = child.wait();
            None
        }
    }
}

#[test]
fn str_01_a_page_of_pythons_server() {
    let Some((mut python, addr)) = pythons_server() else { return eprintln!("no python3 on this machine") };
    for backend in real_kernels() {
        common::on(backend).run(gets_the_page(addr)).unwrap_or_else(|e| panic!("{backend:?}: {e}"));
    }
    drop(python.stdin.take());
    python.wait().unwrap();
}

#[test]
fn str_01_a_page_of_a_server_of_threads() {
    let listener = StdListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let kernels = real_kernels();
    let requests = 3 * kernels.len();
    let server = thread::spawn(move || {
        for _ in 0..requests {
            let mut client = listener.accept()?.0;
            let mut request = BufReader::new(client.try_clone()?);
            let mut line = String::new();
            while request.read_line(&mut line)? > 2 {
                line.clear();
            }
            write!(client, "HTTP/1.0 200 OK\r\nServer: threads\r\n\r\n{PAGE}")?;
            client.shutdown(std::net::Shutdown::Write)?;
            // The client closes first.
            client.read_to_end(&mut Vec::new())?;
        }
        io::Result::Ok(())
    });
    for backend in kernels {
        common::on(backend).run(gets_the_page(addr)).unwrap_or_else(|e| panic!("{backend:?}: {e}"));
    }
    server.join().unwrap().unwrap();
}

/// Serves the page.
async fn page(mut reader: StreamReader, mut writer: StreamWriter) -> io::Result<()> {
    assert_eq!(reader.readuntil(b"\r\n\r\n").await?, b"GET / HTTP/1.0\r\n\r\n");
    writer.write("HTTP/1.0 200 OK\r\n")?;
    writer.write_all(format!("Server: corio\r\n\r\n{PAGE}")).await
}

#[test]
fn str_01_a_page_of_our_own_server() {
    on_every_seed(8, common::every_fault(), async || {
        let server = start_server("127.0.0.1:0", page).await?;
        gets_the_page(server.local_addr()?).await
    });
}
