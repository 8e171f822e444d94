//! Verdict: the one line that a report rests on, and the sums that it and others quote. All of it is derived
//! from the model.

use std::collections::BTreeSet;

use super::figures::{count, counted};
use super::model::{Compared, FileKind, Kept, Reason, Report, Secret, SecretPlace, Standing, VerdictKind};
use crate::exit::Exit;

impl Secret {
    /// What it is and where, for people.
    pub fn line(&self) -> String {
        let place = match (&self.place, &self.path, &self.name) {
            (SecretPlace::File, Some(path), _) => match self.line {
                Some(line) => format!("{path}:{line}"),
                None => path.to_string(),
            },
            (SecretPlace::Environment, _, Some(name)) => format!("the environment, {name}"),
            (SecretPlace::Label, _, Some(name)) => format!("the label {name}"),
            (SecretPlace::History, _, Some(name)) => format!("the history, {name}"),
            (SecretPlace::History, _, None) => "the history".to_owned(),
            (SecretPlace::Environment | SecretPlace::Label | SecretPlace::File | SecretPlace::Unknown, ..) => "the image".to_owned(),
        };
        format!("{} in {place}", self.description)
    }
}

/// Kept paths by their strongest reason's kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// For people: `touched by the run`.
    pub kind: &'static str,
    /// Kept paths that are not directories.
    pub files: u64,
    /// Their bytes, each inode once.
    pub bytes: u64,
}

impl Kept {
    /// Bytes that it adds: none for further names of an inode.
    pub fn own_bytes(&self) -> u64 {
        if self.same_as.is_some() { 0 } else { self.size }
    }
}

impl Report {
    /// Bytes of the kept files, each inode once.
    pub fn kept_bytes(&self) -> u64 {
        self.kept.iter().map(Kept::own_bytes).sum()
    }

    /// The budgets that it misses.
    pub fn missed_budgets(&self) -> impl Iterator<Item = &Standing> {
        self.budgets.iter().filter(|standing| !standing.kept)
    }

    /// What looks like a secret and is in the result, and no package brought it. `None` when nobody looked.
    pub fn open_secrets(&self) -> Option<Vec<&Secret>> {
        self.secrets.as_ref().map(|secrets| secrets.iter().filter(|secret| secret.is_open()).collect())
    }

    /// How many things that look like secrets went.
    pub fn gone_secrets(&self) -> u64 {
        self.secrets.iter().flatten().filter(|secret| !secret.present).count() as u64
    }

    /// What the comparison alone came to: a budget that was missed does not undo it.
    pub fn proven(&self) -> VerdictKind {
        let is_gate = self.exit.code == Exit::Gate.code();
        match (is_gate, &self.verify) {
            (true, Some(verify)) if verify.differences.is_empty() => VerdictKind::Verified,
            (true, None) => VerdictKind::Unverified,
            _ => self.verdict.kind,
        }
    }

    /// Kept paths that are not directories.
    pub fn kept_files(&self) -> u64 {
        self.kept.iter().filter(|kept| kept.kind != FileKind::Directory).count() as u64
    }

    /// Kept files by the kind of their strongest reason, heaviest first.
    pub fn shares(&self) -> Vec<Share> {
        let mut shares: Vec<Share> = Vec::new();
        for kept in self.kept.iter().filter(|kept| kept.kind != FileKind::Directory) {
            let reason = kept.reasons.first().and_then(|n| self.reasons.get(*n)).unwrap_or(&Reason::Unknown);
            let kind = share_of(reason);
            let at = shares.iter().position(|share| share.kind == kind).unwrap_or_else(|| {
                shares.push(Share { kind, files: 0, bytes: 0 });
                shares.len() - 1
            });
            shares[at].files += 1;
            shares[at].bytes += kept.own_bytes();
        }
        shares.sort_by(|a, b| b.bytes.cmp(&a.bytes).then(b.files.cmp(&a.files)).then(a.kind.cmp(b.kind)));
        shares
    }

    /// Planned probes that made at least one request.
    pub fn probe_count(&self) -> u64 {
        self.probes.iter().map(|probe| probe.probe.as_str()).collect::<BTreeSet<_>>().len() as u64
    }

    /// The line for a verdict of this kind, with how far it goes; `why` where the figures do not say it.
    pub fn verdict_line(&self, kind: VerdictKind, why: &str) -> String {
        let mut line = self.verdict_alone(kind, why);
        let unproven = if kind == VerdictKind::Verified { self.unproven() } else { Vec::new() };
        // Of an original that is not sure itself nothing can be estimated.
        let trust = if kind == VerdictKind::Flaky { Vec::new() } else { self.trust() };
        for note in unproven.into_iter().chain(trust) {
            line.push_str("; ");
            line.push_str(&note);
        }
        line
    }

    /// What a comparison that passed does not say.
    fn unproven(&self) -> Vec<String> {
        let unsearched = self.verify.iter().filter_map(|verify| verify.unsearched.as_ref());
        let mut notes: Vec<String> =
            unsearched.map(|why| format!("what it silently misses is not known ({why})")).collect();
        let partly: Vec<&str> =
            self.traces.iter().filter(|used| used.not_asked.is_some()).map(|used| used.path.as_str()).collect();
        if !partly.is_empty() && self.verify.is_some() {
            notes.push(format!("not all that was recorded in {} was asked again", partly.join(", ")));
        }
        notes
    }

    /// How far it can be trusted for what nobody probed, where that is known.
    fn trust(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if let Some(held) = &self.holdout {
            notes.push(format!("kept-out probes passed {} of {}", count(held.passed), count(held.kept_out)));
        }
        if let Some([_, .., last]) = self.trace.as_ref().map(|trace| &trace.new_paths_per_run[..]) {
            let found = if *last == 0 { "no new path".to_owned() } else { counted(*last, "new path", "new paths") };
            notes.push(format!("last run: {found}"));
        }
        notes
    }

    fn verdict_alone(&self, kind: VerdictKind, why: &str) -> String {
        let with_why = |word: &str| if why.is_empty() { word.to_owned() } else { format!("{word}: {why}") };
        let compared = self.verify.as_ref().map(|verify| verify.compared).unwrap_or_default();
        match kind {
            VerdictKind::Verified => {
                let probes = counted(self.probe_count(), "probe", "probes");
                format!("VERIFIED: {probes}, {}", how_compared(&compared))
            }
            VerdictKind::Unverified if self.probes.is_empty() => with_why("UNVERIFIED"),
            VerdictKind::Unverified => {
                let passed = self.probes.iter().filter(|probe| probe.passed).count() as u64;
                let all = self.probes.len() as u64;
                let recorded = format!("{} of {} passed while recording", count(passed), counted(all, "answer", "answers"));
                let why = if why.is_empty() { "nothing was compared" } else { why };
                format!("UNVERIFIED: {why}; {recorded}")
            }
            VerdictKind::Flaky => with_why("FLAKY: the original image answers differently from run to run"),
            VerdictKind::Failed => match self.what_differs(&compared) {
                differs if differs.is_empty() => with_why("FAILED"),
                differs => format!("FAILED: {differs}"),
            },
        }
    }

    /// Answers that differ, then what differs besides (readiness, the exit status); empty when nothing does.
    fn what_differs(&self, compared: &Compared) -> String {
        let requests: BTreeSet<&str> = self.probes.iter().map(|probe| probe.name.as_str()).collect();
        let all = self.verify.iter().flat_map(|verify| &verify.differences);
        let (answers, others): (Vec<_>, Vec<_>) = all.partition(|difference| requests.contains(&*difference.request));
        let mut parts = Vec::new();
        if let Some(first) = answers.first() {
            let wrong = answers.len() as u64;
            parts.push(format!(
                "{} of {} {}: {}{}",
                count(wrong),
                counted(compared.answers.max(wrong), "answer", "answers"),
                if wrong == 1 { "differs" } else { "differ" },
                first.request,
                if wrong == 1 { "" } else { " and others" },
            ));
        }
        parts.extend(others.iter().map(|other| format!("{}: expected {}, got {}", other.request, other.expected, other.got)));
        parts.join("; ")
    }
}

/// `41 answers: 38 whole, 2 masked, 1 status only`.
fn how_compared(compared: &Compared) -> String {
    let parts: Vec<String> =
        [(compared.whole, "whole"), (compared.masked, "masked"), (compared.status_only, "status only")]
            .into_iter()
            .filter(|(n, _)| *n > 0)
            .map(|(n, how)| format!("{} {how}", count(n)))
            .collect();
    let answers = counted(compared.answers, "answer", "answers");
    if parts.is_empty() { answers } else { format!("{answers}: {}", parts.join(", ")) }
}

fn share_of(reason: &Reason) -> &'static str {
    match reason {
        Reason::Touched { how, .. } if how.contains("walked") => "walked over",
        Reason::Touched { how, .. } if is_glance(how) => "looked up by the run",
        Reason::Touched { .. } => "used by the run",
        Reason::OnTheWay { .. } | Reason::LinkTo { .. } | Reason::HardlinkOf { .. } => "links and names",
        Reason::InterpreterOf { .. } | Reason::NeededBy { .. } => "libraries and interpreters",
        Reason::App { .. } => "the application's own",
        Reason::Package { .. } => "packages kept whole",
        Reason::Include { .. } => "asked for by flags",
        Reason::Rule { .. } => "rules",
        Reason::Unknown => "other",
    }
}

/// Evidence that a path was looked up without its content being read.
fn is_glance(how: &str) -> bool {
    ["stat", "read link", "watch", "searched"].iter().any(|word| how.starts_with(word))
}

#[cfg(test)]
mod tests {
    use super::super::model::{Difference, Holdout, Probe, Trace, TraceUse, Verify};
    use super::*;

    #[test]
    fn the_line_says_how_far_it_goes() {
        let mut report = Report { verify: Some(Verify::default()), ..Report::default() };
        let compared = Compared { answers: 1, whole: 1, ..Compared::default() };
        report.verify = Some(Verify { compared, ..Verify::default() });
        assert_eq!(report.verdict_line(VerdictKind::Verified, ""), "VERIFIED: 0 probes, 1 answer: 1 whole");
        report.verify = Some(Verify { compared, unsearched: Some("it was killed".into()), ..Verify::default() });
        report.holdout = Some(Holdout { kept_out: 12, passed: 11, ..Holdout::default() });
        report.trace = Some(Trace { new_paths_per_run: vec![40, 2, 0], ..Trace::default() });
        let used = |path: &str, not_asked: Option<&str>| TraceUse {
            path: path.into(),
            not_asked: not_asked.map(str::to_owned),
            ..TraceUse::default()
        };
        report.traces = vec![used("a.trace", None), used("b.trace", Some("it was asked nothing"))];
        assert_eq!(
            report.verdict_line(VerdictKind::Verified, ""),
            "VERIFIED: 0 probes, 1 answer: 1 whole; what it silently misses is not known (it was killed); \
             not all that was recorded in b.trace was asked again; kept-out probes passed 11 of 12; \
             last run: no new path"
        );
        report.trace = Some(Trace { new_paths_per_run: vec![40, 2], ..Trace::default() });
        assert!(report.verdict_line(VerdictKind::Failed, "x").ends_with("last run: 2 new paths"));
    }

    #[test]
    fn the_line_counts_answers_and_names_what_differs_besides() {
        let difference = |request: &str| Difference { request: request.into(), expected: "0".into(), got: "137".into() };
        let line = |requests: &[&str]| {
            let compared = Compared { answers: 3, whole: 3, ..Compared::default() };
            let differences = requests.iter().map(|request| difference(request)).collect();
            let probe = |name: &str| Probe { name: name.into(), ..Probe::default() };
            let report = Report {
                probes: ["GET /", "GET /a", "GET /b"].map(probe).into(),
                verify: Some(Verify { compared, differences, ..Verify::default() }),
                ..Report::default()
            };
            report.verdict_line(VerdictKind::Failed, "it ended early")
        };
        for (requests, says) in [
            (&[][..], "FAILED: it ended early"),
            (&["GET /"], "FAILED: 1 of 3 answers differs: GET /"),
            (&["GET /a", "GET /b"], "FAILED: 2 of 3 answers differ: GET /a and others"),
            (&["exit status"], "FAILED: exit status: expected 0, got 137"),
            (&["GET /", "ready"], "FAILED: 1 of 3 answers differs: GET /; ready: expected 0, got 137"),
        ] {
            assert_eq!(line(requests), says);
        }
    }
}
