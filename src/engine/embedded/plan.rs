//! Plan: one container, worked out by the controller, done by the shim. And the words that both exchange: one JSON
//! message each over a socket, descriptors with it.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The role of this executable that holds one container.
pub const ROLE: &str = "runtime";

/// The role of this executable that runs a command in a container.
pub const EXEC_ROLE: &str = "runtime-exec";

/// File of a container's directory that holds its [`Plan`].
pub const PLAN_FILE: &str = "plan.json";

/// A container.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plan {
    /// Its name, unique on this machine.
    pub name: String,
    /// Unpacked layers, lowest first.
    pub layers: Vec<PathBuf>,
    /// The OCI runtime spec; its root is `rootfs` in the container's directory.
    pub spec: Value,
    /// What runs.
    pub process: Process,
    /// Directories of the container that are made when they are missing: the working directory.
    pub dirs: Vec<String>,
    /// VOLUMEs without a name: mounts of their own that show the image's content.
    pub volumes: Vec<String>,
    /// Named volumes: (path in the container, directory here). An empty one gets the image's content.
    pub filled: Vec<(String, PathBuf)>,
    /// What is mounted from here: (path in the container, path here), for what is put in and read before the start.
    pub shared: Vec<(String, PathBuf)>,
    /// Network.
    pub network: Network,
    /// Ids, where an ordinary user runs it.
    pub user_namespace: Option<IdMaps>,
    /// Limits were asked for: without control groups the container does not start.
    pub limited: bool,
}

/// Where its sockets are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Network {
    /// In a namespace of its own, with nothing but a loopback interface.
    Own,
    /// With this machine's.
    Host,
    /// In that of another container: the process that holds it.
    Of(u32),
}

/// What runs in it, and as whom.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Command line.
    pub argv: Vec<String>,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// USER as the image or the run has it.
    pub user: String,
    /// Further groups.
    pub groups: Vec<String>,
    /// Its capabilities, by number.
    pub capabilities: Vec<u32>,
    /// The filter of its system calls, as (code, jt, jf, k); empty for none.
    pub filter: Vec<(u16, u8, u8, u32)>,
}

/// Ids of a user namespace: (inside, outside, count), see user_namespaces(7).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMaps {
    /// Users.
    pub uids: Vec<(u32, u32, u32)>,
    /// Groups.
    pub gids: Vec<(u32, u32, u32)>,
    /// `newuidmap` and `newgidmap` write them; else a single id is mapped, by ourselves.
    pub by_helpers: bool,
}

/// A message to the shim.
#[derive(Debug, Serialize, Deserialize)]
pub struct Request {
    /// Names the answer.
    pub id: u64,
    /// What is wanted.
    pub call: Call,
}

/// What is wanted of the shim.
#[derive(Debug, Serialize, Deserialize)]
pub enum Call {
    /// Unpack a tar (a descriptor) in a directory.
    Put {
        /// Directory of the container.
        dir: String,
    },
    /// Open a file: the answer has its descriptor.
    Get {
        /// File of the container.
        path: String,
    },
    /// Start the process; its stdin, stdout and stderr come along.
    Start,
    /// Send a signal to it.
    Signal {
        /// Number.
        number: i32,
    },
    /// Run a command; its stdout and stderr come along. The answer comes when it ended.
    Exec {
        /// Command line.
        argv: Vec<String>,
    },
    /// End a command.
    Cancel {
        /// The request that started it.
        id: u64,
    },
    /// Connect from its network: the answer has the descriptor.
    Dial {
        /// Where to.
        address: SocketAddr,
    },
    /// The tables of listening sockets in its network.
    Listeners,
}

/// A message from the shim.
#[derive(Debug, Serialize, Deserialize)]
pub enum Message {
    /// The root file system is there.
    Ready,
    /// There is none.
    Broken(Failure),
    /// The answer to a request.
    Answer {
        /// Which.
        id: u64,
        /// What came of it.
        result: Result<Answer, Failure>,
    },
    /// The process ended.
    Ended {
        /// Exit status as a shell shows it.
        status: i32,
        /// The kernel killed for memory.
        oom: bool,
    },
    /// Something that the user may want to know.
    Warning(String),
}

/// What came of a request.
#[derive(Debug, Serialize, Deserialize)]
pub enum Answer {
    /// Done, or the descriptor comes along.
    Done,
    /// A command ended.
    Status(i32),
    /// Text.
    Text(String),
}

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Failure {
    /// The program cannot be executed: exit status, and why.
    NotExecuted(i32, String),
    /// There is no such file.
    NotFound(String),
    /// A system call failed with this number.
    Errno(i32),
    /// Anything else.
    Other(String),
}
