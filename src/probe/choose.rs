//! Choose: which probes a request means for an image: what is stated, what recipes bring, and what fits when
//! nothing was said.

use std::time::Duration;

use anyhow::{Context, Result};
use thiserror::Error;

use super::request::{ApiSpec, HttpCommand, RecipeRef};
use super::{
    Action, Expect, HttpRequest, Probe, ProbePlan, ProbeRequest, Readiness, Recipe, Until, auto, openapi, recipe,
};
use crate::engine::RunOptions;
use crate::image::config::{Healthcheck, ImageConfig};

const READY_TIMEOUT: Duration = Duration::from_secs(60);
const HTTP_TIMEOUT: Duration = Duration::from_secs(30);
const TCP_TIMEOUT: Duration = Duration::from_secs(10);
const EXEC_TIMEOUT: Duration = Duration::from_secs(120);
const RUN_TIMEOUT: Duration = Duration::from_secs(600);
const CRAWL_DEPTH: u32 = 3;
const CRAWL_PAGES: u32 = 1000;

/// There is nothing by which this image could be exercised; the text says what to give.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct NothingToProbe(String);

/// What the choice depends on.
pub(super) struct Facts {
    /// Exposed tcp ports, lowest first: the image's and `--expose`'s.
    pub(super) ports: Vec<u16>,
    /// What runs.
    pub(super) argv: Vec<String>,
    /// The user gave a command or entrypoint for this run.
    argv_stated: bool,
    healthcheck: Option<Healthcheck>,
    shell: Vec<String>,
}

impl Facts {
    fn of(config: &ImageConfig, run: &RunOptions) -> Self {
        let exposed = config.exposed_ports();
        let mut ports: Vec<u16> = exposed.iter().chain(&run.expose).flat_map(|spec| tcp_ports(spec)).collect();
        ports.sort_unstable();
        ports.dedup();
        // As the engine does it: another entrypoint drops the image's command.
        let own_cmd = if run.entrypoint.is_some() { Vec::new() } else { config.cmd() };
        let mut argv = run.entrypoint.clone().unwrap_or_else(|| config.entrypoint());
        argv.extend(run.cmd.clone().unwrap_or(own_cmd));
        let argv_stated = run.entrypoint.is_some() || run.cmd.is_some();
        Self { ports, argv, argv_stated, healthcheck: config.healthcheck(), shell: config.shell() }
    }
}

/// `80`, `80/tcp`, `8000-8003/tcp`; nothing for other protocols.
fn tcp_ports(spec: &str) -> Vec<u16> {
    let (range, protocol) = spec.split_once('/').unwrap_or((spec, "tcp"));
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    match (first.parse::<u16>(), last.parse::<u16>()) {
        (Ok(first), Ok(last)) if protocol == "tcp" && first > 0 => (first..=last).collect(),
        _ => Vec::new(),
    }
}

/// Chooses. Reads the recipe and API files that the request names; nothing else is looked at or done.
///
/// # Errors
/// [`NothingToProbe`], or a recipe or API file that cannot be read, with line and column.
pub fn choose(config: &ImageConfig, run: &RunOptions, request: &ProbeRequest) -> Result<ProbePlan> {
    let facts = Facts::of(config, run);
    let mut draft =
        Draft { facts: &facts, request, probes: Vec::new(), notes: Vec::new(), recipes: Vec::new(), taken: Vec::new() };
    let by_itself = says_nothing(request);
    for reference in &request.recipes {
        match reference {
            RecipeRef::Auto => draft.auto()?,
            RecipeRef::Named(name) => draft.recipes.push(recipe::named(name)?),
            RecipeRef::File(path) => draft.recipes.push(recipe::from_file(path)?),
        }
    }
    if by_itself {
        draft.auto()?;
    }
    draft.claim_ports();
    draft.stated_http()?;
    draft.recipe_steps()?;
    draft.commands();
    if draft.probes.is_empty() {
        draft.the_run_itself()?;
    }
    draft.health();
    Ok(draft.plan())
}

/// Whether nothing was said about what to probe.
pub fn says_nothing(request: &ProbeRequest) -> bool {
    let ProbeRequest { http, http_commands, http_ports, api_specs, exec, exec_sh, host_exec, recipes, until, .. } =
        request;
    let commands = exec.is_empty() && exec_sh.is_empty() && host_exec.is_empty();
    let web = *http != Some(true) && http_commands.is_empty() && http_ports.is_empty() && api_specs.is_empty();
    commands && web && recipes.is_empty() && *until != Some(Until::Exit)
}

struct Draft<'a> {
    facts: &'a Facts,
    request: &'a ProbeRequest,
    probes: Vec<Probe>,
    notes: Vec<String>,
    recipes: Vec<Recipe>,
    /// Ports that a recipe talks to in its own protocol: they are not probed by HTTP.
    taken: Vec<u16>,
}

impl Draft<'_> {
    fn auto(&mut self) -> Result<()> {
        for (recipe, why) in auto::fitting(self.facts, recipe::recipes()?) {
            if !self.recipes.iter().any(|known| known.name == recipe.name) {
                self.notes.push(format!("probe {}: {why}", recipe.name));
                self.recipes.push(recipe);
            }
        }
        self.claim_ports();
        let ports = self.http_ports();
        if self.request.http != Some(false) && !ports.is_empty() {
            self.notes.push(format!("probe http: it exposes port {}", list(&ports)));
            self.recipes.push(recipe::named("http")?);
        }
        Ok(())
    }

    fn claim_ports(&mut self) {
        let ports = self.recipes.iter().flat_map(|recipe| recipe.steps.iter().map(move |step| (recipe, step)));
        let tcp = ports.filter(|(recipe, step)| matches!(step.what, recipe::What::Tcp(_)) && !recipe.ports.is_empty());
        self.taken = tcp.flat_map(|(recipe, step)| self.step_ports(recipe, step)).collect();
    }

    /// What "every probed port" means for HTTP.
    fn http_ports(&self) -> Vec<u16> {
        match self.request.http_ports.is_empty() {
            false => self.request.http_ports.clone(),
            true => self.facts.ports.iter().copied().filter(|port| !self.taken.contains(port)).collect(),
        }
    }

    /// `GET /` and what it links to, stated commands, API documents.
    fn stated_http(&mut self) -> Result<()> {
        let request = self.request;
        let asked = request.http == Some(true) || !request.http_commands.is_empty() || !request.http_ports.is_empty();
        let has_http = self.recipes.iter().any(|recipe| recipe.name == "http" || recipe.name == "static-site");
        if asked && request.http != Some(false) && !has_http {
            self.recipes.push(recipe::named("http")?);
        }
        let needs_port = request.http == Some(true)
            || request.http_commands.iter().any(|c| c.request.port == 0)
            || !request.api_specs.is_empty();
        if needs_port && self.http_ports().is_empty() {
            let why = "there is no port to probe by HTTP: the image exposes none; give --http-probe-ports PORT or --expose PORT";
            return Err(NothingToProbe(why.to_owned()).into());
        }
        for command in &request.http_commands {
            for port in self.ports_of(command.request.port) {
                self.http_command(command, port);
            }
        }
        for spec in &request.api_specs {
            self.api(spec)?;
        }
        Ok(())
    }

    fn http_command(&mut self, command: &HttpCommand, port: u16) {
        let start = self.completed(HttpRequest { port, ..command.request.clone() });
        let action = if command.crawl { self.crawl(start) } else { Action::Http(start) };
        let expect = Expect { status: command.status, contains: command.contains.clone() };
        self.push(None, action, true, expect, None);
    }

    fn api(&mut self, spec: &ApiSpec) -> Result<()> {
        let ports = self.http_ports();
        match spec {
            ApiSpec::Served(text) => {
                let (path, prefix) = text.split_once(':').unwrap_or((text, ""));
                for port in ports {
                    let start = self.completed(HttpRequest::get(port, path));
                    let (exclude, max_pages) =
                        (self.request.crawl_exclude.clone(), self.request.crawl_pages.unwrap_or(CRAWL_PAGES));
                    let action = Action::Api { start, prefix: prefix.to_owned(), max_pages, exclude };
                    self.push(None, action, true, Expect::default(), None);
                }
            }
            ApiSpec::File(path) => {
                let bytes = std::fs::read(path).with_context(|| format!("read the API document {}", path.display()))?;
                let paths = openapi::paths(&bytes, "").with_context(|| path.display().to_string())?;
                self.notes.push(format!("{} GETs without required parameters in {}", paths.len(), path.display()));
                for port in ports {
                    for path in &paths {
                        let action = Action::Http(self.completed(HttpRequest::get(port, path)));
                        self.push(None, action, false, Expect::default(), None);
                    }
                }
            }
        }
        Ok(())
    }

    fn recipe_steps(&mut self) -> Result<()> {
        for recipe in self.recipes.clone() {
            for step in &recipe.steps {
                self.step(&recipe, step)?;
            }
        }
        Ok(())
    }

    fn step(&mut self, recipe: &Recipe, step: &recipe::Step) -> Result<()> {
        let expect = Expect { status: step.status, contains: step.contains.clone() };
        let actions: Vec<Action> = match &step.what {
            recipe::What::Http { ask, crawl } => {
                let ports = self.need_ports(recipe, step)?;
                let start = |port| self.completed(recipe_request(ask, port));
                let action = |port| match *crawl && self.request.crawl != Some(false) {
                    true => self.crawl(start(port)),
                    false => Action::Http(start(port)),
                };
                ports.into_iter().map(action).collect()
            }
            recipe::What::Tcp(steps) => {
                let ports = self.need_ports(recipe, step)?;
                ports.into_iter().map(|port| Action::Tcp { port, steps: steps.clone() }).collect()
            }
            recipe::What::Exec(argv) => vec![Action::Exec { argv: self.expanded(argv)? }],
            recipe::What::HostExec(argv) => {
                vec![Action::HostExec { argv: argv.clone(), ports: self.facts.ports.clone() }]
            }
            recipe::What::Run => vec![Action::Run],
        };
        let several = actions.len() > 1;
        for action in actions {
            let name = step.name.as_ref().map(|name| match (&action, several) {
                (Action::Tcp { port, .. }, true) => format!("{name} {port}"),
                _ => name.clone(),
            });
            self.push(name, action, step.stated, expect.clone(), step.timeout);
        }
        Ok(())
    }

    fn need_ports(&self, recipe: &Recipe, step: &recipe::Step) -> Result<Vec<u16>> {
        let ports = self.step_ports(recipe, step);
        if ports.is_empty() {
            let why = format!(
                "the recipe {} needs a port and the image exposes none; give --http-probe-ports PORT or --expose PORT",
                recipe.name
            );
            return Err(NothingToProbe(why).into());
        }
        Ok(ports)
    }

    fn step_ports(&self, recipe: &Recipe, step: &recipe::Step) -> Vec<u16> {
        if let Some(port) = step.port {
            return vec![port];
        }
        let exposed: Vec<u16> = recipe.ports.iter().copied().filter(|port| self.facts.ports.contains(port)).collect();
        match (recipe.ports.first(), exposed.is_empty()) {
            (None, _) => self.http_ports(),
            (Some(_), false) => exposed,
            (Some(usual), true) => vec![*usual],
        }
    }

    /// `{program}` stands for what the image runs.
    fn expanded(&self, argv: &[String]) -> Result<Vec<String>> {
        let expand = |word: &String| match word.as_str() {
            "{program}" => self.facts.argv.first().cloned(),
            _ => Some(word.clone()),
        };
        let expanded: Option<Vec<String>> = argv.iter().map(expand).collect();
        expanded.ok_or_else(|| {
            NothingToProbe("the image has no entrypoint and no command: give one after --".to_owned()).into()
        })
    }

    /// `--exec`, `--exec-sh`, `--host-exec`.
    fn commands(&mut self) {
        let request = self.request;
        for argv in &request.exec {
            self.push(None, Action::Exec { argv: argv.clone() }, true, Expect::default(), None);
        }
        for line in &request.exec_sh {
            let argv = [self.facts.shell.as_slice(), std::slice::from_ref(line)].concat();
            self.push(None, Action::Exec { argv }, true, Expect::default(), None);
        }
        let mut ports = self.http_ports();
        ports.extend(self.taken.iter().copied().filter(|port| !ports.contains(port)).collect::<Vec<_>>());
        for argv in &request.host_exec {
            let action = Action::HostExec { argv: argv.clone(), ports: ports.clone() };
            self.push(None, action, true, Expect::default(), None);
        }
    }

    /// Nothing else to ask: the healthcheck, or a program that runs and exits.
    fn the_run_itself(&mut self) -> Result<()> {
        let exit_wanted = self.request.until == Some(Until::Exit);
        if let Some(check) = self.facts.healthcheck.as_ref().filter(|_| !self.facts.argv_stated && !exit_wanted) {
            self.notes.push("probe the HEALTHCHECK's own command: there is no port".to_owned());
            let (argv, timeout) = (check.argv.clone(), check.timeout);
            self.push(Some("healthcheck".to_owned()), Action::Exec { argv }, true, Expect::default(), Some(timeout));
            return Ok(());
        }
        let give = "give --http-probe-ports PORT, --exec 'COMMAND', --probe RECIPE, or a command to run after --";
        if self.facts.argv.is_empty() {
            return Err(NothingToProbe(format!("the image has no port, no entrypoint and no command: {give}")).into());
        }
        if !self.facts.argv_stated && !exit_wanted && auto::is_interactive(&self.facts.argv) {
            let program = &self.facts.argv[0];
            let why =
                format!("the image has no port and runs `{program}`, which ends at once without a terminal: {give}");
            return Err(NothingToProbe(why).into());
        }
        let ends = self.facts.argv_stated || self.request.until.is_some();
        if self.request.http == Some(false) && !self.facts.ports.is_empty() && !ends {
            let ports = list(&self.facts.ports);
            let why = format!("HTTP probes are off, and no other probe asks port {ports}: {give}");
            return Err(NothingToProbe(why).into());
        }
        self.notes.push(
            "probe the run itself: its exit status and output, because there is no port and no other probe".to_owned(),
        );
        self.push(None, Action::Run, true, Expect::default(), None);
        Ok(())
    }

    /// The HEALTHCHECK where nothing else asks it: readiness does when it is what ready means.
    fn health(&mut self) {
        let runs = self.probes.iter().any(|probe| probe.action == Action::Run);
        let Some(check) = self.facts.healthcheck.as_ref().filter(|_| !runs) else { return };
        let asked = |probe: &Probe| matches!(&probe.action, Action::Exec { argv } if *argv == check.argv);
        if self.readiness(runs) == Readiness::Health || self.probes.iter().any(asked) {
            return;
        }
        self.notes.push("probe the HEALTHCHECK too".to_owned());
        let (argv, timeout) = (check.argv.clone(), check.timeout);
        self.push(Some("healthcheck".to_owned()), Action::Exec { argv }, false, Expect::default(), Some(timeout));
    }

    fn ports_of(&self, port: u16) -> Vec<u16> {
        if port == 0 { self.http_ports() } else { vec![port] }
    }

    fn crawl(&self, start: HttpRequest) -> Action {
        Action::Crawl {
            start,
            max_depth: self.request.crawl_depth.unwrap_or(CRAWL_DEPTH),
            max_pages: self.request.crawl_pages.unwrap_or(CRAWL_PAGES),
            exclude: self.request.crawl_exclude.clone(),
        }
    }

    /// With what was stated for all requests.
    fn completed(&self, mut ask: HttpRequest) -> HttpRequest {
        ask.host = ask.host.or_else(|| self.request.host.clone());
        for (name, value) in &self.request.headers {
            if !ask.headers.iter().any(|(own, _)| own.eq_ignore_ascii_case(name)) {
                ask.headers.push((name.clone(), value.clone()));
            }
        }
        ask
    }

    fn push(&mut self, name: Option<String>, action: Action, stated: bool, expect: Expect, timeout: Option<Duration>) {
        let usual = match &action {
            Action::Http(_) | Action::Crawl { .. } | Action::Api { .. } => HTTP_TIMEOUT,
            Action::Exec { .. } | Action::HostExec { .. } => EXEC_TIMEOUT,
            Action::Tcp { .. } => TCP_TIMEOUT,
            Action::Run => RUN_TIMEOUT,
        };
        let timeout = timeout.or(self.request.timeout).unwrap_or(usual);
        self.probes.push(Probe { name: name.unwrap_or_else(|| action.title()), action, stated, expect, timeout });
    }

    fn plan(mut self) -> ProbePlan {
        let runs = self.probes.iter().any(|probe| probe.action == Action::Run);
        let named: Vec<u16> = self
            .request
            .http_ports
            .iter()
            .copied()
            .chain(self.request.http_commands.iter().map(|c| c.request.port))
            .collect();
        let by_step = self.recipes.iter().flat_map(|recipe| &recipe.steps).filter_map(|step| step.port);
        let required: Vec<u16> = named.into_iter().chain(by_step).chain(self.taken.iter().copied()).collect();
        let optional_ports = self.facts.ports.iter().copied().filter(|port| !required.contains(port)).collect();
        let readiness = self.readiness(runs);
        let ready_timeout = self.ready_timeout();
        self.notes.dedup();
        ProbePlan {
            readiness,
            ready_timeout,
            until: self.request.until.unwrap_or(if runs { Until::Exit } else { Until::Probes }),
            exit_on_failure: self.request.exit_on_failure,
            optional_ports,
            probes: self.probes,
            notes: self.notes,
            warnings: self.request.skipped.clone(),
        }
    }

    fn readiness(&self, runs: bool) -> Readiness {
        if let Some(stated) = &self.request.readiness {
            return stated.clone();
        }
        if runs {
            return Readiness::Started;
        }
        if self.facts.healthcheck.is_some() {
            return Readiness::Health;
        }
        if let Some(pattern) = self.recipes.iter().find_map(|recipe| recipe.ready_log.clone()) {
            return Readiness::Log(pattern);
        }
        let mut ports = Vec::new();
        for probe in &self.probes {
            let port = match &probe.action {
                Action::Http(ask) | Action::Crawl { start: ask, .. } | Action::Api { start: ask, .. } => Some(ask.port),
                Action::Tcp { port, .. } => Some(*port),
                Action::Exec { .. } | Action::HostExec { .. } | Action::Run => None,
            };
            ports.extend(port.filter(|port| !ports.contains(port)));
        }
        if ports.is_empty() {
            // Commands only: what the image serves has to be up before they are run.
            ports.clone_from(&self.facts.ports);
        }
        if ports.is_empty() { Readiness::Started } else { Readiness::Ports(ports) }
    }

    /// At least the start period of the HEALTHCHECK, which says how long the image may take.
    fn ready_timeout(&mut self) -> Duration {
        let least = self.facts.healthcheck.as_ref().map_or(Duration::ZERO, |check| check.start_period);
        if let Some(asked) = self.request.ready_timeout {
            if asked < least {
                let seconds = least.as_secs_f64();
                self.notes.push(format!("--ready-timeout is taken for {seconds} s, the HEALTHCHECK's start period"));
            }
            return asked.max(least);
        }
        let check = self.facts.healthcheck.as_ref().map(|check| check.start_period + check.interval + check.timeout);
        self.recipes
            .iter()
            .filter_map(|recipe| recipe.ready_timeout)
            .chain(check)
            .fold(READY_TIMEOUT, Duration::max)
    }
}

fn recipe_request(ask: &recipe::HttpDoc, port: u16) -> HttpRequest {
    HttpRequest {
        tls: ask.tls,
        http2: ask.http2,
        port,
        method: ask.method.to_ascii_uppercase(),
        path: ask.path.clone(),
        headers: ask.headers.iter().map(|header| (header.0.clone(), header.1.clone())).collect(),
        body: ask.body.clone().map(String::into_bytes),
        host: ask.host.clone(),
    }
}

fn list(ports: &[u16]) -> String {
    ports.iter().map(u16::to_string).collect::<Vec<_>>().join(", ")
}
