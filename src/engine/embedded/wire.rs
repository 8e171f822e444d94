//! Wire: the controller's end of the socket to a shim. One thread reads it; whoever asked waits for its own answer.

use std::collections::HashMap;
use std::io::Result as IoResult;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, anyhow};
use tokio::sync::{oneshot, watch};

use super::plan::{Answer, Call, Failure, Message, Request};
use crate::engine::EngineError;
use crate::progress::{Fact, Monitor};
use crate::sys::socket;

/// An answer with the descriptor that came along.
type Got = (Result<Answer, Failure>, Option<OwnedFd>);
type Waiting = Arc<Mutex<HashMap<u64, oneshot::Sender<Got>>>>;

/// How far a container is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Its root file system is there, or what was wrong.
    pub ready: Option<Result<(), Failure>>,
    /// Exit status of its process, and whether it was killed for memory; `None` while it runs.
    pub ended: Option<(i32, bool)>,
    /// The shim is gone.
    pub gone: bool,
}

/// A shim, as the controller talks to it.
pub struct Wire {
    socket: Mutex<Option<Arc<OwnedFd>>>,
    next: AtomicU64,
    waiting: Waiting,
    progress: watch::Receiver<Progress>,
}

impl Wire {
    /// Talks over this socket from now on.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn new(socket: OwnedFd, monitor: Arc<dyn Monitor>) -> Result<Self> {
        let socket = Arc::new(socket);
        let waiting = Waiting::default();
        let (tell, progress) = watch::channel(Progress::default());
        let (theirs, theirs_waiting) = (socket.clone(), waiting.clone());
        let read = move || {
            while let Ok(Some((bytes, fds))) = socket::receive(theirs.as_fd()) {
                take(&bytes, fds, &theirs_waiting, &tell, monitor.as_ref());
            }
            theirs_waiting.lock().unwrap_or_else(PoisonError::into_inner).clear();
            tell.send_modify(|progress| progress.gone = true);
        };
        std::thread::Builder::new().name("container".into()).spawn(read).context("start a thread")?;
        Ok(Self { socket: Mutex::new(Some(socket)), next: AtomicU64::new(1), waiting, progress })
    }

    /// How far the container is.
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.clone()
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// What the shim could not do, or that it is gone.
    pub async fn ask(&self, call: Call, fds: &[OwnedFd]) -> Result<(Answer, Option<OwnedFd>)> {
        let (_, answer) = self.begin(call, fds)?;
        finish(answer).await
    }

    /// Asks; gives the number of the request and what the answer will come by.
    ///
    /// # Errors
    /// When the shim is gone.
    pub fn begin(&self, call: Call, fds: &[OwnedFd]) -> Result<(u64, oneshot::Receiver<Got>)> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(id, sender);
        let bytes = serde_json::to_vec(&Request { id, call })?;
        if bytes.len() >= socket::LONGEST {
            return Err(EngineError::Refused("the command line is too long".into()).into());
        }
        let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
        self.send(&bytes, &fds).context("the process that holds the container is gone")?;
        Ok((id, receiver))
    }

    fn send(&self, bytes: &[u8], fds: &[std::os::fd::BorrowedFd<'_>]) -> IoResult<()> {
        let socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let socket = socket.ok_or(std::io::ErrorKind::BrokenPipe)?;
        socket::send(socket.as_fd(), bytes, fds)
    }

    /// Lets the shim go; it ends the container and removes what it made.
    pub fn close(&self) {
        if let Some(socket) = self.socket.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // The reading thread holds it too: this is what the other end sees.
            let _ = nix::sys::socket::shutdown(std::os::fd::AsRawFd::as_raw_fd(socket.as_ref()), nix::sys::socket::Shutdown::Write);
        }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.close();
    }
}

fn take(
    bytes: &[u8],
    mut fds: Vec<OwnedFd>,
    waiting: &Waiting,
    tell: &watch::Sender<Progress>,
    monitor: &dyn Monitor,
) {
    match serde_json::from_slice(bytes) {
        Ok(Message::Ready) => tell.send_modify(|progress| progress.ready = Some(Ok(()))),
        Ok(Message::Broken(failure)) => tell.send_modify(|progress| progress.ready = Some(Err(failure))),
        Ok(Message::Ended { status, oom }) => tell.send_modify(|progress| progress.ended = Some((status, oom))),
        Ok(Message::Warning(text)) => monitor.tell(Fact::Warning { text }),
        Ok(Message::Answer { id, result }) => {
            let sender = waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
            if let Some(sender) = sender {
                // Who asked may have given up.
                let _ = sender.send((result, fds.pop()));
            }
        }
        Err(error) => monitor.tell(Fact::Warning { text: format!("a container's process is not understood: {error}") }),
    }
}

/// Waits for an answer.
///
/// # Errors
/// What the shim could not do, or that it is gone.
pub async fn finish(answer: oneshot::Receiver<Got>) -> Result<(Answer, Option<OwnedFd>)> {
    let (result, fd) = answer.await.map_err(|_| anyhow!("the process that holds the container is gone"))?;
    Ok((result.map_err(error)?, fd))
}

/// What the shim said as an error of ours.
pub fn error(failure: Failure) -> anyhow::Error {
    match failure {
        Failure::NotExecuted(status, message) => EngineError::CannotExecute { status, message }.into(),
        Failure::NotFound(text) => EngineError::NotFound(text).into(),
        Failure::Errno(number) => std::io::Error::from_raw_os_error(number).into(),
        Failure::Other(text) => EngineError::Other(text).into(),
    }
}
