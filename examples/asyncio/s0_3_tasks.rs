//! Two concurrent tasks (S0 example3).

mod clock;

use clock::{log, say};
use corio::{TaskError, create_task};

#[corio::main]
async fn main() -> Result<(), TaskError> {
    log("start");
    let a = create_task(say(2, "hello"));
    let b = create_task(say(1, "world"));
    a.await?;
    b.await?;
    log("end");
    Ok(())
}
