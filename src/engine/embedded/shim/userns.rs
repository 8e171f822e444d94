//! Userns: the user namespace in which an ordinary user is root, see user_namespaces(7).

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::process::Command;

use anyhow::{Context, Result, anyhow, bail};
use nix::sched::{CloneFlags, unshare};

use super::super::plan::IdMaps;
use crate::sys::{process, socket};

/// Moves this process into a user namespace with these ids, and makes it root there.
pub(in crate::engine::embedded) fn enter(maps: &IdMaps) -> Result<()> {
    let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
    let remedy = "unshare(NEWUSER): user namespaces are forbidden here; allow them \
        (sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns; \
        in a container start that with --security-opt seccomp=unconfined) or run slim as root";
    if !maps.by_helpers {
        unshare(CloneFlags::CLONE_NEWUSER).context(remedy)?;
        write("setgroups", "deny")?;
        write("uid_map", &format!("0 {uid} 1"))?;
        write("gid_map", &format!("0 {gid} 1"))?;
        return Ok(());
    }
    // The helpers are set-uid programs: they work from outside, on a process that is inside.
    let (near, far) = socket::pair().context("make a socket")?;
    let pid = std::process::id();
    let helper = process::fork(|| {
        let done = socket::receive(far.as_fd()).map_err(anyhow::Error::from).and_then(|_| write_maps(pid, maps));
        let text = done.err().map_or_else(|| "ok".to_owned(), |error| format!("{error:#}"));
        i32::from(socket::send(far.as_fd(), text.as_bytes(), &[]).is_err())
    })
    .context("fork failed")?;
    drop(far);
    unshare(CloneFlags::CLONE_NEWUSER).context(remedy)?;
    socket::send(near.as_fd(), b"now", &[]).context("ask for the ids")?;
    let said = socket::receive(near.as_fd()).context("hear of the ids")?;
    super::wait(helper);
    match said {
        Some((text, _)) if text == b"ok" => {}
        Some((text, _)) => bail!("{}", String::from_utf8_lossy(&text)),
        None => bail!("the process that maps the ids ended"),
    }
    process::become_user(0, 0, &[]).context("become root in the user namespace")
}

fn write(name: &str, text: &str) -> Result<()> {
    let path = format!("/proc/self/{name}");
    let mut file = File::options().write(true).open(&path).with_context(|| format!("open {path}"))?;
    file.write_all(text.as_bytes()).with_context(|| format!("write {text:?} to {path}"))
}

fn write_maps(pid: u32, maps: &IdMaps) -> Result<()> {
    for (program, ids) in [("newuidmap", &maps.uids), ("newgidmap", &maps.gids)] {
        let mut command = Command::new(program);
        command.arg(pid.to_string());
        for (inside, outside, count) in ids {
            command.args([inside, outside, count].map(u32::to_string));
        }
        let output = command.output().with_context(|| format!("run {program}"))?;
        if !output.status.success() {
            let text = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(anyhow!("{program} ended with {}: {text}", output.status));
        }
    }
    Ok(())
}

