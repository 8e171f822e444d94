//! Probe request: what the user asked to be probed, before the image is known.

use std::path::PathBuf;
use std::time::Duration;

use super::{HttpRequest, Readiness, Until};

/// Everything the command line, its files and `slim.toml` say about probing, syntax already checked.
/// Together with the image's config it becomes a [`super::ProbePlan`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProbeRequest {
    /// `--http-probe` / `--http-probe-off`; `None`: not said.
    pub http: Option<bool>,
    /// `--http-probe-cmd` and the entries of `--http-probe-cmd-file`, in order.
    pub http_commands: Vec<HttpCommand>,
    /// Entries of command files that cannot be done, one line each.
    pub skipped: Vec<String>,
    /// `--http-probe-ports`; empty: the exposed tcp ports.
    pub http_ports: Vec<u16>,
    /// `--http-probe-crawl`; default on for the default `GET /`.
    pub crawl: Option<bool>,
    /// `--http-crawl-max-depth`; default 3.
    pub crawl_depth: Option<u32>,
    /// `--http-crawl-max-page-count`; default 1000.
    pub crawl_pages: Option<u32>,
    /// `--http-crawl-exclude`.
    pub crawl_exclude: Vec<String>,
    /// `--http-probe-header`, resolved (`env:VAR` values were read).
    pub headers: Vec<(String, String)>,
    /// `--http-probe-host`.
    pub host: Option<String>,
    /// `--http-probe-apispec` paths (served by the target) and `--http-probe-apispec-file` files.
    pub api_specs: Vec<ApiSpec>,
    /// `--exec` commands, split.
    pub exec: Vec<Vec<String>>,
    /// `--exec-sh` and `--exec-file` lines, run by the image's shell.
    pub exec_sh: Vec<String>,
    /// `--host-exec`, split.
    pub host_exec: Vec<Vec<String>>,
    /// `--probe` names or files; `auto` asks for a choice by ports and entrypoint.
    pub recipes: Vec<RecipeRef>,
    /// `--ready-log` and the like; `None`: chosen.
    pub readiness: Option<Readiness>,
    /// `--ready-timeout`.
    pub ready_timeout: Option<Duration>,
    /// `--http-probe-timeout` / time for one request or command.
    pub timeout: Option<Duration>,
    /// `--continue-after`.
    pub until: Option<Until>,
    /// `--http-probe-exit-on-failure`.
    pub exit_on_failure: bool,
}

/// `--http-probe-cmd [crawl:][METHOD:]path`, or one entry of a command file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpCommand {
    /// What to ask. `port` 0 stands for every probed port.
    pub request: HttpRequest,
    /// Follow links from it.
    pub crawl: bool,
    /// Stated status.
    pub status: Option<i32>,
    /// Stated body text.
    pub contains: Option<String>,
}

/// Where an OpenAPI document comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApiSpec {
    /// The target serves it at this path (optionally `path:prefix`).
    Served(String),
    /// A file on this machine.
    File(PathBuf),
}

/// `--probe`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecipeRef {
    /// Choose by ports and entrypoint.
    Auto,
    /// One of `probes/*.toml`.
    Named(String),
    /// A file of the user's.
    File(PathBuf),
}
