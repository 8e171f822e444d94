//! Keep: the policy that include and exclude flags make.

use std::path::PathBuf;

use super::{Here, files, value};
use crate::cli::UsageError;
use crate::cli::keep::KeepArgs;
use crate::keep::Policy;

/// What the flags ask to keep and to leave out. What runs is not known yet and left empty.
///
/// # Errors
/// When a path is no path in an image, or a list file cannot be read.
pub(super) fn policy(args: &KeepArgs, here: Here<'_>) -> Result<Policy, UsageError> {
    let mut include_paths = typed("include-path", &args.include_path, Kind::Glob, here)?;
    include_paths.extend(listed("include-path-file", &args.include_path_file, Kind::Glob, here)?);
    include_paths.extend(typed("preserve-path", &args.preserve_path, Kind::Glob, here)?);
    include_paths.extend(listed("preserve-path-file", &args.preserve_path_file, Kind::Glob, here)?);
    let mut include_bins = typed("include-bin", &args.include_bin, Kind::Path, here)?;
    include_bins.extend(listed("include-bin-file", &args.include_bin_file, Kind::Path, here)?);
    let mut include_exes = args.include_exe.clone();
    for name in &include_exes {
        Kind::Name.check(name).map_err(|why| here.wrong("include-exe", why))?;
    }
    include_exes.extend(listed("include-exe-file", &args.include_exe_file, Kind::Name, here)?);
    for name in &args.keep_package {
        crate::keep::check_package_pattern(name).map_err(|why| here.wrong("keep-package", why))?;
    }
    Ok(Policy {
        level: args.keep.unwrap_or_default(),
        metadata: args.package_metadata.unwrap_or_default(),
        keep_packages: args.keep_package.clone(),
        include_paths,
        include_bins,
        include_exes,
        include_shell: args.include_shell.unwrap_or(false),
        include_zoneinfo: args.include_zoneinfo.unwrap_or(false),
        include_script_commands: args.include_script_commands,
        include_certs: args.include_cert_all.unwrap_or(false),
        excludes: typed("exclude-pattern", &args.exclude_pattern, Kind::Glob, here)?,
        ..Policy::default()
    })
}

/// What a list names.
#[derive(Clone, Copy)]
enum Kind {
    Glob,
    Path,
    Name,
}

impl Kind {
    fn check(self, text: &str) -> Result<(), String> {
        match self {
            Kind::Glob if !text.starts_with(['/', '*']) => Err(format!("{text:?} does not begin with /")),
            Kind::Glob => globset::Glob::new(text).map(|_| ()).map_err(|error| format!("{text:?}: {}", error.kind())),
            Kind::Path if !text.starts_with('/') => Err(format!("{text:?} does not begin with /")),
            Kind::Name if text.contains('/') => Err(format!("{text:?} is a path; use --include-bin for it")),
            Kind::Name if text.is_empty() => Err("a name is empty".into()),
            Kind::Path | Kind::Name => Ok(()),
        }
    }
}

fn typed(flag: &str, given: &[String], kind: Kind, here: Here<'_>) -> Result<Vec<String>, UsageError> {
    let paths: Vec<String> = given.iter().flat_map(|text| value::paths(text)).collect();
    for path in &paths {
        kind.check(path).map_err(|why| here.wrong(flag, why))?;
    }
    Ok(paths)
}

fn listed(flag: &str, given: &[PathBuf], kind: Kind, here: Here<'_>) -> Result<Vec<String>, UsageError> {
    let mut all = Vec::new();
    for file in given {
        let entries = files::list(file).map_err(|error| here.wrong(flag, error))?;
        for (line, entry) in entries {
            let place = format!("{}:{line}", file.display());
            kind.check(&entry).map_err(|why| here.wrong(flag, format!("{place}: {why}")))?;
            all.push(entry);
        }
    }
    Ok(all)
}
