//! Entry: chooses the role (sensor or pack agent before any async runtime exists, else controller), and turns
//! what came of it into an exit status.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::{Context, Result, anyhow};
use slim::batch;
use slim::build::platforms::Platforms;
use slim::build::{self, Built, provenance};
use slim::cli::{self, CacheCommand, Command, Progress, ReportCommand, Stop};
use slim::engine::embedded::cache::Listing;
use slim::engine::host::Surroundings;
use slim::engine::survey::Survey;
use slim::engine::{embedded, relay};
use slim::exit::{self, Exit, Hint};
use slim::image::ImageConfig;
use slim::plan::{BuildPlan, Here, budget, platforms};
use slim::progress::{Fact, Monitor};
use slim::report::show::Style;
use slim::report::views::{Beside, View};
use slim::report::{self, Report, show, why};
use slim::ui::{Color, Mode, Ui};

fn main() -> ExitCode {
    match std::env::args_os().nth(1).as_deref().and_then(|arg| arg.to_str()) {
        Some("sensor") => ExitCode::from(slim::sensor::run()),
        Some("pack-agent") => role(slim::pack::agent::run()),
        Some(build::apart::ROLE) => role(build::apart::serve(std::io::stdin().lock(), std::io::stdout())),
        Some(embedded::ROLE) => role(hold(std::env::args_os())),
        Some(embedded::EXEC_ROLE) => role(join(std::env::args_os())),
        Some(embedded::inside::ROLE) => role(inside(std::env::args_os())),
        Some(relay::ROLE) => role(relay::serve(std::io::stdin(), std::io::stdout())),
        _ => guarded(controller),
    }
}

/// Ends with the status of a bug, and a line that asks to report it, where a thread gave up in panic. What was made
/// in an engine is gone by then: [`build::with_engine`] sees to that.
fn guarded(work: fn() -> ExitCode) -> ExitCode {
    exit::watch_panics();
    std::panic::catch_unwind(work).unwrap_or_else(|_| {
        if let Some(bug) = exit::bug() {
            Ui::new(Mode::None, Color::Auto).error(&bug);
        }
        Exit::Bug.into()
    })
}

/// Holds one container of the embedded engine.
fn hold(mut words: std::env::ArgsOs) -> Result<()> {
    words.nth(1);
    embedded::shim::run(&embedded::shim::argument(&mut words)?)
}

/// Runs a command in a container of the embedded engine.
fn join(mut words: std::env::ArgsOs) -> Result<()> {
    words.nth(1);
    let dir = embedded::shim::argument(&mut words)?;
    let id = words.next().and_then(|word| word.into_string().ok()).unwrap_or_default();
    embedded::shim::run_exec(&dir, &id)
}

/// Does something as root of a user namespace.
fn inside(mut words: std::env::ArgsOs) -> Result<()> {
    words.nth(1);
    embedded::inside::run(words)
}

/// A role inside a container has nobody to talk to but its controller: its last words go to stderr.
#[allow(clippy::print_stderr)]
fn role(result: Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            Exit::Bug.into()
        }
    }
}

fn controller() -> ExitCode {
    let text = |word: std::ffi::OsString| word.into_string().ok();
    let vars: cli::Vars =
        std::env::vars_os().filter_map(|(name, value)| Some((text(name)?, text(value)?))).collect();
    let invocation = match cli::parse(std::env::args_os(), &vars) {
        Ok(invocation) => invocation,
        Err(Stop::Show(text)) => {
            let shown = Ui::new(Mode::None, Color::Auto).print_stdout(&text);
            return shown.map_or(Exit::Failed, |()| Exit::Done).into();
        }
        Err(Stop::Wrong(error)) => {
            Ui::new(Mode::None, Color::Auto).error(&error.into_error());
            return Exit::Usage.into();
        }
    };
    let mode = match invocation.common.progress() {
        Progress::Auto => Mode::auto(),
        Progress::Fancy => Mode::Fancy,
        Progress::Plain => Mode::Plain,
        Progress::None => Mode::None,
        Progress::Json => Mode::Json,
        Progress::Quiet => Mode::Quiet,
    };
    let color = if invocation.common.no_color == Some(true) { Color::Never } else { Color::Auto };
    let ui = Arc::new(Ui::new(mode, color));
    for warning in &invocation.warnings {
        ui.tell(Fact::Warning { text: warning.clone() });
    }
    match dispatch(&invocation, &vars, &ui) {
        Ok(exit) => exit.into(),
        Err(error) => {
            // What a panic on another thread led to is not what went wrong.
            let error = exit::bug().unwrap_or(error);
            ui.error(&error);
            slim::engine::exit_of(&error).into()
        }
    }
}

fn dispatch(invocation: &cli::Invocation, vars: &cli::Vars, ui: &Arc<Ui>) -> Result<Exit> {
    match &invocation.command {
        Command::Build(args) if let Some(entries) = &invocation.batch => run_batch(args, entries, vars, ui),
        Command::Build(args) => {
            let plan = plan_of(invocation, args, vars)?;
            match plan.platforms.is_empty() {
                true => runtime()?.block_on(run_build(&plan, ui)),
                false => runtime()?.block_on(run_platforms(&plan, ui)),
            }
        }
        Command::Trace(args) => {
            platforms::one(&args.run).map_err(cli::UsageError::into_error)?;
            let plan = plan_of(invocation, &args.as_build(), vars)?;
            let file = args.output.as_deref().context("--output names no file")?;
            runtime()?.block_on(run_trace(&plan, file, ui))
        }
        Command::Verify(args) => {
            platforms::one(&args.run).map_err(cli::UsageError::into_error)?;
            let plan = plan_of(invocation, &args.as_build(), vars)?;
            runtime()?.block_on(run_verify(&plan, &args.other, ui))
        }
        Command::Copy(args) => {
            let monitor: Arc<dyn Monitor> = ui.clone();
            let plan = slim::copy::plan(&invocation.common, args, &invocation.origins, vars, monitor)?;
            let digest = match runtime()?.block_on(build::or_signal(slim::copy::copy(&plan)))? {
                Ok(digest) => digest,
                Err(exit) => return Ok(exit),
            };
            ui.tell(Fact::Info { text: format!("{}@{digest}", plan.destination) });
            ui.result(&[(plan.destination.to_string(), digest)])?;
            Ok(Exit::Done)
        }
        Command::Xray(args) => {
            // As JSON, stdout has one document and nothing else.
            let silent = invocation.common.json == Some(true);
            let monitor: Arc<dyn Monitor> = if silent { Arc::new(slim::progress::Void) } else { ui.clone() };
            let plan = slim::xray::plan(&invocation.common, args, &invocation.origins, vars, monitor)?;
            let xray = match runtime()?.block_on(build::or_signal(slim::xray::xray(&plan)))? {
                Ok(xray) => xray,
                Err(exit) => return Ok(exit),
            };
            ui.print_stdout(&xray.tell(plan.format, plan.top, ui.data_style()))?;
            Ok(Exit::Done)
        }
        Command::Diff(args) => {
            let silent = invocation.common.json == Some(true) || args.format == Some(cli::diff::Format::Json);
            let monitor: Arc<dyn Monitor> = if silent { Arc::new(slim::progress::Void) } else { ui.clone() };
            let plan = slim::diff::plan(&invocation.common, args, &invocation.origins, vars, monitor)?;
            let diff = match runtime()?.block_on(build::or_signal(slim::diff::diff(&plan)))? {
                Ok(diff) => diff,
                Err(exit) => return Ok(exit),
            };
            match &plan.output {
                Some(path) => report::file::replace(path, |out| out.write_all(diff.tell(&plan, Style::default()).as_bytes()))?,
                None => ui.print_stdout(&diff.tell(&plan, ui.data_style()))?,
            }
            Ok(diff.exit())
        }
        Command::Engines => engines(&invocation.common, ui),
        Command::Cache { command } => cache(command, &invocation.common, ui),
        Command::Probes { name } => {
            ui.print_stdout(&recipes(name.as_deref())?)?;
            Ok(Exit::Done)
        }
        Command::Why { subject, path } => tell_why(invocation, subject, path, ui),
        Command::Report { command: ReportCommand::Show { file, format, vex_from } } => {
            let report = report::load(file)?;
            let text = match format {
                None => show::show(&report, ui.data_style(), None),
                Some(view) => as_view(*view, file, &report, vex_from.as_deref())?,
            };
            ui.print_stdout(&text)?;
            Ok(Exit::Done)
        }
        Command::Report { command: ReportCommand::Check { file, fail_on, baseline } } => {
            let budgets = (fail_on.as_slice(), baseline.as_ref());
            check_report(file, budgets, &invocation.common, vars, ui)
        }
        Command::Report { command: ReportCommand::Schema } => {
            ui.print_stdout(&report::schema::schema()?)?;
            Ok(Exit::Done)
        }
        Command::Replay { dir } => {
            ui.print_stdout(&slim::keep::replay::replay(dir)?)?;
            Ok(Exit::Done)
        }
        Command::Completions { shell } => {
            ui.print_stdout(&String::from_utf8(cli::manual::completions(*shell))?)?;
            Ok(Exit::Done)
        }
        Command::Man { dir } => man(dir.as_deref(), ui),
    }
}

/// What the words mean.
fn plan_of(invocation: &cli::Invocation, args: &cli::BuildArgs, vars: &cli::Vars) -> Result<BuildPlan> {
    let here = Here { vars, origins: &invocation.origins };
    let stdin = &mut std::io::stdin().lock();
    let plan = BuildPlan::new(&invocation.common, args, here, stdin).map_err(cli::UsageError::into_error)?;
    Ok(BuildPlan { given: invocation.given.clone(), ..plan })
}

/// `slim report show --format`.
fn as_view(view: View, file: &Path, report: &Report, scan: Option<&Path>) -> Result<String> {
    let findings = match (view, scan) {
        (View::Openvex, None) => {
            let hint = Hint::new("give --vex-from with the JSON of trivy or grype for the original image");
            return Err(anyhow!("--format openvex names vulnerabilities, and nothing says which there are").context(Exit::Usage).context(hint));
        }
        (View::Openvex, Some(scan)) => {
            let text = std::fs::read(scan).with_context(|| format!("read {}", scan.display()))?;
            report::scan::findings(&text).with_context(|| format!("read the scan {}", scan.display()))?
        }
        _ => Vec::new(),
    };
    let removed = report::load_removed(file, report)?;
    let text = view.of(report, Beside { removed: removed.as_deref(), findings: &findings });
    text.ok_or_else(|| anyhow!("{}", report::views::NOTHING_TO_STATE))
}

/// `slim report check`: a line for each budget, and whether all of them are kept.
fn check_report(
    file: &Path,
    budgets: (&[String], Option<&PathBuf>),
    common: &cli::Common,
    vars: &cli::Vars,
    ui: &Ui,
) -> Result<Exit> {
    let report = report::load(file)?;
    let budget = budget::for_report(&report, budgets, common.config.as_deref(), vars).map_err(cli::UsageError::into_error)?;
    let Some(budget) = budget else {
        let hint = Hint::new("give --fail-on, as --fail-on 'size>60MB', or a slim.toml that does");
        return Err(anyhow!("there is no budget to hold {} against", file.display()).context(Exit::Usage).context(hint));
    };
    let standings = budget.check(&report);
    match common.json {
        Some(true) => ui.print_stdout(&format!("{}\n", serde_json::to_string(&standings)?))?,
        _ => ui.print_stdout(&show::standings(&standings, ui.data_style()))?,
    }
    Ok(if standings.iter().all(|standing| standing.kept) { Exit::Done } else { Exit::Gate })
}

/// `slim engines`.
fn engines(common: &cli::Common, ui: &Ui) -> Result<Exit> {
    let here = Surroundings::here();
    let survey = runtime()?.block_on(Survey::take(&common.engine(), &here, vec![embedded::survey::found()]));
    let usable = survey.usable(&here);
    match common.json {
        Some(true) => ui.print_stdout(&survey.to_json()?)?,
        _ if survey.engines.is_empty() => {}
        _ => ui.print_stdout(&survey.to_text())?,
    }
    usable.map(|()| Exit::Done)
}

/// `slim cache`.
fn cache(command: &CacheCommand, common: &cli::Common, ui: &Ui) -> Result<Exit> {
    let dir = embedded::cache_dir()?;
    let (shown, text) = match command {
        CacheCommand::Ls => {
            let listing = Listing::read(&dir)?;
            let text = slim::ui::cache::table(&listing, SystemTime::now());
            (listing, text)
        }
        CacheCommand::Prune(args) => {
            let limits = slim::plan::cache::limits(args).map_err(cli::UsageError::into_error)?;
            let (gone, left) = embedded::cache::prune(&dir, limits)?;
            let text = slim::ui::cache::pruned(&gone, &left);
            (gone, text)
        }
    };
    match common.json {
        Some(true) => ui.print_stdout(&shown.to_json()?)?,
        _ => ui.print_stdout(&text)?,
    }
    Ok(Exit::Done)
}

/// `slim probes`: the recipes, or one of them as it is written.
fn recipes(name: Option<&str>) -> Result<String> {
    let known = slim::probe::recipes()?;
    match name {
        Some(name) => match slim::probe::recipe::text_of(name) {
            Some(text) => Ok(text.to_owned()),
            None => Err(anyhow!("there is no recipe {name}; `slim probes` lists them")).context(Exit::Usage),
        },
        None => Ok(known.iter().map(|recipe| format!("{:<14} {}\n", recipe.name, recipe.description)).collect()),
    }
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("start the async runtime")
}

/// Runs a build until it ends or a signal ends it; either way nothing of it stays in the engine.
async fn run_build(plan: &BuildPlan, ui: &Arc<Ui>) -> Result<Exit> {
    let (ended, swept) = build::with_engine(plan, ui, false, async |session| Ok(build::build(session).await)).await?;
    let exit = ended.map_or_else(Ok, |built| conclude(plan, ui, built))?;
    swept.map(|()| exit)
}

/// `slim build` of several platforms: one after the other, until one does not pass; then all, or none, are published.
async fn run_platforms(plan: &BuildPlan, ui: &Arc<Ui>) -> Result<Exit> {
    let work = async |session: &build::Session<'_>| {
        let platforms = Platforms::open(session).await?;
        let mut made = Vec::new();
        for part in platforms.parts() {
            let built = platforms.build(session, part).await;
            made.extend(built.made.clone().map(|made| (made, built.finished.report.clone())));
            let exit = conclude(part, ui, built)?;
            if exit != Exit::Done {
                return Ok(exit);
            }
        }
        let published = platforms.publish(session).await?;
        provenance::write(plan, &made, &published)?;
        ui.result(&published)?;
        Ok(Exit::Done)
    };
    let (ended, swept) = build::with_engine(plan, ui, false, work).await?;
    swept.map(|()| ended.unwrap_or_else(|exit| exit))
}

/// `slim build --all`.
fn run_batch(args: &cli::BuildArgs, entries: &[cli::batch::Entry], vars: &cli::Vars, ui: &Arc<Ui>) -> Result<Exit> {
    let mut stdin = Vec::new();
    if args.source.registry_secret_stdin == Some(true) {
        std::io::stdin().lock().read_to_end(&mut stdin).context("read the secret from stdin")?;
    }
    let jobs = batch::jobs(entries, batch::Here { vars, stdin: &stdin }).map_err(cli::UsageError::into_error)?;
    let at_once = args.batch.jobs.map_or_else(batch::default_jobs, |jobs| jobs as usize);
    runtime()?.block_on(batch::run(jobs, at_once, ui))
}

/// `slim verify`.
async fn run_verify(plan: &BuildPlan, other: &str, ui: &Arc<Ui>) -> Result<Exit> {
    let (ended, swept) = build::with_engine(plan, ui, false, async |session| Ok(build::compare(session, other).await)).await?;
    let exit = ended.map_or_else(Ok, |built| conclude(plan, ui, built))?;
    swept.map(|()| exit)
}

/// `slim trace`.
async fn run_trace(plan: &BuildPlan, file: &Path, ui: &Arc<Ui>) -> Result<Exit> {
    let (ended, swept) = build::with_engine(plan, ui, true, async |session| build::record_to(session, file).await).await?;
    let exit = match ended {
        Ok(paths) => {
            ui.tell(Fact::Info { text: format!("{}: {paths} paths", file.display()) });
            Exit::Done
        }
        Err(exit) => exit,
    };
    swept.map(|()| exit)
}

/// Writes the report, shows the summary, names the result.
fn conclude(plan: &BuildPlan, ui: &Ui, mut built: Built) -> Result<Exit> {
    let file = plan.outputs.report.as_deref();
    if let Some(current) = &built.current {
        ui.up_to_date(&current.name, current.source.as_ref(), current.result.as_ref());
        ui.result(&built.published)?;
        return Ok(Exit::Done);
    }
    if let Some(path) = file {
        built.finished.write(path)?;
    }
    for text in report::views::write(&plan.outputs.views, &built.finished, &plan.outputs.findings)? {
        ui.tell(Fact::Warning { text });
    }
    // GitHub's runner shows what a step appends there.
    if let Some(path) = std::env::var_os("GITHUB_STEP_SUMMARY").filter(|path| !path.is_empty())
        && let Err(error) = report::views::append(Path::new(&path), &built.finished.report)
    {
        // Nobody asked for it here, and what was made is made.
        ui.tell(Fact::Warning { text: format!("{error:#}") });
    }
    if let Some(dir) = &plan.outputs.artifacts {
        build::copy_artifacts(dir, &mut built)?;
    }
    if let Some(made) = built.made.take() {
        provenance::write(plan, &[(made, built.finished.report.clone())], &built.published)?;
    }
    if let Some(error) = built.error {
        return Err(error);
    }
    ui.summary(&built.finished.report, file);
    ui.result(&built.published)?;
    Ok(Exit::from_code(built.finished.report.exit.code).unwrap_or(Exit::Bug))
}

/// `slim why`: from a report file, or from the report that made an image.
fn tell_why(invocation: &cli::Invocation, subject: &str, path: &str, ui: &Ui) -> Result<Exit> {
    let file = Path::new(subject);
    let file = if file.is_file() { file } else { Path::new("slim.report.json") };
    let report = report::load(file).with_context(|| format!("find the report of {subject}")).map_err(|error| {
        match file.exists() {
            true => error,
            false => error.context(Hint::new(format!("give the report file that the build of {subject} wrote (--report)"))),
        }
    })?;
    if file != Path::new(subject) {
        let engine = invocation.common.engine();
        runtime()?.block_on(made_by(&engine, subject, &report))?;
    }
    let removed = report::load_removed(file, &report)?;
    let found = why::find(&report, removed.as_deref(), path)?;
    ui.print_stdout(&found.tell(&report, ui.data_style()))?;
    Ok(if found.any_kept() { Exit::Done } else { Exit::Failed })
}

/// Checks that an image is the result that a report speaks of.
async fn made_by(engine: &slim::engine::EngineChoice, image: &str, report: &Report) -> Result<()> {
    let hint = || Hint::new(format!("give the report file that the build of {image} wrote (--report)"));
    let engine = slim::engine::open(engine, Arc::new(slim::progress::Void)).await?;
    let info = engine.image(image).await?.ok_or_else(|| anyhow!("the engine has no image {image}"))?;
    let digest = report.result.as_ref().map(|result| result.digest.as_str());
    if digest == Some(info.id.as_str()) {
        return Ok(());
    }
    let config = ImageConfig::parse(&engine.image_config(&info.id).await?)?;
    let labels: BTreeMap<String, String> = config.labels();
    let what = match labels.contains_key(slim::pack::config::LABEL_KEEP_SET) {
        true => format!("slim.report.json is not the report that made {image}"),
        false => format!("{image} was not made by slim"),
    };
    Err(anyhow!(what)).context(hint())
}

fn man(dir: Option<&Path>, ui: &Ui) -> Result<Exit> {
    let pages = cli::manual::pages().context("make the manual pages")?;
    match dir {
        None => ui.print_stdout(&String::from_utf8_lossy(&pages[0].1))?,
        Some(dir) => {
            std::fs::create_dir_all(dir).with_context(|| format!("make the directory {}", dir.display()))?;
            for (name, page) in pages {
                let path = dir.join(name);
                std::fs::write(&path, page).with_context(|| format!("write {}", path.display()))?;
            }
        }
    }
    Ok(Exit::Done)
}
