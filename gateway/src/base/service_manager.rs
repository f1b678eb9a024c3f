//! Service manager: telling systemd, or whoever started the process, how it stands (`sd_notify(3)`).
//!
//! For: `app` and `reload`. May touch: the variable `NOTIFY_SOCKET`, a datagram socket. Promises: without that variable
//! nothing is sent; nothing waits; a message that cannot be sent is logged and changes nothing else.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use rustix::time::{ClockId, clock_gettime};

/// Where the manager listens, as it says itself.
const VARIABLE: &str = "NOTIFY_SOCKET";

/// Who started the process, where it wants to hear.
#[derive(Debug)]
pub(crate) struct ServiceManager(Option<(UnixDatagram, SocketAddr)>);

impl ServiceManager {
    /// The one that the environment names.
    pub(crate) fn of_environment() -> Self {
        let Some(name) = std::env::var_os(VARIABLE).filter(|name| !name.is_empty()) else { return Self(None) };
        match Self::at(&name) {
            Ok(manager) => manager,
            Err(error) => {
                tracing::warn!(%error, "{VARIABLE} cannot be used; the service manager is told nothing");
                Self(None)
            }
        }
    }

    fn at(name: &OsStr) -> io::Result<Self> {
        let address = match name.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            _ => SocketAddr::from_pathname(name)?,
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Self(Some((socket, address))))
    }

    /// It serves, after a start or a reload.
    pub(crate) fn ready(&self) {
        self.tell("READY=1");
    }

    /// It serves, and is the service's process from now on.
    pub(crate) fn took_over(&self) {
        self.tell(&format!("READY=1\nMAINPID={}", std::process::id()));
    }

    /// Another process, of this id, is the service's from now on.
    pub(crate) fn handed_over(&self, process: i32) {
        // 0 is one that cannot be seen from here.
        if process <= 0 {
            return;
        }
        self.tell(&format!("MAINPID={process}"));
    }

    /// It takes its configuration in again; `ready` ends that.
    pub(crate) fn reloading(&self) {
        // Asked for by `Type=notify-reload`: it tells this reload from one before.
        let now = clock_gettime(ClockId::Monotonic);
        let microseconds = now.tv_sec.saturating_mul(1_000_000).saturating_add(now.tv_nsec / 1_000);
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={microseconds}"));
    }

    /// It drains, and ends then.
    pub(crate) fn stopping(&self) {
        self.tell("STOPPING=1");
    }

    fn tell(&self, message: &str) {
        let Some((socket, address)) = &self.0 else { return };
        if let Err(error) = socket.send_to_addr(message.as_bytes(), address) {
            tracing::warn!(%error, message, "the service manager was not told");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_arrive_at_a_path_and_at_an_abstract_name() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("notify");
        let name = format!("gateway-test-{}", std::process::id());
        let abstract_name = SocketAddr::from_abstract_name(name.as_bytes()).expect("a name");
        let cases = [
            (UnixDatagram::bind(&path).expect("bound"), path.into_os_string()),
            (UnixDatagram::bind_addr(&abstract_name).expect("bound"), format!("@{name}").into()),
        ];
        for (heard, name) in cases {
            let manager = ServiceManager::at(&name).expect("an address");
            manager.ready();
            manager.took_over();
            manager.handed_over(7);
            manager.reloading();
            manager.stopping();
            let next = || {
                let mut bytes = [0; 128];
                let count = heard.recv(&mut bytes).expect("a message");
                String::from_utf8_lossy(&bytes[..count]).into_owned()
            };
            assert_eq!(next(), "READY=1");
            assert_eq!(next(), format!("READY=1\nMAINPID={}", std::process::id()));
            assert_eq!(next(), "MAINPID=7");
            let reloading = next();
            let since_boot = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").expect("a time");
            assert!(since_boot.parse::<u64>().is_ok_and(|time| time > 0), "{reloading}");
            assert_eq!(next(), "STOPPING=1");
        }
    }

    #[test]
    fn without_a_manager_nothing_happens() {
        ServiceManager(None).ready();
    }
}
