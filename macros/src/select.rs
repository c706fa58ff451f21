//! `select!`: its grammar, and what becomes of it.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::{
    Error, Expr, ExprBlock, Pat, Result, Token,
    parse::{Parse, ParseStream},
    spanned::Spanned,
    token,
};

use crate::pattern::without_bindings;

/// The arms that are on are the bits of a number.
pub(crate) const MOST: usize = 64;

pub(crate) struct Select {
    biased: bool,
    branches: Vec<Branch>,
    otherwise: Option<Expr>,
}

struct Branch {
    pattern: Pat,
    future: Expr,
    condition: Option<Expr>,
    handler: Expr,
}

impl Parse for Select {
    fn parse(input: ParseStream) -> Result<Select> {
        let biased = parse_biased(input)?;
        let (mut branches, mut otherwise) = (Vec::new(), None);
        while !input.is_empty() {
            if otherwise.is_some() {
                return Err(input.error("`else` must be the last branch of select!, and there can be one"));
            }
            if input.peek(Token![else]) {
                input.parse::<Token![else]>()?;
                input.parse::<Token![=>]>()?;
                otherwise = Some(parse_handler(input)?);
            } else {
                branches.push(input.parse::<Branch>()?);
            }
        }
        if branches.is_empty() && otherwise.is_none() {
            return Err(input.error("select! needs a branch: `pattern = future => handler`"));
        }
        if let Some(branch) = branches.get(MOST) {
            let text = "select! takes 64 branches at most: give a list of futures to corio::race";
            return Err(Error::new(branch.pattern.span(), text));
        }
        Ok(Select { biased, branches, otherwise })
    }
}

/// Whether the text begins with `biased;`.
pub(crate) fn parse_biased(input: ParseStream) -> Result<bool> {
    let fork = input.fork();
    let biased = fork.parse::<Ident>().is_ok_and(|word| word == "biased") && fork.peek(Token![;]);
    if biased {
        input.parse::<Ident>()?;
        input.parse::<Token![;]>()?;
    }
    Ok(biased)
}

impl Parse for Branch {
    fn parse(input: ParseStream) -> Result<Branch> {
        let pattern = Pat::parse_multi_with_leading_vert(input)?;
        if !input.peek(Token![=]) || input.peek(Token![=>]) {
            return Err(input.error("expected `=` and a future: a branch is `pattern = future => handler`"));
        }
        input.parse::<Token![=]>()?;
        let future = input.parse()?;
        let mut condition = None;
        if input.peek(Token![,]) && input.peek2(Token![if]) {
            input.parse::<Token![,]>()?;
            input.parse::<Token![if]>()?;
            condition = Some(input.parse()?);
        }
        if !input.peek(Token![=>]) {
            return Err(input.error("expected `, if condition` or `=> handler` behind the future"));
        }
        input.parse::<Token![=>]>()?;
        Ok(Branch { pattern, future, condition, handler: parse_handler(input)? })
    }
}

/// A block, or an expression with a comma behind it.
fn parse_handler(input: ParseStream) -> Result<Expr> {
    if input.peek(token::Brace) {
        let block = ExprBlock { attrs: Vec::new(), label: None, block: input.parse()? };
        input.parse::<Option<Token![,]>>()?;
        return Ok(Expr::Block(block));
    }
    let handler = input.parse()?;
    if !input.is_empty() && input.parse::<Option<Token![,]>>()?.is_none() {
        return Err(input.error("expected `,` behind a handler that is no block"));
    }
    Ok(handler)
}

pub(crate) fn expand(select: Select) -> TokenStream {
    let Select { biased, branches, otherwise } = select;
    let here = Span::mixed_site();
    let otherwise = otherwise.map(|e| quote!(#e)).unwrap_or_else(
        || quote_spanned!(here=> ::core::panic!("all branches are disabled and there is no else branch")),
    );
    if branches.is_empty() {
        return quote!({ #otherwise });
    }
    let arms: Vec<Arm> = (0..).zip(&branches).map(|(n, branch)| Arm::new(n, branch)).collect();
    let order = Ident::new(if biased { "in_order" } else { "shuffled" }, here);
    let names: Vec<&Ident> = arms.iter().map(|arm| &arm.variant).collect();
    let conditions = arms.iter().map(Arm::condition);
    let (values, futures) = (arms.iter().map(Arm::value), arms.iter().map(Arm::future));
    let polls = arms.iter().map(Arm::poll);
    let handlers = arms.iter().map(Arm::handler);
    quote_spanned! {here=>
        {
            enum __CorioSelect<#(#names),*> {
                #(#names(#names),)*
                AllOff,
            }
            let mut on: u64 = 0;
            #(#conditions)*
            // The futures are dropped before the handler runs.
            let first = {
                #(#values)*
                #(#futures)*
                ::core::future::poll_fn(|cx| {
                    for arm in ::corio::__Arms::#order(on) {
                        match arm {
                            #(#polls)*
                            _ => {}
                        }
                    }
                    if on == 0 {
                        ::core::task::Poll::Ready(__CorioSelect::AllOff)
                    } else {
                        ::core::task::Poll::Pending
                    }
                })
                .await
            };
            match first {
                #(#handlers)*
                __CorioSelect::AllOff => #otherwise,
                #[allow(unreachable_patterns)]
                _ => ::core::unreachable!("a constant in a pattern of select! must be named in capitals"),
            }
        }
    }
}

/// A branch with the names of its parts.
struct Arm<'a> {
    number: u32,
    branch: &'a Branch,
    variant: Ident,
    value: Ident,
    future: Ident,
}

impl Arm<'_> {
    fn new(number: u32, branch: &Branch) -> Arm<'_> {
        let here = Span::mixed_site();
        let name = |what: &str| format_ident!("{what}{number}", span = here);
        Arm { number, branch, variant: name("Arm"), value: name("value"), future: name("future") }
    }

    fn bit(&self) -> TokenStream {
        let number = self.number;
        quote_spanned!(Span::mixed_site()=> (1u64 << #number))
    }

    fn condition(&self) -> TokenStream {
        let bit = self.bit();
        match &self.branch.condition {
            None => quote_spanned!(Span::mixed_site()=> on |= #bit;),
            Some(condition) => quote_spanned! {Span::mixed_site()=>
                on |= if { #condition } { #bit } else { 0 };
            },
        }
    }

    /// On its own, so that what it borrows lives as long as it.
    fn value(&self) -> TokenStream {
        let (value, expression) = (&self.value, &self.branch.future);
        quote_spanned!(Span::mixed_site()=> let #value = #expression;)
    }

    fn future(&self) -> TokenStream {
        let (future, made) = (&self.future, made(&self.value, &self.branch.future));
        quote_spanned!(Span::mixed_site()=> let mut #future = ::core::pin::pin!(#made);)
    }

    fn poll(&self) -> TokenStream {
        let (number, bit) = (self.number, self.bit());
        let (future, variant) = (&self.future, &self.variant);
        let fits = match without_bindings(&self.branch.pattern) {
            Pat::Wild(_) => None,
            pattern => Some(quote_spanned! {Span::mixed_site()=>
                #[allow(unreachable_patterns)]
                let fits = match output {
                    #pattern => true,
                    _ => false,
                };
                if !fits {
                    continue;
                }
            }),
        };
        quote_spanned! {Span::mixed_site()=>
            #number => {
                if let ::core::task::Poll::Ready(output) = ::core::future::Future::poll(#future.as_mut(), cx) {
                    on &= !#bit;
                    #fits
                    return ::core::task::Poll::Ready(__CorioSelect::#variant(output));
                }
            }
        }
    }

    fn handler(&self) -> TokenStream {
        let (variant, Branch { pattern, handler, .. }) = (&self.variant, self.branch);
        quote_spanned!(Span::mixed_site()=> __CorioSelect::#variant(#pattern) => #handler,)
    }
}

/// The future of `value`; an error names the place of its `expression`.
pub(crate) fn made(value: &Ident, expression: &Expr) -> TokenStream {
    let there = Span::mixed_site().located_at(expression.span());
    quote_spanned!(there=> ::core::future::IntoFuture::into_future(#value))
}

#[cfg(test)]
mod tests {
    use super::Select;

    fn refused(text: &str) -> String {
        match syn::parse_str::<Select>(text) {
            Ok(_) => panic!("it is taken: {text}"),
            Err(e) => e.to_string(),
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, why) in [
            ("", "needs a branch"),
            ("biased;", "needs a branch"),
            ("a => 1", "expected `=` and a future"),
            ("a", "expected `=` and a future"),
            ("a = f(), b = g() => 1", "expected `, if condition` or `=> handler`"),
            ("a = f() => x b = g() => y", "expected `,` behind a handler that is no block"),
            ("else => 1, a = f() => 2", "`else` must be the last branch"),
            ("a = f() => 1, else => 2, else => 3", "there can be one"),
        ] {
            let told = refused(text);
            assert!(told.contains(why), "{text}: {told}");
        }
        let most = "a = f() => 1,".repeat(64);
        assert!(syn::parse_str::<Select>(&most).is_ok());
        assert!(refused(&(most + "a = f() => 1")).contains("64 branches at most"));
    }

    #[test]
    fn the_grammar_is_that_of_tokio() {
        for text in [
            "biased; a = f() => 1",
            "biased = f() => 1",
            "a = f() => 1,",
            "a = f() => {} b = g() => {}",
            "a = f() => {}, b = g() => {} else => {}",
            "a = f(), if x && y => 1, else => 2,",
            "Some(a) | Other { b: a, .. } = f.await?.g(), if S { x } == y => a?, _ = &mut z => break",
            "a = async { 1 }, if let Some(x) = y => match a { 1 => 2, _ => 3 },",
            "else => 1",
        ] {
            assert!(syn::parse_str::<Select>(text).is_ok(), "{text}");
        }
    }
}
