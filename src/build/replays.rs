//! Replays: what a trace file says of how its recording was run and asked, written without secrets, and turned
//! back into a case. Commands for this machine are never among it: a file that was carried here must not run
//! anything outside of a container.

use std::time::Duration;

use super::Session;
use super::subject::Subject;
use super::traces::Loaded;
use crate::engine::RunOptions;
use crate::probe::{Action, HttpRequest, ProbePlan, Request, TcpStep, Until};
use crate::report::Redactor;
use crate::report::secrets::is_secret_name;
use crate::trace::replay::{Replay, given};
use crate::verify::Baseline;

/// A request of more bytes than this is left out, so that its line stays a short one.
const MAX_ASK: usize = 1 << 18;

/// What goes into a trace file, and the requests that can.
pub fn replay(
    session: &Session<'_>,
    subject: &Subject,
    baseline: &Baseline,
    redactor: &Redactor,
) -> (Replay, Vec<Request>) {
    let (run, plan) = (&session.plan.run, &baseline.plan);
    let mut replay = Replay {
        entrypoint: run.entrypoint.clone(),
        cmd: run.cmd.clone(),
        user: run.user.clone(),
        workdir: run.workdir.clone(),
        given: given(run),
        readiness: Some(plan.readiness.clone()),
        ready_timeout_ms: plan.ready_timeout.as_millis() as u64,
        omitted: Vec::new(),
    };
    if redactor.arguments(&subject.argv) != subject.argv {
        let why = "its command line looks like it holds a secret";
        return (Replay { omitted: vec![why.into()], given: replay.given, ..Replay::default() }, Vec::new());
    }
    let mut asks = Vec::new();
    for request in baseline.first.iter().map(|answer| &answer.request) {
        match unfit(request, redactor) {
            Some(why) => replay.omitted.push(format!("{}: {why}", redactor.text(&request.name))),
            None => asks.push(request.clone()),
        }
    }
    match plan.until {
        Until::Probes | Until::Exit => {}
        Until::Timeout(_) | Until::Signal | Until::Enter => {
            replay.omitted.push("whatever was asked from outside (--continue-after)".into());
        }
    }
    (replay, asks)
}

/// Why a request is not written into a file. `None`: it is.
fn unfit(request: &Request, redactor: &Redactor) -> Option<&'static str> {
    const SECRET: &str = "looks like it holds a secret";
    let clean = |text: &str| redactor.text(text) == text;
    let clean_bytes = |bytes: &[u8]| std::str::from_utf8(bytes).is_ok_and(clean);
    if request.expect.contains.as_deref().is_some_and(|text| !clean(text)) || !clean(&request.name) {
        return Some(SECRET);
    }
    let fits = match &request.action {
        Action::HostExec { .. } => return Some("runs a command on this machine"),
        Action::Exec { argv } => redactor.arguments(argv) == *argv,
        Action::Run => true,
        Action::Tcp { steps, .. } => steps.iter().all(|step| match step {
            TcpStep::Send(bytes) => clean_bytes(bytes),
            TcpStep::Expect(text) => clean(text),
            TcpStep::ExpectClose => true,
        }),
        Action::Http(ask) | Action::Crawl { start: ask, .. } | Action::Api { start: ask, .. } => {
            let HttpRequest { path, headers, body, host, .. } = ask;
            let secret = |(name, value): &(String, String)| {
                is_secret_name(name) || !clean(value) || !clean(&format!("{name}: {value}"))
            };
            let texts = clean(path) && host.as_deref().is_none_or(clean);
            texts && !headers.iter().any(secret) && body.as_deref().is_none_or(clean_bytes)
        }
    };
    if !fits {
        return Some(SECRET);
    }
    let length = serde_json::to_vec(request).map_or(usize::MAX, |text| text.len());
    (length > MAX_ASK).then_some("is too long for a trace")
}

/// How a trace is asked again.
pub type Way = (Option<String>, RunOptions, ProbePlan);

/// The case that a trace describes, and why not all of it can be asked again. The first is `None` when nothing
/// of it can.
pub fn way(session: &Session<'_>, loaded: &Loaded) -> (Option<Way>, Option<String>) {
    let Some(replay) = &loaded.file.head.replay else {
        return (None, Some("the file does not say what was asked".into()));
    };
    let here = given(&session.plan.run);
    let lacking: Vec<&str> = replay.given.iter().filter(|name| !here.contains(name)).map(String::as_str).collect();
    if !lacking.is_empty() {
        return (None, Some(format!("it was recorded with {}, which this build is not given", lacking.join(", "))));
    }
    let omitted = (!replay.omitted.is_empty()).then(|| replay.omitted.join(", "));
    let fits = |request: &Request| !matches!(request.action, Action::HostExec { .. });
    let asks: Vec<Request> = loaded.file.asks.iter().filter(|request| fits(request)).cloned().collect();
    let Some(readiness) = replay.readiness.clone().filter(|_| !asks.is_empty()) else {
        return (None, Some(omitted.unwrap_or_else(|| "it was asked nothing".into())));
    };
    let options = RunOptions {
        entrypoint: replay.entrypoint.clone(),
        cmd: replay.cmd.clone(),
        user: replay.user.clone(),
        workdir: replay.workdir.clone(),
        ..session.plan.run.clone()
    };
    let probes = ProbePlan::of(readiness, Duration::from_millis(replay.ready_timeout_ms), asks);
    (Some((Some(loaded.name.clone()), options, probes)), omitted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::Expect;

    fn request(action: Action) -> Request {
        let (stated, expect, timeout) = (true, Expect::default(), Duration::from_secs(1));
        Request { probe: "p".into(), name: "n".into(), action, stated, expect, timeout }
    }

    #[test]
    fn what_holds_a_secret_or_runs_here_stays_out_of_a_file() {
        let mut redactor = Redactor::new();
        redactor.learn("hunter2-is-told");
        let argv = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let get = |change: fn(&mut HttpRequest)| {
            let mut ask = HttpRequest::get(80, "/");
            change(&mut ask);
            Action::Http(ask)
        };
        let stays_out = [
            Action::HostExec { argv: argv(&["curl", "x"]), ports: vec![80] },
            Action::Exec { argv: argv(&["login", "--password", "x"]) },
            Action::Exec { argv: argv(&["say", "hunter2-is-told"]) },
            Action::Tcp { port: 1, steps: vec![TcpStep::Send(b"AUTH hunter2-is-told".to_vec())] },
            Action::Tcp { port: 1, steps: vec![TcpStep::Send(b"\xff\xfe".to_vec())] },
            get(|ask| ask.path = "/?token=abcdefgh12345678".into()),
            get(|ask| ask.headers.push(("Authorization".into(), "x".into()))),
            get(|ask| ask.body = Some(b"hunter2-is-told".to_vec())),
            get(|ask| ask.body = Some(vec![b'a'; MAX_ASK])),
        ];
        for action in stays_out {
            assert!(unfit(&request(action.clone()), &redactor).is_some(), "{action:?}");
        }
        for action in [Action::Run, get(|_| ()), get(|ask| ask.body = Some(b"{\"a\": 1}".to_vec()))] {
            assert_eq!(unfit(&request(action.clone()), &redactor), None, "{action:?}");
        }
    }
}
