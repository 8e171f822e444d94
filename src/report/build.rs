//! Build: fills a report stage by stage, so that a build which stops early still tells what it knows. Pure:
//! values in, a report out; [`super::file`] writes it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::config;
use super::model::{self, Report, VerdictKind};
use super::removed::{kind_of, losses, mode_of};
use super::secrets::Redactor;
use super::surface::surface;
use crate::exit::Exit;
use crate::image::path::encode_bytes;
use crate::image::{ImageConfig, ImagePath, Tree};
use crate::keep::{self, KeepSet};
use crate::packages::Packages;
use crate::probe::{self, Action, Content, Expect, Outcome};
use crate::trace;

/// Of one path, this many reasons of one kind are listed; what is more is counted.
const SAME_KIND: usize = 3;

/// `--report-bodies` shows this many bytes of a body.
const EXCERPT: usize = 2048;

/// What a report shall hold besides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// `--report-full`: every removed path in the report itself.
    pub full: bool,
    /// `--report-bodies`: the beginning of every body.
    pub bodies: bool,
}

/// Collects what stages found out.
#[derive(Debug)]
pub struct Builder {
    report: Report,
    options: Options,
    redactor: Redactor,
    removed: Vec<model::RemovedPath>,
}

/// A report with what goes into the file beside it.
#[derive(Clone, Debug, PartialEq)]
pub struct Finished {
    /// The report.
    pub report: Report,
    /// Every removed path, directories too; empty with `--report-full`.
    pub removed: Vec<model::RemovedPath>,
}

impl Builder {
    /// An empty report of this program. The redactor goes over every text that can hold a secret.
    pub fn new(options: Options, redactor: Redactor) -> Self {
        let report = Report {
            schema: model::SCHEMA.to_owned(),
            tool: model::Tool { name: "slim".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() },
            ..Report::default()
        };
        Self { report, options, redactor, removed: Vec::new() }
    }

    /// The image that is made smaller. `content_bytes` and `files` are filled in by [`Builder::decided`].
    pub fn source(&mut self, image: model::Image) {
        self.report.source = image;
    }

    /// Secrets that turned up on the way, such as those of the image's own environment.
    pub fn learn_env(&mut self, lines: &[String]) {
        self.redactor.learn_env(lines);
    }

    /// How the image runs. `env` as `NAME=value`; only the names get into the report.
    pub fn target(&mut self, argv: &[String], user: &str, workdir: &str, env: &[String]) {
        let name = |line: &String| line.split('=').next().unwrap_or_default().to_owned();
        let names: BTreeSet<String> = env.iter().map(name).collect();
        self.report.target = model::Target {
            argv: self.redactor.arguments(argv),
            user: user.to_owned(),
            workdir: workdir.to_owned(),
            env_names: names.into_iter().collect(),
        };
    }

    /// The recording. `new_paths` has one number for each run.
    pub fn trace(&mut self, trace: &trace::Trace, new_paths: &[u64], settled: bool) {
        let armed = |name: &str, how: &Option<String>| {
            let how = how.as_deref()?;
            Some(if how.is_empty() || how == name { name.to_owned() } else { format!("{name} ({how})") })
        };
        let recorders = &trace.recorders;
        self.report.trace = Some(model::Trace {
            complete: true,
            recorders: [armed("fanotify", &recorders.fanotify), armed("syscalls", &recorders.syscalls)]
                .into_iter()
                .flatten()
                .collect(),
            why: recorders.why.clone(),
            events: trace.accesses,
            runs: new_paths.len().max(1) as u32,
            settled,
            new_paths_per_run: new_paths.to_vec(),
            notes: trace.notes.iter().map(|note| self.redactor.text(note)).collect(),
        });
    }

    /// A recording that lost something: it never becomes an image, but the report says what happened.
    pub fn incomplete_trace(&mut self, why: &str) {
        let why = self.redactor.text(why);
        self.report.trace = Some(model::Trace { complete: false, why, runs: 1, ..model::Trace::default() });
    }

    /// What stays and what goes.
    pub fn decided(&mut self, tree: &Tree, keep: &KeepSet, packages: &Packages) {
        let stays: HashSet<&ImagePath> = keep.kept.keys().collect();
        let is_kept = |path: &ImagePath| stays.contains(path);
        let mut losses = losses(tree, is_kept);
        for lost in &mut losses.paths {
            lost.package = owner(packages, &lost.path);
        }
        let report = &mut self.report;
        report.source.content_bytes = tree.bytes();
        report.source.files = tree.iter().filter(|(_, entry)| !entry.is_dir()).count() as u64;
        report.surface = Some(surface(tree, is_kept));
        report.packages = super::packages::packages(tree, packages, is_kept);
        report.embedded = super::packages::embedded(packages, is_kept);
        report.os = super::packages::os(packages);
        (report.kept, report.reasons) = kept(tree, keep, packages, &self.redactor);
        report.floor_bytes = Some(floor_bytes(tree, keep));
        report.level = keep.level.name().to_owned();
        report.app = keep
            .app
            .iter()
            .map(|app| model::AppRoot { root: app.root.clone(), files: app.files, kept: app.kept, bytes: app.bytes })
            .collect();
        report.removed = model::Removed {
            files: losses.files,
            directories: losses.directories,
            bytes: losses.bytes,
            groups: losses.groups,
            list: None,
            list_file: None,
        };
        if self.options.full {
            report.removed.list = Some(losses.paths);
        } else {
            self.removed = losses.paths;
        }
        let left_out = keep.left_out.iter();
        report.left_out =
            left_out.map(|(path, rule)| model::LeftOut { path: path.clone(), rule: rule.clone() }).collect();
        report.scripts = keep.scripts.iter().map(|script| script_of(script, &self.redactor)).collect();
        let walkers = keep.walkers.iter();
        report.walkers = walkers
            .map(|walker| model::Walker {
                process: self.redactor.text(&walker.process),
                files: walker.files,
                bytes: walker.bytes,
            })
            .collect();
        self.warnings(&keep.warnings);
    }

    /// The image that was made. `content_bytes` and `files` are counted from what was kept.
    pub fn result(&mut self, mut image: model::Image) {
        image.content_bytes = self.report.kept_bytes();
        image.files = self.report.kept_files();
        self.report.result = Some(image);
    }

    /// What looks like a secret, and whether it is gone.
    pub fn secrets(&mut self, mut secrets: Vec<model::Secret>) {
        for secret in &mut secrets {
            secret.name = secret.name.take().map(|name| self.redactor.text(&name));
        }
        self.report.secrets = Some(secrets);
    }

    /// How the new image's config differs from the original's.
    pub fn config(&mut self, before: &ImageConfig, after: &ImageConfig) {
        self.report.config.changed = config::changes(before, after, &self.redactor);
        self.report.created = Some(after.created().to_owned()).filter(|created| !created.is_empty());
    }

    /// The answers of the original, and of the slim image where it was asked. A later call replaces an earlier.
    pub fn answers(&mut self, baseline: &[probe::Answer], slim: Option<&[probe::Answer]>) {
        let slim: HashMap<&str, &probe::Answer> =
            slim.unwrap_or_default().iter().map(|answer| (answer.request.name.as_str(), answer)).collect();
        self.report.probes = baseline
            .iter()
            .map(|answer| self.probe(answer, slim.get(answer.request.name.as_str()).copied()))
            .collect();
    }

    /// The comparison.
    pub fn verify(&mut self, mut verify: model::Verify) {
        for difference in &mut verify.differences {
            self.mask(difference);
        }
        verify.unsearched = verify.unsearched.take().map(|why| self.redactor.text(&why));
        verify.log_tail = self.redactor.lines(&verify.log_tail);
        self.report.verify = Some(verify);
    }

    /// The slim images on the way.
    pub fn rounds(&mut self, mut rounds: Vec<model::Round>) {
        for round in &mut rounds {
            for difference in &mut round.differences {
                self.mask(difference);
            }
            for miss in &mut round.misses {
                (miss.process, miss.probe) = (self.redactor.text(&miss.process), self.redactor.text(&miss.probe));
            }
        }
        self.report.rounds = rounds;
    }

    /// What was kept out of the recording.
    pub fn holdout(&mut self, mut holdout: model::Holdout) {
        for difference in &mut holdout.failures {
            self.mask(difference);
        }
        for name in &mut holdout.names {
            *name = self.redactor.text(name);
        }
        self.report.holdout = Some(holdout);
    }

    /// Trace files that went into the build; their command lines come masked.
    pub fn traces(&mut self, mut traces: Vec<model::TraceUse>) {
        for used in &mut traces {
            used.argv = self.redactor.arguments(&used.argv);
            used.not_asked = used.not_asked.take().map(|why| self.redactor.text(&why));
        }
        self.report.traces = traces;
    }

    fn mask(&self, difference: &mut model::Difference) {
        for text in [&mut difference.request, &mut difference.expected, &mut difference.got] {
            *text = self.redactor.text(text);
        }
    }

    /// Stages with their times.
    pub fn phases(&mut self, phases: Vec<model::Phase>) {
        self.report.phases = phases;
    }

    /// Things to tell. The same line is told once.
    pub fn warnings<S: AsRef<str>>(&mut self, lines: impl IntoIterator<Item = S>) {
        for line in lines {
            let line = self.redactor.text(line.as_ref());
            if !self.report.warnings.contains(&line) {
                self.report.warnings.push(line);
            }
        }
    }

    /// How what is known stands with the budgets, by `check`, if the verdict is of this kind; a result is there. How
    /// many are missed.
    pub fn budgets(&mut self, kind: VerdictKind, check: impl FnOnce(&Report) -> Vec<model::Standing>) -> u64 {
        self.report.verdict.kind = kind;
        self.report.budgets = check(&self.report);
        self.report.missed_budgets().count() as u64
    }

    /// The redactor, for others who print.
    pub fn redactor(&self) -> &Redactor {
        &self.redactor
    }

    /// The report as it is so far.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// Ends it. `why` says in a few words what the verdict rests on; for a verified build, and where the
    /// comparison found differences, the figures say it and `why` may be empty.
    pub fn finish(mut self, kind: VerdictKind, why: &str, exit: Exit) -> Finished {
        let why = self.redactor.text(why);
        let differing: BTreeMap<&str, &model::Difference> = match &self.report.verify {
            Some(verify) => verify.differences.iter().map(|d| (d.request.as_str(), d)).collect(),
            None => BTreeMap::new(),
        };
        for probe in &mut self.report.probes {
            if let Some(difference) = differing.get(probe.name.as_str()) {
                probe.passed = false;
                probe.failure.get_or_insert_with(|| {
                    format!("expected {}, got {}", difference.expected, difference.got)
                });
            }
        }
        self.report.verdict = model::Verdict { kind, line: self.report.verdict_line(kind, &why) };
        self.report.exit = exit.into();
        Finished { report: self.report, removed: self.removed }
    }

    fn probe(&self, baseline: &probe::Answer, slim: Option<&probe::Answer>) -> model::Probe {
        let request = &baseline.request;
        let failure = [Some(baseline), slim].into_iter().flatten().find_map(|answer| match &answer.outcome {
            Outcome::Passed => None,
            Outcome::Failed(why) => Some(self.redactor.text(why)),
        });
        model::Probe {
            name: self.redactor.text(&request.name),
            probe: self.redactor.text(&request.probe),
            kind: action_kind(&request.action).to_owned(),
            stated: request.stated,
            expected: request.stated.then(|| self.redactor.text(&expected(&request.expect, &request.action))),
            baseline: Some(self.answer(&baseline.content)),
            slim: slim.map(|answer| self.answer(&answer.content)),
            passed: failure.is_none(),
            failure,
        }
    }

    fn answer(&self, content: &Content) -> model::Answer {
        let empty = model::Answer::default();
        match content {
            Content::Http { status, headers, body } => model::Answer {
                status: Some(i32::from(*status)),
                content_type: headers.get("content-type").cloned(),
                body: Some(self.body(body)),
                ..empty
            },
            Content::Exit { status, stdout, stderr } => model::Answer {
                status: Some(*status),
                body: Some(self.body(stdout)),
                stderr: Some(self.body(stderr)),
                ..empty
            },
            Content::Bytes { received } => model::Answer { body: Some(self.body(received)), ..empty },
            Content::None { error } => model::Answer { error: Some(self.redactor.text(error)), ..empty },
        }
    }

    fn body(&self, body: &probe::Body) -> model::Body {
        // Masked with room behind it, so that no secret is cut in two and then not known any more.
        let start = |bytes: &Vec<u8>| self.redactor.text(&encode_bytes(&bytes[..bytes.len().min(8 * EXCERPT)]));
        let cut = |text: String| text.chars().take(EXCERPT).collect();
        let excerpt = self.options.bodies.then(|| body.bytes.as_ref().map(start).map(cut)).flatten();
        model::Body { length: body.length, sha256: body.sha256.clone(), excerpt }
    }
}

/// Bytes of the kept files whose content was really used, each inode once.
fn floor_bytes(tree: &Tree, keep: &KeepSet) -> u64 {
    let mut inodes = HashSet::new();
    let used = keep.kept.iter().filter(|(_, reasons)| reasons.iter().any(keep::Reason::is_use_of_content));
    let entries = used.filter_map(|(path, _)| tree.get(path)).filter(|entry| entry.is_file());
    entries.filter(|entry| entry.hardlink.is_none_or(|inode| inodes.insert(inode))).map(|entry| entry.size).sum()
}

/// Every kept path of the tree with its reasons interned.
fn kept(
    tree: &Tree,
    keep: &KeepSet,
    packages: &Packages,
    redactor: &Redactor,
) -> (Vec<model::Kept>, Vec<model::Reason>) {
    let mut numbers: BTreeMap<&keep::Reason, usize> = BTreeMap::new();
    let mut reasons: Vec<model::Reason> = Vec::new();
    let mut inodes: HashMap<u64, ImagePath> = HashMap::new();
    let mut out = Vec::with_capacity(keep.kept.len());
    for (path, why) in &keep.kept {
        let Some(entry) = keep.entry(tree, path) else {
            continue;
        };
        let (why, more_reasons) = listed(why);
        let mut number = |reason| {
            *numbers.entry(reason).or_insert_with(|| {
                reasons.push(reason_of(reason, redactor));
                reasons.len() - 1
            })
        };
        let same_as = entry.hardlink.and_then(|inode| match inodes.get(&inode) {
            Some(first) => Some(first.clone()),
            None => {
                inodes.insert(inode, path.clone());
                None
            }
        });
        out.push(model::Kept {
            path: path.clone(),
            kind: kind_of(&entry.kind),
            size: entry.size,
            mode: mode_of(entry),
            reasons: why.into_iter().map(&mut number).collect(),
            more_reasons,
            target: entry.link_target().map(|target| model::LinkTarget(target.to_vec())),
            same_as,
            package: owner(packages, path),
            layer: None,
            written: keep.written.contains_key(path),
        });
    }
    (out, reasons)
}

/// The package that a file belongs to, as `SYSTEM:NAME`.
fn owner(packages: &Packages, path: &ImagePath) -> Option<String> {
    packages.owner(path).map(keep::package_label)
}

/// The reasons that are listed, and how many are only counted.
fn listed(reasons: &[keep::Reason]) -> (Vec<&keep::Reason>, u64) {
    let mut seen: HashMap<std::mem::Discriminant<keep::Reason>, usize> = HashMap::new();
    let few: Vec<&keep::Reason> = reasons
        .iter()
        .filter(|reason| {
            let n = seen.entry(std::mem::discriminant(*reason)).or_default();
            *n += 1;
            *n <= SAME_KIND
        })
        .collect();
    let more = (reasons.len() - few.len()) as u64;
    (few, more)
}

/// A reason as a report holds it. A probe's name may quote an argument or a query.
fn reason_of(reason: &keep::Reason, redactor: &Redactor) -> model::Reason {
    match reason.clone() {
        keep::Reason::Touched { how, process, probe } => {
            model::Reason::Touched { how, process, probe: redactor.text(&probe) }
        }
        keep::Reason::OnTheWay { to } => model::Reason::OnTheWay { to },
        keep::Reason::LinkTo { target } => model::Reason::LinkTo { target },
        keep::Reason::InterpreterOf { program } => model::Reason::InterpreterOf { program },
        keep::Reason::NeededBy { object } => model::Reason::NeededBy { object },
        keep::Reason::HardlinkOf { name } => model::Reason::HardlinkOf { name },
        keep::Reason::App { root } => model::Reason::App { root },
        keep::Reason::Package { name, needed_by } => model::Reason::Package { name, needed_by },
        keep::Reason::Include { flag } => model::Reason::Include { flag },
        keep::Reason::Rule { name, by } => model::Reason::Rule { name, by },
    }
}

fn script_of(script: &keep::scripts::Calls, redactor: &Redactor) -> model::Script {
    let call = |call: &keep::scripts::Called| model::Call {
        name: redactor.text(&call.name),
        path: call.path.clone(),
        kept: call.kept,
        ran: call.ran,
    };
    model::Script { path: script.path.clone(), calls: script.calls.iter().map(call).collect(), unread: script.unread.clone() }
}

fn action_kind(action: &Action) -> &'static str {
    match action {
        Action::Http(_) => "http",
        Action::Crawl { .. } => "crawl",
        Action::Api { .. } => "api",
        Action::Exec { .. } => "exec",
        Action::HostExec { .. } => "host_exec",
        Action::Tcp { .. } => "tcp",
        Action::Run => "run",
    }
}

/// What a stated probe must meet, for people.
fn expected(expect: &Expect, action: &Action) -> String {
    let status = match (expect.status, action) {
        (Some(status), Action::Http(_) | Action::Crawl { .. } | Action::Api { .. }) => format!("status {status}"),
        (Some(status), _) => format!("exit status {status}"),
        (None, Action::Http(_) | Action::Crawl { .. } | Action::Api { .. }) => "status 2xx or 3xx".to_owned(),
        (None, Action::Tcp { .. }) => "the conversation ends well".to_owned(),
        (None, Action::Exec { .. } | Action::HostExec { .. } | Action::Run) => "exit status 0".to_owned(),
    };
    match &expect.contains {
        Some(text) => format!("{status}, text `{text}`"),
        None => status,
    }
}
