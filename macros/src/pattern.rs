//! Patterns that bind nothing: they tell whether a value fits without moving it.

use syn::{FieldPat, Ident, Pat, Token, parse_quote};

/// `pattern` without its bindings. A lone name that begins with a capital is a constant or a variant, such as `None`,
/// as Rust's naming goes.
pub(crate) fn without_bindings(pattern: &Pat) -> Pat {
    let mut pattern = pattern.clone();
    unbind(&mut pattern);
    pattern
}

fn unbind(pattern: &mut Pat) {
    match pattern {
        Pat::Ident(binding) => match binding.subpat.take() {
            Some((_, mut inner)) => {
                unbind(&mut inner);
                *pattern = *inner;
            }
            None if is_constant(&binding.ident) => {}
            None => *pattern = parse_quote!(_),
        },
        Pat::Or(or) => or.cases.iter_mut().for_each(unbind),
        Pat::Paren(paren) => unbind(&mut paren.pat),
        Pat::Reference(reference) => unbind(&mut reference.pat),
        Pat::Slice(slice) => slice.elems.iter_mut().for_each(unbind),
        Pat::Struct(fields) => fields.fields.iter_mut().for_each(unbind_field),
        Pat::Tuple(tuple) => tuple.elems.iter_mut().for_each(unbind),
        Pat::TupleStruct(tuple) => tuple.elems.iter_mut().for_each(unbind),
        _ => {}
    }
}

/// `S { x, ref y }` names the field by its binding.
fn unbind_field(field: &mut FieldPat) {
    if field.colon_token.is_none() {
        field.colon_token = Some(<Token![:]>::default());
        *field.pat = parse_quote!(_);
    } else {
        unbind(&mut field.pat);
    }
}

fn is_constant(name: &Ident) -> bool {
    let name = name.to_string();
    name.trim_start_matches("r#").trim_start_matches('_').starts_with(char::is_uppercase)
}

#[cfg(test)]
mod tests {
    use quote::ToTokens;
    use syn::{Pat, parse::Parser};

    use super::without_bindings;

    #[test]
    fn bindings_go_and_what_may_fail_stays() {
        for (pattern, left) in [
            ("x", "_"),
            ("ref mut x", "_"),
            ("None", "None"),
            ("LIMIT", "LIMIT"),
            ("Some(mut x)", "Some (_)"),
            ("whole @ Some(x)", "Some (_)"),
            ("Ok(x) | Err(x)", "Ok (_) | Err (_)"),
            ("Point { x, ref y, z: 3, .. }", "Point { x : _ , y : _ , z : 3 , .. }"),
            ("(a, &b, [1, c, rest @ ..])", "(_ , & _ , [1 , _ , ..])"),
            ("(0..=9 | 11)", "(0 ..= 9 | 11)"),
            ("n @ 1..=3", "1 ..= 3"),
        ] {
            let read = Pat::parse_multi_with_leading_vert.parse_str(pattern).unwrap();
            let plain = |text: &str| text.replace(' ', "");
            let got = without_bindings(&read).to_token_stream().to_string();
            assert_eq!(plain(&got), plain(left), "{pattern}");
        }
    }
}
