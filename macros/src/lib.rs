//! The `#[corio::main]` and `#[corio::test]` attributes.
//!
//! Applications use them through the facade crate `corio`, which the generated code refers to.
#![forbid(unsafe_code)]

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
