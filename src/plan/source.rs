//! Source: which image is made small, where it comes from, and who may pull it.

use std::io::Read;
use std::path::{Path, PathBuf};

use super::{Here, Pull, Source, files, outputs, value};
use crate::cli::build::{PullWhen, SourceArgs};
use crate::cli::{BuildArgs, UsageError};
use crate::engine::host::Surroundings;
use crate::engine::host::{EngineChoice, EngineKind};
use crate::engine::{BuildSpec, Credentials};
use crate::image::reference::Reference;
use crate::store::Transport;

/// The image that was named, or the build that makes it.
///
/// # Errors
/// When none, several, or something that is no image was named.
pub(super) fn source(args: &BuildArgs, here: Here<'_>) -> Result<Source, UsageError> {
    let source = &args.source;
    if let Some(path) = &source.dockerfile {
        return build(source, path, here).map(Source::Dockerfile);
    }
    for (flag, given) in [
        ("dockerfile-context", source.dockerfile_context.is_some()),
        ("tag-fat", source.tag_fat.is_some()),
        ("build-arg", !source.build_arg.is_empty()),
        ("build-target", source.build_target.is_some()),
        ("build-network", source.build_network.is_some()),
    ] {
        if given && here.typed(flag) {
            return Err(here.wrong(flag, "means the build of a Dockerfile").hint("give --dockerfile too"));
        }
    }
    let image = match (&source.image, &source.target) {
        (Some(image), Some(target)) if image != target => {
            let text = format!("two images are named, {image:?} and --target {target:?}");
            return Err(UsageError::new(text).hint("one command makes one image small"));
        }
        (Some(image), _) | (None, Some(image)) => image,
        (None, None) => {
            return Err(UsageError::new("no image is named").hint("write `slim build IMAGE` or give --dockerfile"));
        }
    };
    if Path::new(image).is_dir() && (image.starts_with('.') || image.starts_with('/')) {
        let hint = format!("to build it first, write `slim build --dockerfile {image}`");
        return Err(UsageError::new(format!("{image:?} is a directory, not an image")).hint(hint));
    }
    match Transport::parse(image).map_err(|error| UsageError::new(error.to_string()))? {
        Some(Transport::Daemon(name) | Transport::Podman(name)) => Ok(Source::Image(name)),
        Some(elsewhere) => Ok(Source::Elsewhere(elsewhere)),
        None => match Reference::parse(image) {
            Ok(_) => Ok(Source::Image(image.clone())),
            Err(error) => Err(UsageError::new(error.to_string())),
        },
    }
}

/// The engine that was chosen; `docker-daemon:` chooses a container engine, `containers-storage:` podman's.
///
/// # Errors
/// When another one was chosen, or podman's service does not listen.
pub(super) fn engine(args: &BuildArgs, chosen: EngineChoice) -> Result<EngineChoice, UsageError> {
    let named = args.source.image.as_deref().or(args.source.target.as_deref()).unwrap_or_default();
    let Ok(Some(transport @ (Transport::Podman(_) | Transport::Daemon(_)))) = Transport::parse(named) else { return Ok(chosen) };
    if chosen.kind == EngineKind::Embedded {
        let text = format!("{transport} is in a container engine, and --engine embedded is none");
        return Err(UsageError::new(text).hint(format!("leave --engine away, or take it out of there: slim copy {transport} oci:DIR")));
    }
    let chosen = EngineChoice { kind: EngineKind::Docker, ..chosen };
    match transport {
        Transport::Podman(_) => chosen.podman(&Surroundings::here()).map_err(|error| UsageError::new(format!("{error:#}"))),
        _ => Ok(chosen),
    }
}

/// `--dockerfile` names a context directory or a Dockerfile. IMAGE may name the context, as others have it.
fn build(source: &SourceArgs, path: &Path, here: Here<'_>) -> Result<BuildSpec, UsageError> {
    let image = source.image.as_ref().or(source.target.as_ref());
    let as_context = image.map(PathBuf::from);
    if let (Some(image), Some(dir)) = (image, &as_context)
        && !dir.is_dir()
    {
        let text = format!("both an image, {image:?}, and --dockerfile are named");
        return Err(UsageError::new(text).hint("to name the image that is built, use --tag-fat"));
    }
    let context = source.dockerfile_context.clone().or(as_context);
    let (context, dockerfile) = match (context, path.is_dir()) {
        (None, true) => (path.to_owned(), "Dockerfile".to_owned()),
        (None, false) => {
            let parent = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
            let name = path.file_name().unwrap_or_default();
            (parent.to_owned(), name.to_string_lossy().into_owned())
        }
        (Some(context), true) => inside(&context, &path.join("Dockerfile"), here)?,
        (Some(context), false) => inside(&context, path, here)?,
    };
    if !context.is_dir() {
        let text = format!("the context {} is no directory", context.display());
        return Err(here.wrong("dockerfile", text));
    }
    if !context.join(&dockerfile).is_file() {
        let text = format!("there is no {}", context.join(&dockerfile).display());
        return Err(here.wrong("dockerfile", text).hint("give the directory of a Dockerfile, or its path"));
    }
    let mut args = Vec::new();
    for arg in &source.build_arg {
        let name = arg.split('=').next().unwrap_or_default();
        value::variable_name(name).map_err(|why| here.wrong("build-arg", why))?;
        args.extend(files::variable(arg, here.vars));
    }
    let tag = source.tag_fat.as_ref().map(|tag| outputs::tag("tag-fat", tag, here)).transpose()?;
    Ok(BuildSpec {
        context,
        dockerfile,
        args,
        target: source.build_target.clone(),
        tag,
        network: source.build_network.clone(),
    })
}

/// A Dockerfile as seen from its context: named from there, or from here and beneath it.
fn inside(context: &Path, path: &Path, here: Here<'_>) -> Result<(PathBuf, String), UsageError> {
    if path.is_relative() && context.join(path).is_file() {
        return Ok((context.to_owned(), path.to_string_lossy().into_owned()));
    }
    let full = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    match full(path).strip_prefix(full(context)) {
        Ok(rest) => Ok((context.to_owned(), rest.to_string_lossy().into_owned())),
        Err(_) => {
            let text = format!("{} is not inside of the context {}", path.display(), context.display());
            Err(here.wrong("dockerfile", text).hint("move it there, or give another --dockerfile-context"))
        }
    }
}

/// `--pull`.
pub(super) fn pull(when: Option<PullWhen>) -> Pull {
    match when {
        Some(PullWhen::Missing) => Pull::Missing,
        Some(PullWhen::Always) => Pull::Always,
        Some(PullWhen::Never) => Pull::Never,
        None => Pull::Unsaid,
    }
}

/// Who pulls; `None` leaves it to what docker login stored.
///
/// # Errors
/// When account or secret is missing.
pub(crate) fn credentials(
    source: &SourceArgs,
    here: Here<'_>,
    stdin: &mut dyn Read,
) -> Result<Option<Credentials>, UsageError> {
    let from_stdin = source.registry_secret_stdin.unwrap_or(false);
    let flag = if from_stdin { "registry-secret-stdin" } else { "registry-secret" };
    let (username, secret) = match (&source.registry_account, &source.registry_secret, from_stdin) {
        (None, None, false) => return Ok(None),
        (_, Some(_), true) => {
            return Err(here.wrong(flag, "the secret is given twice").hint("leave --registry-secret out"));
        }
        (None, ..) => return Err(here.wrong(flag, "whose secret is it?").hint("give --registry-account too")),
        (Some(_), None, false) => {
            let hint = "give --registry-secret-stdin and the password or token on stdin";
            return Err(here.wrong("registry-account", "the account has no secret").hint(hint));
        }
        (Some(name), Some(secret), false) => (name, secret.clone()),
        (Some(name), None, true) => {
            let mut text = String::new();
            stdin.read_to_string(&mut text).map_err(|error| here.wrong(flag, format!("cannot read stdin: {error}")))?;
            (name, text.trim_end_matches(['\r', '\n']).to_owned())
        }
    };
    if secret.is_empty() {
        return Err(here.wrong(flag, "the secret is empty"));
    }
    Ok(Some(Credentials { username: username.clone(), secret }))
}
