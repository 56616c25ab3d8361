//! Free ports that stay free until the server that they are for listens on them.
//!
//! A port that is found and given back may be taken by anybody before the server starts. So it is kept: a socket that may share its
//! address is bound to it and never listens. The kernel gives a port that is bound to nobody who asks for any, and lets a server that
//! shares addresses as well, which all servers do, listen on it by number.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;

use anyhow::{Context as _, Result};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, getsockname, socket_with, sockopt};

/// A port of the loopback interface, ours as long as this value lives.
#[derive(Debug)]
pub struct Port {
    address: SocketAddr,
    _kept: OwnedFd,
}

impl Port {
    /// Takes a port that nobody has.
    ///
    /// # Errors
    /// When the system has none.
    pub fn take() -> Result<Self> {
        let taken = || -> Result<Self> {
            let kept = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
            sockopt::set_socket_reuseaddr(&kept, true)?;
            bind(&kept, &SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
            let address = SocketAddr::try_from(getsockname(&kept)?)?;
            Ok(Self { address, _kept: kept })
        };
        taken().context("cannot take a free port")
    }

    /// Where it is.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_port_that_is_kept_is_given_to_nobody_and_can_be_listened_on() {
        let ports: Vec<Port> = (0..200).map(|_| Port::take().unwrap()).collect();
        let different: BTreeSet<SocketAddr> = ports.iter().map(Port::address).collect();
        assert_eq!(different.len(), ports.len());
        for port in &ports {
            let other = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            assert!(!different.contains(&other.local_addr().unwrap()));
            // The standard library shares addresses, as servers do.
            TcpListener::bind(port.address()).unwrap();
        }
    }
}
