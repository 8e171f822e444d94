//! Control: what the controller and the sensor say to each other over the container's attached streams.
//!
//! Commands go down stdin, one JSON object a line. Replies come up stderr, each as one frame written by a
//! single write(2) of at most 4096 bytes (PIPE_BUF, pipe(7)), so the target's own output is never torn:
//! `\x1e` `slim` NONCE SPACE JSON `\x1e` NEWLINE. The nonce is drawn for each run; [`FrameFilter`] takes the
//! frames out, and what remains is the target's stderr, byte for byte.
//! When stdin ends, the controller is gone: the sensor kills the target and exits.

use serde::{Deserialize, Serialize};

use super::event::Recorders;

/// Where the sensor's volume is mounted while it starts. Detached before the target runs.
pub const SENSOR_DIR: &str = "/.slim-sensor";

/// File of [`SENSOR_DIR`] that holds the [`Start`] document.
pub const START_FILE: &str = "start.json";

/// Which trace: a slim image may be recorded while the recording of the original is not over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TraceOf {
    /// That of the untouched image.
    Original,
    /// That of the slim image, in which its misses are searched.
    Slim,
}

impl TraceOf {
    /// File of [`SENSOR_DIR`] that it is written to.
    pub fn file(self) -> &'static str {
        match self {
            TraceOf::Original => "trace.jsonl",
            TraceOf::Slim => "slim.jsonl",
        }
    }
}

/// File of [`SENSOR_DIR`] that is this executable.
pub const PROGRAM_FILE: &str = "slim";

/// What the target is and how to record it: the sensor's whole input, one JSON document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// Random text that marks frames as ours.
    pub nonce: String,
    /// Whose trace it writes.
    pub trace: TraceOf,
    /// The target's command line: entrypoint and cmd; never empty.
    pub argv: Vec<String>,
    /// USER as the image or the plan has it: empty, name, uid, `name:group`, `uid:gid`. Names are looked up
    /// in the image's /etc/passwd and /etc/group.
    pub user: String,
    /// Extra group ids or names (`--group-add`).
    pub groups: Vec<String>,
    /// Whether HOME was set by the image or the plan; if not, it is that of the target's user.
    pub home_is_set: bool,
    /// Capabilities in the sensor's bounding set that the target must not have, as `CAP_SYS_ADMIN`.
    pub drop_caps: Vec<String>,
    /// Give the target the seccomp rules that the engine would have without our added capabilities.
    pub narrow_seccomp: bool,
    /// Which recorders to arm.
    pub sensor: SensorMode,
    /// Mount points besides `/` that carry image content (VOLUMEs).
    pub content_mounts: Vec<String>,
    /// Whether the target is process 1 of a PID namespace of its own.
    pub pid1: Pid1,
}

/// `--pid1`: whether the target is process 1 while it is recorded, as it is when it runs without the sensor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Pid1 {
    /// Where the kernel allows it.
    #[default]
    Auto,
    /// It is, or nothing is recorded.
    Always,
    /// It is a child of the sensor.
    Never,
}

/// `--sensor`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum SensorMode {
    /// Split where both recorders can be had, else the one that can, with a warning.
    #[default]
    Auto,
    /// fanotify for opens and execs, syscalls for what fanotify cannot see; both or an error.
    Split,
    /// fanotify alone (misses what is only stat()ed).
    Fanotify,
    /// The syscall recorder alone, opens included.
    Syscalls,
}

/// Controller to sensor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Command {
    /// Accesses from now on belong to this mark. Answered by [`Reply::Marked`].
    Mark {
        /// The mark's number, counted by the controller from 1.
        n: u32,
        /// The probe's name.
        name: String,
    },
    /// Run a command as the target's user under the recorders. Answered by [`Reply::Output`]s and
    /// [`Reply::ExecEnd`].
    Exec {
        /// Number that the replies carry.
        id: u32,
        /// argv; the program is looked up in the target's PATH.
        argv: Vec<String>,
        /// What it is, for [`super::event::Process::origin`]: the probe's name or `healthcheck`.
        name: String,
        /// Killed after this many milliseconds.
        timeout_ms: u64,
    },
    /// Send a signal to the target (a number).
    Signal {
        /// Signal number.
        signal: i32,
    },
    /// Answered by [`Reply::Settled`] as soon as no new path came for `quiet_ms`, or after `max_ms`.
    Settle {
        /// Milliseconds without a new path.
        quiet_ms: u64,
        /// Upper bound in milliseconds.
        max_ms: u64,
    },
    /// Stop the target as the engine would: signal, wait, SIGKILL. A signal that the target neither handles
    /// nor (as PID 1 would not) dies from is not waited for. Answered by [`Reply::Exited`], [`Reply::Done`].
    Stop {
        /// Signal number.
        signal: i32,
        /// Milliseconds until SIGKILL.
        timeout_ms: u64,
    },
    /// The controller has read the trace: exit with the target's status.
    Bye,
}

/// Sensor to controller.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Reply {
    /// The recorders are armed and the target is about to be executed.
    Armed {
        /// Which.
        recorders: Recorders,
    },
    /// The target was executed.
    Started {
        /// Its pid in the container's namespace.
        pid: i32,
    },
    /// Nothing can be recorded; the sensor exits. The target was not started.
    Failed {
        /// For people: the operation, what the kernel said, the remedy.
        error: String,
        /// Whether the target's program itself could not be executed (as `docker run` would say 126/127).
        target: Option<i32>,
    },
    /// Answer to [`Command::Mark`].
    Marked {
        /// The mark.
        n: u32,
    },
    /// A piece of an exec's output.
    Output {
        /// The exec.
        id: u32,
        /// 1 for stdout, 2 for stderr.
        fd: u8,
        /// base64.
        data: String,
    },
    /// An exec ended and all its output was sent.
    ExecEnd {
        /// The exec.
        id: u32,
        /// Exit status as a shell shows it; 126/127 when it could not be executed.
        status: i32,
        /// It was killed at its timeout.
        timed_out: bool,
    },
    /// Answer to [`Command::Settle`].
    Settled {
        /// Distinct paths so far.
        paths: u64,
        /// False when `max_ms` ran out first.
        quiet: bool,
    },
    /// The target ended, by itself or stopped.
    Exited {
        /// Exit status as a shell shows it.
        status: i32,
        /// The target had a handler for the stop signal, or was not stopped. `false`: as PID 1 it would have
        /// ignored it until SIGKILL.
        handled: bool,
    },
    /// The only frame that comes on stdout: what the target wrote there is in front of it. Sent when all
    /// processes are gone, before [`Reply::Done`].
    OutputEnd,
    /// All processes are gone, the trace is drained and its `end` line is written.
    Done {
        /// Number of `access` lines.
        accesses: u64,
    },
}

/// Frames are cut out of one of the target's streams, across any chunk borders.
#[derive(Debug)]
pub struct FrameFilter {
    prefix: Vec<u8>,
    held: Vec<u8>,
}

/// The most bytes a frame can have (PIPE_BUF on Linux).
pub const MAX_FRAME: usize = 4096;

/// The most raw bytes of output that fit a frame as base64 with room for the rest.
pub const MAX_OUTPUT: usize = 2700;

/// One reply as the bytes to write at once.
///
/// # Panics
/// Never: replies are plain data. A reply whose text is too long is cut by its maker.
pub fn frame(nonce: &str, reply: &Reply) -> Vec<u8> {
    let json = serde_json::to_string(reply).unwrap_or_default();
    let mut bytes = prefix(nonce);
    bytes.extend_from_slice(json.as_bytes());
    bytes.extend_from_slice(b"\x1e\n");
    bytes
}

fn prefix(nonce: &str) -> Vec<u8> {
    format!("\x1eslim{nonce} ").into_bytes()
}

impl FrameFilter {
    /// A filter for the frames of one run.
    pub fn new(nonce: &str) -> Self {
        Self {
            prefix: prefix(nonce),
            held: Vec::new(),
        }
    }

    /// Takes a chunk of the stream; gives the target's own bytes and the replies in it. Bytes that may be
    /// the start of a frame are held until the next chunk.
    pub fn push(&mut self, chunk: &[u8]) -> (Vec<u8>, Vec<Reply>) {
        self.held.extend_from_slice(chunk);
        let (mut own, mut replies) = (Vec::new(), Vec::new());
        loop {
            let Some(start) = find(&self.held, &self.prefix) else {
                let keep = (0..self.prefix.len().min(self.held.len() + 1))
                    .rev()
                    .find(|n| self.held.ends_with(&self.prefix[..*n]))
                    .unwrap_or(0);
                let cut = self.held.len() - keep;
                own.extend(self.held.drain(..cut));
                return (own, replies);
            };
            own.extend(self.held.drain(..start));
            let Some(end) = find(&self.held[self.prefix.len()..], b"\x1e\n") else {
                if self.held.len() > MAX_FRAME {
                    // Longer than any frame: it is the target's own text.
                    own.append(&mut self.held);
                }
                return (own, replies);
            };
            let json_end = self.prefix.len() + end;
            match serde_json::from_slice(&self.held[self.prefix.len()..json_end]) {
                Ok(reply) => replies.push(reply),
                Err(_) => own.extend_from_slice(&self.held[..json_end + 2]),
            }
            self.held.drain(..json_end + 2);
        }
    }

    /// What is still held when the stream ended: the target's own bytes.
    pub fn finish(self) -> Vec<u8> {
        self.held
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_leave_the_targets_bytes_as_they_were_at_any_chunk_border() {
        let reply = Reply::Marked { n: 3 };
        let mut stream = b"no newline yet".to_vec();
        stream.extend(frame("n0", &reply));
        stream.extend_from_slice(b" and on\x1e\x1esli");
        stream.extend(frame("n0", &reply));
        stream.extend_from_slice(b"end\x1eslim");
        for size in 1..stream.len() {
            let mut filter = FrameFilter::new("n0");
            let (mut own, mut replies) = (Vec::new(), Vec::new());
            for chunk in stream.chunks(size) {
                let (bytes, found) = filter.push(chunk);
                own.extend(bytes);
                replies.extend(found);
            }
            own.extend(filter.finish());
            assert_eq!(own, b"no newline yet and on\x1e\x1esliend\x1eslim", "chunks of {size}");
            assert_eq!(replies, [reply.clone(), reply.clone()]);
        }
    }

    #[test]
    fn the_largest_output_fits_a_frame() {
        use base64::Engine as _;
        let data = base64::engine::general_purpose::STANDARD.encode([0u8; MAX_OUTPUT]);
        let reply = Reply::Output { id: u32::MAX, fd: 2, data };
        assert!(frame(&"f".repeat(32), &reply).len() <= MAX_FRAME);
    }
}
