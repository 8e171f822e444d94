//! Shim: the role of this executable that holds one container, beside the controller. It makes the root file
//! system, has libcontainer make the container's first process, which becomes its child, and does what it is asked
//! over a socket that is its stdin. When that closes the controller is gone, and so is the container.
//!
//! A process of its own because libcontainer forks, which a program with an async runtime cannot; and because its
//! mount namespace takes every mount along when it ends.

mod exec;
mod init;
mod rootfs;
mod said;
pub(super) mod userns;

use std::collections::BTreeMap;
use std::fs::File;
use std::net::TcpStream;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use libcontainer::container::Container;
use libcontainer::signal::Signal;

use super::plan::{Answer, Call, EXEC_ROLE, Failure, Message, Network, PLAN_FILE, Plan, Request};
use crate::sys::{self, Standard, process, socket};
use rootfs::Root;

pub use exec::run as run_exec;

/// How long a connection from the container's network may take.
const DIAL: Duration = Duration::from_secs(5);

/// Holds the container of a directory until the controller lets go of it.
///
/// # Errors
/// When the directory holds no plan, or nobody listens.
pub fn run(dir: &Path) -> Result<()> {
    let plan: Plan = read(&dir.join(PLAN_FILE))?;
    let prepared = prepare(dir, &plan);
    let root = match prepared {
        Ok(root) => root,
        Err(error) => {
            tell(&Message::Broken(failure(&error)), None);
            return Ok(());
        }
    };
    tell(&Message::Ready, None);
    let mut shim = Shim { dir: dir.to_owned(), plan, root, container: None, pid: None, execs: Arc::default() };
    while let Some((bytes, fds)) = socket::receive(control())? {
        let request: Request = serde_json::from_slice(&bytes).context("understand the controller")?;
        shim.serve(request, fds);
    }
    shim.end();
    Ok(())
}

/// Reads a JSON file.
fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T> {
    let text = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("understand {}", path.display()))
}

/// The namespaces of the shim, and the root file system in them.
fn prepare(dir: &Path, plan: &Plan) -> Result<Root> {
    use nix::sched::CloneFlags;
    if let Some(maps) = &plan.user_namespace {
        userns::enter(maps)?;
    }
    nix::sched::unshare(CloneFlags::CLONE_NEWNS).context("unshare(NEWNS): CAP_SYS_ADMIN is missing")?;
    let none = None::<&str>;
    let private = nix::mount::MsFlags::MS_REC | nix::mount::MsFlags::MS_SLAVE;
    nix::mount::mount(none, "/", none, private, none).context("make mounts private")?;
    match plan.network {
        Network::Host => {}
        Network::Own => {
            nix::sched::unshare(CloneFlags::CLONE_NEWNET).context("unshare(NEWNET): CAP_SYS_ADMIN is missing")?;
            socket::loopback_up().context("turn the loopback interface on: CAP_NET_ADMIN is missing")?;
        }
        Network::Of(pid) => {
            let other = File::open(format!("/proc/{pid}/ns/net")).context("find the network of the other container")?;
            nix::sched::setns(other, CloneFlags::CLONE_NEWNET).context("enter the network of the other container")?;
        }
    }
    Root::make(dir, plan)
}

fn control() -> std::os::fd::BorrowedFd<'static> {
    sys::standard(Standard::Input)
}

/// Sends a message. A controller that is gone is noticed by who waits for its next request.
fn tell(message: &Message, fd: Option<&OwnedFd>) {
    if let Ok(bytes) = serde_json::to_vec(message) {
        let fds: Vec<_> = fd.iter().map(|fd| fd.as_fd()).collect();
        let _ = socket::send(control(), &bytes, &fds);
    }
}

fn answer(id: u64, result: Result<Answer>, fd: Option<&OwnedFd>) {
    tell(&Message::Answer { id, result: result.map_err(|error| failure(&error)) }, fd);
}

/// An error for the controller, cut so that it fits into a message.
fn failure(error: &anyhow::Error) -> Failure {
    if let Some(init::NotExecuted { status, text }) = error.downcast_ref() {
        return Failure::NotExecuted(*status, text.clone());
    }
    let io = error.chain().find_map(|cause| cause.downcast_ref::<std::io::Error>());
    let text: String = format!("{error:#}").chars().take(4000).collect();
    match io.and_then(std::io::Error::raw_os_error) {
        Some(libc::ENOENT) => Failure::NotFound(text),
        _ => Failure::Other(text),
    }
}

/// Commands that run: by the request that started them, the process that holds them.
type Execs = Arc<Mutex<BTreeMap<u64, u32>>>;

struct Shim {
    dir: PathBuf,
    plan: Plan,
    root: Root,
    container: Option<Container>,
    /// The first process, while it runs.
    pid: Option<i32>,
    execs: Execs,
}

impl Shim {
    fn serve(&mut self, Request { id, call }: Request, mut fds: Vec<OwnedFd>) {
        match call {
            Call::Put { dir } => {
                let tar = fds.pop().context("no archive came along");
                answer(id, tar.and_then(|tar| self.root.put(&dir, File::from(tar))).map(|()| Answer::Done), None);
            }
            Call::Get { path } => match self.root.get(&path) {
                Ok(file) => answer(id, Ok(Answer::Done), Some(&file.into())),
                Err(error) => answer(id, Err(error), None),
            },
            Call::Start => answer(id, self.start(fds).map(|()| Answer::Done), None),
            Call::Signal { number } => answer(id, self.signal(number).map(|()| Answer::Done), None),
            Call::Exec { argv } => self.exec(id, argv, fds),
            Call::Cancel { id } => {
                let execs = self.execs.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(pid) = execs.get(&id) {
                    // It may have ended by itself.
                    let _ = process::kill(*pid as i32, libc::SIGKILL);
                }
            }
            Call::Dial { address } => {
                let connect = move || match TcpStream::connect_timeout(&address, DIAL) {
                    Ok(stream) => answer(id, Ok(Answer::Done), Some(&stream.into())),
                    Err(error) => {
                        let errno = error.raw_os_error().unwrap_or(libc::ETIMEDOUT);
                        tell(&Message::Answer { id, result: Err(Failure::Errno(errno)) }, None);
                    }
                };
                std::thread::spawn(connect);
            }
            Call::Listeners => {
                let table = |name: &str| std::fs::read_to_string(format!("/proc/thread-self/net/{name}"));
                let text = table("tcp").map(|text| text + &table("tcp6").unwrap_or_default());
                let text = text.map(Answer::Text).context("read the listening sockets");
                answer(id, text, None);
            }
        }
    }

    /// Makes the container and lets its process go.
    fn start(&mut self, fds: Vec<OwnedFd>) -> Result<()> {
        let streams: [OwnedFd; 3] = fds.try_into().ok().context("three streams are needed")?;
        let (created, pid) = init::create(&self.dir, &mut self.plan, streams)?;
        self.pid = Some(pid);
        let (container, started) = created.go();
        let cgroup = rootfs::memory_events(&self.plan);
        self.container = Some(container);
        // Also when its program could not be executed: then it ends by itself, and at once.
        std::thread::spawn(move || {
            let status = wait(pid);
            tell(&Message::Ended { status, oom: cgroup.is_some_and(|file| rootfs::killed(&file)) }, None);
        });
        started
    }

    fn signal(&self, number: i32) -> Result<()> {
        let pid = self.pid.context("the container does not run")?;
        process::kill(pid, number).context("send the signal")
    }

    /// Runs a command through a process of its own, which joins the container.
    fn exec(&self, id: u64, argv: Vec<String>, fds: Vec<OwnedFd>) {
        let started = exec::start(&self.dir, id, &argv, fds);
        let child = match started {
            Ok(child) => child,
            Err(error) => return answer(id, Err(error), None),
        };
        let (execs, dir) = (self.execs.clone(), self.dir.clone());
        execs.lock().unwrap_or_else(PoisonError::into_inner).insert(id, child.id());
        std::thread::spawn(move || {
            let result = exec::wait(&dir, id, child);
            execs.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
            answer(id, result.map(Answer::Status), None);
        });
    }

    /// Kills what runs and takes away what was made.
    fn end(mut self) {
        if let Some(pid) = self.pid {
            let _ = process::kill(pid, libc::SIGKILL);
        }
        for pid in self.execs.lock().unwrap_or_else(PoisonError::into_inner).values() {
            let _ = process::kill(*pid as i32, libc::SIGKILL);
        }
        if let Some(mut container) = self.container.take() {
            if let Ok(signal) = Signal::try_from(libc::SIGKILL) {
                // It may be gone already.
                let _ = container.kill(signal, true);
            }
            for _ in 0..100 {
                // The control groups of a process that still dies cannot be removed.
                if container.delete(true).is_ok() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        drop(self.root);
        remove(&self.dir);
    }
}

/// Removes a container's directory. What cannot be removed is removed by the next engine that starts here.
fn remove(dir: &Path) {
    let _ = std::fs::remove_dir_all(dir);
}

/// Waits for a child's end; gives its exit status as a shell shows it.
fn wait(pid: i32) -> i32 {
    use nix::sys::wait::{WaitStatus, waitpid};
    loop {
        match waitpid(nix::unistd::Pid::from_raw(pid), None) {
            Ok(WaitStatus::Exited(_, status)) => return status,
            Ok(WaitStatus::Signaled(_, signal, _)) => return 128 + signal as i32,
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(_) => return 255,
        }
    }
}

/// Checks that nobody calls these roles by hand.
///
/// # Errors
/// When there is no directory named.
pub fn argument(words: &mut std::env::ArgsOs) -> Result<PathBuf> {
    match words.next() {
        Some(dir) if Path::new(&dir).join(PLAN_FILE).is_file() => Ok(dir.into()),
        _ => bail!("{} and {EXEC_ROLE} are roles inside slim, not commands", super::plan::ROLE),
    }
}
