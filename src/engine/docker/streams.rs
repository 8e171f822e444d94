//! Streams: what flows into and out of a container, in our terms.

use std::io::{self, Read};
use std::pin::Pin;
use std::task::{Context, Poll};

use anyhow::{Context as _, Result, bail};
use bollard::container::LogOutput;
use tokio::io::{AsyncWrite, AsyncWriteExt};

use crate::engine::Output;

/// The client's end of a container's stdin.
type Writer = Pin<Box<dyn AsyncWrite + Send>>;

/// A container's stdin; letting go of it closes it, while the output goes on.
pub(super) fn input(writer: Writer) -> Writer {
    Box::pin(Input(Some(writer)))
}

struct Input(Option<Writer>);

impl Input {
    fn with<T>(&mut self, act: impl FnOnce(Pin<&mut (dyn AsyncWrite + Send)>) -> Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        match &mut self.0 {
            Some(writer) => act(writer.as_mut()),
            None => Poll::Ready(Err(io::Error::other("stdin is closed"))),
        }
    }
}

impl AsyncWrite for Input {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.with(|writer| writer.poll_write(cx, bytes))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|writer| writer.poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|writer| writer.poll_shutdown(cx))
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        if let (Some(mut writer), Ok(runtime)) = (self.0.take(), tokio::runtime::Handle::try_current()) {
            // Closed already, or the container is gone: both are what is wanted.
            runtime.spawn(async move { writer.shutdown().await });
        }
    }
}

/// A piece of output; a terminal's counts as stdout.
pub(super) fn output(piece: LogOutput) -> Output {
    match piece {
        LogOutput::StdErr { message } => Output { fd: 2, bytes: message },
        LogOutput::StdOut { message } | LogOutput::StdIn { message } | LogOutput::Console { message } => {
            Output { fd: 1, bytes: message }
        }
    }
}

/// The content of the one file in an archive.
pub(super) fn only_file(archive: &[u8]) -> Result<Vec<u8>> {
    let mut archive = tar::Archive::new(archive);
    let mut entry = archive.entries()?.next().context("the engine sent nothing")??;
    if !entry.header().entry_type().is_file() {
        bail!("it is not a file");
    }
    let mut bytes = Vec::new();
    entry.read_to_end(&mut bytes)?;
    Ok(bytes)
}
