//! Kit: what a recording brings into the target's container, and how the container is created for it.

use std::fs::File;
use std::io::Cursor;
use std::path::Path;

use anyhow::{Context, Result};
use tar::{EntryType, Header};
use tokio::io::AsyncReadExt;

use crate::engine::options::mounts;
use crate::engine::{Archive, ContainerSpec, Engine, RunOptions};
use crate::image::ImageConfig;
use crate::sensor::control::{PROGRAM_FILE, Pid1, SENSOR_DIR, START_FILE, SensorMode, Start, TraceOf};

/// Capabilities that the sensor needs beyond an engine's defaults.
const SENSOR_CAPS: &[&str] = &["SYS_ADMIN", "SYS_PTRACE"];

/// Capabilities that the sensor needs and that engines give by default.
const DEFAULT_CAPS: &[&str] = &["CHOWN", "DAC_OVERRIDE", "KILL", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT"];

/// Entries of a tar begin at multiples of this, see tar(5).
const BLOCK: usize = 512;

/// This executable, which is the sensor and the pack agent as well.
pub const THIS_PROGRAM: &str = "/proc/self/exe";

/// A tar of the sensor's files, for the volume at [`SENSOR_DIR`]: what to start, an empty trace in the place of the
/// one that an earlier run left, and the program, unless it is there already.
///
/// # Errors
/// When the program cannot be read.
pub fn archive(program: Option<&Path>, start: &Start) -> Result<Archive> {
    let file = start.trace.file();
    let start = serde_json::to_vec(start)?;
    let mut rest = Vec::new();
    begin(&mut rest, START_FILE, 0o600, start.len() as u64)?;
    rest.extend_from_slice(&start);
    pad(&mut rest);
    begin(&mut rest, file, 0o600, 0)?;
    match program {
        Some(program) => with_program(program, rest),
        None => {
            rest.resize(rest.len() + 2 * BLOCK, 0);
            Ok(Box::new(Cursor::new(rest)))
        }
    }
}

/// An archive of the program and other entries. The program is large: it is never held whole.
fn with_program(program: &Path, mut rest: Vec<u8>) -> Result<Archive> {
    let program = File::open(program).context("read this executable")?;
    let size = program.metadata().context("read this executable")?.len();
    let mut head = Vec::new();
    begin(&mut head, PROGRAM_FILE, 0o755, size)?;
    let padding = size.next_multiple_of(BLOCK as u64) - size;
    rest.splice(0..0, std::iter::repeat_n(0, padding as usize));
    rest.resize(rest.len() + 2 * BLOCK, 0);
    let program = tokio::fs::File::from_std(program).take(size);
    Ok(Box::new(Cursor::new(head).chain(program).chain(Cursor::new(rest))))
}

fn begin(tar: &mut Vec<u8>, name: &str, mode: u32, size: u64) -> Result<()> {
    let mut header = Header::new_ustar();
    header.set_path(name)?;
    header.set_entry_type(EntryType::Regular);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header.set_cksum();
    tar.extend_from_slice(header.as_bytes());
    Ok(())
}

fn pad(tar: &mut Vec<u8>) {
    tar.resize(tar.len().next_multiple_of(BLOCK), 0);
}

/// Puts this executable into a volume, through a container that never starts.
///
/// # Errors
/// When the engine refuses.
pub async fn install(engine: &dyn Engine, image: &str, volume: &str) -> Result<()> {
    let options = RunOptions {
        entrypoint: Some(vec![format!("{SENSOR_DIR}/{PROGRAM_FILE}")]),
        ..RunOptions::default()
    };
    let spec = ContainerSpec::with_program("kit", image, volume, options);
    let container = engine.create(&spec).await.context("create a container to put our executable in")?;
    let tar = with_program(Path::new(THIS_PROGRAM), Vec::new())?;
    container.put(SENSOR_DIR, tar).await.context("put our executable in place")?;
    container.remove().await
}

/// The sensor's start document and the options of the container that it runs in.
///
/// # Errors
/// When there is nothing to run.
pub fn prepare(
    config: &ImageConfig,
    options: &RunOptions,
    (sensor, pid1): (SensorMode, Pid1),
    (trace, nonce): (TraceOf, &str),
) -> Result<(Start, RunOptions)> {
    let (cap_add, cap_drop, drop_caps) = capabilities(options);
    let start = Start {
        nonce: nonce.to_owned(),
        trace,
        argv: super::argv_of(config, options)?,
        user: options.user.clone().unwrap_or_else(|| config.user().to_owned()),
        groups: options.group_add.clone(),
        home_is_set: super::env_of(config, options).iter().any(|line| line.starts_with("HOME=")),
        drop_caps,
        narrow_seccomp: !has_own_profile(options) && !adds(options, "SYS_ADMIN"),
        sensor,
        content_mounts: content_mounts(config, options),
        pid1,
    };
    let options = RunOptions {
        user: Some("0:0".into()),
        group_add: Vec::new(),
        entrypoint: Some(vec![format!("{SENSOR_DIR}/{PROGRAM_FILE}"), "sensor".into()]),
        cmd: Some(Vec::new()),
        cap_add,
        cap_drop,
        ..options.clone()
    };
    Ok((start, options))
}

/// Whether another seccomp profile than the engine's own applies; the last one that is given does.
fn has_own_profile(options: &RunOptions) -> bool {
    let profiles = options.security_opt.iter().filter_map(|option| option.split_once(['=', ':']));
    let mut profiles = profiles.filter(|(name, _)| *name == "seccomp");
    profiles.next_back().is_some_and(|(_, profile)| profile != "builtin")
}

/// Mounts that carry the image's content: its VOLUMEs, and volumes of the run that the engine fills.
fn content_mounts(config: &ImageConfig, options: &RunOptions) -> Vec<String> {
    let mut places = config.volumes();
    places.extend(mounts::all(options).into_iter().filter(|mount| mount.copies).map(|mount| mount.target));
    places.sort();
    places.dedup();
    places
}

fn bare(cap: &str) -> String {
    let upper = cap.to_ascii_uppercase();
    upper.strip_prefix("CAP_").unwrap_or(&upper).to_owned()
}

fn adds(options: &RunOptions, cap: &str) -> bool {
    options.cap_add.iter().map(|c| bare(c)).any(|c| c == cap || c == "ALL")
}

/// What the container is created with (add, drop), and what the sensor then takes from the target, so that
/// the target ends up with exactly what the user's flags mean.
fn capabilities(options: &RunOptions) -> (Vec<String>, Vec<String>, Vec<String>) {
    let dropped: Vec<String> = options.cap_drop.iter().map(|cap| bare(cap)).collect();
    let drops_all = dropped.iter().any(|cap| cap == "ALL");
    let mut add = options.cap_add.clone();
    add.extend(SENSOR_CAPS.iter().chain(DEFAULT_CAPS).map(|cap| (*cap).to_owned()));
    let mut taken: Vec<&str> = SENSOR_CAPS.to_vec();
    if drops_all {
        taken.extend(DEFAULT_CAPS);
    }
    let mut taken: Vec<String> = taken.into_iter().map(str::to_owned).collect();
    taken.extend(dropped.into_iter().filter(|cap| cap != "ALL"));
    taken.retain(|cap| !adds(options, cap));
    taken.sort();
    taken.dedup();
    let cap_drop = if drops_all { vec!["ALL".into()] } else { Vec::new() };
    (add, cap_drop, taken.into_iter().map(|cap| format!("CAP_{cap}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_target_keeps_exactly_the_capabilities_that_the_flags_mean() {
        let taken = |add: &[&str], drop: &[&str]| {
            let list = |caps: &[&str]| caps.iter().map(|c| (*c).to_owned()).collect();
            let options = RunOptions { cap_add: list(add), cap_drop: list(drop), ..RunOptions::default() };
            let (_, cap_drop, taken) = capabilities(&options);
            (cap_drop.join(","), taken.join(","))
        };
        assert_eq!(taken(&[], &[]), (String::new(), "CAP_SYS_ADMIN,CAP_SYS_PTRACE".into()));
        assert_eq!(taken(&["sys_admin"], &["CAP_CHOWN"]), (String::new(), "CAP_CHOWN,CAP_SYS_PTRACE".into()));
        let (drop, gone) = taken(&["SETUID"], &["all"]);
        assert_eq!(drop, "ALL");
        assert!(gone.contains("CAP_SETGID") && !gone.contains("CAP_SETUID"));
    }

    #[test]
    fn the_filter_is_narrowed_unless_a_profile_of_ones_own_is_given() {
        let config = ImageConfig::parse(br#"{"config":{"Cmd":["x"]}}"#).unwrap();
        let narrowed = |opts: &[&str]| {
            let security_opt = opts.iter().map(|opt| (*opt).to_owned()).collect();
            let options = RunOptions { security_opt, ..RunOptions::default() };
            prepare(&config, &options, (SensorMode::Auto, Pid1::Auto), (TraceOf::Original, "n")).unwrap().0.narrow_seccomp
        };
        assert!(narrowed(&[]) && narrowed(&["no-new-privileges"]) && narrowed(&["seccomp=builtin"]));
        assert!(!narrowed(&["seccomp=unconfined"]) && !narrowed(&["seccomp={}"]));
        assert!(narrowed(&["seccomp={}", "seccomp=builtin"]), "the last one counts");
    }

    #[test]
    fn volumes_that_the_engine_fills_from_the_image_are_watched() {
        let config = ImageConfig::parse(br#"{"config":{"Cmd":["x"],"Volumes":{"/v":{}}}}"#).unwrap();
        let list = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let options = RunOptions {
            volumes: list(&["/b", "name:/c", "/host:/d", "name:/e:nocopy"]),
            mounts: list(&["type=volume,dst=/a"]),
            tmpfs: list(&["/t"]),
            ..RunOptions::default()
        };
        let (start, _) = prepare(&config, &options, (SensorMode::Auto, Pid1::Auto), (TraceOf::Original, "n")).unwrap();
        assert_eq!(start.content_mounts, ["/a", "/b", "/c", "/v"]);
    }

    #[tokio::test]
    async fn the_kit_is_a_tar_with_program_and_start_document() {
        let start = Start {
            nonce: "n".into(),
            trace: TraceOf::Slim,
            argv: vec!["/x".into()],
            user: String::new(),
            groups: Vec::new(),
            home_is_set: false,
            drop_caps: Vec::new(),
            narrow_seccomp: true,
            sensor: SensorMode::Auto,
            content_mounts: Vec::new(),
            pid1: Pid1::Auto,
        };
        let slim = TraceOf::Slim.file();
        for (program, expected) in [(Some(Path::new(THIS_PROGRAM)), &[PROGRAM_FILE, START_FILE, slim][..]), (None, &[START_FILE, slim])] {
            let mut bytes = Vec::new();
            archive(program, &start).unwrap().read_to_end(&mut bytes).await.unwrap();
            let mut archive = tar::Archive::new(&bytes[..]);
            let names: Vec<_> = archive.entries().unwrap().map(|e| e.unwrap().path().unwrap().into_owned()).collect();
            assert_eq!(names, expected.iter().map(std::path::PathBuf::from).collect::<Vec<_>>());
        }
    }
}
