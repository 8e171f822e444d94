//! Run: a plan's probes put to a target one after the other. What was asked, crawled pages included, can be
//! replayed on another target.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Result;

use super::crawl::{Crawl, Next};
use super::ports::{self, Ports, Speech};
use super::{Action, Answer, Content, Outcome, Probe, ProbePlan, Readiness, Request, Target, Until, ask, shown, until};
use crate::progress::{Fact, Monitor};

/// What a run of the probes gave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recording {
    /// In the order asked.
    pub answers: Vec<Answer>,
    /// The target's exit status when it ended before or at the end of the probing; `None`: it still ran.
    pub ended: Option<i32>,
    /// The target ended although probes were still to be asked; one line about it.
    pub cut_short: Option<String>,
}

/// What to make of a recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Stated probes met what they state, and something was answered well.
    Passed,
    /// Stated probes that did not, or a target that ended too early: one line each.
    Failed(Vec<String>),
    /// No probe failed that stated something, but none was answered well either: one line that says so.
    Nothing(String),
}

impl Recording {
    /// The requests asked, to be replayed.
    pub fn requests(&self) -> Vec<Request> {
        self.answers.iter().map(|answer| answer.request.clone()).collect()
    }

    /// The verdict; see the enum.
    pub fn verdict(&self) -> Verdict {
        let failed = self.answers.iter().filter(|answer| answer.request.stated);
        let failed = failed.filter_map(|answer| match &answer.outcome {
            Outcome::Passed => None,
            Outcome::Failed(why) => Some(format!("{}: {why}", answer.request.name)),
        });
        let failed: Vec<_> = failed.chain(self.cut_short.clone()).collect();
        if !failed.is_empty() {
            Verdict::Failed(failed)
        } else if self.answers.iter().any(succeeded) {
            Verdict::Passed
        } else {
            let answers = self.answers.iter().take(3);
            let answers: Vec<_> =
                answers.map(|a| format!("{}: {}", a.request.name, ask::brief(a).unwrap_or_else(|why| why))).collect();
            Verdict::Nothing(match answers.is_empty() {
                true => "nothing was asked".to_owned(),
                false => format!("nothing succeeded ({})", answers.join("; ")),
            })
        }
    }
}

fn succeeded(answer: &Answer) -> bool {
    let wanted = answer.request.stated;
    match (&answer.outcome, &answer.content) {
        (Outcome::Failed(_), _) | (_, Content::None { .. }) => false,
        (_, Content::Http { status, .. }) => wanted || *status < 400,
        (_, Content::Exit { status, .. }) => wanted || *status == 0,
        (_, Content::Bytes { .. }) => true,
    }
}

/// Puts the plan's probes to the target, expanding crawls, then waits for what ends the probing.
///
/// # Errors
/// When the way to the target itself fails. Probes that fail are outcomes: see [`Recording::verdict`].
pub async fn run(plan: &ProbePlan, ports: &Ports, target: &dyn Target, monitor: &dyn Monitor) -> Result<Recording> {
    let began = tokio::time::Instant::now();
    let several = plan.http_ports().len() > 1;
    let mut run = Run {
        target,
        monitor,
        ports: ports.clone(),
        several,
        names: BTreeSet::new(),
        asked: BTreeSet::new(),
        recording: Recording::default(),
    };
    for (index, probe) in plan.probes.iter().enumerate() {
        let passed = run.probe(probe, &plan.optional_ports).await?;
        if !passed && run.notice_end().await? {
            let left = plan.probes.len() - index - 1;
            let status = run.recording.ended.unwrap_or_default();
            run.recording.cut_short = Some(format!(
                "the target ended with exit status {status} during `{}`, {left} probes were not asked",
                probe.name
            ));
            return Ok(run.recording);
        }
        if !passed && plan.exit_on_failure {
            return Ok(run.recording);
        }
    }
    let ran_to_exit = run.recording.ended.is_some();
    if !ran_to_exit {
        run.recording.ended = until::wait(plan.until, began, target, monitor).await?;
    }
    Ok(run.recording)
}

/// Puts the same requests in the same order. Pages that answers link to are not followed.
///
/// # Errors
/// As for [`run`].
pub async fn replay(requests: &[Request], target: &dyn Target, monitor: &dyn Monitor) -> Result<Vec<Answer>> {
    let mut answers = Vec::with_capacity(requests.len());
    for request in requests {
        target.mark(&request.name).await?;
        let answer = ask::ask(target, request).await?;
        monitor.tell(Fact::Probe { name: request.name.clone(), result: ask::brief(&answer) });
        answers.push(answer);
    }
    Ok(answers)
}

/// Port, path and headers: a range or another encoding of a page is another answer.
type Get = (u16, String, Vec<(String, String)>);

struct Run<'a> {
    target: &'a dyn Target,
    monitor: &'a dyn Monitor,
    ports: Ports,
    /// Several ports are probed by HTTP: names tell them apart.
    several: bool,
    names: BTreeSet<String>,
    /// GETs already asked: discovered ones are not asked twice.
    asked: BTreeSet<Get>,
    recording: Recording,
}

impl Run<'_> {
    /// Whether everything stated was met.
    async fn probe(&mut self, probe: &Probe, optional: &[u16]) -> Result<bool> {
        let mut action = probe.action.clone();
        if let Some(port) = action.http_port() {
            let speech = self.speech(port, &action, probe.timeout).await;
            if optional.contains(&port) && matches!(speech, None | Some(Speech::Other)) {
                // Readiness has warned about this port.
                return Ok(true);
            }
            ask::settle(&mut action, speech.unwrap_or(Speech::Http));
        }
        match action {
            Action::Crawl { start, max_depth, max_pages, exclude } => {
                let crawl = Crawl::new(start, max_depth, max_pages, &exclude)?;
                self.crawl(probe, crawl).await
            }
            Action::Api { start, prefix, max_pages, exclude } => {
                let crawl = Crawl::api(start, &prefix, max_pages, &exclude)?;
                self.crawl(probe, crawl).await
            }
            Action::Http(_) | Action::Exec { .. } | Action::HostExec { .. } | Action::Tcp { .. } | Action::Run => {
                let again = !probe.stated && action.plain_get().is_some_and(|get| self.asked.contains(&get));
                if again {
                    return Ok(true);
                }
                let (ran_to_exit, answer) = (action == Action::Run, self.ask(probe, action, probe.stated).await?);
                if ran_to_exit && let Content::Exit { status, .. } = answer.content {
                    self.recording.ended = Some(status);
                }
                self.warn(probe, &[&answer]);
                Ok(answer.outcome == Outcome::Passed)
            }
        }
    }

    async fn crawl(&mut self, probe: &Probe, mut crawl: Crawl) -> Result<bool> {
        let mut answers: Vec<Answer> = Vec::new();
        while let Some(Next { request, first }) = crawl.next() {
            let action = Action::Http(request);
            if !first && action.plain_get().is_some_and(|get| self.asked.contains(&get)) {
                continue;
            }
            let mut answer = self.ask(probe, action, probe.stated && first).await?;
            if let Err(error) = crawl.learn(&answer) {
                answer.outcome = Outcome::Failed(format!("{error:#}"));
                self.recording.answers.pop();
                self.recording.answers.push(answer.clone());
            }
            let gone = matches!(answer.content, Content::None { .. });
            answers.push(answer);
            if gone && self.notice_end().await? {
                break;
            }
        }
        if let Some(note) = crawl.limit_reached() {
            self.monitor.tell(Fact::Warning { text: format!("{}: {note}", probe.name) });
        }
        if let Some(note) = crawl.left_alone() {
            self.monitor.tell(Fact::Info { text: format!("{}: {note}", probe.name) });
        }
        self.warn(probe, &answers.iter().collect::<Vec<_>>());
        let ended = self.recording.ended.is_some();
        Ok(!ended && answers.first().is_some_and(|answer| answer.outcome == Outcome::Passed))
    }

    async fn ask(&mut self, probe: &Probe, action: Action, stated: bool) -> Result<Answer> {
        if let Some(get) = action.plain_get() {
            self.asked.insert(get);
        }
        let name = self.name(probe, &action);
        self.target.mark(&name).await?;
        let expect = if stated || !matches!(probe.action, Action::Crawl { .. } | Action::Api { .. }) {
            probe.expect.clone()
        } else {
            Default::default()
        };
        let request = Request { probe: probe.name.clone(), name, action, stated, expect, timeout: probe.timeout };
        let answer = ask::ask(self.target, &request).await?;
        self.monitor.tell(Fact::Probe { name: request.name, result: ask::brief(&answer) });
        self.recording.answers.push(answer.clone());
        Ok(answer)
    }

    fn name(&mut self, probe: &Probe, action: &Action) -> String {
        let base = match action {
            Action::Http(ask) if self.several => format!("{} :{}{}", ask.method, ask.port, shown::path(&ask.path)),
            Action::Http(ask) => format!("{} {}", ask.method, shown::path(&ask.path)),
            _ => probe.name.clone(),
        };
        let mut name = base.clone();
        let mut count = 1;
        while !self.names.insert(name.clone()) {
            count += 1;
            name = format!("{base} #{count}");
        }
        name
    }

    /// One warning per probe about discovered requests that were not answered well.
    fn warn(&self, probe: &Probe, answers: &[&Answer]) {
        let poor = answers.iter().filter(|answer| !answer.request.stated);
        let poor: Vec<_> =
            poor.filter_map(|answer| Some(format!("{} {}", answer.request.name, poor_answer(answer)?))).collect();
        if let Some(first) = poor.first() {
            let others = poor.len() - 1;
            let rest = if others == 0 { String::new() } else { format!(" and {others} more") };
            let text = format!("{}: {first}{rest}; taken as it is for the comparison", probe.name);
            self.monitor.tell(Fact::Warning { text });
        }
    }

    /// What a port speaks, asked now when readiness did not find out.
    async fn speech(&mut self, port: u16, action: &Action, timeout: Duration) -> Option<Speech> {
        if let Some(known) = self.ports.get(&port) {
            return Some(*known);
        }
        let start = action.http()?;
        let found = ports::speech(self.target, start, timeout.min(Duration::from_secs(5))).await.ok()?;
        self.ports.insert(port, found);
        Some(found)
    }

    /// Whether the target has ended.
    async fn notice_end(&mut self) -> Result<bool> {
        if self.recording.ended.is_none() {
            self.recording.ended = self.target.state().await?.exited;
        }
        Ok(self.recording.ended.is_some())
    }
}

fn poor_answer(answer: &Answer) -> Option<String> {
    match (&answer.content, answer.request.expect.status) {
        (Content::Http { status, .. }, usual) if *status >= 400 && usual != Some(i32::from(*status)) => {
            Some(format!("answers {status}"))
        }
        (Content::None { error }, _) => Some(format!("is not answered: {error}")),
        _ => None,
    }
}

impl Action {
    fn http(&self) -> Option<&super::HttpRequest> {
        match self {
            Self::Http(ask) | Self::Crawl { start: ask, .. } | Self::Api { start: ask, .. } => Some(ask),
            Self::Exec { .. } | Self::HostExec { .. } | Self::Tcp { .. } | Self::Run => None,
        }
    }

    fn http_port(&self) -> Option<u16> {
        self.http().map(|ask| ask.port)
    }

    fn plain_get(&self) -> Option<Get> {
        let ask = self.http()?;
        (ask.method == "GET" && ask.body.is_none()).then(|| (ask.port, ask.path.clone(), ask.headers.clone()))
    }
}

impl ProbePlan {
    /// A plan that asks for what was asked before: these requests in their order, nothing found on the way.
    pub fn of(readiness: Readiness, ready_timeout: Duration, requests: Vec<Request>) -> Self {
        let probe = |request: Request| {
            let Request { probe, action, stated, expect, timeout, .. } = request;
            Probe { name: probe, action, stated, expect, timeout }
        };
        Self {
            readiness,
            ready_timeout,
            probes: requests.into_iter().map(probe).collect(),
            until: Until::Probes,
            exit_on_failure: false,
            optional_ports: Vec::new(),
            notes: Vec::new(),
            warnings: Vec::new(),
        }
    }

    /// A plan for a program that ends: its exit status and output are the answer.
    pub fn of_the_run(timeout: Duration) -> Self {
        let request = Request {
            probe: "run".to_owned(),
            name: "run".to_owned(),
            action: Action::Run,
            stated: true,
            expect: Default::default(),
            timeout,
        };
        Self { until: Until::Exit, ..Self::of(Readiness::Started, timeout, vec![request]) }
    }

    /// Ports that are probed by HTTP, in the probes' order.
    pub fn http_ports(&self) -> Vec<u16> {
        let mut ports = Vec::new();
        for port in self.probes.iter().filter_map(|probe| probe.action.http_port()) {
            if !ports.contains(&port) {
                ports.push(port);
            }
        }
        ports
    }

    /// The first HTTP request to a port.
    pub(super) fn http_start(&self, port: u16) -> Option<&super::HttpRequest> {
        self.probes.iter().filter_map(|probe| probe.action.http()).find(|ask| ask.port == port)
    }
}
