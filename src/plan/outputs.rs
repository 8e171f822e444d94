//! Outputs: names and files of the result. What cannot be written is said before the work, not after it.

use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};

use super::{Here, Outputs};
use crate::cli::UsageError;
use crate::cli::build::OutputArgs;
use crate::image::reference::Reference;
use crate::report::scan::{Finding, findings};
use crate::report::views::View;
use crate::store::Transport;
use crate::store::compress::Compression;

/// Where the report goes when nothing is said.
const REPORT: &str = "slim.report.json";

/// Where results go.
///
/// # Errors
/// When a tag is no tag, or a file cannot be written.
pub(super) fn outputs(args: &OutputArgs, here: Here<'_>) -> Result<Outputs, UsageError> {
    let tags = args.tag.iter().map(|text| tag("tag", text, here)).collect::<Result<Vec<_>, _>>()?;
    let report = match &args.report {
        Some(path) if ["off", "false", "none"].iter().any(|off| path.as_os_str() == *off) => None,
        Some(path) => Some(path.clone()),
        None => Some(PathBuf::from(REPORT)),
    };
    if let Some(path) = &report {
        writable(path).map_err(|why| here.wrong("report", why))?;
    }
    let written = args.output.iter().map(|text| written(text, here)).collect::<Result<Vec<_>, _>>()?;
    let force = args.force.unwrap_or(false);
    let rebuild = args.rebuild.unwrap_or(false);
    let again = args.again.unwrap_or(false);
    let (digest_file, provenance) = (args.digest_file.clone(), args.provenance.clone());
    for (flag, path) in [("digest-file", &digest_file), ("provenance", &provenance)] {
        path.as_deref().map_or(Ok(()), writable).map_err(|why| here.wrong(flag, why))?;
    }
    let compress = args.compress;
    if let (Some(Compression::Gzip | Compression::Zstd), [Transport::DockerArchive(..)]) = (compress, written.as_slice()) {
        let text = "what `docker load` reads is not compressed";
        return Err(here.wrong("compress", text).hint("write oci-archive:FILE instead"));
    }
    if let Some(dir) = &args.copy_meta_artifacts {
        directory(dir).map_err(|why| here.wrong("copy-meta-artifacts", why))?;
    }
    let full = args.report_full.unwrap_or(false);
    let bodies = args.report_bodies.unwrap_or(false);
    for (flag, on) in [("report-full", full), ("report-bodies", bodies)] {
        if report.is_none() && on && here.typed(flag) {
            return Err(here.wrong(flag, "there is no report with --report=off").hint("leave one of them out"));
        }
    }
    let artifacts = args.copy_meta_artifacts.clone();
    let mut views = Vec::new();
    let asked = [
        ("html", View::Html, &args.html),
        ("markdown", View::Markdown, &args.markdown),
        ("junit", View::Junit, &args.junit),
        ("csv", View::Csv, &args.csv),
        ("sarif", View::Sarif, &args.sarif),
    ];
    for (flag, view, path) in asked {
        let Some(path) = path else { continue };
        writable(path).map_err(|why| here.wrong(flag, why))?;
        views.push((view, path.clone()));
    }
    views.extend(args.sbom.iter().map(|text| sbom(text, here)).collect::<Result<Vec<_>, _>>()?);
    let findings = vex(args, &mut views, here)?;
    Ok(Outputs {
        tags,
        written,
        compress,
        force,
        rebuild,
        again,
        provenance,
        digest_file,
        artifacts,
        report,
        views,
        findings,
        report_full: full,
        report_bodies: bodies,
    })
}

/// `cyclonedx=FILE`, `spdx=FILE`.
fn sbom(text: &str, here: Here<'_>) -> Result<(View, PathBuf), UsageError> {
    let hint = "write --sbom cyclonedx=FILE or --sbom spdx=FILE";
    let (format, file) = text.split_once('=').ok_or_else(|| here.wrong("sbom", format!("{text:?} has no `=`")).hint(hint))?;
    let view = match format {
        "cyclonedx" => View::Cyclonedx,
        "spdx" => View::Spdx,
        _ => return Err(here.wrong("sbom", format!("{format:?} is no format")).hint(hint)),
    };
    if file.is_empty() {
        return Err(here.wrong("sbom", "it names no file").hint(hint));
    }
    writable(Path::new(file)).map_err(|why| here.wrong("sbom", why))?;
    Ok((view, PathBuf::from(file)))
}

/// What the scan found, where it is asked what of that is gone.
fn vex(args: &OutputArgs, views: &mut Vec<(View, PathBuf)>, here: Here<'_>) -> Result<Vec<Finding>, UsageError> {
    let (Some(file), Some(scan)) = (&args.vex, &args.vex_from) else {
        return match (&args.vex, &args.vex_from) {
            (Some(_), None) => {
                let text = "a statement names a vulnerability, and nothing says which there are";
                Err(here.wrong("vex", text).hint("give --vex-from with the JSON of trivy or grype for the original image"))
            }
            // One scan may stand in slim.toml for builds that ask for no statements.
            _ => Ok(Vec::new()),
        };
    };
    writable(file).map_err(|why| here.wrong("vex", why))?;
    let text = std::fs::read(scan).map_err(|error| here.wrong("vex-from", format!("cannot read {}: {error}", scan.display())))?;
    let found = findings(&text).map_err(|error| {
        let hint = "write it with `trivy image --format json` or `grype -o json`";
        here.wrong("vex-from", format!("{} is not a scan: {error}", scan.display())).hint(hint)
    })?;
    views.push((View::Openvex, file.clone()));
    Ok(found)
}

/// A name that an image can be given.
pub(super) fn tag(flag: &str, text: &str, here: Here<'_>) -> Result<String, UsageError> {
    match Reference::parse(text) {
        Err(error) => Err(here.wrong(flag, error)),
        Ok(Reference::Id(_)) => Err(here.wrong(flag, format!("{text:?} is an image ID, not a name")).hint("write NAME[:TAG]")),
        Ok(Reference::Name(name)) if name.digest.is_some() => {
            Err(here.wrong(flag, format!("{text:?} has a digest, which only its content gives")).hint("write NAME[:TAG]"))
        }
        Ok(Reference::Name(_)) => Ok(text.to_owned()),
    }
}

/// A transport, or the path of a file that is docker-archive and OCI layout at once.
fn written(text: &str, here: Here<'_>) -> Result<Transport, UsageError> {
    let to = match Transport::parse(text) {
        Ok(Some(transport)) => transport,
        Ok(None) if text.is_empty() => return Err(here.wrong("output", "it names no file")),
        Ok(None) => Transport::DockerArchive(PathBuf::from(text), None),
        Err(error) => return Err(here.wrong("output", error)),
    };
    match &to {
        Transport::OciDir(dir, _) => directory(dir).map_err(|why| here.wrong("output", why))?,
        Transport::OciArchive(file, _) | Transport::DockerArchive(file, _) => {
            writable(file).map_err(|why| here.wrong("output", why))?;
        }
        Transport::Registry(name) if name.digest.is_some() => {
            return Err(here.wrong("output", "a digest follows from what is pushed").hint("give a tag"));
        }
        Transport::Registry(_) => {}
        Transport::Daemon(_) | Transport::Podman(_) => {
            return Err(here.wrong("output", format!("{to} is in an engine")).hint("--tag NAME names the result there"));
        }
    }
    Ok(to)
}

/// Whether a file can be made or replaced here; the work may take minutes, so it is asked first.
///
/// # Errors
/// Why it cannot.
pub fn writable(path: &Path) -> Result<(), String> {
    let shown = path.display();
    if path.is_dir() {
        return Err(format!("{shown} is a directory"));
    }
    let parent = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !parent.is_dir() {
        return Err(format!("there is no directory {}", parent.display()));
    }
    let special = path.exists() && !path.is_file();
    let asked = if special { path } else { parent };
    access(asked, AccessFlags::W_OK).map_err(|errno| format!("cannot write {shown}: {}", errno.desc().to_lowercase()))
}

/// Whether a directory is there or can be made.
fn directory(path: &Path) -> Result<(), String> {
    let shown = path.display();
    if path.exists() && !path.is_dir() {
        return Err(format!("{shown} is not a directory"));
    }
    let there = path.ancestors().find(|dir| dir.is_dir()).unwrap_or(Path::new("."));
    access(there, AccessFlags::W_OK).map_err(|errno| format!("cannot write to {shown}: {}", errno.desc().to_lowercase()))
}
