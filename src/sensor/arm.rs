//! Arm: choosing the recorders and making everything ready, up to the moment before the target's exec.

use std::ffi::CString;
use std::fs::File;

use anyhow::{Context, Result, bail};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::Failure;
use super::control::{Pid1, Reply, SensorMode, Start};
use super::event::{Header, Line, Recorders, TRACE_VERSION};
use super::filter::{self, Narrow, Trap, Watched};
use super::identity::{self, Identity};
use super::journal::Journal;
use super::namespace::{self, Place};
use super::opens::Opens;
use super::parent::Parent;
use super::signals::Signals;
use super::spawn::{Output, Recipe, Spawned};
use super::table::Age;
use super::talk::Talk;
use super::traps::Traps;
use super::who::{Status, TARGET, Who};
use crate::sys::process::{bounding_set, capability};
use crate::sys::seccomp;
use crate::sys::{self, c_string};

/// Descriptors that are neither events nor processes: streams, pipes of execs, listeners.
const RESERVE: u64 = 64;

/// Arms the recorders and starts the target up to its exec.
pub(super) fn arm(
    start: &Start,
    trace: File,
    mut talk: Talk,
    mut notes: Vec<String>,
) -> Result<Parent, Failure> {
    let signals = Signals::block().context("cannot take signals")?;
    nix::sys::prctl::set_child_subreaper(true).context("cannot adopt orphans")?;
    let nofile = raise_nofile();
    let spare = getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |limit| limit.0).saturating_sub(RESERVE) / 3;
    let opens = watch_opens(start, spare.clamp(1, 64) as usize, &mut notes)?;
    let argv: Vec<CString> = start.argv.iter().map(|arg| c_string(arg.as_bytes())).collect();
    let mut traps = Traps::default();
    let (mut recipe, target, recorders) = start_in_place(start, nofile, &argv, &opens, &mut traps, &mut notes)?;
    if matches!(recipe.place, Place::New { .. }) {
        recipe.place = namespace::of_target(target.pid)?;
    }
    let mut journal = Journal::new(trace);
    journal.line(&Line::Header(header(&recorders)));
    notes.into_iter().for_each(|note| journal.note(note));
    let filters = Status::read(std::process::id() as i32).ok().and_then(|status| status.filters);
    let filters = filters.filter(|_| !recipe.filter.is_empty()).map(|count| count + 1);
    let mut who = Who::new(spare.clamp(4, 256) as usize, filters);
    who.add_root(target.pid, TARGET);
    journal.flush();
    talk.say(&Reply::Armed { recorders });
    target.go().context("the target's process ended")?;
    Ok(Parent::new(
        recipe,
        target,
        super::parent::Recording { journal, who, traps, opens: opens.ok() },
        talk,
        signals,
    ))
}

/// The fanotify recorder; why not, where it is missing and may be.
fn watch_opens(start: &Start, batch: usize, notes: &mut Vec<String>) -> Result<Result<Opens, String>> {
    if start.sensor == SensorMode::Syscalls {
        return Ok(Err("--sensor syscalls was asked for".into()));
    }
    match Opens::arm(&start.content_mounts, batch) {
        Ok((opens, more)) => {
            notes.extend(more);
            Ok(Ok(opens))
        }
        Err(error) if start.sensor == SensorMode::Auto => {
            Ok(Err(format!("{error:#}; every open is trapped instead, which is slower")))
        }
        Err(error) => Err(error.context("cannot record with fanotify")),
    }
}

/// Starts the target as process 1 of its own PID namespace, or, where that cannot be and need not be, beside us.
fn start_in_place(
    start: &Start,
    nofile: (u64, u64),
    argv: &[CString],
    opens: &Result<Opens, String>,
    traps: &mut Traps,
    notes: &mut Vec<String>,
) -> Result<(Recipe, Spawned, Recorders)> {
    // With an init of the engine's before us (--init), the target is not process 1 in a plain run either.
    let wanted = match start.pid1 {
        Pid1::Always => true,
        Pid1::Auto => std::process::id() == 1,
        Pid1::Never => false,
    };
    let mut refused = None;
    if wanted {
        match start_target(start, nofile, argv, opens, traps, true) {
            Ok(started) => return Ok(started),
            Err(error) if start.pid1 == Pid1::Always => {
                return Err(error.context("cannot make the target process 1"));
            }
            Err(error) => refused = Some(error),
        }
        // Where this cannot be, the next child says so.
        let _ = namespace::stay();
    }
    let started = start_target(start, nofile, argv, opens, traps, false)?;
    // What fails in both places has nothing to do with the place.
    notes.extend(refused.map(|error| format!("the target is not process 1 while it is recorded: {error:#}")));
    Ok(started)
}

/// Starts the target under the best syscall recorder that can be had.
fn start_target(
    start: &Start,
    nofile: (u64, u64),
    argv: &[CString],
    opens: &Result<Opens, String>,
    traps: &mut Traps,
    alone: bool,
) -> Result<(Recipe, Spawned, Recorders)> {
    let watched = if opens.is_ok() { Watched::Unopened } else { Watched::Everything };
    let mut ways = vec![(watched, Some(Trap::Notify)), (watched, Some(Trap::Trace))];
    match start.sensor {
        SensorMode::Fanotify => ways = vec![(Watched::Nothing, None)],
        SensorMode::Auto if opens.is_ok() => ways.push((Watched::Nothing, None)),
        SensorMode::Auto | SensorMode::Split | SensorMode::Syscalls => {}
    }
    let mut failed = None;
    for (watched, trap) in ways {
        let started = recipe(start, nofile, watched, trap).and_then(|mut recipe| {
            if alone {
                let marks = opens.as_ref().ok().map(|opens| opens.marks(&start.content_mounts)).transpose()?;
                recipe.place = Place::New { marks };
            }
            let mut spawned = recipe.spawn(argv, Output::Inherited)?;
            traps.attach(&mut spawned, TARGET)?;
            Ok((recipe, spawned))
        });
        match started {
            Ok((recipe, spawned)) => {
                return Ok((recipe, spawned, recorders(start.sensor, opens, trap, failed)));
            }
            // The first way is the one to mend.
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    let error = failed.context("no way to record")?;
    match opens {
        Err(why) if start.sensor == SensorMode::Auto => bail!("cannot record at all: {why}; {error:#}"),
        _ => Err(error.context("cannot record with the syscall recorder")),
    }
}

/// What runs, and why not more.
fn recorders(
    mode: SensorMode,
    opens: &Result<Opens, String>,
    trap: Option<Trap>,
    failed: Option<anyhow::Error>,
) -> Recorders {
    let syscalls = trap.map(|trap| match trap {
        Trap::Notify => "user-notification".to_owned(),
        Trap::Trace => "ptrace".to_owned(),
    });
    let mut why: Vec<String> = opens.as_ref().err().cloned().into_iter().collect();
    match (trap, failed) {
        (Some(Trap::Trace), Some(error)) => {
            why.push(format!("{error:#}; ptrace is used instead, which is slower"))
        }
        (None, _) if mode == SensorMode::Fanotify => {
            why.push("--sensor fanotify was asked for; what is only stat()ed is missed".into());
        }
        (None, Some(error)) => why.push(format!("{error:#}; what is only stat()ed is missed")),
        _ => {}
    }
    let fanotify = opens.is_ok().then(|| "mount marks".into());
    Recorders { fanotify, syscalls, why: why.join("; ") }
}

fn recipe(start: &Start, nofile: (u64, u64), watched: Watched, trap: Option<Trap>) -> Result<Recipe> {
    if trap == Some(Trap::Notify) && kernel() < (5, 5) {
        bail!("kernels before 5.5 cannot let a notified system call go on");
    }
    let read = |path: &str| std::fs::read(path).unwrap_or_default();
    let identity = identity::find(&start.user, &start.groups, &read("/etc/passwd"), &read("/etc/group"))?;
    let mut drop = Vec::new();
    for name in &start.drop_caps {
        drop.push(capability(name).with_context(|| format!("{name} is no capability"))?);
    }
    let has = bounding_set();
    drop.retain(|cap| has & (1 << cap) != 0);
    let left = drop.iter().fold(has, |caps, cap| caps & !(1 << cap));
    let filter = filter::program(
        watched,
        trap.unwrap_or(Trap::Notify),
        start.narrow_seccomp.then(|| Narrow { caps: left, age: profile_age() }),
    );
    let environment = environment(start.home_is_set, &identity);
    Ok(Recipe { environment, identity, drop, filter, trap, nofile, place: Place::Beside })
}

/// How old the engine's seccomp profile is.
fn profile_age() -> Age {
    if seccomp::refuses_vsock() { Age::New } else { Age::Old }
}

/// The container's environment; HOME is the target's and not that of root, whom the runtime started.
fn environment(home_is_set: bool, identity: &Identity) -> Vec<CString> {
    let mut all = sys::environment();
    if !home_is_set {
        all.retain(|entry| !entry.starts_with(b"HOME="));
        all.push([b"HOME=", identity.home.as_slice()].concat());
    }
    all.iter().map(|entry| c_string(entry)).collect()
}

/// Raises the limit of open descriptors as far as it goes; gives what it was, for the target.
fn raise_nofile() -> (u64, u64) {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((1024, 1024));
    // More is never needed, and some kernels make tables as long as the limit.
    let wanted = hard.min(65_536).max(soft);
    let _ = setrlimit(Resource::RLIMIT_NOFILE, wanted, hard);
    (soft, hard)
}

/// The kernel's version, as major and minor.
fn kernel() -> (u32, u32) {
    let release = nix::sys::utsname::uname().map(|name| name.release().to_string_lossy().into_owned());
    let release = release.unwrap_or_default();
    let mut numbers = release.split(['.', '-']).map_while(|part| part.parse().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

fn header(recorders: &Recorders) -> Header {
    let kernel = nix::sys::utsname::uname()
        .map(|name| name.release().to_string_lossy().into_owned())
        .unwrap_or_default();
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    Header { slim_trace: TRACE_VERSION, arch: arch.into(), kernel, recorders: recorders.clone() }
}
