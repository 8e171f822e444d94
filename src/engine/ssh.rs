//! Ssh: an engine on another machine, spoken to as the docker command does it: over the standard streams of
//! `ssh HOST docker system dial-stdio`, one connection of the pool each.
//!
//! The ssh program with the user's own configuration decides about keys, known hosts and jumps; it may not ask
//! for anything, because the terminal is ours.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::process::Stdio;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bollard::errors::Error as Bollard;
use bollard::{API_DEFAULT_VERSION, BollardRequest, Docker};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tower_service::Service;

/// Seconds for ssh to get through; the docker command's own choice.
const CONNECT_TIMEOUT: &str = "ConnectTimeout=30";
/// Time for the last words of an ssh that closed its stdout.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// Last words are no longer than this.
const LONGEST_WORDS: u64 = 4096;

/// Where ssh leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// Account; `None` leaves it to ssh's configuration.
    pub user: Option<String>,
    /// Machine.
    pub host: String,
    /// Port; `None` leaves it to ssh's configuration.
    pub port: Option<u16>,
    /// The engine's socket there; `None` leaves it to the docker command there.
    pub socket: Option<String>,
}

impl std::fmt::Display for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let user = self.user.as_ref().map(|user| format!("{user}@")).unwrap_or_default();
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        let port = self.port.map(|port| format!(":{port}")).unwrap_or_default();
        write!(f, "ssh://{user}{host}{port}{}", self.socket.as_deref().unwrap_or_default())
    }
}

impl Login {
    /// Reads `ssh://[USER@]HOST[:PORT][/SOCKET]`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let url = url::Url::parse(text).map_err(|error| error.to_string())?;
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or("it names no machine")?;
        if url.password().is_some() {
            return Err("ssh takes no password from an address; use a key".into());
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err("nothing may stand behind the socket's path".into());
        }
        let user = Some(url.username()).filter(|user| !user.is_empty());
        for word in [Some(host), user].into_iter().flatten() {
            // It would be a flag of ssh's.
            if word.starts_with('-') {
                return Err(format!("{word:?} is no name"));
            }
        }
        Ok(Self {
            user: user.map(str::to_owned),
            host: host.trim_start_matches('[').trim_end_matches(']').to_owned(),
            port: url.port(),
            socket: Some(url.path()).filter(|path| path.len() > 1).map(str::to_owned),
        })
    }

    /// The command line that leads to the engine's API.
    fn words(&self) -> Vec<String> {
        let mut words: Vec<String> = ["-o", CONNECT_TIMEOUT, "-o", "BatchMode=yes", "-T"].map(str::to_owned).to_vec();
        words.extend(self.user.iter().flat_map(|user| ["-l".to_owned(), user.clone()]));
        words.extend(self.port.iter().flat_map(|port| ["-p".to_owned(), port.to_string()]));
        words.extend(["--".to_owned(), self.host.clone(), "docker".to_owned()]);
        if let Some(socket) = &self.socket {
            // A shell reads it there.
            let host = format!("unix://{socket}");
            words.extend(["--host".to_owned(), shell_words::quote(&host).into_owned()]);
        }
        words.extend(["system", "dial-stdio"].map(str::to_owned));
        words
    }
}

/// A client whose connections go through ssh.
///
/// # Errors
/// When bollard refuses.
pub(super) fn client(login: &Login, seconds: u64) -> Result<Docker, Bollard> {
    let client = Client::builder(TokioExecutor::new()).build(Dialer(login.clone()));
    let transport = move |request: BollardRequest| {
        let client = client.clone();
        async move { client.request(request).await.map_err(Bollard::from) }
    };
    Docker::connect_with_custom_transport(transport, Some("http://engine"), seconds, API_DEFAULT_VERSION)
}

/// Makes connections.
#[derive(Clone)]
struct Dialer(Login);

impl Service<http::Uri> for Dialer {
    type Response = TokioIo<Wire>;
    type Error = io::Error;
    type Future = std::future::Ready<io::Result<TokioIo<Wire>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: http::Uri) -> Self::Future {
        std::future::ready(Wire::dial(&self.0).map(TokioIo::new))
    }
}

/// One connection: a running ssh.
struct Wire {
    /// Killed when the connection is let go.
    _ssh: Child,
    stdin: Option<ChildStdin>,
    stdout: ChildStdout,
    /// Its last words, wanted when it ends without having said anything else.
    words: Option<Pin<Box<dyn Future<Output = String> + Send>>>,
}

impl Wire {
    fn dial(login: &Login) -> io::Result<Self> {
        let mut command = Command::new("ssh");
        command.args(login.words()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // A ^C at the terminal is for us, who still have to clean up over there.
        let mut ssh = command.process_group(0).kill_on_drop(true).spawn().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => io::Error::new(error.kind(), "there is no ssh command here; install openssh"),
            _ => error,
        })?;
        let none = || io::Error::other("ssh has no streams");
        let (stdin, stdout) = (ssh.stdin.take().ok_or_else(none)?, ssh.stdout.take().ok_or_else(none)?);
        let words = last_words(ssh.stderr.take().ok_or_else(none)?);
        Ok(Self { _ssh: ssh, stdin: Some(stdin), stdout, words: Some(Box::pin(words)) })
    }
}

/// What ssh says, however long it says nothing; a master connection that it leaves behind may keep stderr open.
async fn last_words(mut stderr: ChildStderr) -> String {
    let mut said = Vec::new();
    let all = async { (&mut stderr).take(LONGEST_WORDS).read_to_end(&mut said).await };
    let _late = tokio::time::timeout(LAST_WORDS, all).await;
    let text = String::from_utf8_lossy(&said);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    match lines.is_empty() {
        true => "ssh ended without a word; is the docker command there?".to_owned(),
        false => lines.join(" "),
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stdout).poll_read(cx, buf))?;
        match &mut self.words {
            Some(words) if buf.filled().len() == before => {
                let said = ready!(words.as_mut().poll(cx));
                self.words = None;
                Poll::Ready(Err(io::Error::other(said)))
            }
            words => {
                *words = None;
                Poll::Ready(Ok(()))
            }
        }
    }
}

impl Wire {
    fn stdin(&mut self) -> io::Result<Pin<&mut ChildStdin>> {
        self.stdin.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::BrokenPipe.into())
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match ready!(self.stdin()?.poll_write(cx, bytes)) {
            // Why it has ended is read from it.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe && self.words.is_some() => Poll::Pending,
            other => Poll::Ready(other),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stdin {
            Some(stdin) => Pin::new(stdin).poll_flush(cx),
            None => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Shutting a pipe down does nothing: only letting go of it ends it.
        self.stdin = None;
        Poll::Ready(Ok(()))
    }
}

impl Connection for Wire {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_and_written_as_the_docker_command_has_it() {
        for (text, words) in [
            ("ssh://box", "-- box docker system dial-stdio"),
            ("ssh://me@box:2222", "-l me -p 2222 -- box docker system dial-stdio"),
            ("ssh://me@[::1]", "-l me -- ::1 docker system dial-stdio"),
            ("ssh://box/run/my.sock", "-- box docker --host unix:///run/my.sock system dial-stdio"),
        ] {
            let login = Login::parse(text).unwrap();
            assert_eq!(login.to_string(), text);
            assert!(login.words().join(" ").ends_with(&format!("-T {words}")), "{:?}", login.words());
        }
        assert_eq!(Login::parse("ssh://box/").unwrap().to_string(), "ssh://box");
    }

    #[test]
    fn what_would_be_a_flag_or_a_secret_is_refused() {
        for (text, why) in [
            ("ssh://", "names no machine"),
            ("ssh://me:hunter2@box", "use a key"),
            ("ssh://-oProxyCommand=x", "is no name"),
            ("ssh://-l@box", "is no name"),
            ("ssh://box/a?b", "nothing may stand"),
        ] {
            let error = Login::parse(text).unwrap_err();
            assert!(error.contains(why) && !error.contains("hunter2"), "{text}: {error}");
        }
    }
}
