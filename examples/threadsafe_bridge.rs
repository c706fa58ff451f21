//! Other threads call into a loop: `threadsafe_bridge`.
//!
//! A plain thread schedules a callback on the loop, and blocks until a coroutine there is done, or until a timeout. A
//! thread with a tokio runtime awaits such a coroutine like any other future. Each thread prints its results.

use std::{io, thread, time::Duration};

use corio::{
    Handle, event_loop, run_coroutine_threadsafe, sleep,
    task::{ConcurrentError, ConcurrentFuture},
    to_thread,
};

#[corio::main]
async fn main() -> io::Result<()> {
    let home = event_loop::handle();
    let plain = thread::spawn(move || plain_thread(home));
    let tokio = thread::spawn(move || tokio_thread(home));
    // Joined by a pool thread, so that the loop can answer them meanwhile.
    to_thread(|| plain.join().expect("the plain thread panicked")).await?;
    to_thread(|| tokio.join().expect("tokio's thread panicked")).await
}

/// A coroutine on the loop: returns a value after `delay`.
fn delayed(home: &Handle, delay: Duration, value: i32) -> ConcurrentFuture<i32> {
    run_coroutine_threadsafe(home, move || async move {
        sleep(delay).await;
        value
    })
}

fn plain_thread(home: Handle) -> io::Result<()> {
    home.call_soon_threadsafe(|| println!("the loop got a callback of the plain thread"))?;
    let value = delayed(&home, Duration::from_millis(10), 3).result(Some(Duration::from_secs(60)))?;
    println!("the plain thread got {value}");

    let mut slow = delayed(&home, Duration::from_secs(3600), 4);
    if let Err(e @ ConcurrentError::TimedOut) = slow.result(Some(Duration::from_millis(10))) {
        println!("the plain thread got no value: {e}");
        slow.cancel();
    }
    if let Err(e) = slow.result(None) {
        println!("the plain thread got no value: {e}");
    }
    Ok(())
}

fn tokio_thread(home: Handle) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let (sooner, later) = runtime.block_on(async {
        // tokio's tasks await them concurrently.
        let later = tokio::spawn(delayed(&home, Duration::from_millis(20), 6));
        let sooner = tokio::spawn(delayed(&home, Duration::from_millis(10), 5));
        io::Result::Ok((sooner.await??, later.await??))
    })?;
    println!("tokio got {sooner} and {later}");
    Ok(())
}
