//! The order in which addresses are tried.

use std::net::SocketAddr;

/// `first` addresses of the first one's family, then the families in turn (asyncio `_interleave_addrinfos`). With 0,
/// the order stays.
pub(super) fn interleaved(addrs: Vec<SocketAddr>, first: usize) -> Vec<SocketAddr> {
    if first == 0 {
        return addrs;
    }
    let leads_v4 = addrs.first().is_some_and(SocketAddr::is_ipv4);
    let (mut ahead, others): (Vec<_>, Vec<_>) =
        addrs.into_iter().partition(|addr| addr.is_ipv4() == leads_v4);
    let behind = ahead.split_off((first - 1).min(ahead.len()));
    let rounds = behind.len().max(others.len());
    ahead.extend((0..rounds).flat_map(|i| behind.get(i).into_iter().chain(others.get(i))));
    ahead
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn con_18_families_alternate_behind_the_first_ones() {
        let addrs = |names: &str| -> Vec<SocketAddr> {
            let addr = |name: &str| match name.split_at(1) {
                ("4", n) => format!("10.0.0.{n}:80"),
                (_, n) => format!("[fd00::{n}]:80"),
            };
            names.split_whitespace().map(|name| addr(name).parse().unwrap()).collect()
        };
        let table = [
            ("61 62 63 41 42", 0, "61 62 63 41 42"),
            ("61 62 63 41 42", 1, "61 41 62 42 63"),
            ("61 62 63 41 42", 2, "61 62 41 63 42"),
            ("61 62 63 41 42", 3, "61 62 63 41 42"),
            ("61 62 63 41 42", usize::MAX, "61 62 63 41 42"),
            ("41 61 62 42", 1, "41 61 42 62"),
            ("41 42", 1, "41 42"),
            ("", 1, ""),
        ];
        for (given, first, tried) in table {
            assert_eq!(interleaved(addrs(given), first), addrs(tried), "{first} of {given}");
        }
    }
}
