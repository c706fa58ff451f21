//! Addresses to listen on and connect to.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6},
};

use crate::resolver;

/// What names one or more socket addresses. Names are looked up off the loop.
///
/// Implemented for socket addresses and lists of them, for (IP address, port), (name, port), and "name:port".
pub trait ToSocketAddrs {
    /// The addresses themselves, or the name to look up.
    #[doc(hidden)]
    fn target(&self) -> Target;
}

/// Addresses, or a name that stands for some.
#[doc(hidden)]
#[derive(Clone, Debug)]
pub enum Target {
    Known(Vec<SocketAddr>),
    Name(String, u16),
    Invalid(String),
}

impl Target {
    /// The addresses, in the order to try them; at least one.
    pub(crate) async fn addresses(self) -> io::Result<Vec<SocketAddr>> {
        let (found, name) = match self {
            Target::Known(addrs) => (addrs, String::from("the list of addresses")),
            Target::Name(host, port) => (resolve(&host, port).await?, host),
            Target::Invalid(text) => {
                let text = format!("invalid socket address {text:?}: expected HOST:PORT");
                return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
            }
        };
        if found.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{name} is empty")));
        }
        Ok(found)
    }
}

/// Looks `host` up (asyncio `loop.getaddrinfo`). A numeric address needs no lookup; a name is given to
/// `getaddrinfo` on a thread.
///
/// All loops of the process share these threads. There are as many as lookups run, up to 32, and each ends after 10 s
/// without work. Dropping the future takes a lookup back that has not begun. One that runs cannot be stopped: it keeps
/// its thread, beside which others are made, up to 32 more.
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
/// If the name is unknown: the name and the resolver's reason.
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
        match self.rsplit_once(':').map(|(host, port)| (host, port.parse())) {
            Some((host, Ok(port))) if !host.is_empty() => Target::Name(host.to_owned(), port),
            _ => Target::Invalid(self.to_owned()),
        }
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
