//! Survey: which engines can be reached from here, and what each could record with, found out without running a
//! container. What only a run shows is said to be unknown.

use std::collections::BTreeMap;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Error, Result, anyhow};
use bollard::models::SystemInfo;
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use serde::Serialize;

use super::docker::connect;
use super::host::{EngineChoice, Host, Surroundings, stated};
use super::{EngineError, EngineInfo};
use crate::exit::Hint;
use crate::sys::process::is_every_user;

/// Name and major version of the document that [`Survey::to_json`] writes.
const SCHEMA: &str = "slim.engines/1";
/// Time for one engine to answer.
const PATIENCE: Duration = Duration::from_secs(40);
/// CAP_SYS_ADMIN, capabilities(7).
const SYS_ADMIN: u32 = 21;

/// All engines that were found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Survey {
    schema: &'static str,
    /// The one that is used when nothing is said stands first.
    pub engines: Vec<Found>,
}

/// One engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Found {
    /// `docker`, `podman`, or nothing when it did not say.
    pub name: Option<String>,
    /// Its version.
    pub version: Option<String>,
    /// What led to it: `DOCKER_HOST`, `socket`, `built in`.
    pub by: String,
    /// Where it listens.
    pub host: String,
    /// It runs without root on its machine.
    pub rootless: Option<bool>,
    /// `linux/amd64`.
    pub platform: Option<String>,
    /// Version of its kernel.
    pub kernel: Option<String>,
    /// Why it cannot be used, with what to do; nothing when it can.
    pub problem: Option<String>,
    /// What each recorder can do there.
    pub recorders: BTreeMap<&'static str, Recorder>,
}

/// What is known of a recorder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Recorder {
    /// `yes`, `no`, or `unknown` where only a run shows it.
    pub usable: Usable,
    /// What is missing, or what cannot be known.
    pub why: Option<String>,
}

/// Whether something works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Usable {
    /// Everything it needs is there.
    Yes,
    /// Something is missing.
    No,
    /// Only a run shows it.
    Unknown,
}

impl Survey {
    /// Asks every engine that is named or listens at a usual socket. `others` are engines of another kind, which
    /// are asked by whoever has them; they stand at the end.
    pub async fn take(choice: &EngineChoice, here: &Surroundings, others: Vec<Found>) -> Self {
        let (places, mut wrong) = places(choice, here);
        let asked = places.iter().map(|(host, by)| ask(host, by));
        let mut engines = futures_util::future::join_all(asked).await;
        wrong.append(&mut engines);
        wrong.extend(others);
        Self { schema: SCHEMA, engines: wrong }
    }

    /// An error with a remedy unless an engine can be used.
    ///
    /// # Errors
    /// When none can.
    pub fn usable(&self, here: &Surroundings) -> Result<()> {
        if self.engines.iter().any(|engine| engine.problem.is_none()) {
            return Ok(());
        }
        let looked: Vec<String> = here.sockets.iter().map(|path| path.display().to_string()).collect();
        let text = match self.engines.len() {
            0 => format!("no container engine found (looked at {})", looked.join(", ")),
            _ => "no container engine can be used".to_owned(),
        };
        let hint = "start Docker or `podman system service --time 0`, or name an engine with --host or DOCKER_HOST";
        Err(Error::new(EngineError::Unreachable(text)).context(Hint::new(hint)))
    }

    /// The document for other programs, in one line.
    ///
    /// # Errors
    /// None that is known.
    pub fn to_json(&self) -> Result<String> {
        let mut text = serde_json::to_string(self)?;
        text.push('\n');
        Ok(text)
    }

    /// The table for people: a line for each engine, and one for each thing that is missing.
    pub fn to_text(&self) -> String {
        let mut rows = vec![["ENGINE", "VERSION", "FOUND BY", "ADDRESS", "RECORDERS"].map(str::to_owned)];
        rows.extend(self.engines.iter().map(Found::cells));
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
        let widths = [0, 1, 2, 3].map(width);
        let mut text = String::new();
        for (at, row) in rows.iter().enumerate() {
            let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}  ")).collect::<String>();
            text.push_str(&format!("{cells}{}\n", row[4]));
            let engine = at.checked_sub(1).and_then(|at| self.engines.get(at));
            engine.iter().flat_map(|engine| engine.notes()).for_each(|note| text.push_str(&format!("    {note}\n")));
        }
        text
    }
}

impl Found {
    /// The engine in this program; `rootless` says whether an ordinary user runs it, `problem` why it cannot be used.
    pub(super) fn embedded(info: EngineInfo, rootless: bool, problem: Option<String>) -> Self {
        let own = Peer::read(Path::new("/proc/self"));
        let ask = Ask {
            rootless: Some(rootless),
            remapped: own.as_ref().is_some_and(|own| own.rootless),
            kernel: own_kernel().as_deref().and_then(version),
            here: true,
            capabilities: own.map(|own| own.capabilities),
        };
        Self {
            name: Some(info.name),
            version: Some(info.version),
            by: "built in".to_owned(),
            host: info.host,
            rootless: Some(rootless),
            platform: Some(format!("{}/{}", info.os, info.arch)),
            kernel: own_kernel(),
            recorders: if problem.is_none() { ask.recorders(&actions()) } else { BTreeMap::new() },
            problem,
        }
    }

    fn cells(&self) -> [String; 5] {
        let word = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
        let rootless = if self.rootless == Some(true) { " (rootless)" } else { "" };
        let marked = |(name, recorder): (&&str, &Recorder)| match recorder.usable {
            Usable::Yes => Some((*name).to_owned()),
            Usable::Unknown => Some(format!("{name}?")),
            Usable::No => None,
        };
        let recorders: Vec<String> = self.recorders.iter().filter_map(marked).collect();
        let recorders = if recorders.is_empty() { "-".to_owned() } else { recorders.join(" ") };
        let name = format!("{}{rootless}", word(&self.name));
        [name, word(&self.version), self.by.clone(), self.host.clone(), recorders]
    }

    fn notes(&self) -> Vec<String> {
        let recorders = self.recorders.iter().filter_map(|(name, recorder)| Some(format!("{name}: {}", recorder.why.as_ref()?)));
        self.problem.iter().cloned().chain(recorders).collect()
    }

    fn unusable(by: &str, host: &str, error: &Error) -> Self {
        Self {
            name: None,
            version: None,
            by: by.to_owned(),
            host: host.to_owned(),
            rootless: None,
            platform: None,
            kernel: None,
            problem: Some(format!("{error:#}")),
            recorders: BTreeMap::new(),
        }
    }
}

/// Every place worth asking, the one that is used when nothing more is said first; and what was named wrongly.
fn places(choice: &EngineChoice, here: &Surroundings) -> (Vec<(Host, String)>, Vec<Found>) {
    let (mut places, mut wrong) = (Vec::new(), Vec::new());
    match stated(choice, here) {
        Ok(named) => places.extend(named),
        Err(error) => wrong.push(Found::unusable("named", "-", &error)),
    }
    if let Some(text) = here.var("CONTAINER_HOST") {
        let podman = EngineChoice { host: Some(text.to_owned()), ..EngineChoice::default() };
        match stated(&podman, here) {
            Ok(named) => places.extend(named.map(|(host, _)| (host, "CONTAINER_HOST".to_owned()))),
            Err(error) => wrong.push(Found::unusable("CONTAINER_HOST", text, &error)),
        }
    }
    let sockets = here.sockets.iter().filter(|path| path.exists());
    places.extend(sockets.map(|path| (Host::Unix(path.clone()), "socket".to_owned())));
    let mut seen: Vec<Host> = Vec::new();
    places.retain(|(host, _)| {
        let host = real(host);
        let new = !seen.contains(&host);
        seen.push(host);
        new
    });
    (places, wrong)
}

/// `/var/run` is `/run` on most machines.
fn real(host: &Host) -> Host {
    match host {
        Host::Unix(path) => Host::Unix(path.canonicalize().unwrap_or_else(|_| path.clone())),
        other => other.clone(),
    }
}

async fn ask(host: &Host, by: &str) -> Found {
    let answered = tokio::time::timeout(PATIENCE, connect::answer(host)).await;
    let answered = answered.unwrap_or_else(|_| Err(anyhow!("no answer within {} s", PATIENCE.as_secs())));
    match answered {
        Ok((_, info, about)) => found(host, by, info, &about),
        Err(error) => Found::unusable(by, &host.to_string(), &error),
    }
}

fn found(host: &Host, by: &str, info: EngineInfo, about: &SystemInfo) -> Found {
    let options = about.security_options.as_deref().unwrap_or_default();
    let has = |name: &str| options.iter().any(|option| option.split(',').any(|part| part == format!("name={name}")));
    let kernel = about.kernel_version.clone().filter(|text| !text.is_empty());
    let problem = connect::check_platform(&info).err().map(|error| format!("{error:#}"));
    let peer = Peer::of(host);
    // Podman's answer to Docker's question does not say it.
    let said = has("rootless").then_some(true).or((info.name == "docker").then_some(false));
    let ask = Ask {
        rootless: said.filter(|rootless| *rootless).or(peer.as_ref().map(|peer| peer.rootless)).or(said),
        remapped: has("userns"),
        kernel: kernel.as_deref().and_then(version),
        // A socket may lead elsewhere: the kernel's own facts count where it is the same one, as far as can be told.
        here: info.local && kernel.is_some() && kernel == own_kernel(),
        capabilities: peer.map(|peer| peer.capabilities),
    };
    Found {
        name: Some(info.name),
        version: Some(info.version),
        by: by.to_owned(),
        host: info.host,
        rootless: ask.rootless,
        platform: Some(format!("{}/{}", info.os, info.arch)),
        recorders: if problem.is_none() { ask.recorders(&actions()) } else { BTreeMap::new() },
        kernel,
        problem,
    }
}

/// What the recorders depend on, as far as it is known without a run.
struct Ask {
    rootless: Option<bool>,
    /// Containers' root is another user there (userns-remap).
    remapped: bool,
    kernel: Option<(u32, u32)>,
    here: bool,
    /// The daemon's effective capabilities, where its process can be seen.
    capabilities: Option<u64>,
}

impl Ask {
    /// `actions` is what this machine's seccomp can do.
    fn recorders(&self, actions: &str) -> BTreeMap<&'static str, Recorder> {
        let actions = Some(actions).filter(|actions| self.here && !actions.is_empty());
        BTreeMap::from([
            ("fanotify", self.fanotify()),
            ("user-notification", self.notify(actions)),
            ("ptrace", self.trace(actions)),
        ])
    }

    fn fanotify(&self) -> Recorder {
        let daemon_may = self.capabilities.map(|caps| caps & (1 << SYS_ADMIN) != 0);
        let rootless = self.rootless == Some(true);
        match (rootless || self.remapped, daemon_may) {
            (true, _) if rootless => no("needs CAP_SYS_ADMIN of the machine itself, which a rootless engine has not"),
            (true, _) => no("needs CAP_SYS_ADMIN of the machine itself, which a user namespace (userns-remap) takes away"),
            (false, Some(false)) => no("needs CAP_SYS_ADMIN, which the engine itself has not"),
            (false, Some(true)) if self.here => yes(),
            (false, _) => unknown("whether the engine may grant CAP_SYS_ADMIN only a run shows"),
        }
    }

    fn notify(&self, actions: Option<&str>) -> Recorder {
        match (self.kernel, actions) {
            (None, _) => unknown("the engine does not tell its kernel's version; 5.5 is needed"),
            (Some(kernel), _) if kernel < (5, 5) => no("needs Linux 5.5"),
            (_, Some(actions)) if !lists(actions, "user_notif") => no("this kernel's seccomp has no user_notif"),
            (Some(kernel), _) if kernel < (5, 19) => Recorder {
                why: Some("before Linux 5.19 a signal can interrupt a call that is looked at".to_owned()),
                ..self.seen(actions)
            },
            _ => self.seen(actions),
        }
    }

    fn trace(&self, actions: Option<&str>) -> Recorder {
        match actions {
            Some(actions) if !lists(actions, "trace") => no("this kernel's seccomp has no trace"),
            _ => self.seen(actions),
        }
    }

    fn seen(&self, actions: Option<&str>) -> Recorder {
        match actions {
            Some(_) => yes(),
            None => unknown("whether its seccomp profile and kernel allow it only a run shows"),
        }
    }
}

fn yes() -> Recorder {
    Recorder { usable: Usable::Yes, why: None }
}

fn no(why: &str) -> Recorder {
    Recorder { usable: Usable::No, why: Some(why.to_owned()) }
}

fn unknown(why: &str) -> Recorder {
    Recorder { usable: Usable::Unknown, why: Some(why.to_owned()) }
}

fn lists(actions: &str, name: &str) -> bool {
    actions.split_whitespace().any(|action| action == name)
}

/// What seccomp can do on this machine (seccomp(2)); empty where it does not say.
fn actions() -> String {
    std::fs::read_to_string("/proc/sys/kernel/seccomp/actions_avail").unwrap_or_default()
}

fn own_kernel() -> Option<String> {
    let name = nix::sys::utsname::uname().ok()?;
    Some(name.release().to_str()?.to_owned())
}

/// Major and minor of a kernel's version.
fn version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split(['.', '-']).map_while(|part| part.parse().ok());
    Some((numbers.next()?, numbers.next()?))
}

/// Whoever listens at a socket, where this machine has its process.
struct Peer {
    /// Effective capabilities, in its own user namespace.
    capabilities: u64,
    /// It is another user than root, or its root is.
    rootless: bool,
}

impl Peer {
    fn of(host: &Host) -> Option<Self> {
        let Host::Unix(path) = host else { return None };
        let peer = getsockopt(&UnixStream::connect(path).ok()?, PeerCredentials).ok()?;
        // 0: a process that this PID namespace does not show.
        let process = Path::new("/proc").join((peer.pid() > 0).then_some(peer.pid())?.to_string());
        let found = Self::read(&process)?;
        Some(Self { rootless: found.rootless || peer.uid() != 0, ..found })
    }

    fn read(process: &Path) -> Option<Self> {
        let status = std::fs::read_to_string(process.join("status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
        let map = std::fs::read_to_string(process.join("uid_map")).ok()?;
        Some(Self {
            capabilities: u64::from_str_radix(line.trim(), 16).ok()?,
            rootless: !is_every_user(&map),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: &str = "kill_process kill_thread trap errno user_notif trace log allow";

    fn rooted() -> Ask {
        Ask { rootless: Some(false), remapped: false, kernel: Some((6, 1)), here: true, capabilities: Some(1 << SYS_ADMIN) }
    }

    fn told(ask: &Ask, actions: &str) -> String {
        let all = ask.recorders(actions).into_iter();
        let words = all.map(|(name, found)| format!("{name} {:?}: {}\n", found.usable, found.why.unwrap_or_default()));
        words.collect()
    }

    #[test]
    fn each_recorder_says_what_it_lacks() {
        let all = told(&rooted(), ALL);
        assert_eq!(all.matches(" Yes: \n").count(), 3, "{all}");
        for (ask, actions, expected) in [
            (Ask { rootless: Some(true), ..rooted() }, ALL, "fanotify No: needs CAP_SYS_ADMIN of the machine itself, which a rootless"),
            (Ask { remapped: true, ..rooted() }, ALL, "which a user namespace (userns-remap) takes away"),
            (Ask { capabilities: Some(0), ..rooted() }, ALL, "fanotify No: needs CAP_SYS_ADMIN, which the engine itself has not"),
            (Ask { capabilities: None, ..rooted() }, ALL, "fanotify Unknown"),
            (Ask { kernel: Some((5, 4)), ..rooted() }, ALL, "user-notification No: needs Linux 5.5"),
            (Ask { kernel: Some((5, 18)), ..rooted() }, ALL, "user-notification Yes: before Linux 5.19"),
            (rooted(), "kill errno allow", "user-notification No: this kernel's seccomp has no user_notif"),
            (Ask { here: false, ..rooted() }, ALL, "ptrace Unknown"),
            (Ask { here: false, capabilities: None, ..rooted() }, "", "fanotify Unknown"),
            (Ask { kernel: None, ..rooted() }, ALL, "user-notification Unknown: the engine does not tell"),
        ] {
            let text = told(&ask, actions);
            assert!(text.contains(expected), "{expected}\n{text}");
        }
        assert_eq!(version("6.1.0-13-amd64"), Some((6, 1)));
        assert_eq!(version("linux"), None);
        assert!(is_every_user("         0          0 4294967295\n"));
        assert!(!is_every_user("0 1001 1\n1 100000 65536\n") && !is_every_user(""));
    }

    #[tokio::test]
    async fn an_engine_that_does_not_answer_is_listed_with_the_reason() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("engine.sock");
        drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
        let sockets = vec![socket.clone(), socket.clone(), dir.path().join("none")];
        let here = Surroundings { sockets, ..Surroundings::default() };
        let survey = Survey::take(&EngineChoice::default(), &here, Vec::new()).await;
        assert_eq!(survey.engines.len(), 1, "{survey:?}");
        assert!(survey.engines[0].problem.as_ref().unwrap().contains("cannot reach"), "{survey:?}");
        assert!(survey.to_text().contains("engine.sock"));
        assert!(format!("{:#}", survey.usable(&here).unwrap_err()).contains("no container engine can be used"));
        let nowhere = Surroundings::default();
        let survey = Survey::take(&EngineChoice::default(), &nowhere, Vec::new()).await;
        assert!(format!("{:#}", survey.usable(&here).unwrap_err()).contains("none"));
        let mut other = Found::unusable("here", "-", &anyhow!("x"));
        other.problem = None;
        let survey = Survey::take(&EngineChoice::default(), &nowhere, vec![other]).await;
        assert!(survey.usable(&nowhere).is_ok());
    }
}
