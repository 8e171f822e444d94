//! Init: the first process of a container, between libcontainer, which makes its namespaces and mounts, and the
//! image's program. What libcontainer cannot do without libseccomp is done here, as the sensor does it for its
//! target: install the filter, take the rights away, become the user.

use std::collections::HashMap;
use std::ffi::CString;
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use libcontainer::container::Container;
use libcontainer::error::LibcontainerError;
use libcontainer::container::builder::ContainerBuilder;
use libcontainer::oci_spec::runtime::Spec;
use libcontainer::syscall::syscall::SyscallType;
use libcontainer::workload::{Executor, ExecutorError, ExecutorSetEnvsError, ExecutorValidationError};

use super::super::plan::{Plan, Process};
use super::{rootfs, said};
use crate::sensor::identity;
use crate::sensor::namespace::Place;
use crate::sensor::spawn::{self, Recipe};
use crate::sys::process::{self, bounding_set};
use crate::sys::seccomp::{self, Instruction};
use crate::sys::{self, Standard, c_string, socket};

/// The program of a container cannot be executed.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{text}")]
pub(super) struct NotExecuted {
    /// Exit status as engines give it.
    pub status: i32,
    /// Why.
    pub text: String,
}

/// Name of libcontainer's container in the state directory: there is one in each.
const NAME: &str = "c";

/// The last steps of a container's process before its program.
#[derive(Clone)]
pub(super) struct Init {
    process: Process,
    /// Where it says why it did not become the program; an end without a word means that it did.
    report: Arc<OwnedFd>,
}

impl Init {
    pub(super) fn new(process: Process, report: OwnedFd) -> Self {
        Self { process, report: Arc::new(report) }
    }

    fn become_it(&self) -> Result<std::convert::Infallible, (i32, String)> {
        let failed = |error: anyhow::Error| (126, format!("{error:#}"));
        // Rust's runtime ignores SIGPIPE, and who started us may have ignored more.
        process::reset_signals();
        let recipe = self.recipe().map_err(failed)?;
        for stream in [Standard::Input, Standard::Output, Standard::Error] {
            spawn::own(sys::standard(stream), recipe.identity.uid).map_err(failed)?;
        }
        if !recipe.filter.is_empty() {
            let installed = seccomp::install(&recipe.filter).context("install the seccomp filter");
            installed.map_err(failed)?;
        }
        recipe.give_up_rights().map_err(failed)?;
        // Only now: a change of ids takes it away again.
        let bound = nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL);
        bound.context("bind the process to ours").map_err(failed)?;
        let argv: Vec<CString> = self.process.argv.iter().map(|arg| c_string(arg.as_bytes())).collect();
        recipe.execute(&argv)
    }

    fn recipe(&self) -> Result<Recipe> {
        let read = |path: &str| std::fs::read(path).unwrap_or_default();
        let process = &self.process;
        let identity = identity::find(&process.user, &process.groups, &read("/etc/passwd"), &read("/etc/group"))?;
        let mut environment: Vec<CString> = process.env.iter().map(|line| c_string(line.as_bytes())).collect();
        if !process.env.iter().any(|line| line.starts_with("HOME=")) {
            environment.push(c_string(&[b"HOME=", identity.home.as_slice()].concat()));
        }
        let kept = process.capabilities.iter().fold(0u64, |bits, cap| bits | 1 << cap);
        let has = bounding_set();
        let drop = (0..64).filter(|cap| has & !kept & (1 << cap) != 0).collect();
        let filter = process.filter.iter().map(|(code, jt, jf, k)| Instruction { code: *code, jt: *jt, jf: *jf, k: *k });
        let nofile = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE)?;
        Ok(Recipe { identity, environment, drop, filter: filter.collect(), trap: None, nofile, place: Place::Beside })
    }
}

impl Executor for Init {
    fn exec(&self, _: &Spec) -> Result<(), ExecutorError> {
        let Err((status, text)) = self.become_it();
        let bytes = [&[status as u8], text.as_bytes()].concat();
        // Nobody is left to hear of a failure to report a failure.
        let _ = nix::unistd::write(self.report.as_ref(), &bytes);
        Err(ExecutorError::Other(text))
    }

    fn validate(&self, _: &Spec) -> Result<(), ExecutorValidationError> {
        Ok(())
    }

    fn setup_envs(&self, _: HashMap<String, String>) -> Result<(), ExecutorSetEnvsError> {
        Ok(())
    }
}

/// Makes the container's first process, up to the point where it waits to be let go; gives its pid too.
pub(super) fn create(dir: &Path, plan: &mut Plan, [input, output, error]: [OwnedFd; 3]) -> Result<(Created, i32)> {
    let (report, theirs) = socket::pipe().context("make a pipe")?;
    rootfs::settle_cgroups(plan)?;
    rootfs::settle_sys(dir, plan)?;
    std::fs::write(dir.join("config.json"), serde_json::to_vec(&plan.spec)?).context("write the runtime's config")?;
    let state = dir.join("state");
    std::fs::create_dir_all(&state).context("make the runtime's directory")?;
    let log = dir.join("said");
    said::listen(&log)?;
    let failed = |error: LibcontainerError| anyhow!("{}", said::cause(&log).unwrap_or_else(|| words(&error)));
    let built = ContainerBuilder::new(NAME.to_owned(), SyscallType::default())
        .with_root_path(state)
        .and_then(ContainerBuilder::validate_id)
        .map(|builder| builder.with_executor(Init::new(plan.process.clone(), theirs)))
        .map(|builder| builder.with_stdin(input).with_stdout(output).with_stderr(error))
        .and_then(|builder| builder.as_init(dir).with_systemd(false).with_detach(true).build());
    let container = built.map_err(failed).context("make the container")?;
    let pid = container.pid().context("the container has no process")?.as_raw();
    Ok((Created { container, report }, pid))
}

/// A container whose process waits.
pub(super) struct Created {
    container: Container,
    report: OwnedFd,
}

impl Created {
    /// Lets the process go; comes back when it became the program, or did not.
    pub(super) fn go(mut self) -> (Container, Result<()>) {
        let started = self.container.start().map_err(|error| anyhow!("{}", words(&error)));
        let reported = started.context("start the container").and_then(|()| reported(self.report));
        (self.container, reported)
    }
}

/// What the process said; nothing, when it became the program.
pub(super) fn reported(report: OwnedFd) -> Result<()> {
    let mut said = Vec::new();
    File::from(report).read_to_end(&mut said).context("hear from the container's process")?;
    match said.split_first() {
        None => Ok(()),
        Some((status, text)) => {
            Err(NotExecuted { status: i32::from(*status), text: String::from_utf8_lossy(text).into_owned() }.into())
        }
    }
}

/// An error with its causes, each said once.
pub(super) fn words(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

/// A container's own name in its state directory.
pub(super) fn name() -> String {
    NAME.to_owned()
}
