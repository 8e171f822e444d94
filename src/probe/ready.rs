//! Ready: the target is ready when what its first probe needs is there. Waiting polls; nothing is slept
//! through, and a target that ends is noticed at once.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use regex::bytes::Regex;
use tokio::time::Instant;

use super::ports::{self, Ports, Speech};
use super::until::Backoff;
use super::{Action, ProbePlan, Readiness, Target, http, tcp};
use crate::engine::Health;
use crate::progress::{Fact, Monitor};

/// The first try to reach a port may take this long, each later one twice as long as the one before.
const FIRST_TRY: Duration = Duration::from_secs(1);
const LONGEST_TRY: Duration = Duration::from_secs(30);
/// An optional port has at least this long after the first port is ready.
const GRACE: Duration = Duration::from_millis(1500);

/// What came of the waiting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ready {
    /// Ready; what its ports speak.
    Yes(Ports),
    /// The target ended.
    Exited {
        /// Its exit status.
        status: i32,
        /// What was waited for, and a hint when there is one.
        why: String,
    },
    /// Not ready in time.
    TimedOut {
        /// What was waited for, what happened instead, and a hint when there is one.
        why: String,
    },
}

/// Waits until the target is ready for the plan's probes.
///
/// # Errors
/// When the engine does not answer, or `--ready-log` is not a regular expression.
pub async fn ready(plan: &ProbePlan, target: &dyn Target, monitor: &dyn Monitor) -> Result<Ready> {
    if plan.readiness == Readiness::Started {
        return Ok(Ready::Yes(Ports::new()));
    }
    target.mark("readiness").await?;
    let began = Instant::now();
    let mut wait = Wait { plan, target, monitor, began, state: String::new() };
    let outcome = tokio::select! {
        biased;
        outcome = tokio::time::timeout(plan.ready_timeout, all(&mut wait)) => outcome,
        status = target.ended() => {
            let status = status.context("wait for the target's end")?;
            let why = format!("the target ended with exit status {status} while {} was waited for", what(plan));
            return Ok(Ready::Exited { status, why });
        }
    };
    match outcome {
        Ok(done) => done.map(Ready::Yes),
        Err(_) => {
            let seconds = plan.ready_timeout.as_secs_f64();
            let state = if wait.state.is_empty() { String::new() } else { format!(": {}", wait.state) };
            let hint = hint(plan, target).await.map_or(String::new(), |hint| format!("; {hint}"));
            Ok(Ready::TimedOut { why: format!("{} did not come within {seconds} s{state}{hint}", what(plan)) })
        }
    }
}

fn what(plan: &ProbePlan) -> String {
    match &plan.readiness {
        Readiness::Ports(ports) => {
            let list: Vec<_> = ports.iter().map(u16::to_string).collect();
            format!("an answer on port {}", list.join(", "))
        }
        Readiness::Health => "a healthy HEALTHCHECK".to_owned(),
        Readiness::Log(pattern) => format!("a line of the log that matches `{pattern}`"),
        Readiness::Started => "the start".to_owned(),
    }
}

struct Wait<'a> {
    plan: &'a ProbePlan,
    target: &'a dyn Target,
    monitor: &'a dyn Monitor,
    began: Instant,
    /// What was the matter last time that was looked, for people.
    state: String,
}

async fn all(wait: &mut Wait<'_>) -> Result<Ports> {
    match &wait.plan.readiness {
        Readiness::Health => healthy(wait).await?,
        Readiness::Log(pattern) => logged(wait, pattern).await?,
        Readiness::Ports(_) | Readiness::Started => {}
    }
    open(wait).await
}

async fn healthy(wait: &mut Wait<'_>) -> Result<()> {
    let mut backoff = Backoff::new();
    loop {
        let health = wait.target.state().await?.health;
        wait.state = match health {
            Some(Health::Healthy) => return Ok(()),
            Some(Health::Unhealthy) => "it is unhealthy".to_owned(),
            Some(Health::Starting) => "its checks do not pass yet".to_owned(),
            None => "it gives no result".to_owned(),
        };
        backoff.pause().await;
    }
}

async fn logged(wait: &mut Wait<'_>, pattern: &str) -> Result<()> {
    // Per line: `^` and `$` mean what they mean to a reader of the log.
    let regex = Regex::new(&format!("(?m){pattern}")).with_context(|| format!("--ready-log `{pattern}`"))?;
    let mut backoff = Backoff::new();
    while !regex.is_match(&wait.target.log()) {
        backoff.pause().await;
    }
    Ok(())
}

/// Waits for the ports that probes talk to: all that somebody named, and of the merely exposed ones those
/// that open soon after the first.
async fn open(wait: &mut Wait<'_>) -> Result<Ports> {
    let mut waiting = wait.plan.awaited_ports();
    let mut open = Ports::new();
    let mut first: Option<Instant> = None;
    let mut troubles: BTreeMap<u16, String> = BTreeMap::new();
    let mut backoff = Backoff::new();
    let mut patience = BTreeMap::new();
    loop {
        for port in std::mem::take(&mut waiting) {
            let time = *patience.get(&port).unwrap_or(&FIRST_TRY);
            match try_port(wait, port, time).await {
                Ok(speech) => {
                    open.insert(port, speech);
                    first.get_or_insert_with(Instant::now);
                }
                Err((trouble, late)) => {
                    if late {
                        patience.insert(port, (time * 2).min(LONGEST_TRY));
                    }
                    troubles.insert(port, trouble);
                    waiting.push(port);
                }
            }
        }
        let late = first.is_some_and(|at| at.elapsed() > GRACE.max(at.duration_since(wait.began)));
        let only_optional = waiting.iter().all(|port| wait.plan.optional_ports.contains(port));
        if waiting.is_empty() || (only_optional && late) {
            break;
        }
        let states = waiting.iter().map(|port| format!("port {port}: {}", troubles[port]));
        wait.state = states.collect::<Vec<_>>().join(", ");
        backoff.pause().await;
    }
    for port in &waiting {
        let text = format!("port {port} is exposed and not served ({}): it is not probed", troubles[port]);
        wait.monitor.tell(Fact::Warning { text });
    }
    for port in open.iter().filter(|(port, speech)| **speech == Speech::Other && wait.plan.http_start(**port).is_some())
    {
        let text = format!("port {} does not speak HTTP; state a probe for it with --probe", port.0);
        wait.monitor.tell(Fact::Warning { text });
    }
    Ok(open)
}

/// Whether a port is ready: it answers HTTP, or the first conversation that is planned with it goes well,
/// or it accepts a connection and keeps it. When it is not: why, and whether it was given too little time.
async fn try_port(wait: &Wait<'_>, port: u16, time: Duration) -> Result<Speech, (String, bool)> {
    if let Some(start) = wait.plan.http_start(port) {
        let speech = ports::speech(wait.target, start, time).await;
        return speech.map_err(|error| (http::explain(&error), error.kind() == ErrorKind::TimedOut));
    }
    let conversation = wait.plan.probes.iter().find_map(|probe| match &probe.action {
        Action::Tcp { port: p, steps } if *p == port && probe.stated => Some(steps.as_slice()),
        _ => None,
    });
    let talk = tcp::converse(wait.target, port, conversation.unwrap_or_default());
    match tokio::time::timeout(time, talk).await {
        Ok(Ok(tcp::Talk { failed: None, .. })) => Ok(Speech::Other),
        Ok(Ok(tcp::Talk { failed: Some(why), .. })) => {
            Err((format!("it does not answer as expected yet: {why}"), false))
        }
        Ok(Err(error)) => Err((http::explain(&error), false)),
        Err(_) => Err((format!("no answer as expected in {} s", time.as_secs_f64()), true)),
    }
}

/// Why ports do not open, when the target's sockets can be looked at.
async fn hint(plan: &ProbePlan, target: &dyn Target) -> Option<String> {
    let listeners = target.listeners().await?;
    let wanted = plan.awaited_ports();
    let here = |port: u16| listeners.iter().filter(move |socket| socket.port() == port);
    let inner =
        wanted.iter().find(|port| here(**port).count() > 0 && here(**port).all(|socket| is_loopback(socket.ip())));
    if let Some(port) = inner {
        return Some(format!(
            "it listens on 127.0.0.1:{port} only, where nobody outside the container reaches it: make it listen on 0.0.0.0"
        ));
    }
    let mut others: Vec<u16> = listeners.iter().filter(|s| !is_loopback(s.ip())).map(|socket| socket.port()).collect();
    others.sort_unstable();
    others.dedup();
    others.retain(|port| !wanted.contains(port));
    let list: Vec<_> = others.iter().map(u16::to_string).collect();
    match list.is_empty() {
        true => Some("it listens on no tcp port".to_owned()).filter(|_| listeners.is_empty()),
        false => Some(format!("it listens on port {0}: give --http-probe-ports {0}", list.join(","))),
    }
}

fn is_loopback(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_loopback(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.to_ipv4_mapped().is_some_and(|v4| v4.is_loopback()),
    }
}

impl ProbePlan {
    /// Ports that have to be open before the first probe: readiness' own, and those that probes talk to.
    fn awaited_ports(&self) -> Vec<u16> {
        let named = match &self.readiness {
            Readiness::Ports(ports) => ports.clone(),
            Readiness::Health | Readiness::Log(_) | Readiness::Started => Vec::new(),
        };
        let talked = self.probes.iter().filter_map(|probe| match &probe.action {
            Action::Http(ask) | Action::Crawl { start: ask, .. } | Action::Api { start: ask, .. } => Some(ask.port),
            Action::Tcp { port, .. } => Some(*port),
            Action::Exec { .. } | Action::HostExec { .. } | Action::Run => None,
        });
        let mut ports = Vec::new();
        for port in named.into_iter().chain(talked) {
            if !ports.contains(&port) {
                ports.push(port);
            }
        }
        ports
    }
}
