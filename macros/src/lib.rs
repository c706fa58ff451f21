//! The `#[corio::main]` and `#[corio::test]` attributes, and the macros `select!`, `join!` and `try_join!`.
//!
//! Applications use them through the facade crate `corio`, which the generated code refers to.
#![forbid(unsafe_code)]

mod join;
mod pattern;
mod select;

use proc_macro::TokenStream;
use proc_macro2::TokenStream as TokenStream2;
use quote::quote;
use syn::{
    Error, Expr, ItemFn, Lit, LitInt, Meta, Result, Token, parse::Parser, parse_macro_input,
    punctuated::Punctuated, spanned::Spanned,
};

/// Runs an async `main` on a new loop: its body becomes the argument of `corio::run`.
///
/// The return type may be any that `main` may have.
///
/// ```
/// #[corio::main]
/// async fn main() -> std::io::Result<()> {
///     corio::sleep(std::time::Duration::from_millis(1)).await;
///     Ok(())
/// }
/// ```
///
/// `main` must be `async`:
/// ```compile_fail
/// #[corio::main]
/// fn main() {}
/// ```
///
/// With `cores = "all"`, or a number of cores, each of them gets a loop (`corio::run_on_cores`): `main` runs on the
/// first one, and the others take work until it ends. The return type of `main` must be `'static` then.
/// ```
/// #[corio::main(cores = 2)]
/// async fn main() {
///     let second = corio::current_core().unwrap().handle(1);
///     let there = corio::run_coroutine_threadsafe(&second, || async { corio::current_core().unwrap().index() });
///     assert_eq!(there.await.unwrap(), 1);
/// }
/// ```
///
/// Other arguments are refused:
/// ```compile_fail
/// #[corio::main(cores = "some")]
/// async fn main() {}
/// ```
#[proc_macro_attribute]
pub fn main(options: TokenStream, item: TokenStream) -> TokenStream {
    let function = parse_macro_input!(item as ItemFn);
    expand(&function, main_options(options.into()), "main", &TokenStream2::new())
}

/// Runs an async test on a loop of its own.
///
/// The function's result decides: a panic or an `Err` fails the test. Other attributes, such as `#[should_panic]` and
/// `#[ignore]`, keep their meaning. Remaining tasks are cancelled at the end, as by `corio::run`.
///
/// ```
/// #[corio::test]
/// async fn a_task_gives_its_value() {
///     assert_eq!(corio::create_task(async { 7 }).await.unwrap(), 7);
/// }
/// ```
///
/// With `sim = SEED` (an integer) it runs on the simulator, in virtual time. The same seed gives the same run.
/// ```
/// #[corio::test(sim = 42)]
/// async fn an_hour_passes_at_once() {
///     corio::sleep(std::time::Duration::from_secs(3600)).await;
/// }
/// ```
///
/// A test takes no arguments:
/// ```compile_fail
/// #[corio::test]
/// async fn takes(n: u32) {}
/// # fn main() {}
/// ```
#[proc_macro_attribute]
pub fn test(options: TokenStream, item: TokenStream) -> TokenStream {
    let function = parse_macro_input!(item as ItemFn);
    let on = test_options(options.into()).map(|seed| seed.map_or(On::OneLoop, On::Simulator));
    expand(&function, on, "test", &quote!(#[::core::prelude::v1::test]))
}

/// Awaits several futures at once; runs the handler of the first one that is ready and matches its pattern, and gives
/// the handler's value. The grammar is tokio's:
///
/// ```text
/// biased;                                                         (optional)
/// <pattern> = <future> (, if <condition>)? => <handler>,          (up to 64 branches)
/// else => <expression>                                            (optional)
/// ```
///
/// - First all conditions are evaluated, then all future expressions, also those of a branch that is off; a branch
///   whose condition is false is never polled. Whatever is `IntoFuture` will do, and `&mut future` for one that is
///   kept.
/// - A branch whose output does not match its pattern is off from then on. If all are off, `else` runs.
/// - All futures are dropped before the handler runs: it may use what they borrowed, `?`, `break`, `continue`, `return`
///   and `.await`. There is no `.await` behind `select!` itself.
/// - At each poll the branches take turns in a random order, so that one that is always ready does not starve the
///   others. The simulator repeats it by its seed. `biased;` polls them in the order of the text.
///
/// ```
/// use corio::time::{Duration, sleep};
/// corio::run(async {
///     let winner = corio::select! {
///         () = sleep(Duration::from_secs(60)) => "slow",
///         n = async { 7 } => {
///             assert_eq!(n, 7);
///             "quick"
///         }
///     };
///     assert_eq!(winner, "quick");
/// });
/// ```
///
/// A loop that keeps its futures between the rounds:
/// ```
/// use corio::{Queue, select, time::{Duration, sleep}};
/// use std::pin::pin;
/// corio::run(async {
///     let jobs = Queue::new(0);
///     jobs.put_nowait(3).unwrap();
///     jobs.put_nowait(4).unwrap();
///     let mut stop = pin!(sleep(Duration::from_millis(5)));
///     let mut sum = 0;
///     loop {
///         select! {
///             () = &mut stop => break,
///             Ok(job) = jobs.get() => sum += job,
///         }
///     }
///     assert_eq!(sum, 7);
/// });
/// ```
///
/// Guards, patterns that may fail, and `else`:
/// ```
/// use corio::select;
/// corio::run(async {
///     let (mut open, mut left) = (true, vec![1, 2]);
///     let mut seen = Vec::new();
///     let end = loop {
///         select! {
///             Some(n) = async { left.pop() } => seen.push(n),
///             () = async {}, if open && seen.len() == 2 => open = false,
///             else => break "all over",
///         }
///     };
///     assert_eq!((end, seen, open), ("all over", vec![2, 1], false));
/// });
/// ```
///
/// # What a branch that was not first loses
/// Nothing that was received. tokio's warnings of `read_exact`, `read_line`, `write_all` and of other io_uring
/// runtimes' reads and accepts in `select!` do not apply: a cancelled `read`, `readline`, `readexactly`, `accept`,
/// `recv` or `Queue::get` leaves bytes, connections and items for the next call; what `StreamWriter` was given to write
/// goes out. What holds as in tokio: a future's own progress is lost with it, so keep a `sleep` or an `async` block by
/// `&mut` outside of the loop, and a place in the queue of a `Lock` or `Semaphore` is given up. A `Task` is cancelled
/// when it is dropped after such a poll, and so is one that was polled by `&mut` once its handle is dropped: `detach`
/// it, or give `shield(&mut task)`.
///
/// # Panics
/// If all branches are off and there is no `else`. A panic of a future passes on, after the others are dropped.
///
/// # Compile errors
/// A handler that is no block needs a comma behind it:
/// ```compile_fail
/// async fn f() {
///     corio::select! {
///         () = async {} => 1
///         () = async {} => 2
///     };
/// }
/// ```
///
/// `else` comes last, and once:
/// ```compile_fail
/// async fn f() {
///     corio::select! {
///         else => (),
///         () = async {} => (),
///     };
/// }
/// ```
///
/// There must be a branch:
/// ```compile_fail
/// async fn f() {
///     corio::select! {};
/// }
/// ```
///
/// It awaits, so it works in async code alone:
/// ```compile_fail,E0728
/// fn f() {
///     corio::select! { () = async {} => () };
/// }
/// ```
///
/// What is no future is refused at its place:
/// ```compile_fail,E0277
/// async fn f() {
///     corio::select! { n = 1 => n };
/// }
/// ```
#[proc_macro]
pub fn select(input: TokenStream) -> TokenStream {
    select::expand(parse_macro_input!(input)).into()
}

/// Awaits all futures at once, in the calling task; gives a tuple of their outputs, `()` for none (tokio's `join!`;
/// there is no `.await` behind it). `corio::gather!` is asyncio's form, and gives a future.
///
/// Takes up to 64 of whatever is `IntoFuture`. The expressions are evaluated first. Each time the first to be polled is
/// another one; with `biased;` in front it is always the first in the text. A panic passes on, and drops the others, as
/// does a drop of the caller.
///
/// ```
/// corio::run(async {
///     let (a, b) = corio::join!(async { 1 }, corio::create_task(async { "two" }));
///     assert_eq!((a, b.unwrap()), (1, "two"));
/// });
/// ```
///
/// ```compile_fail,E0277
/// async fn f() {
///     corio::join!(1, async {});
/// }
/// ```
#[proc_macro]
pub fn join(input: TokenStream) -> TokenStream {
    join::expand(parse_macro_input!(input), false).into()
}

/// As [`join!`], for futures of `Result`s: gives `Ok` with the tuple of all values, or the first `Err` at once, and
/// drops the other futures (tokio's `try_join!`). The errors are of one type.
///
/// ```
/// async fn checked(n: u32) -> Result<u32, String> {
///     if n < 3 { Ok(n) } else { Err(format!("{n} is too large")) }
/// }
/// corio::run(async {
///     assert_eq!(corio::try_join!(checked(1), checked(2)), Ok((1, 2)));
///     assert_eq!(corio::try_join!(checked(1), checked(3)), Err("3 is too large".to_owned()));
/// });
/// ```
#[proc_macro]
pub fn try_join(input: TokenStream) -> TokenStream {
    join::expand(parse_macro_input!(input), true).into()
}

/// What the function runs on.
enum On {
    OneLoop,
    /// The value of `corio::Cores`.
    Cores(TokenStream2),
    /// With this seed.
    Simulator(LitInt),
}

fn expand(function: &ItemFn, on: Result<On>, name: &str, attribute: &TokenStream2) -> TokenStream {
    let on = match check(function, name).and(on) {
        Ok(on) => on,
        Err(error) => return failed(function, &error),
    };
    let ItemFn { attrs, vis, sig, block } = function;
    let mut sig = sig.clone();
    sig.asyncness = None;
    let run = match on {
        On::OneLoop => quote!(::corio::run(async move #block)),
        On::Cores(cores) => quote!(::corio::run_on_cores(#cores, async move #block)),
        On::Simulator(seed) => quote! {
            ::corio::Runner::builder()
                .backend(::corio::Backend::Sim { seed: #seed })
                .build()
                .expect("cannot set up the simulator")
                .run(async move #block)
        },
    };
    quote!(#attribute #(#attrs)* #vis #sig { #run }).into()
}

/// The error, and an empty function in the place of the refused one: its absence would be a second error.
fn failed(function: &ItemFn, error: &Error) -> TokenStream {
    let (error, name) = (error.to_compile_error(), &function.sig.ident);
    quote!(#error fn #name() {}).into()
}

/// Whether the function is one that a loop can run, with nothing given to it.
fn check(function: &ItemFn, name: &str) -> Result<()> {
    let sig = &function.sig;
    let refuse = |at: &dyn Spanned, why: &str| Err(Error::new(at.span(), format!("#[corio::{name}]: {why}")));
    if sig.asyncness.is_none() {
        return refuse(&sig.fn_token, "the function must be `async`");
    }
    if name == "main" && sig.ident != "main" {
        return refuse(&sig.ident, "only `main` can be the program's start; call corio::run for others");
    }
    if !sig.inputs.is_empty() || sig.variadic.is_some() {
        return refuse(&sig.inputs, "the function must take no arguments");
    }
    if !sig.generics.params.is_empty() || sig.generics.where_clause.is_some() {
        return refuse(&sig.generics, "the function must not be generic");
    }
    if let Some(abi) = &sig.abi {
        return refuse(abi, "the function must be a plain Rust function");
    }
    if let Some(token) = &sig.unsafety {
        return refuse(token, "the function must not be `unsafe`");
    }
    let is_test = |path: &syn::Path| path.segments.last().is_some_and(|last| last.ident == "test");
    match function.attrs.iter().find(|attribute| is_test(attribute.path())) {
        Some(second) => refuse(second, "a second `test` attribute: remove one"),
        None => Ok(()),
    }
}

fn options(tokens: TokenStream2) -> Result<Punctuated<Meta, Token![,]>> {
    Punctuated::parse_terminated.parse2(tokens)
}

fn main_options(tokens: TokenStream2) -> Result<On> {
    let mut on = On::OneLoop;
    for option in options(tokens)? {
        if !option.path().is_ident("cores") {
            let text = "unknown option: #[corio::main] takes only `cores = \"all\"` or `cores = NUMBER`";
            return Err(Error::new(option.span(), text));
        }
        if !matches!(on, On::OneLoop) {
            return Err(Error::new(option.span(), "`cores` is given twice"));
        }
        on = On::Cores(cores_of(&option)?);
    }
    Ok(on)
}

fn cores_of(option: &Meta) -> Result<TokenStream2> {
    if let Meta::NameValue(pair) = option
        && let Expr::Lit(value) = &pair.value
    {
        match &value.lit {
            Lit::Str(text) if text.value() == "all" => return Ok(quote!(::corio::Cores::All)),
            Lit::Int(count) if count.base10_parse::<usize>().is_ok_and(|count| count > 0) => {
                return Ok(quote!(::corio::Cores::Count(#count)));
            }
            _ => {}
        }
    }
    Err(Error::new(option.span(), "`cores` takes \"all\" or a number from 1: `cores = 4`"))
}

/// The seed, if the test runs on the simulator.
fn test_options(tokens: TokenStream2) -> Result<Option<LitInt>> {
    let mut seed = None;
    for option in options(tokens)? {
        if !option.path().is_ident("sim") {
            let text = "unknown option: #[corio::test] takes only `sim = SEED`";
            return Err(Error::new(option.span(), text));
        }
        if seed.replace(seed_of(&option)?).is_some() {
            return Err(Error::new(option.span(), "`sim` is given twice"));
        }
    }
    Ok(seed)
}

fn seed_of(option: &Meta) -> Result<LitInt> {
    if let Meta::NameValue(pair) = option
        && let Expr::Lit(value) = &pair.value
        && let Lit::Int(seed) = &value.lit
        && seed.base10_parse::<u64>().is_ok()
    {
        return Ok(seed.clone());
    }
    Err(Error::new(option.span(), "`sim` takes an integer from 0 to 2^64 - 1: `sim = 42`"))
}
