//! Edits: the words that change the config of the slim image. Nothing else does.

use clap::Args;

/// What changes in the image's config.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
#[command(next_help_heading = "Config of the slim image")]
pub struct EditArgs {
    /// Flags of the run that also go into the image: all, or some of entrypoint, cmd, env ...
    ///
    /// All of them are entrypoint, cmd, env, workdir, user, expose, volume and label. Without this, flags of the run
    /// never change the image. A --new-... flag comes before an override.
    #[arg(long, value_name = "WHICH", value_delimiter = ',')]
    pub image_overrides: Vec<String>,
    /// New ENTRYPOINT: words, or a JSON array; '' takes it away
    #[arg(long, value_name = "COMMAND", allow_hyphen_values = true)]
    pub new_entrypoint: Option<String>,
    /// New CMD: words, or a JSON array; '' takes it away
    #[arg(long, value_name = "COMMAND", allow_hyphen_values = true)]
    pub new_cmd: Option<String>,
    /// New USER
    #[arg(long, value_name = "USER[:GROUP]")]
    pub new_user: Option<String>,
    /// New WORKDIR
    #[arg(long, value_name = "DIR")]
    pub new_workdir: Option<String>,
    /// New or changed ENV
    #[arg(long, value_name = "NAME=VALUE")]
    pub new_env: Vec<String>,
    /// New EXPOSE
    #[arg(long, value_name = "PORT[/PROTO]", value_delimiter = ',')]
    pub new_expose: Vec<String>,
    /// New VOLUME
    #[arg(long, value_name = "DIR", value_delimiter = ',')]
    pub new_volume: Vec<String>,
    /// New or changed LABEL
    #[arg(long, value_name = "NAME=VALUE")]
    pub new_label: Vec<String>,
    /// New STOPSIGNAL
    #[arg(long, value_name = "SIGNAL")]
    pub new_stop_signal: Option<String>,
    /// ENV to take away
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub remove_env: Vec<String>,
    /// LABEL to take away
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub remove_label: Vec<String>,
    /// EXPOSE to take away
    #[arg(long, value_name = "PORT[/PROTO]", value_delimiter = ',')]
    pub remove_expose: Vec<String>,
    /// VOLUME to take away
    #[arg(long, value_name = "DIR", value_delimiter = ',')]
    pub remove_volume: Vec<String>,
    /// Take HEALTHCHECK away
    #[arg(long)]
    pub remove_healthcheck: Option<bool>,
}
