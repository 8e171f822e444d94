//! Case: one way in which an image is run and asked, with what the untouched image answers: the build's own run,
//! and one for each trace that can be asked again.

use anyhow::{Context, Result};

use super::Session;
use super::subject::Subject;
use crate::engine::RunOptions;
use crate::probe::{Action, Answer, ProbePlan};
use crate::run;
use crate::run::way::Helper;
use crate::verify::{self, Baseline, Setting};

/// A way to run and ask.
pub struct Case {
    /// Name of its trace. `None` for the build's own run.
    pub name: Option<String>,
    /// How it runs.
    pub options: RunOptions,
    /// What the untouched image was asked, and answers.
    pub baseline: Baseline,
}

impl Case {
    /// A case that is not recorded: a plain run of the untouched image is its measure.
    ///
    /// # Errors
    /// When the untouched image does not run or does not answer its probes.
    pub async fn plain(
        session: &Session<'_>,
        subject: &Subject,
        helper: &Helper<'_>,
        (name, options, probes): (Option<String>, RunOptions, ProbePlan),
    ) -> Result<Self> {
        let baseline = {
            let setting = setting(session, subject, helper, (&options, &probes));
            verify::baseline(&setting, &subject.info.id).await.with_context(|| match &name {
                Some(name) => format!("ask the original what the trace {name} was asked"),
                None => "ask the original".to_owned(),
            })?
        };
        Ok(Self { name, options, baseline })
    }

    /// A request's name in the report: that of its trace first.
    pub fn label(&self, request: &str) -> String {
        match &self.name {
            Some(name) => format!("{name}: {request}"),
            None => request.to_owned(),
        }
    }

    /// Answers under the names that they have in the report.
    pub fn labelled(&self, answers: &[Answer]) -> Vec<Answer> {
        let mut answers = answers.to_vec();
        for answer in &mut answers {
            answer.request.name = self.label(&answer.request.name);
            answer.request.probe = self.label(&answer.request.probe);
        }
        answers
    }

    /// Whether two runs at once would be in each other's way.
    pub fn alone(&self, session: &Session<'_>) -> bool {
        let by_hosts = |answer: &Answer| matches!(answer.request.action, Action::HostExec { .. });
        run::shares(&self.options) || session.plan.before_run.is_some() || self.baseline.first.iter().any(by_hosts)
    }

    /// How images run to be compared in this case.
    pub fn setting<'a>(&'a self, session: &'a Session<'_>, subject: &'a Subject, helper: &Helper<'a>) -> Setting<'a> {
        setting(session, subject, helper, (&self.options, &self.baseline.plan))
    }
}

/// Whether the user gave a command and did not say how to probe it.
pub fn is_job(session: &Session<'_>) -> bool {
    let plan = session.plan;
    (plan.run.cmd.is_some() || plan.run.entrypoint.is_some()) && crate::probe::says_nothing(&plan.probes)
}

/// How images run to be compared.
pub fn setting<'a>(
    session: &'a Session<'_>,
    subject: &'a Subject,
    helper: &Helper<'a>,
    (options, probes): (&'a RunOptions, &'a ProbePlan),
) -> Setting<'a> {
    Setting {
        helper: helper.clone(),
        options,
        probes,
        job: is_job(session),
        healthcheck: subject.config.healthcheck(),
        stop_timeout: subject.config.stop_timeout(),
        before_run: session.plan.before_run.as_deref(),
        monitor: session.monitor.clone(),
        show_logs: session.plan.show_logs,
        leaving: &session.leaving,
        limit: session.plan.verify_timeout,
    }
}
