//! Facts about tasks (S2 current_task, all_tasks).

mod clock;

use clock::log;
use corio::{all_tasks, current_task};

#[corio::main]
async fn main() {
    log("start");
    if let Some(task) = current_task() {
        println!("{task}");
    }
    println!("{}", all_tasks().iter().map(ToString::to_string).collect::<Vec<_>>().join(", "));
    log("end");
}
