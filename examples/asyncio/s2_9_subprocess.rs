//! Waiting for a subprocess does not block the loop (S2 subprocess).

mod clock;

use std::io;

use clock::{log, thread};
use corio::create_subprocess_shell;

#[corio::main]
async fn main() -> io::Result<()> {
    log(thread());
    let process = create_subprocess_shell("sleep 1").await?;
    process.wait().await?;
    log(thread());
    Ok(())
}
