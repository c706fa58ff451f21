//! Runs shell commands concurrently, and names each line's command: `subprocess 'ls /' 'sleep 1; exit 3'`. The exit
//! status is that of the first command that failed.

use std::{io, process::ExitCode};

use clap::Parser;
use corio::{
    gather,
    streams::StreamReader,
    subprocess::{Command, Stdio},
};

/// Runs shell commands side by side.
#[derive(Parser)]
struct Args {
    /// The commands.
    #[arg(required = true)]
    commands: Vec<String>,
}

/// Prints the lines of a command as they come.
async fn show(number: usize, mut lines: StreamReader) -> io::Result<()> {
    loop {
        let line = lines.readline().await?;
        if line.is_empty() {
            return Ok(());
        }
        println!("[{number}] {}", String::from_utf8_lossy(&line).trim_end());
    }
}

/// Runs one command. Returns its exit status, or minus the number of the signal that ended it.
async fn execute(number: usize, command: &str) -> io::Result<i32> {
    let mut shell = Command::shell(command);
    // Ctrl-C drops this future, and so the processes.
    shell.stdin(Stdio::DevNull).stdout(Stdio::Pipe).stderr(Stdio::Stdout).kill_on_drop(true);
    let mut process = shell.spawn().await?;
    if let Some(stdout) = process.stdout.take() {
        show(number, stdout).await?;
    }
    let status = process.wait().await?;
    println!("[{number}] ended with {status}");
    Ok(status)
}

#[corio::main]
async fn main() -> io::Result<ExitCode> {
    let args = Args::parse();
    let runs = args.commands.iter().enumerate().map(|(n, command)| execute(n + 1, command));
    for status in gather(runs).await {
        match status? {
            0 => {}
            // As in a shell.
            signal if signal < 0 => return Ok(ExitCode::from(u8::try_from(128 - signal).unwrap_or(1))),
            status => return Ok(ExitCode::from(u8::try_from(status).unwrap_or(1))),
        }
    }
    Ok(ExitCode::SUCCESS)
}
