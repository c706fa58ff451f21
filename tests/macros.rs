//! `#[corio::main]` and `#[corio::test]`.

use std::{io, time::Duration};

mod program {
    /// A `main` that is called as a function.
    #[corio::main]
    pub(crate) async fn main() -> Result<u32, std::num::ParseIntError> {
        corio::yield_now().await;
        let n: u32 = "42".parse()?;
        Ok(n)
    }
}

mod unit_program {
    #[corio::main]
    pub(crate) async fn main() {
        corio::yield_now().await;
    }
}

#[test]
fn main_gives_its_result() {
    assert_eq!(program::main(), Ok(42));
    unit_program::main();
}

#[corio::test]
async fn a_test_runs_on_a_loop() {
    assert_eq!(corio::create_task(async { 7 }).await.unwrap(), 7);
    assert!(corio::current_task().is_some());
}

#[corio::test]
async fn a_test_may_return_a_result() -> io::Result<()> {
    corio::timeout(Duration::from_secs(10), corio::yield_now()).await?;
    if corio::current_task().is_none() {
        return Err(io::Error::other("no task"));
    }
    Ok(())
}

#[corio::test]
#[should_panic(expected = "keeps its other attributes")]
async fn a_test_keeps_its_other_attributes() {
    corio::yield_now().await;
    panic!("keeps its other attributes");
}

#[corio::test(sim = 42)]
async fn a_simulated_test_has_virtual_time() {
    let before = corio::time::now();
    std::thread::sleep(Duration::from_millis(2));
    corio::yield_now().await;
    assert_eq!(corio::time::now(), before, "the virtual clock stands still while the loop works");
}
