//! Run: the words that say how the target runs, in Docker's own spelling. They never change the image, unless
//! `--image-overrides` says so.

use clap::Args;

/// How the target runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
#[command(next_help_heading = "Run")]
pub struct RunArgs {
    /// Environment variable; a bare NAME takes its value from the environment
    #[arg(long, short, value_name = "NAME[=VALUE]")]
    pub env: Vec<String>,
    /// File of environment variables, one to a line, as for docker run
    #[arg(long, value_name = "FILE")]
    pub env_file: Vec<std::path::PathBuf>,
    /// User or uid, optionally with :group
    #[arg(long, short, value_name = "USER[:GROUP]")]
    pub user: Option<String>,
    /// Additional group
    #[arg(long, value_name = "GROUP")]
    pub group_add: Vec<String>,
    /// Working directory
    #[arg(long, short, value_name = "DIR")]
    pub workdir: Option<String>,
    /// Host name
    #[arg(long, value_name = "NAME")]
    pub hostname: Option<String>,
    /// Entrypoint: words, or a JSON array; '' takes it away
    #[arg(long, value_name = "COMMAND", allow_hyphen_values = true)]
    pub entrypoint: Option<String>,
    /// Command: words, or a JSON array (the same as ARGS after --)
    #[arg(long, value_name = "COMMAND", allow_hyphen_values = true)]
    pub cmd: Option<String>,
    /// Bind mount or volume
    #[arg(long, short, value_name = "[SRC:]DST[:OPTIONS]")]
    pub volume: Vec<String>,
    /// Mount: type=bind,src=...,dst=...[,readonly] or SRC:DST[:ro]
    ///
    /// Paths of this machine may be relative to the current directory.
    #[arg(long, value_name = "SPEC")]
    pub mount: Vec<String>,
    /// Temporary file system
    #[arg(long, value_name = "DIR[:OPTIONS]")]
    pub tmpfs: Vec<String>,
    /// Network
    #[arg(long, alias = "net", value_name = "NAME")]
    pub network: Option<String>,
    /// Name of the target in its network
    #[arg(long, alias = "net-alias", value_name = "NAME")]
    pub network_alias: Vec<String>,
    /// Link to another container
    #[arg(long, value_name = "CONTAINER[:ALIAS]")]
    pub link: Vec<String>,
    /// DNS server
    #[arg(long, alias = "container-dns", value_name = "ADDRESS")]
    pub dns: Vec<String>,
    /// Line of /etc/hosts
    #[arg(long, alias = "etc-hosts-map", value_name = "NAME:ADDRESS")]
    pub add_host: Vec<String>,
    /// Size of /dev/shm
    #[arg(long, alias = "cro-shm-size", value_name = "SIZE")]
    pub shm_size: Option<String>,
    /// Memory limit
    #[arg(long, short, value_name = "SIZE")]
    pub memory: Option<String>,
    /// Resource limit
    #[arg(long, value_name = "NAME=SOFT[:HARD]")]
    pub ulimit: Vec<String>,
    /// Kernel parameter of the target's namespaces
    #[arg(long, alias = "cro-sysctl", value_name = "NAME=VALUE")]
    pub sysctl: Vec<String>,
    /// Device
    #[arg(long, value_name = "SRC[:DST[:PERMISSIONS]]")]
    pub device: Vec<String>,
    /// GPUs, as for docker run: all, a number, or device=...
    #[arg(long, value_name = "WHICH")]
    pub gpus: Option<String>,
    /// The engine's runtime
    #[arg(long, alias = "cro-runtime", value_name = "NAME")]
    pub runtime: Option<String>,
    /// Read-only root file system
    #[arg(long)]
    pub read_only: Option<bool>,
    /// Additional capability
    #[arg(long, value_name = "CAP")]
    pub cap_add: Vec<String>,
    /// Capability taken away
    #[arg(long, value_name = "CAP")]
    pub cap_drop: Vec<String>,
    /// Security option: seccomp=..., apparmor=..., no-new-privileges
    #[arg(long, value_name = "OPTION")]
    pub security_opt: Vec<String>,
    /// An init of the engine's as PID 1
    #[arg(long)]
    pub init: Option<bool>,
    /// Port that the target listens on, besides those of the image
    #[arg(long, value_name = "PORT[/PROTO]", value_delimiter = ',')]
    pub expose: Vec<String>,
    /// Publish a port on the engine's machine (probes do not need it)
    #[arg(long, short, visible_alias = "publish-port", value_name = "[[IP:]HOST:]PORT", value_delimiter = ',')]
    pub publish: Vec<String>,
    /// Label of the container
    #[arg(long, short, value_name = "NAME[=VALUE]")]
    pub label: Vec<String>,
    /// PID namespace
    #[arg(long, value_name = "MODE")]
    pub pid: Option<String>,
    /// IPC namespace
    #[arg(long, value_name = "MODE")]
    pub ipc: Option<String>,
    /// Platform to run; of several each is made small, and -o gets an index of them
    #[arg(long, value_name = "OS/ARCH[/VARIANT]", value_delimiter = ',')]
    pub platform: Vec<String>,
}
