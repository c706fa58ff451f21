//! `join!` and `try_join!`.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{format_ident, quote_spanned};
use syn::{
    Error, Expr, Result, Token,
    parse::{Parse, ParseStream},
    punctuated::Punctuated,
    spanned::Spanned,
};

use crate::select::{MOST, made, parse_biased};

pub(crate) struct Join {
    biased: bool,
    futures: Vec<Expr>,
}

impl Parse for Join {
    fn parse(input: ParseStream) -> Result<Join> {
        let biased = parse_biased(input)?;
        let futures: Vec<Expr> =
            Punctuated::<Expr, Token![,]>::parse_terminated(input)?.into_iter().collect();
        if let Some(future) = futures.get(MOST) {
            let text =
                "join! and try_join! take 64 futures at most: give a list to corio::gather or try_gather";
            return Err(Error::new(future.span(), text));
        }
        Ok(Join { biased, futures })
    }
}

pub(crate) fn expand(join: Join, can_fail: bool) -> TokenStream {
    let Join { biased, futures } = join;
    let here = Span::mixed_site();
    let names = |what: &str| -> Vec<Ident> {
        (0..futures.len()).map(|n| format_ident!("{what}{n}", span = here)).collect()
    };
    let (values, pins, outputs) = (names("value"), names("future"), names("output"));
    let value = quote_spanned!(here=> (#(#outputs,)*));
    let value = if can_fail { quote_spanned!(here=> ::core::result::Result::Ok(#value)) } else { value };
    if futures.is_empty() {
        return value;
    }
    let made = values.iter().zip(&futures).map(|(value, future)| made(value, future));
    let polls = (0..).zip(&pins).zip(&outputs).map(|((number, pin), out)| poll(number, pin, out, can_fail));
    let order =
        if biased { quote_spanned!(here=> in_order(left)) } else { quote_spanned!(here=> from(first, left)) };
    let count = futures.len() as u32;
    let all = u64::MAX >> (MOST - futures.len());
    quote_spanned! {here=>
        {
            #(let #values = #futures;)*
            #(let mut #pins = ::core::pin::pin!(::core::option::Option::Some(#made));)*
            #(let mut #outputs = ::core::option::Option::None;)*
            let mut left: u64 = #all;
            let mut first: u32 = 0;
            ::core::future::poll_fn(|cx| {
                for arm in ::corio::__Arms::#order {
                    match arm {
                        #(#polls)*
                        _ => {}
                    }
                }
                first = if first + 1 < #count { first + 1 } else { 0 };
                if left > 0 {
                    return ::core::task::Poll::Pending;
                }
                let (#(::core::option::Option::Some(#outputs),)*) = (#(#outputs.take(),)*) else {
                    ::core::unreachable!("every future is over");
                };
                ::core::task::Poll::Ready(#value)
            })
            .await
        }
    }
}

/// Polls a future that is not over; one that is ready is dropped at once, and its output kept.
fn poll(number: u32, pin: &Ident, output: &Ident, can_fail: bool) -> TokenStream {
    let here = Span::mixed_site();
    let value = if can_fail {
        quote_spanned! {here=>
            match ready {
                ::core::result::Result::Ok(value) => value,
                ::core::result::Result::Err(e) => {
                    return ::core::task::Poll::Ready(::core::result::Result::Err(e));
                }
            }
        }
    } else {
        quote_spanned!(here=> ready)
    };
    quote_spanned! {here=>
        #number => {
            let polled = #pin.as_mut().as_pin_mut().map(|future| ::core::future::Future::poll(future, cx));
            if let ::core::option::Option::Some(::core::task::Poll::Ready(ready)) = polled {
                #pin.set(::core::option::Option::None);
                left &= !(1u64 << #number);
                #output = ::core::option::Option::Some(#value);
            }
        }
    }
}
