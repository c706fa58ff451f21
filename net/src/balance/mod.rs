//! One address on several cores: which core gets which connection.

mod group;

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize},
    },
};

use corio_runtime::{Handle, current_core, fd::Fd, handle};
pub use group::Balance;
use group::{GROUPS, Group, Seat, lock};
pub(crate) use group::{Membership, Waiting};

use crate::listener::{Facts, ListenerKey};

/// A listener on `asked` for at most `max` connections at once, in the group of the other cores' servers. `listen`
/// makes a socket.
pub(crate) fn join(
    asked: SocketAddr,
    balance: Balance,
    max: usize,
    listen: impl Fn(SocketAddr) -> io::Result<Fd>,
) -> io::Result<(ListenerKey, Arc<Facts>)> {
    // The first core names all cores of one `run_per_core`; any other loop is on its own.
    let first = current_core().map_or_else(handle, |core| core.handle(0));
    let mut groups = lock(&GROUPS);
    let known = groups.iter().find(|group| group.asked == (first, asked)).cloned();
    let (group, (listener, facts)) = match known {
        Some(group) => {
            let made = group.listener(balance, max, listen)?;
            (group, made)
        }
        None => {
            let (group, made) = Group::found((first, asked), balance, max, listen)?;
            groups.push(Arc::clone(&group));
            (group, made)
        }
    };
    let accept = ListenerKey::accept_from_now_on;
    lock(&group.seats).push(Seat { listener, facts: Arc::clone(&facts), accept });
    group.tell_of_room();
    listener.share(Membership { group, facts: Arc::clone(&facts) });
    Ok((listener, facts))
}

type Made = (ListenerKey, Arc<Facts>);

impl Group {
    /// A new group, with its first server's listener.
    fn found(
        asked: (Handle, SocketAddr),
        balance: Balance,
        max: usize,
        listen: impl Fn(SocketAddr) -> io::Result<Fd>,
    ) -> io::Result<(Arc<Group>, Made)> {
        let fd = listen(asked.1)?;
        let socket = match balance {
            Balance::Hash => None,
            Balance::LeastConnections => Some(fd.borrow_os()?.try_clone_to_owned()?),
        };
        let group = Group {
            asked,
            balance,
            addr: fd.local_addr()?,
            socket,
            seats: Mutex::default(),
            turn: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            armed: AtomicUsize::new(0),
            full: AtomicBool::new(false),
        };
        Ok((Arc::new(group), ListenerKey::new(fd, max, true)?))
    }

    /// A listener for one more server of the group.
    fn listener(
        &self,
        balance: Balance,
        max: usize,
        listen: impl Fn(SocketAddr) -> io::Result<Fd>,
    ) -> io::Result<Made> {
        if balance != self.balance {
            let text = format!("{} is shared by {:?} already, not by {balance:?}", self.addr, self.balance);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        match &self.socket {
            Some(socket) => ListenerKey::new(socket.try_clone()?.into(), max, false),
            None => ListenerKey::new(listen(self.addr)?, max, true),
        }
    }
}
