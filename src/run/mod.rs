//! Run: one start of a target, from its creation to its end. A recording runs under the sensor; a plain run
//! is as a user would start it. Probes reach both in the same way.

pub mod kit;
pub mod leaving;
pub mod log;
pub mod near;
pub mod plain;
pub mod recording;
pub mod way;

use anyhow::{Context, Result, bail};

use crate::engine::RunOptions;
pub use crate::engine::options::{argv_of, env_of};

/// Whether a run holds something that a second run at the same time could want too: published ports, the
/// host's network, a fixed name in a network, volumes, binds and devices.
pub fn shares(options: &RunOptions) -> bool {
    let lists = [
        &options.publish,
        &options.network_aliases,
        &options.volumes,
        &options.mounts,
        &options.devices,
    ];
    let single = [&options.network, &options.gpus, &options.pid, &options.ipc];
    lists.iter().any(|list| !list.is_empty()) || single.iter().any(|option| option.is_some())
}

/// A signal's number from its name with or without `SIG`, its number, or `RTMIN+n`.
///
/// # Errors
/// When there is no such signal.
pub fn signal_number(text: &str) -> Result<i32> {
    crate::sys::process::signal_number(text).with_context(|| format!("there is no signal {text:?}"))
}

/// Runs `--before-run` on this machine.
///
/// # Errors
/// When it cannot be started or fails.
pub async fn before(command: Option<&[String]>) -> Result<()> {
    let Some((program, args)) = command.and_then(<[String]>::split_first) else {
        return Ok(());
    };
    let mut child = tokio::process::Command::new(program);
    child.args(args).stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null()).kill_on_drop(true);
    let output = child.output().await.with_context(|| format!("run --before-run {program}"))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        bail!("--before-run {program} ended with {}: {}", output.status, text.trim());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::ImageConfig;

    #[test]
    fn an_entrypoint_of_the_run_takes_the_images_command_away() {
        let config = ImageConfig::parse(br#"{"config":{"Entrypoint":["e"],"Cmd":["c"]}}"#).unwrap();
        let with = |entrypoint: Option<&str>, cmd: Option<&str>| {
            let list = |text: Option<&str>| text.map(|t| vec![t.to_owned()]);
            let options = RunOptions { entrypoint: list(entrypoint), cmd: list(cmd), ..RunOptions::default() };
            argv_of(&config, &options).unwrap().join(" ")
        };
        assert_eq!(with(None, None), "e c");
        assert_eq!(with(None, Some("x")), "e x");
        assert_eq!(with(Some("n"), None), "n");
        assert_eq!(with(Some("n"), Some("x")), "n x");
        let empty = ImageConfig::parse(b"{}").unwrap();
        assert!(argv_of(&empty, &RunOptions::default()).is_err());
    }

    #[test]
    fn signals_are_known_by_name_and_number() {
        for (text, number) in [("SIGQUIT", 3), ("term", 15), ("9", 9), ("SIGRTMIN+3", 37), ("SIGRTMIN", 34)] {
            assert_eq!(signal_number(text).unwrap(), number);
        }
        for bad in ["", "SIGNOPE", "0", "65", "RTMIN+31"] {
            assert!(signal_number(bad).is_err(), "{bad}");
        }
    }
}
