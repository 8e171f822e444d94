//! Plan: what the words of `slim copy` mean, checked.

use std::sync::Arc;

use anyhow::Result;

use super::{CopyPlan, Wanted, access};
use crate::cli::{Common, CopyArgs, Origins, UsageError, Vars};
use crate::engine::host::EngineKind;
use crate::engine::{Credentials, EngineChoice};
use crate::image::Reference;
use crate::plan::Here;
use crate::progress::Monitor;
use crate::store::Transport;
use crate::store::layout::Replace;

/// What the words of `slim copy` mean. Stdin is read only for `--registry-secret-stdin`.
///
/// # Errors
/// When a word makes no sense, or two of them contradict each other.
pub fn plan(common: &Common, args: &CopyArgs, origins: &Origins, vars: &Vars, monitor: Arc<dyn Monitor>) -> Result<CopyPlan> {
    let here = Here { vars, origins };
    let usage = |error: UsageError| error.into_error();
    let engine = common.engine();
    let read = |text: &str| transport(text).and_then(|found| outside(text, &found, &engine).map(|()| found)).map_err(usage);
    let (source, destination) = (read(&args.source)?, read(&args.destination)?);
    let wanted = Wanted::parse(&args.platform).map_err(|error| here.wrong("platform", error).into_error())?;
    let given = crate::plan::source::credentials(&args.registry.as_source(), here, &mut std::io::stdin()).map_err(usage)?;
    let given = given.map(|account| theirs(account, &source, &destination, here)).transpose().map_err(usage)?;
    let given = given.as_ref().map(|(account, registry)| (account, registry.clone()));
    Ok(CopyPlan {
        access: access::access(&args.registry.access, given, monitor),
        source,
        destination,
        wanted,
        compress: args.compress,
        replace: if args.force == Some(true) { Replace::Anything } else { Replace::Alike },
        digest_file: args.digest_file.clone(),
        engine,
    })
}

/// Whose account it is: that of the one registry that is named.
fn theirs(account: Credentials, source: &Transport, destination: &Transport, here: Here<'_>) -> Result<(Credentials, String), UsageError> {
    let registry = |transport: &Transport| match transport {
        Transport::Registry(name) => Some(name.registry.clone()),
        _ => None,
    };
    match (registry(source), registry(destination)) {
        (None, None) => Err(here.wrong("registry-account", "no registry is named").hint("leave it out")),
        (Some(one), Some(other)) if one != other => {
            let hint = "use `docker login` for each of them";
            Err(here.wrong("registry-account", format!("two registries are named, {one} and {other}")).hint(hint))
        }
        (Some(one), _) | (None, Some(one)) => Ok((account, one)),
    }
}

/// Checks that `docker-daemon:` is not asked of the engine in this program, which a bare name is.
fn outside(text: &str, found: &Transport, engine: &EngineChoice) -> Result<(), UsageError> {
    match found {
        Transport::Daemon(_) | Transport::Podman(_) if engine.kind == EngineKind::Embedded && found.to_string() == text => {
            Err(UsageError::new(format!("{text} is in a container engine, and --engine embedded is none")).hint("leave --engine away"))
        }
        _ => Ok(()),
    }
}

/// A transport as `slim copy` understands it: a bare name is in the engine.
fn transport(text: &str) -> Result<Transport, UsageError> {
    match Transport::parse(text).map_err(|error| UsageError::new(error.to_string()))? {
        Some(transport) => Ok(transport),
        None => match Reference::parse(text) {
            Ok(_) => Ok(Transport::Daemon(text.to_owned())),
            Err(error) => Err(UsageError::new(error.to_string())),
        },
    }
}
