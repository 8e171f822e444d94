//! Plan: what the words of `slim xray` mean, checked.

use std::sync::Arc;

use anyhow::Result;

use crate::cli::xray::Format;
use crate::cli::{Common, Origins, UsageError, Vars, XrayArgs};
use crate::copy::access;
use crate::engine::EngineChoice;
use crate::image::Reference;
use crate::image::reference::Name;
use crate::plan::Here;
use crate::progress::Monitor;
use crate::store::manifest::Platform;
use crate::store::{Access, Transport};

/// Entries of each list, where nobody says.
const TOP: usize = 10;

/// What is looked at, and how it is told.
pub struct XrayPlan {
    /// What the user called it.
    pub text: String,
    /// Where it is.
    pub place: Place,
    /// Which platform of an index; `None`: this machine's.
    pub platform: Option<Platform>,
    /// How it is told.
    pub format: Format,
    /// Entries of each list.
    pub top: usize,
    /// Which engine, where one is named.
    pub engine: EngineChoice,
    /// How registries are reached.
    pub access: Access,
}

/// Where an image is.
pub enum Place {
    /// In the engine, or in the registry that its name implies where no container engine is there to be asked.
    Bare(Reference),
    /// Where a transport says.
    Transport(Transport),
}

/// What the words of `slim xray` mean. Stdin is read only for `--registry-secret-stdin`.
///
/// # Errors
/// When a word makes no sense.
pub fn plan(common: &Common, args: &XrayArgs, origins: &Origins, vars: &Vars, monitor: Arc<dyn Monitor>) -> Result<XrayPlan> {
    let here = Here { vars, origins };
    let usage = |error: UsageError| error.into_error();
    let place = place(&args.image).map_err(usage)?;
    let platform = args.platform.as_deref().map(Platform::parse).transpose();
    let platform = platform.map_err(|error| here.wrong("platform", error).into_error())?;
    let format = match (args.format, common.json) {
        (Some(format), Some(true)) if format != Format::Json => {
            return Err(here.wrong("format", "--json asks for another").hint("leave one of them away").into_error());
        }
        (Some(format), _) => format,
        (None, Some(true)) => Format::Json,
        (None, _) => Format::default(),
    };
    let given = crate::plan::source::credentials(&args.registry.as_source(), here, &mut std::io::stdin()).map_err(usage)?;
    let registry = registry(&place).map(|name| name.registry.clone());
    if given.is_some() && registry.is_none() {
        return Err(here.wrong("registry-account", "no registry is named").hint("leave it out").into_error());
    }
    Ok(XrayPlan {
        access: access::access(&args.registry.access, given.as_ref().zip(registry), monitor),
        text: args.image.clone(),
        place,
        platform,
        format,
        top: args.top.map_or(TOP, |top| top as usize),
        engine: common.engine(),
    })
}

/// The name of an image in a registry.
pub fn registry(place: &Place) -> Option<&Name> {
    match place {
        Place::Bare(Reference::Name(name)) | Place::Transport(Transport::Registry(name)) => Some(name),
        Place::Bare(Reference::Id(_)) | Place::Transport(_) => None,
    }
}

/// What a text means: a transport, or an image by its name.
///
/// # Errors
/// When it is neither.
pub fn place(text: &str) -> Result<Place, UsageError> {
    match Transport::parse(text).map_err(|error| UsageError::new(error.to_string()))? {
        Some(transport) => Ok(Place::Transport(transport)),
        None => Reference::parse(text).map(Place::Bare).map_err(|error| UsageError::new(error.to_string())),
    }
}
