//! Edits: what the `--new-*`, `--remove-*` and `--image-overrides` flags change in the image's config.

use std::collections::BTreeSet;

use super::{ConfigEdits, Here, run, value};
use crate::cli::UsageError;
use crate::cli::edits::EditArgs;
use crate::engine::RunOptions;

/// Flags of the run that can go into the image.
const OVERRIDES: &[&str] = &["entrypoint", "cmd", "env", "workdir", "user", "expose", "volume", "label"];

/// The changes that were asked for. A `--new-*` flag comes before an override of the same field.
///
/// # Errors
/// When a value cannot be understood.
pub(super) fn edits(args: &EditArgs, run: &RunOptions, here: Here<'_>) -> Result<ConfigEdits, UsageError> {
    let chosen = overrides(&args.image_overrides, here)?;
    let over = |name: &str| chosen.contains(name);
    let entrypoint = command("new-entrypoint", args.new_entrypoint.as_ref(), here)?;
    let cmd = command("new-cmd", args.new_cmd.as_ref(), here)?;
    let lists = |name: &str, of_run: &[String], new: Vec<String>| -> Vec<String> {
        let of_run = if over(name) { of_run } else { &[] };
        of_run.iter().cloned().chain(new).collect()
    };
    if let Some(dir) = &args.new_workdir {
        run::absolute(dir).map_err(|why| here.wrong("new-workdir", why))?;
    }
    Ok(ConfigEdits {
        entrypoint: entrypoint.or_else(|| run.entrypoint.clone().filter(|_| over("entrypoint"))),
        cmd: cmd.or_else(|| run.cmd.clone().filter(|_| over("cmd"))),
        user: args.new_user.clone().or_else(|| run.user.clone().filter(|_| over("user"))),
        workdir: args.new_workdir.clone().or_else(|| run.workdir.clone().filter(|_| over("workdir"))),
        env: lists("env", &run.env, pairs("new-env", &args.new_env, here)?),
        expose: lists("expose", &run.expose, ports("new-expose", &args.new_expose, here)?),
        volumes: lists("volume", &volumes(run), dirs("new-volume", &args.new_volume, here)?),
        labels: lists("label", &run.labels, pairs("new-label", &args.new_label, here)?),
        remove_env: args.remove_env.clone(),
        remove_labels: args.remove_label.clone(),
        remove_expose: ports("remove-expose", &args.remove_expose, here)?,
        remove_volumes: dirs("remove-volume", &args.remove_volume, here)?,
        remove_healthcheck: args.remove_healthcheck.unwrap_or(false),
        stop_signal: args.new_stop_signal.as_ref().map(|text| signal(text, here)).transpose()?,
    })
}

fn overrides<'a>(given: &'a [String], here: Here<'_>) -> Result<BTreeSet<&'a str>, UsageError> {
    let mut chosen = BTreeSet::new();
    for name in given {
        match name.trim() {
            "all" => chosen.extend(OVERRIDES),
            name if OVERRIDES.contains(&name) => {
                chosen.insert(name);
            }
            name => {
                let hint = format!("it is all, or some of {}", OVERRIDES.join(", "));
                return Err(here.wrong("image-overrides", format!("{name:?} is unknown")).hint(hint));
            }
        }
    }
    Ok(chosen)
}

/// An empty text takes the command line away.
fn command(flag: &str, text: Option<&String>, here: Here<'_>) -> Result<Option<Vec<String>>, UsageError> {
    text.map(|text| value::argv(text).map_err(|why| here.wrong(flag, why))).transpose()
}

fn pairs(flag: &str, given: &[String], here: Here<'_>) -> Result<Vec<String>, UsageError> {
    for text in given {
        match text.split_once('=') {
            Some((name, _)) => value::variable_name(name).map_err(|why| here.wrong(flag, why))?,
            None => return Err(here.wrong(flag, format!("{text:?} has no value")).hint("write NAME=VALUE")),
        }
    }
    Ok(given.to_vec())
}

fn ports(flag: &str, given: &[String], here: Here<'_>) -> Result<Vec<String>, UsageError> {
    let lists = given.iter().map(|text| value::exposed(text).map_err(|why| here.wrong(flag, why)));
    Ok(lists.collect::<Result<Vec<_>, _>>()?.concat())
}

fn dirs(flag: &str, given: &[String], here: Here<'_>) -> Result<Vec<String>, UsageError> {
    for dir in given {
        run::absolute(dir).map_err(|why| here.wrong(flag, why))?;
    }
    Ok(given.to_vec())
}

/// The places in the container that `--volume` names: `[SRC:]DST[:OPTIONS]`.
fn volumes(run: &RunOptions) -> Vec<String> {
    let target = |spec: &String| {
        let mut parts = spec.split(':');
        let first = parts.next()?;
        Some(parts.next().unwrap_or(first).to_owned())
    };
    run.volumes.iter().filter_map(target).collect()
}

/// A signal by name or number; which ones exist is the kernel's business.
fn signal(text: &str, here: Here<'_>) -> Result<String, UsageError> {
    let good = |c: char| c.is_ascii_alphanumeric() || c == '+' || c == '-';
    match text.is_empty() || !text.chars().all(good) {
        true => Err(here.wrong("new-stop-signal", format!("{text:?} is no signal")).hint("write SIGTERM or 15")),
        false => Ok(text.to_owned()),
    }
}
