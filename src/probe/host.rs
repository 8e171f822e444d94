//! Host: commands on this machine that exercise the target from outside (`--host-exec`). Where this machine's
//! programs do not reach the target, its ports are forwarded to ports of this machine as long as a command runs.

use std::convert::Infallible;
use std::io;
use std::net::Ipv4Addr;
use std::process::Stdio;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::TcpListener;
use tokio::process::Command;

use super::body::Collector;
use super::{Body, Content, Target};

/// Runs `argv` with the target's address in its environment: SLIM_TARGET_HOST, SLIM_TARGET_PORT (the main
/// one) and SLIM_TARGET_PORTS (all, with commas). It is killed when it takes longer than `timeout` or when
/// this future is dropped. The error is for people.
pub(super) async fn command(
    argv: &[String],
    target: &dyn Target,
    ports: &[u16],
    timeout: Duration,
) -> Result<Content, String> {
    let (program, args) = argv.split_first().ok_or("the command is empty")?;
    let doors = Doors::open(target, ports).await.map_err(|e| format!("cannot forward a port to {program}: {e}"))?;
    let all: Vec<String> = doors.ports.iter().map(u16::to_string).collect();
    let mut command = Command::new(program);
    command.args(args).env("SLIM_TARGET_HOST", &doors.address).env("SLIM_TARGET_PORTS", all.join(","));
    command.env("SLIM_TARGET_PORT", all.first().map_or("", String::as_str));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0).kill_on_drop(true);
    let mut child = command.spawn().map_err(|e| format!("cannot run {program} on this machine: {e}"))?;
    let group = Group(child.id().and_then(|id| i32::try_from(id).ok()));
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let ran = async {
        tokio::select! {
            ran = async { tokio::join!(child.wait(), all_of(out), all_of(err)) } => ran,
            never = doors.serve(target) => match never {},
        }
    };
    let Ok((status, stdout, stderr)) = tokio::time::timeout(timeout, ran).await else {
        return Err(format!("timed out after {} s", timeout.as_secs_f64()));
    };
    drop(group);
    let status = status.map_err(|e| format!("cannot wait for {program}: {e}"))?;
    Ok(Content::Exit { status: shell_status(status), stdout, stderr })
}

/// Where a command finds the target's ports.
struct Doors {
    address: String,
    ports: Vec<u16>,
    /// Ports of this machine, each with the target's port that it leads to.
    listeners: Vec<(TcpListener, u16)>,
}

impl Doors {
    async fn open(target: &dyn Target, ports: &[u16]) -> io::Result<Self> {
        let mut doors = Self { address: target.address(), ports: ports.to_vec(), listeners: Vec::new() };
        if target.is_within_reach() {
            return Ok(doors);
        }
        doors.address = Ipv4Addr::LOCALHOST.to_string();
        for (at, port) in ports.iter().enumerate() {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
            doors.ports[at] = listener.local_addr()?.port();
            doors.listeners.push((listener, *port));
        }
        Ok(doors)
    }

    /// Carries connections for ever.
    async fn serve(&self, target: &dyn Target) -> Infallible {
        join_all(self.listeners.iter().map(|(listener, port)| carry(listener, *port, target))).await;
        std::future::pending().await
    }
}

async fn carry(listener: &TcpListener, port: u16, target: &dyn Target) {
    let mut carried = FuturesUnordered::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((mut near, _)) => carried.push(async move {
                    // What the target refuses is closed here.
                    if let Ok(mut far) = target.dial(port).await {
                        let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                    }
                }),
                Err(_) => return,
            },
            Some(()) = carried.next(), if !carried.is_empty() => {}
        }
    }
}

/// A process group that is killed when this is dropped: what a command started ends with it.
struct Group(Option<i32>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(id) = self.0 {
            let _ = killpg(Pid::from_raw(id), Signal::SIGKILL);
        }
    }
}

fn shell_status(status: std::process::ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default())
}

async fn all_of(pipe: Option<impl AsyncRead + Unpin>) -> Body {
    let mut collector = Collector::default();
    let mut chunk = [0; 8192];
    if let Some(mut pipe) = pipe {
        while let Ok(read @ 1..) = pipe.read(&mut chunk).await {
            collector.push(&chunk[..read]);
        }
    }
    collector.finish()
}
