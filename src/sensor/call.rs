//! Call: a system call that is stopped at its entry, and the paths that it names, read out of the memory of
//! the thread that makes it.

use std::ffi::CStr;
use std::io;
use std::os::unix::fs::FileExt;

use nix::sys::stat::FileStat;

use super::event::AccessKind;
use super::filter::{SYS_BIND, SYS_CONNECT};
use super::journal::Touch;
use super::table::{At, Call, Form, Last};
use super::who::Who;
use crate::sys;

/// A call that waits at its entry.
#[derive(Clone, Copy, Debug)]
pub struct Stopped {
    /// Thread that makes it, known to [`Who`].
    pub tid: i32,
    /// Which.
    pub call: &'static Call,
    /// Its arguments.
    pub args: [u64; 6],
}

/// Why the paths of a call are not known.
#[derive(Debug)]
pub enum Unread {
    /// The kernel will refuse the call for the same reason, or its thread is gone: nothing is touched.
    Nothing,
    /// We may not look; something may be touched.
    Error(io::Error),
}

const PATH_MAX: usize = libc::PATH_MAX as usize;

impl Stopped {
    /// The paths that the call names. `chrooted`: some process has another root than ours.
    pub fn touches(&self, who: &Who, chrooted: bool) -> Result<Vec<Touch>, Unread> {
        if let Some(address) = self.address()? {
            let path = self.unix_path(address)?;
            return path.map_or(Ok(Vec::new()), |path| self.join(who, None, &path, chrooted));
        }
        let mut touches = Vec::new();
        for at in self.call.paths {
            let (dir, path) = match *at {
                At::Cwd(path) => (None, path),
                At::Dir(dir, path) => (descriptor(self.args[dir]), path),
            };
            let path = match self.args[path] {
                0 => Vec::new(),
                address => self.string(address)?,
            };
            touches.extend(match self.in_root()? {
                true => self.join(who, dir, &clamped(&path), chrooted)?,
                false => self.join(who, dir, &path, chrooted)?,
            });
        }
        let (kind, nofollow) = self.kind_and_last()?;
        for touch in &mut touches {
            (touch.kind, touch.nofollow) = (kind, nofollow);
        }
        Ok(touches)
    }

    /// Whether openat2 was told that the directory is the root of its path (RESOLVE_IN_ROOT).
    fn in_root(&self) -> Result<bool, Unread> {
        let Form::OpenHow(how) = self.call.form else { return Ok(false) };
        // struct open_how: flags, mode, resolve, eight bytes each.
        let bytes = self.memory(self.args[how].wrapping_add(16), 8)?;
        let resolve = u64::from_le_bytes(bytes.try_into().map_err(|_| Unread::Nothing)?);
        Ok(resolve & libc::RESOLVE_IN_ROOT != 0)
    }

    /// The kind, and whether a symlink in the last component is the object.
    fn kind_and_last(&self) -> Result<(AccessKind, bool), Unread> {
        let flags = match self.call.form {
            Form::Open(flags) => self.args[flags] as u32 as u64,
            Form::OpenHow(how) => {
                let bytes = self.memory(self.args[how], 8)?;
                u64::from_le_bytes(bytes.try_into().map_err(|_| Unread::Nothing)?)
            }
            _ => {
                let nofollow = match self.call.last {
                    Last::Follow => false,
                    Last::Itself => true,
                    Last::ItselfIf(arg, bits) => self.args[arg] & bits != 0,
                    Last::FollowIf(arg, bits) => self.args[arg] & bits == 0,
                };
                return Ok((self.call.kind, nofollow));
            }
        };
        let has = |flag: i32| flags & flag as u64 != 0;
        let kind = if has(libc::O_PATH) {
            AccessKind::Stat
        } else if has(libc::O_DIRECTORY) {
            AccessKind::OpenDir
        } else {
            AccessKind::Open
        };
        Ok((kind, has(libc::O_NOFOLLOW)))
    }

    /// Pointer to and length of a socket address, where the call has one.
    fn address(&self) -> Result<Option<(u64, u64)>, Unread> {
        match self.call.form {
            Form::Address(pointer, length) => Ok(Some((self.args[pointer], self.args[length]))),
            Form::SocketCall => {
                let [SYS_BIND | SYS_CONNECT] = [self.args[0] as u32] else {
                    return Err(Unread::Nothing);
                };
                let words = self.memory(self.args[1], 12)?;
                let word = |n: usize| {
                    words.get(4 * n..4 * n + 4).and_then(|b| b.try_into().ok()).map(u32::from_le_bytes)
                };
                match (word(1), word(2)) {
                    (Some(pointer), Some(length)) => Ok(Some((pointer.into(), length.into()))),
                    _ => Err(Unread::Nothing),
                }
            }
            _ => Ok(None),
        }
    }

    /// The path in a unix(7) address; `None` for other families and names that are no path.
    fn unix_path(&self, (pointer, length): (u64, u64)) -> Result<Option<Vec<u8>>, Unread> {
        let bytes = self.memory(pointer, (length as u32 as usize).min(110))?;
        let Some((family, path)) = bytes.split_first_chunk::<2>() else {
            return Ok(None);
        };
        if i32::from(u16::from_ne_bytes(*family)) != libc::AF_UNIX {
            return Ok(None);
        }
        let end = path.iter().position(|b| *b == 0).unwrap_or(path.len());
        Ok((end > 0).then(|| path[..end].to_vec()))
    }

    /// A path from the thread's memory. Longer ones than the kernel takes are refused by it.
    fn string(&self, address: u64) -> Result<Vec<u8>, Unread> {
        // Most paths are short: a small piece first.
        for most in [256, PATH_MAX] {
            let mut bytes = self.memory(address, most)?;
            if let Some(end) = bytes.iter().position(|b| *b == 0) {
                bytes.truncate(end);
                return Ok(bytes);
            }
            if bytes.len() < most {
                break;
            }
        }
        Err(Unread::Nothing)
    }

    fn memory(&self, address: u64, most: usize) -> Result<Vec<u8>, Unread> {
        let by_file = || {
            let mut bytes = vec![0; most];
            let got = std::fs::File::open(format!("/proc/{}/mem", self.tid))?.read_at(&mut bytes, address)?;
            bytes.truncate(got);
            Ok(bytes)
        };
        let read = sys::read_memory(self.tid, address, most).or_else(|error| match error.raw_os_error() {
            Some(libc::EPERM | libc::ENOSYS) => by_file(),
            _ => Err(error),
        });
        read.map_err(|error| match error.raw_os_error() {
            Some(libc::EFAULT | libc::EIO | libc::ESRCH | libc::ENOENT) => Unread::Nothing,
            _ => Unread::Error(error),
        })
    }

    /// A path as the thread means it, from our root. An empty one means its base directory itself.
    fn join(&self, who: &Who, dir: Option<i32>, path: &[u8], chrooted: bool) -> Result<Vec<Touch>, Unread> {
        let base = match (path.first(), dir) {
            (Some(b'/'), _) if !chrooted => Some(Vec::new()),
            (Some(b'/'), _) => base(who, self.tid, c"root")?,
            (_, None) => base(who, self.tid, c"cwd")?,
            (_, Some(fd)) => base(who, self.tid, &sys::c_string(format!("fd/{fd}").as_bytes()))?,
        };
        let named = base.map(|base| Named::new(base, path)).and_then(|named| through_proc(who, self.tid, named));
        let touch = |Named { path, base }| {
            Touch { kind: self.call.kind, path, base, call: self.call.name, nofollow: false }
        };
        Ok(named.map(touch).into_iter().collect())
    }
}

/// The descriptor that an argument is; `None` for AT_FDCWD.
fn descriptor(argument: u64) -> Option<i32> {
    let fd = argument as u32 as i32;
    (fd != libc::AT_FDCWD).then_some(fd)
}

/// A path that cannot leave its base directory: `/` and `..` above that mean the directory itself.
fn clamped(path: &[u8]) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = Vec::new();
    let mut depth = 0;
    for part in path.split(|b| *b == b'/').filter(|part| !part.is_empty()) {
        match part {
            b".." if depth == 0 => continue,
            b".." => depth -= 1,
            b"." => {}
            _ => depth += 1,
        }
        parts.push(part);
    }
    if parts.is_empty() { b".".to_vec() } else { parts.join(&b'/') }
}

/// A directory of the thread as /proc names it; `None` where the call will fail or means no file.
fn base(who: &Who, tid: i32, name: &CStr) -> Result<Option<Vec<u8>>, Unread> {
    let base = match who.link(tid, name) {
        Ok(base) => base,
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH)) => return Ok(None),
        Err(error) => return Err(Unread::Error(error)),
    };
    if base.first() != Some(&b'/') || base.starts_with(b"/memfd:") {
        return Ok(None);
    }
    Ok(Some(undeleted(base, || who.stat(tid, name))))
}

/// What the kernel shows of a file's name without the mark that it was deleted, unless that is part of its name.
fn undeleted(mut path: Vec<u8>, stat: impl Fn() -> io::Result<FileStat>) -> Vec<u8> {
    let Some(kept) = path.strip_suffix(b" (deleted)").map(<[u8]>::len) else { return path };
    let is_called_so = nix::sys::stat::lstat(path.as_slice())
        .is_ok_and(|named| stat().is_ok_and(|meant| (named.st_dev, named.st_ino) == (meant.st_dev, meant.st_ino)));
    if !is_called_so {
        path.truncate(kept);
    }
    path
}

/// A path, and how many of its bytes are the directory that it was relative to.
#[derive(Debug, PartialEq, Eq)]
struct Named {
    path: Vec<u8>,
    base: usize,
}

impl Named {
    /// `path` as it is, after `base`; an empty base is for paths from our root.
    fn new(base: Vec<u8>, path: &[u8]) -> Self {
        let length = base.len();
        let mut joined = base;
        if length > 0 && !path.is_empty() && joined.last() != Some(&b'/') && path.first() != Some(&b'/') {
            joined.push(b'/');
        } else if joined == b"/" && path.first() == Some(&b'/') {
            joined.clear();
        }
        joined.extend_from_slice(path);
        Self { base: length, path: joined }
    }
}

/// What a path through /proc leads to: links like /proc/self/cwd lead back to files of the image. `None`
/// for the rest of /proc, which is never in an image.
fn through_proc(who: &Who, tid: i32, named: Named) -> Option<Named> {
    let Some(rest) = named.path.strip_prefix(b"/proc/") else {
        return Some(named);
    };
    let mut parts = rest.split(|b| *b == b'/').filter(|part| !part.is_empty());
    // A number is meant as the target's own /proc has it, which is that of another PID namespace than ours.
    let dir = match parts.next()? {
        b"self" => format!("/proc/{}", who.tgid(tid)),
        b"thread-self" => format!("/proc/{tid}"),
        other => format!("/proc/{tid}/root/proc/{}", std::str::from_utf8(other).ok()?.parse::<u32>().ok()?),
    };
    let link = match parts.next()? {
        name @ (b"cwd" | b"root" | b"exe") => String::from_utf8_lossy(name).into_owned(),
        b"fd" => format!("fd/{}", std::str::from_utf8(parts.next()?).ok()?),
        _ => return None,
    };
    let link = format!("{dir}/{link}");
    let target = std::fs::read_link(&link).ok()?;
    let target = std::os::unix::ffi::OsStringExt::into_vec(target.into_os_string());
    if target.first() != Some(&b'/') || target.starts_with(b"/memfd:") {
        return None;
    }
    let target = undeleted(target, || Ok(nix::sys::stat::stat(link.as_str())?));
    Some(Named::new(target, &parts.collect::<Vec<_>>().join(&b'/')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_joined_to_their_base_as_they_are() {
        for (base, path, expected) in [
            ("/", "a", "/a"),
            ("/", "/a", "/a"),
            ("", "/a", "/a"),
            ("/w", "../a//b/", "/w/../a//b/"),
            ("/jail", "/etc/x", "/jail/etc/x"),
            ("/w", "", "/w"),
        ] {
            let named = Named::new(base.into(), path.as_bytes());
            assert_eq!((named.path.as_slice(), named.base), (expected.as_bytes(), base.len()));
        }
    }

    #[test]
    fn a_path_below_a_root_of_its_own_does_not_leave_it() {
        for (path, expected) in [
            ("/etc/x", "etc/x"),
            ("../../etc/x", "etc/x"),
            ("a/../../b/./c", "a/../b/./c"),
            ("/", "."),
            ("a/b/", "a/b"),
        ] {
            assert_eq!(clamped(path.as_bytes()), expected.as_bytes(), "{path}");
        }
    }
}
