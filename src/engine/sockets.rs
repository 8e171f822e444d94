//! Sockets: the kernel's own tables of a network namespace's tcp sockets, see proc(5).

use std::net::{IpAddr, SocketAddr};

/// One socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Socket {
    /// Its own end.
    pub local: SocketAddr,
    /// The other end; all zeros where there is none.
    pub remote: SocketAddr,
    /// It waits for connections (state 0A).
    pub listens: bool,
}

/// Reads /proc/net/tcp or tcp6: addresses are 32-bit words of the machine's byte order, in hexadecimal.
pub fn table(text: &str) -> Vec<Socket> {
    let socket = |line: &str| {
        let mut words = line.split_whitespace().skip(1);
        let (local, remote) = (address(words.next()?)?, address(words.next()?)?);
        Some(Socket { local, remote, listens: words.next()? == "0A" })
    };
    text.lines().filter_map(socket).collect()
}

fn address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| u32::from_str_radix(address.get(at..at + 8)?, 16).ok().map(u32::to_ne_bytes);
    let ip: IpAddr = match address.len() {
        8 => IpAddr::from(word(0)?),
        32 => {
            let words = [word(0)?, word(8)?, word(16)?, word(24)?].concat();
            IpAddr::from(<[u8; 16]>::try_from(words).ok()?)
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_in_the_tables_of_both_of_its_ends() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let here = listener.local_addr().unwrap();
        let client = std::net::TcpStream::connect(here).unwrap();
        let sockets = table(&std::fs::read_to_string("/proc/self/net/tcp").unwrap());
        let there = client.local_addr().unwrap();
        assert!(sockets.iter().any(|socket| socket.local == here && socket.listens));
        for (local, remote) in [(here, there), (there, here)] {
            let expected = Socket { local, remote, listens: false };
            assert!(sockets.contains(&expected), "{expected:?}");
        }
    }
}
