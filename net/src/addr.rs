//! Addresses to listen on and connect to.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6},
};

use crate::resolver;

/// Anything that names one or more socket addresses. Names are resolved on other threads.
///
/// Implemented for socket addresses and lists of them, for (IP address, port), (name, port), and "name:port".
pub trait ToSocketAddrs {
    /// The addresses themselves, or the name to look up.
    #[doc(hidden)]
    fn target(&self) -> Target;
}

/// Addresses, or a name to resolve.
#[doc(hidden)]
#[derive(Clone, Debug)]
pub enum Target {
    Known(Vec<SocketAddr>),
    Name(String, u16),
    /// The error text.
    Invalid(String),
}

impl Target {
    /// The addresses, in the order to try them. Not empty.
    pub(crate) async fn addresses(self) -> io::Result<Vec<SocketAddr>> {
        let invalid = |text: String| Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        match self {
            Target::Known(addrs) if addrs.is_empty() => invalid("the list of addresses is empty".to_owned()),
            Target::Known(addrs) => Ok(addrs),
            Target::Invalid(text) => invalid(text),
            Target::Name(host, port) => match resolve(&host, port).await? {
                none if none.is_empty() => {
                    Err(io::Error::new(io::ErrorKind::NotFound, format!("{host:?} has no address")))
                }
                found => Ok(found),
            },
        }
    }
}

/// Resolves `host` (asyncio `loop.getaddrinfo`). A numeric address needs no lookup; a name goes to `getaddrinfo` on
/// another thread.
///
/// All loops of the process share these threads: one per running lookup, up to 32; idle ones end after 10 s. Dropping
/// the future cancels a lookup that has not started. A running one cannot be stopped: it keeps its thread busy, and
/// other threads are started in its place, up to 64 in all.
///
/// ```
/// corio_runtime::run(async {
///     let found = corio_net::resolve("127.0.0.1", 80).await?;
///     assert_eq!(found, ["127.0.0.1:80".parse().unwrap()]);
///     std::io::Result::Ok(())
/// }).unwrap();
/// ```
///
/// # Errors
/// If the name cannot be resolved: the name, and the resolver's reason.
pub async fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    match host.parse::<IpAddr>() {
        Ok(ip) => Ok(vec![SocketAddr::new(ip, port)]),
        Err(_) => resolver::lookup(host.to_owned(), port).await,
    }
}

impl ToSocketAddrs for SocketAddr {
    fn target(&self) -> Target {
        Target::Known(vec![*self])
    }
}

impl ToSocketAddrs for SocketAddrV4 {
    fn target(&self) -> Target {
        Target::Known(vec![(*self).into()])
    }
}

impl ToSocketAddrs for SocketAddrV6 {
    fn target(&self) -> Target {
        Target::Known(vec![(*self).into()])
    }
}

impl ToSocketAddrs for [SocketAddr] {
    fn target(&self) -> Target {
        Target::Known(self.to_vec())
    }
}

impl ToSocketAddrs for Vec<SocketAddr> {
    fn target(&self) -> Target {
        Target::Known(self.clone())
    }
}

impl<const N: usize> ToSocketAddrs for [SocketAddr; N] {
    fn target(&self) -> Target {
        Target::Known(self.to_vec())
    }
}

impl ToSocketAddrs for (IpAddr, u16) {
    fn target(&self) -> Target {
        Target::Known(vec![(*self).into()])
    }
}

impl ToSocketAddrs for (Ipv4Addr, u16) {
    fn target(&self) -> Target {
        Target::Known(vec![(*self).into()])
    }
}

impl ToSocketAddrs for (Ipv6Addr, u16) {
    fn target(&self) -> Target {
        Target::Known(vec![(*self).into()])
    }
}

impl ToSocketAddrs for (&str, u16) {
    fn target(&self) -> Target {
        match self.0.parse::<IpAddr>() {
            Ok(ip) => Target::Known(vec![SocketAddr::new(ip, self.1)]),
            Err(_) => Target::Name(self.0.to_owned(), self.1),
        }
    }
}

impl ToSocketAddrs for (String, u16) {
    fn target(&self) -> Target {
        (&*self.0, self.1).target()
    }
}

impl ToSocketAddrs for str {
    fn target(&self) -> Target {
        if let Ok(addr) = self.parse::<SocketAddr>() {
            return Target::Known(vec![addr]);
        }
        match host_and_port(self) {
            Ok((host, port)) => Target::Name(host.to_owned(), port),
            Err(why) => {
                Target::Invalid(format!("invalid socket address {self:?}: expected HOST:PORT, but {why}"))
            }
        }
    }
}

/// Splits "HOST:PORT", or says what is wrong with it.
fn host_and_port(text: &str) -> Result<(&str, u16), String> {
    if text.contains("://") {
        return Err("this is a URL".to_owned());
    }
    let is_v6 = |host: &str| host.split('%').next().is_some_and(|ip| ip.parse::<Ipv6Addr>().is_ok());
    let Some((host, port)) = text.rsplit_once(':').filter(|_| !text.ends_with(']')) else {
        return Err("the port is missing".to_owned());
    };
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let host = match bracketed {
        Some(host) if is_v6(host) => host,
        Some(host) => return Err(format!("{host:?} is no IPv6 address")),
        None if host.contains(':') && !is_v6(host) => {
            return Err("an IPv6 address with a port is written [ADDRESS]:PORT".to_owned());
        }
        None => host,
    };
    if host.is_empty() {
        return Err("the host is missing (0.0.0.0 stands for all addresses)".to_owned());
    }
    let digits = port.strip_prefix('-').unwrap_or(port);
    let is_number = !digits.is_empty() && digits.bytes().all(|c| c.is_ascii_digit());
    match port.parse() {
        Ok(number) if is_number => Ok((host, number)),
        _ if port.is_empty() => Err("the port is missing".to_owned()),
        _ if !is_number => Err(format!("the port {port:?} is no number: it must be 0 to 65535")),
        _ if digits.len() < port.len() => Err(format!("the port {port} is negative: it must be 0 to 65535")),
        _ => Err(format!("the port {port} is too large: it must be 0 to 65535")),
    }
}

impl ToSocketAddrs for String {
    fn target(&self) -> Target {
        self.as_str().target()
    }
}

impl<T: ToSocketAddrs + ?Sized> ToSocketAddrs for &T {
    fn target(&self) -> Target {
        (**self).target()
    }
}
