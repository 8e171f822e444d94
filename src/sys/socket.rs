//! Socket: messages with descriptors between two processes of ours, see unix(7), and a network namespace's own
//! interface, see netdevice(7).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg, sendmsg, socket,
    socketpair,
};

use super::check;

/// The longest message.
pub const LONGEST: usize = 128 << 10;

/// The most descriptors that a message carries.
const MOST: usize = 4;

/// Two ends that keep messages apart, closed at exec.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?)
}

/// A pipe, closed at exec: the end to read from, and the one to write to.
pub fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?)
}

/// Sends one message.
pub fn send(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let fds: Vec<i32> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = ControlMessage::ScmRights(&fds);
    let rights = if fds.is_empty() { &[][..] } else { std::slice::from_ref(&rights) };
    let bytes = [io::IoSlice::new(bytes)];
    loop {
        match sendmsg::<()>(socket.as_raw_fd(), &bytes, rights, MsgFlags::MSG_NOSIGNAL, None) {
            Err(nix::errno::Errno::EINTR) => {}
            sent => return Ok(sent.map(drop)?),
        }
    }
}

/// Waits for the next message; `None` when the other end is closed.
pub fn receive(socket: BorrowedFd<'_>) -> io::Result<Option<(Vec<u8>, Vec<OwnedFd>)>> {
    let mut buffer = vec![0u8; LONGEST];
    let mut control = nix::cmsg_space!([std::os::fd::RawFd; MOST]);
    let (length, fds) = {
        let mut bytes = [io::IoSliceMut::new(&mut buffer)];
        let message = loop {
            match recvmsg::<()>(socket.as_raw_fd(), &mut bytes, Some(&mut control), MsgFlags::MSG_CMSG_CLOEXEC) {
                Err(nix::errno::Errno::EINTR) => {}
                Err(nix::errno::Errno::ECONNRESET) => return Ok(None),
                other => break other?,
            }
        };
        let mut fds = Vec::new();
        for control in message.cmsgs()? {
            if let ControlMessageOwned::ScmRights(got) = control {
                // SAFETY: the kernel made these descriptors for this message and nobody else knows of them.
                fds.extend(got.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
            }
        }
        (message.bytes, fds)
    };
    buffer.truncate(length);
    Ok((length > 0).then_some((buffer, fds)))
}

/// Turns the loopback interface of this network namespace on.
pub fn loopback_up() -> io::Result<()> {
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    // SAFETY: an all-zero ifreq is a valid value of this plain struct.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: the kernel reads name and flags from the struct that we own.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw mut request) }.into()).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::fd::AsFd;

    #[test]
    fn a_message_carries_its_descriptors_and_the_end_is_seen() {
        let (near, far) = pair().unwrap();
        let (reader, writer) = pipe().unwrap();
        send(near.as_fd(), b"word", &[writer.as_fd()]).unwrap();
        drop(writer);
        let (bytes, mut fds) = receive(far.as_fd()).unwrap().unwrap();
        assert_eq!((bytes.as_slice(), fds.len()), (&b"word"[..], 1));
        std::fs::File::from(fds.remove(0)).write_all(b"through").unwrap();
        let mut text = String::new();
        std::fs::File::from(reader).read_to_string(&mut text).unwrap();
        assert_eq!(text, "through");
        drop(near);
        assert!(receive(far.as_fd()).unwrap().is_none());
    }
}
