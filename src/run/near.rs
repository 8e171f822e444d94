//! Near: whether a container runs on this machine, in a network where connections from here end. Where the
//! engine listens says nothing about it: a socket here may lead to an engine anywhere (ssh -L, a proxy), and
//! the container's address may be somebody else's on this side.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::engine::sockets::{self, Socket};

/// A container's process as this machine's kernel shows it.
pub struct Near {
    /// `/proc/PID`.
    process: PathBuf,
    /// A connection was seen to end there.
    proven: AtomicBool,
}

impl Near {
    /// The process of a container. `None`: this machine has no such process, or another one, whose control group
    /// does not name the container.
    pub fn find(process: Option<u32>, container: &str) -> Option<Self> {
        Self::find_in(Path::new("/proc"), process, container)
    }

    fn find_in(proc: &Path, process: Option<u32>, container: &str) -> Option<Self> {
        let process = proc.join(process?.to_string());
        let groups = std::fs::read_to_string(process.join("cgroup")).ok()?;
        let named = !container.is_empty() && groups.contains(container);
        named.then_some(Self { process, proven: AtomicBool::new(false) })
    }

    /// Whether a connection from `from`, which was accepted at `port`, ended in the container's network. One that
    /// did stands for all.
    pub fn took(&self, port: u16, from: SocketAddr) -> bool {
        let ours = |socket: &Socket| socket.local.port() == port && socket.remote.port() == from.port();
        if !self.proven.load(Ordering::Relaxed) && self.sockets().iter().any(ours) {
            self.proven.store(true, Ordering::Relaxed);
        }
        self.proven.load(Ordering::Relaxed)
    }

    /// Whether the container accepts connections at this address: one that was refused went elsewhere.
    pub fn accepts(&self, ip: IpAddr, port: u16) -> bool {
        let here = |socket: &Socket| {
            let local = socket.local.ip();
            socket.listens && socket.local.port() == port && (local.is_unspecified() || local == ip)
        };
        !self.proven.load(Ordering::Relaxed) && self.sockets().iter().any(here)
    }

    fn sockets(&self) -> Vec<Socket> {
        let tables = ["net/tcp", "net/tcp6"].map(|name| std::fs::read_to_string(self.process.join(name)));
        tables.into_iter().flatten().flat_map(|text| sockets::table(&text)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_the_containers_when_its_control_group_says_so() {
        let proc = tempfile::tempdir().unwrap();
        std::fs::create_dir(proc.path().join("7")).unwrap();
        std::fs::write(proc.path().join("7/cgroup"), "0::/system.slice/docker-abc123.scope\n").unwrap();
        let find = |process, container| Near::find_in(proc.path(), process, container).is_some();
        assert!(find(Some(7), "abc123"));
        assert!(!find(Some(7), "def456"), "an engine elsewhere has a process of this number too");
        assert!(!find(Some(8), "abc123") && !find(None, "abc123") && !find(Some(7), ""));
    }

    #[test]
    fn only_connections_that_the_containers_own_tables_show_have_ended_there() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let here = listener.local_addr().unwrap();
        let client = std::net::TcpStream::connect(here).unwrap();
        let from = client.local_addr().unwrap();
        let near = |process: PathBuf| Near { process, proven: AtomicBool::new(false) };
        let ours = near("/proc/self".into());
        assert!(ours.accepts(here.ip(), here.port()) && !ours.accepts("10.9.8.7".parse().unwrap(), here.port()));
        assert!(!ours.took(from.port(), from), "that is the other end");
        assert!(ours.took(here.port(), from));
        // A process with no network of ours in it: the address is somebody else's here.
        let elsewhere = tempfile::tempdir().unwrap();
        assert!(!near(elsewhere.path().into()).took(here.port(), from));
    }
}
