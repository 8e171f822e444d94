//! Spawn: starting a process as the target: its filter, identity, capabilities, signals and descriptors.
//!
//! Parent and child talk over a socket that the exec closes. The child installs the filter, hands over its
//! listener, and waits for the word to go on, so that nothing runs before the recorders are armed.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

use super::filter::Trap;
use super::identity::Identity;
use super::namespace::{self, Place};
use crate::sys::process::{self, bounding_set};
use crate::sys::seccomp::{self, Instruction};
use crate::sys::{self, Standard, c_string, errno};

/// What every process that the sensor starts has in common.
#[derive(Debug)]
pub struct Recipe {
    /// Ids and home.
    pub identity: Identity,
    /// Environment, `NAME=value`.
    pub environment: Vec<CString>,
    /// Capabilities that are dropped, by number.
    pub drop: Vec<u32>,
    /// The filter; empty for none.
    pub filter: Vec<Instruction>,
    /// Who answers the filter; `None`: it hands nothing over.
    pub trap: Option<Trap>,
    /// Limit of open descriptors, soft and hard, as the container had it.
    pub nofile: (u64, u64),
    /// Namespaces.
    pub place: Place,
}

/// A process that waits to be let go.
#[derive(Debug)]
pub struct Spawned {
    /// Its pid.
    pub pid: i32,
    /// The receiving end of its filter; `None` where it has none, or it was taken.
    pub listener: Option<OwnedFd>,
    /// It has to be followed by ptrace.
    pub followed: bool,
    /// The socket to it.
    pub socket: OwnedFd,
}

/// Why the program could not be executed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotStarted {
    /// Exit status as engines give it: 126 or 127.
    pub status: i32,
    /// For people.
    pub text: String,
}

/// Where a child's output goes.
#[derive(Debug)]
pub enum Output {
    /// To the sensor's own stdout and stderr.
    Inherited,
    /// Into these pipes.
    Pipes(OwnedFd, OwnedFd),
}

const READY: u8 = b'r';
const FAILED: u8 = b'e';
const GO: u8 = b'g';

impl Recipe {
    /// Starts a process up to the point where its recorder is armed. An error is that of the filter.
    pub fn spawn(&self, argv: &[CString], output: Output) -> Result<Spawned> {
        let (socket, theirs) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
        if matches!(self.place, Place::New { .. }) {
            namespace::before_fork()?;
        }
        let pid = process::fork(|| {
            let (status, text) = match self.child(argv, &output, theirs.as_fd()) {
                Ok(never) => match never {},
                Err(failed) => failed,
            };
            let mut message = vec![FAILED, status as u8];
            message.extend_from_slice(&text.as_bytes()[..text.len().min(900)]);
            let _ = process::send(theirs.as_fd(), &message, None);
            status
        })
        .context("fork failed")?;
        drop(theirs);
        let (message, listener) = process::receive(socket.as_fd())?;
        match message.split_first() {
            Some((&READY, _)) => {
                let followed = self.trap == Some(Trap::Trace);
                Ok(Spawned { pid, listener, followed, socket })
            }
            Some((&FAILED, rest)) => bail!("{}", String::from_utf8_lossy(rest.get(1..).unwrap_or_default())),
            _ => bail!("the child ended before its filter was installed"),
        }
    }

    /// The child's whole life up to its exec. Comes back only with a status and what went wrong.
    fn child(
        &self,
        argv: &[CString],
        output: &Output,
        socket: BorrowedFd<'_>,
    ) -> Result<std::convert::Infallible, (i32, String)> {
        let failed = |error: anyhow::Error| (126, format!("{error:#}"));
        self.prepare(output).map_err(failed)?;
        let listener = self.install().map_err(failed)?;
        let sent = process::send(socket, &[READY], listener.as_ref().map(AsFd::as_fd));
        sent.context("hand over the listener").map_err(failed)?;
        drop(listener);
        match process::receive(socket) {
            Ok((word, _)) if word == [GO] => {}
            _ => return Err((126, "the sensor ended".into())),
        }
        self.give_up_rights().map_err(failed)?;
        self.execute(argv)
    }

    /// Becomes the program. Comes back only with a status and what went wrong.
    pub(crate) fn execute(&self, argv: &[CString]) -> Result<std::convert::Infallible, (i32, String)> {
        let name = argv.first().ok_or((126, "there is no program to run".to_owned()))?;
        let program = self.look_up(name)?;
        let argv: Vec<&CStr> = argv.iter().map(CString::as_c_str).collect();
        let environment: Vec<&CStr> = self.environment.iter().map(CString::as_c_str).collect();
        Err(refusal(&program, &process::exec(&program, &argv, &environment)))
    }

    /// Session, signals, descriptors and limits.
    fn prepare(&self, output: &Output) -> Result<()> {
        nix::unistd::setsid().context("setsid")?;
        process::reset_signals();
        self.place.enter()?;
        let null = std::fs::File::open("/dev/null").context("open /dev/null")?;
        nix::unistd::dup2_stdin(&null)?;
        if let Output::Pipes(out, err) = output {
            nix::unistd::dup2_stdout(out)?;
            nix::unistd::dup2_stderr(err)?;
        }
        process::close_on_exec_from_3();
        for stream in [Standard::Output, Standard::Error] {
            own(sys::standard(stream), self.identity.uid)?;
        }
        let (soft, hard) = self.nofile;
        nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, soft, hard)
            .context("restore RLIMIT_NOFILE")
    }

    fn install(&self) -> Result<Option<OwnedFd>> {
        const REMEDY: &str = "add CAP_SYS_ADMIN or use --sensor fanotify";
        if self.filter.is_empty() {
            return Ok(None);
        }
        if self.trap == Some(Trap::Notify) {
            return seccomp::install_with_listener(&self.filter).map(Some).map_err(|error| {
                let remedy = if error.raw_os_error() == Some(libc::EBUSY) {
                    "another program listens to this container's system calls"
                } else {
                    REMEDY
                };
                anyhow!("seccomp(SET_MODE_FILTER, NEW_LISTENER) = {}; {remedy}", errno(&error))
            });
        }
        seccomp::install(&self.filter)
            .map_err(|error| anyhow!("seccomp(SET_MODE_FILTER) = {}; {REMEDY}", errno(&error)))?;
        Ok(None)
    }

    /// Drops what the target does not have. This is the line after which the child is the target.
    pub(crate) fn give_up_rights(&self) -> Result<()> {
        for cap in &self.drop {
            let name = process::CAPABILITIES[*cap as usize];
            process::drop_bounding(*cap)
                .with_context(|| format!("cannot drop {name} for the target; add CAP_SETPCAP"))?;
        }
        let Identity { uid, gid, groups, .. } = &self.identity;
        process::become_user(*uid, *gid, groups)
            .with_context(|| format!("become {uid}:{gid}; add CAP_SETUID and CAP_SETGID"))?;
        if *uid == 0 {
            let caps = bounding_set() & process::permitted_set();
            process::set_capabilities(caps).context("set the target's capabilities")?;
        }
        Ok(())
    }

    /// The file that a command means: a path as it is, or the first one in PATH that can be executed.
    fn look_up(&self, name: &CStr) -> Result<CString, (i32, String)> {
        let bytes = name.to_bytes();
        if bytes.contains(&b'/') {
            return executable(bytes).map(|()| name.to_owned()).map_err(|error| refusal(name, &error));
        }
        let path = self.environment.iter().rev().find_map(|entry| entry.to_bytes().strip_prefix(b"PATH="));
        let mut last = io::Error::from_raw_os_error(libc::ENOENT);
        for dir in path.unwrap_or_default().split(|b| *b == b':') {
            let dir = if dir.is_empty() { b"." } else { dir };
            let candidate = [dir, b"/", bytes].concat();
            match executable(&candidate) {
                Ok(()) => return Ok(c_string(&candidate)),
                Err(error) if error.raw_os_error() == Some(libc::EACCES) => last = error,
                Err(_) => {}
            }
        }
        Err(refusal(name, &last))
    }
}

impl Spawned {
    /// Lets it go on to its exec.
    pub fn go(&self) -> io::Result<()> {
        process::send(self.socket.as_fd(), &[GO], None)
    }

    /// What the socket says when poll(2) announced something: `Ok` when the program was executed.
    pub fn outcome(&self) -> Result<(), NotStarted> {
        match process::receive(self.socket.as_fd()) {
            Ok((message, _)) if message.is_empty() => Ok(()),
            Ok((message, _)) => Err(NotStarted {
                status: message.get(1).copied().unwrap_or(126).into(),
                text: String::from_utf8_lossy(message.get(2..).unwrap_or_default()).into_owned(),
            }),
            Err(error) => Err(NotStarted { status: 126, text: error.to_string() }),
        }
    }
}

/// Whether this can be executed, as Go's `exec.LookPath` decides it for runtimes.
fn executable(path: &[u8]) -> io::Result<()> {
    let path = Path::new(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(path));
    let meta = std::fs::metadata(path)?;
    if meta.is_dir() || meta.permissions().mode() & 0o111 == 0 {
        return Err(io::Error::from_raw_os_error(libc::EACCES));
    }
    Ok(())
}

fn refusal(program: &CStr, error: &io::Error) -> (i32, String) {
    let status = if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)) { 127 } else { 126 };
    (status, format!("cannot execute {}: {error}", program.to_string_lossy()))
}

/// Makes a stream the target's, so that /dev/stderr can be opened by it; runtimes do the same.
pub(crate) fn own(stream: BorrowedFd<'_>, uid: u32) -> Result<()> {
    let stat = nix::sys::stat::fstat(stream)?;
    let null = std::fs::metadata("/dev/null").map(|meta| meta.rdev()).unwrap_or(0);
    if stat.st_uid == uid || stat.st_rdev == null {
        return Ok(());
    }
    match nix::unistd::fchown(stream, Some(uid.into()), None) {
        Ok(()) | Err(nix::errno::Errno::EPERM | nix::errno::Errno::EROFS) => Ok(()),
        Err(nix::errno::Errno::EINVAL) => bail!(
            "the target runs as user {uid}, which this user namespace does not have; an ordinary user needs newuidmap \
             and newgidmap (package uidmap) and ranges of 65536 ids in /etc/subuid and /etc/subgid"
        ),
        Err(error) => Err(error).context("make stdout and stderr the target's; add CAP_CHOWN"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_executed_has_the_status_that_engines_give() {
        let recipe = |path: &str| Recipe {
            identity: Identity::default(),
            environment: vec![c_string(path.as_bytes())],
            drop: Vec::new(),
            filter: Vec::new(),
            trap: None,
            nofile: (1024, 1024),
            place: Place::Beside,
        };
        let status = |path, name: &str| match recipe(path).look_up(&c_string(name.as_bytes())) {
            Ok(program) => Ok(program.into_string().unwrap()),
            Err((status, _)) => Err(status),
        };
        assert_eq!(status("PATH=/nowhere:/bin", "sh"), Ok("/bin/sh".into()));
        assert_eq!(status("PATH=/nowhere", "sh"), Err(127));
        assert_eq!(status("PATH=", "/etc/passwd"), Err(126));
        assert_eq!(status("PATH=", "/etc"), Err(126));
        assert_eq!(status("PATH=", "/no/such"), Err(127));
    }
}
