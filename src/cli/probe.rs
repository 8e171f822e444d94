//! Probe: the words that say what is asked of the target while it runs.

use std::path::PathBuf;

use clap::Args;

/// What is asked of the target.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
#[command(next_help_heading = "Probes")]
pub struct ProbeArgs {
    /// Recipe, recipe file, or `auto`: choose by ports and entrypoint [default: auto when nothing else is asked]
    #[arg(long, value_name = "NAME|FILE|auto", value_delimiter = ',')]
    pub probe: Vec<String>,
    /// Probe the tcp ports by HTTP: GET / and what it links to
    #[arg(long)]
    pub http_probe: Option<bool>,
    /// No HTTP probe, as --http-probe=false
    #[arg(long)]
    pub http_probe_off: Option<bool>,
    /// HTTP request that has to succeed
    ///
    /// PROTO is http, https, http2 or http2c; without it the port is asked what it speaks. METHOD is GET unless
    /// it is said. A crawl follows the links of the answer. Success is a status of 2xx or 3xx.
    #[arg(long, value_name = "[crawl:][PROTO:][METHOD:]PATH")]
    pub http_probe_cmd: Vec<String>,
    /// JSON file of such requests
    ///
    /// {"commands": [{"resource": "/api", "method": "POST", "port": 8080, "protocol": "https", "headers":
    /// ["Name: value"], "body": "...", "body_file": "FILE", "username": "...", "password": "env:VAR", "crawl":
    /// false, "status": 201, "contains": "text"}]}; only `resource` is needed.
    #[arg(long, value_name = "FILE")]
    pub http_probe_cmd_file: Vec<PathBuf>,
    /// Ports to probe [default: the exposed tcp ports]
    #[arg(long, value_name = "PORT", value_delimiter = ',')]
    pub http_probe_ports: Vec<String>,
    /// Header of every HTTP request; env:VAR as the value reads it from the environment
    #[arg(long, value_name = "NAME: VALUE")]
    pub http_probe_header: Vec<String>,
    /// Host name to ask for, in the Host header and in TLS
    #[arg(long, value_name = "NAME")]
    pub http_probe_host: Option<String>,
    /// Follow links from GET / [default: true]
    #[arg(long)]
    pub http_probe_crawl: Option<bool>,
    /// How many links away from the start [default: 3]
    #[arg(long, value_name = "N")]
    pub http_crawl_max_depth: Option<u32>,
    /// How many pages in all [default: 1000]
    #[arg(long, value_name = "N")]
    pub http_crawl_max_page_count: Option<u32>,
    /// Glob of paths that a crawl leaves alone
    #[arg(long, value_name = "GLOB")]
    pub http_crawl_exclude: Vec<String>,
    /// OpenAPI document that the target serves at this path
    #[arg(long, value_name = "PATH[:PREFIX]", value_delimiter = ',')]
    pub http_probe_apispec: Vec<String>,
    /// OpenAPI document in a file
    #[arg(long, value_name = "FILE", value_delimiter = ',')]
    pub http_probe_apispec_file: Vec<PathBuf>,
    /// Kubernetes manifest or compose file that runs this image: its exec probes and hooks are probed too, what its
    /// command lines call is kept, and what is gone fails the build
    #[arg(long, value_name = "FILE")]
    pub uses: Vec<PathBuf>,
    /// Stop at the first probe that fails
    #[arg(long)]
    pub http_probe_exit_on_failure: Option<bool>,
    /// Time for one request or command [default: 30s for a request, 120s for a command, 600s for a program that runs and exits]
    #[arg(long, alias = "probe-timeout", value_name = "TIME")]
    pub http_probe_timeout: Option<String>,
    /// Command to run in the target, without a shell
    ///
    /// Words are split as a shell would split them, or a JSON array is taken as it is. It has to exit with 0.
    #[arg(long, value_name = "COMMAND")]
    pub exec: Vec<String>,
    /// Command line for the image's shell
    #[arg(long, value_name = "SCRIPT")]
    pub exec_sh: Vec<String>,
    /// File of command lines for the image's shell
    ///
    /// One command to a line, # begins a comment; a file that begins with #! is one script.
    #[arg(long, value_name = "FILE")]
    pub exec_file: Vec<PathBuf>,
    /// Command to run on this machine; SLIM_TARGET_HOST and SLIM_TARGET_PORT say where the target is
    #[arg(long, value_name = "COMMAND")]
    pub host_exec: Vec<String>,
    /// File of commands to run on this machine
    #[arg(long, value_name = "FILE")]
    pub host_exec_file: Vec<PathBuf>,
    /// The target is ready when a line of its log matches
    #[arg(long, value_name = "REGEX")]
    pub ready_log: Option<String>,
    /// How long it may take to get ready [default: 60s, longer where a recipe or the HEALTHCHECK says so]
    #[arg(long, value_name = "TIME")]
    pub ready_timeout: Option<String>,
    /// What ends the run: probe, exec, exit, timeout:TIME, signal or enter [default: chosen by the probes]
    ///
    /// `probe` and `exec` end it when all probes ran, `exit` when the target ends by itself, `timeout:30s` that long
    /// after it got ready, `signal` when slim gets SIGUSR1, `enter` when Enter is typed.
    #[arg(long, value_name = "WHAT")]
    pub continue_after: Option<String>,
}
