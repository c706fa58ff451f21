//! A server whose handlers fail one after the other; its reports are printed.

mod common;

use std::{io, process::Stdio, thread, time::Duration};

use common::{assert_passed, child, is_child, run};
use corio_net::{StreamReader, StreamWriter, open_connection, start_server};

async fn fails(_: StreamReader, mut writer: StreamWriter) -> io::Result<()> {
    writer.write_all("hello\n").await?;
    Err(io::Error::new(io::ErrorKind::InvalidData, "not what was asked for"))
}

#[test]
fn six_hundred_failing_handlers_do_not_stop_a_server_whose_stderr_nobody_reads() {
    const TEST: &str = "six_hundred_failing_handlers_do_not_stop_a_server_whose_stderr_nobody_reads";
    if is_child(TEST) {
        return run(async {
            let server = start_server("127.0.0.1:0", fails).await.unwrap();
            for _ in 0..600 {
                let (mut reader, _writer) = open_connection(server.local_addr().unwrap()).await.unwrap();
                assert_eq!(reader.read_to_end().await.unwrap(), b"hello\n");
            }
        });
    }
    let (read, write) = io::pipe().unwrap();
    let mut command = child(TEST);
    let mut running = command.stdout(Stdio::piped()).stderr(write).spawn().unwrap();
    drop(command);
    for _ in 0..1200 {
        if running.try_wait().unwrap().is_some() {
            break;
        }
        thread::sleep(Duration::from_millis(100));
    }
    let _ = running.kill();
    let mut output = running.wait_with_output().unwrap();
    let told = io::read_to_string(read).unwrap();
    output.stderr = told.clone().into_bytes();
    assert_passed(TEST, &output);
    // Once for each second that it took, at most, beside the first ones.
    let lines = told.lines().filter(|line| line.contains("not what was asked for")).count();
    assert!((11..300).contains(&lines), "{told}");
    assert!(told.contains(" more reports were suppressed, the last of them: "), "{told}");
}
