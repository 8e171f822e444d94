//! Probe: something asked of a running target, and the answer it gave.
//!
//! Probes are planned, expand to concrete requests (a crawl finds pages), and give answers. Verification
//! replays the same requests on the slim image and compares answers.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::engine::{ContainerState, ExecResult};

mod ask;
mod auto;
mod body;
mod choose;
pub mod command;
pub mod compare;
mod crawl;
mod host;
mod http;
mod links;
mod openapi;
mod ports;
mod ready;
pub mod recipe;
pub mod request;
mod run;
mod shown;
mod tcp;
mod text;
mod tls;
mod until;

pub use body::Collector;
pub use choose::{NothingToProbe, choose, says_nothing};
pub use command::{command_file, header, http_command, resolve};
pub use compare::{Comparison, compare};
pub use ports::{Ports, Speech};
pub use ready::{Ready, ready};
pub use recipe::{Recipe, recipes};
pub use request::ProbeRequest;
pub use run::{Recording, Verdict, replay, run};
pub use until::listen_for_signal;

/// A byte stream to a port of the target.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// How probes reach a running target. The recording run and a plain run implement it.
#[async_trait]
pub trait Target: Send + Sync {
    /// Connects to a tcp port of the target, as a client on its network would.
    async fn dial(&self, port: u16) -> std::io::Result<Box<dyn Stream>>;
    /// Runs a command inside, as the target's user. `name` is the probe's name.
    async fn exec(&self, name: &str, argv: &[String], timeout: Duration) -> Result<ExecResult>;
    /// Tells the recorders (if any) that what follows belongs to this probe.
    async fn mark(&self, name: &str) -> Result<()>;
    /// The target's state now. For a recording, health is what our own runs of the HEALTHCHECK say.
    async fn state(&self) -> Result<ContainerState>;
    /// Waits until the target ended by itself; gives its exit status.
    async fn ended(&self) -> Result<i32>;
    /// The target's own output so far, stdout and stderr together in the order it came.
    fn log(&self) -> Vec<u8>;
    /// The same as (stdout, stderr): how they mix changes from run to run.
    fn streams(&self) -> (Body, Body) {
        (Body::of(&self.log()), Body::of(b""))
    }
    /// What `--host-exec` commands connect to: an address or name.
    fn address(&self) -> String;
    /// Whether programs of this machine reach the target at that address; otherwise its ports are forwarded to
    /// them through [`Target::dial`].
    fn is_within_reach(&self) -> bool {
        true
    }
    /// The tcp sockets that processes of the target listen on; `None` when that cannot be known. Only used
    /// to explain why a port does not open.
    async fn listeners(&self) -> Option<Vec<SocketAddr>> {
        None
    }
}

/// What has to be true before the first probe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Readiness {
    /// All of these tcp ports accept a connection (and, for http probes, give an HTTP answer).
    Ports(Vec<u16>),
    /// The HEALTHCHECK is healthy.
    Health,
    /// A line of the log matches this regular expression.
    Log(String),
    /// Nothing: a program that runs and exits, or exec probes only.
    Started,
}

/// The probing part of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbePlan {
    /// Waited for before the first probe.
    pub readiness: Readiness,
    /// At most this long.
    pub ready_timeout: Duration,
    /// In order.
    pub probes: Vec<Probe>,
    /// What ends the probing.
    pub until: Until,
    /// Stop at the first stated probe that fails.
    pub exit_on_failure: bool,
    /// Exposed ports that nobody named: those that do not open soon after the first one did are left out.
    pub optional_ports: Vec<u16>,
    /// What was chosen and why, one line each, for people.
    pub notes: Vec<String>,
    /// What was asked for and cannot be done, one line each.
    pub warnings: Vec<String>,
}

/// `--continue-after`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// All probes ran.
    Probes,
    /// The target exits by itself.
    Exit,
    /// This much time after readiness.
    Timeout(Duration),
    /// SIGUSR1 to the controller.
    Signal,
    /// Enter on the terminal.
    Enter,
}

/// One planned probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Name in reports and marks: `http GET /`.
    pub name: String,
    /// What it does.
    pub action: Action,
    /// `true`: the user (or recipe) stated it; it must meet `expect`. `false`: discovered; whatever it
    /// answers is the baseline.
    pub stated: bool,
    /// What it must meet when stated.
    pub expect: Expect,
    /// Time for one request or command.
    pub timeout: Duration,
}

/// What a probe does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Action {
    /// One HTTP request.
    Http(HttpRequest),
    /// A request, then the same-origin links of what it answers.
    Crawl {
        /// Where it starts.
        start: HttpRequest,
        /// Links from the start page are depth 1; what a page needs (scripts, styles, images) has its depth.
        max_depth: u32,
        /// Requests in all.
        max_pages: u32,
        /// Globs of paths that are not requested.
        exclude: Vec<String>,
    },
    /// An OpenAPI document (JSON), then the GETs in it that need no parameter.
    Api {
        /// What answers with the document.
        start: HttpRequest,
        /// Put before each path of the document.
        prefix: String,
        /// Requests in all.
        max_pages: u32,
        /// Globs of paths that are not requested.
        exclude: Vec<String>,
    },
    /// A command in the container, no shell.
    Exec {
        /// argv.
        argv: Vec<String>,
    },
    /// A command on this machine; gets SLIM_TARGET_HOST and SLIM_TARGET_PORT(S).
    HostExec {
        /// argv.
        argv: Vec<String>,
        /// The target's tcp ports, the main one first.
        ports: Vec<u16>,
    },
    /// A tcp conversation.
    Tcp {
        /// Port.
        port: u16,
        /// In order.
        steps: Vec<TcpStep>,
    },
    /// The run itself: a program that exits. Its exit status and output are the answer.
    Run,
}

/// One HTTP request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpRequest {
    /// `None`: http or https, whichever the port speaks (found out once per port at readiness).
    pub tls: Option<bool>,
    /// HTTP/2: over TLS by ALPN, in clear by prior knowledge.
    pub http2: bool,
    /// Container port.
    pub port: u16,
    /// Method.
    pub method: String,
    /// Path with query.
    pub path: String,
    /// Extra headers. Values are never written to reports.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: Option<Vec<u8>>,
    /// Host header. `None`: `localhost:PORT`, the same in every run, because servers repeat it in what
    /// they answer (redirects, absolute links) and a container's address changes from run to run.
    pub host: Option<String>,
}

/// One step of a tcp conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TcpStep {
    /// Bytes to send.
    Send(Vec<u8>),
    /// Read until this regular expression (on bytes) matches what came since the last send.
    Expect(String),
    /// Read exactly what comes until the peer closes.
    ExpectClose,
}

/// What a stated probe must meet. All `None`: a 2xx or 3xx status, exit status 0, the conversation ends well.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Expect {
    /// HTTP status or exit status.
    pub status: Option<i32>,
    /// Body or stdout contains this text.
    pub contains: Option<String>,
}

/// One concrete request, as it is replayed. Never an [`Action::Crawl`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// The probe that it came from.
    pub probe: String,
    /// Name of this request: `GET /about.html`, unique in a run.
    pub name: String,
    /// What to do.
    pub action: Action,
    /// See [`Probe::stated`].
    pub stated: bool,
    /// See [`Probe::expect`].
    pub expect: Expect,
    /// See [`Probe::timeout`].
    pub timeout: Duration,
}

/// The answer to one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What was asked.
    pub request: Request,
    /// What came.
    pub content: Content,
    /// Whether a stated probe met what it states, or a discovered one answered at all; why not otherwise.
    pub outcome: Outcome,
    /// How long it took, for reports only.
    pub took: Duration,
}

/// A failed probe is an outcome, not an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As it should be.
    Passed,
    /// Why not, for people.
    Failed(String),
}

/// What an answer consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// From HTTP.
    Http {
        /// Status code.
        status: u16,
        /// Lower-case header names to values that matter for comparison (content-type, location, cookies'
        /// names, content-encoding, cache-control, www-authenticate ...).
        headers: BTreeMap<String, String>,
        /// The body, decoded from transfer coding only.
        body: Body,
    },
    /// From a command or a run that exited.
    Exit {
        /// Exit status.
        status: i32,
        /// stdout.
        stdout: Body,
        /// stderr.
        stderr: Body,
    },
    /// What a tcp peer sent.
    Bytes {
        /// All of it.
        received: Body,
    },
    /// Nothing came: the error, for people.
    None {
        /// "connection refused", "timed out after 10 s".
        error: String,
    },
}

/// Bytes of an answer; past a limit only their hash and length are held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Body {
    /// Length in bytes.
    pub length: u64,
    /// SHA-256 as hex.
    pub sha256: String,
    /// The bytes; `None` above [`MAX_BODY`].
    pub bytes: Option<Vec<u8>>,
}

/// Bodies up to this many bytes are held for comparison piece by piece.
pub const MAX_BODY: usize = 1 << 20;
