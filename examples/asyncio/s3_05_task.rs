//! An async function runs when it is awaited (S3 sample05).

async fn hello_world() {
    println!("Hello World");
}

#[corio::main]
async fn main() {
    hello_world().await;
}
