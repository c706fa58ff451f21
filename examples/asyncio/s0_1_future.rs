//! Calling an async function runs nothing (S0 example1).

async fn hello() {
    println!("this line never appears");
}

fn main() {
    let future = hello();
    println!("{}: not started", std::any::type_name_of_val(&future));
    drop(future);
}
