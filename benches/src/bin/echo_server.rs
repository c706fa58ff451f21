//! The echo server of the comparison with other runtimes: `echo_server PORT`.

use std::io;

fn main() -> io::Result<()> {
    let Some(port) = std::env::args().nth(1).and_then(|port| port.parse::<u16>().ok()) else {
        eprintln!("usage: echo_server PORT");
        std::process::exit(2);
    };
    corio::run(async move {
        let server = corio::start_server(("127.0.0.1", port), |mut reader, mut writer| async move {
            loop {
                let data = reader.read(256 * 1024).await?;
                if data.is_empty() {
                    return Ok(());
                }
                writer.write(data)?;
                writer.drain().await?;
            }
        })
        .await?;
        server.serve_forever().await
    })
}
