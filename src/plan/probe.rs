//! Probe: the request that the probe flags make.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Here, files, value};
use crate::cli::UsageError;
use crate::cli::probe::ProbeArgs;
use crate::probe::request::{ApiSpec, HttpCommand, ProbeRequest, RecipeRef};
use crate::probe::{self, Readiness, Until, recipe};

/// What is asked to be probed. Nothing at all leaves the choice to [`probe::choose`], as `auto` does.
///
/// # Errors
/// When a value cannot be understood, or flags contradict each other.
pub(super) fn request(args: &ProbeArgs, here: Here<'_>) -> Result<ProbeRequest, UsageError> {
    let http = http(args, here)?;
    let (http_commands, skipped) = commands(args, here)?;
    let mut request = ProbeRequest {
        http,
        http_commands,
        skipped,
        http_ports: ports(&args.http_probe_ports, here)?,
        crawl: args.http_probe_crawl,
        crawl_depth: args.http_crawl_max_depth,
        crawl_pages: args.http_crawl_max_page_count,
        crawl_exclude: args.http_crawl_exclude.clone(),
        headers: headers(&args.http_probe_header, here)?,
        host: args.http_probe_host.clone(),
        api_specs: api_specs(args, here)?,
        exec: programs("exec", &args.exec, here)?,
        exec_sh: scripts(args, here)?,
        host_exec: host_commands(args, here)?,
        recipes: recipes(&args.probe, here)?,
        readiness: readiness(args.ready_log.as_deref(), here)?,
        ready_timeout: time("ready-timeout", args.ready_timeout.as_ref(), here)?,
        timeout: time("http-probe-timeout", args.http_probe_timeout.as_ref(), here)?,
        until: args.continue_after.as_ref().map(|text| until(text, here)).transpose()?,
        exit_on_failure: args.http_probe_exit_on_failure.unwrap_or(false),
    };
    if http == Some(false) {
        request.http_commands.clear();
        request.http_ports.clear();
        request.api_specs.clear();
    }
    for glob in &request.crawl_exclude {
        let wrong = |error: globset::Error| here.wrong("http-crawl-exclude", format!("{glob:?}: {}", error.kind()));
        globset::Glob::new(glob).map_err(wrong)?;
    }
    if args.continue_after.as_deref() == Some("exec") && request.exec.is_empty() && request.exec_sh.is_empty() {
        let hint = "give --exec, --exec-sh or --exec-file";
        return Err(here.wrong("continue-after", "there is no command to wait for").hint(hint));
    }
    Ok(request)
}

/// Flags that ask for HTTP probes.
fn asks_http(args: &ProbeArgs) -> impl Iterator<Item = &'static str> {
    let flags = [
        ("http-probe-cmd", args.http_probe_cmd.is_empty()),
        ("http-probe-cmd-file", args.http_probe_cmd_file.is_empty()),
        ("http-probe-ports", args.http_probe_ports.is_empty()),
        ("http-probe-apispec", args.http_probe_apispec.is_empty()),
        ("http-probe-apispec-file", args.http_probe_apispec_file.is_empty()),
    ];
    flags.into_iter().filter(|(_, empty)| !empty).map(|(flag, _)| flag)
}

/// `--http-probe`, `--http-probe=false`, `--http-probe-off`. Of these and what asks for HTTP probes, what was
/// typed beats what was set; of the same rank they contradict each other.
fn http(args: &ProbeArgs, here: Here<'_>) -> Result<Option<bool>, UsageError> {
    let off = args.http_probe_off.filter(|off| *off).map(|_| false);
    if args.http_probe == Some(true) && off.is_some() {
        return Err(here.wrong("http-probe-off", "contradicts --http-probe").hint("leave one of them out"));
    }
    let http = off.or(args.http_probe);
    let by = if off.is_some() { "http-probe-off" } else { "http-probe" };
    match asks_http(args).find(|flag| here.typed(flag) >= here.typed(by)) {
        Some(flag) if http == Some(false) && here.typed(flag) == here.typed(by) => {
            Err(here.wrong(flag, "contradicts that HTTP probes are off").hint("leave one of them out"))
        }
        Some(_) if http == Some(false) => Ok(None),
        _ => Ok(http),
    }
}

/// (The commands, what of command files is skipped.)
fn commands(args: &ProbeArgs, here: Here<'_>) -> Result<(Vec<HttpCommand>, Vec<String>), UsageError> {
    let (mut all, mut skipped) = (Vec::new(), Vec::new());
    for text in args.http_probe_cmd.iter().flat_map(|text| split_commands(text)) {
        all.push(probe::http_command(&text).map_err(|error| here.wrong("http-probe-cmd", error))?);
    }
    for path in &args.http_probe_cmd_file {
        let wrong = |error| here.wrong("http-probe-cmd-file", error);
        let text = files::text(path).map_err(|error| wrong(error.to_string()))?;
        let read = probe::command_file(&text, &path.display().to_string(), here.vars);
        let file = read.map_err(|error| wrong(format!("{error:#}")))?;
        all.extend(file.commands);
        skipped.extend(file.skipped);
    }
    Ok((all, skipped))
}

/// `/a,POST:/b` are two commands, `/a?ids=1,2` is one.
fn split_commands(text: &str) -> Vec<String> {
    let begins = |piece: &str| {
        let before = piece.trim_start().split_once('/').map(|(before, _)| before);
        let words = |before: &str| before.chars().all(|c| c.is_ascii_alphanumeric() || c == ':');
        before.is_some_and(|before| before.is_empty() || (before.ends_with(':') && words(before)))
    };
    let mut pieces: Vec<String> = Vec::new();
    for piece in text.split(',') {
        match pieces.last_mut() {
            Some(last) if !begins(piece) => {
                last.push(',');
                last.push_str(piece);
            }
            _ => pieces.push(piece.trim_start().to_owned()),
        }
    }
    pieces
}

fn ports(given: &[String], here: Here<'_>) -> Result<Vec<u16>, UsageError> {
    let mut ports = Vec::new();
    for text in given.iter().filter(|text| !text.is_empty()) {
        let port = value::port(text).map_err(|why| here.wrong("http-probe-ports", why))?;
        if !ports.contains(&port) {
            ports.push(port);
        }
    }
    Ok(ports)
}

fn headers(given: &[String], here: Here<'_>) -> Result<Vec<(String, String)>, UsageError> {
    let wrong = |error| here.wrong("http-probe-header", error);
    let one = |text: &String| {
        let (name, value) = probe::header(text).map_err(wrong)?;
        let value = probe::resolve(&value, here.vars).map_err(|error| wrong(error.to_string()))?;
        Ok((name, value))
    };
    given.iter().map(one).collect()
}

fn api_specs(args: &ProbeArgs, here: Here<'_>) -> Result<Vec<ApiSpec>, UsageError> {
    let mut specs = Vec::new();
    for path in &args.http_probe_apispec {
        if !path.starts_with('/') {
            let text = format!("{path:?} does not begin with /");
            return Err(here.wrong("http-probe-apispec", text).hint("a file is --http-probe-apispec-file"));
        }
        specs.push(ApiSpec::Served(path.clone()));
    }
    for path in &args.http_probe_apispec_file {
        files::text(path).map_err(|error| here.wrong("http-probe-apispec-file", error))?;
        specs.push(ApiSpec::File(path.clone()));
    }
    Ok(specs)
}

fn programs(flag: &str, given: &[String], here: Here<'_>) -> Result<Vec<Vec<String>>, UsageError> {
    let shell = if flag == "exec" { "--exec-sh runs it in the image's shell" } else { "write sh -c '...'" };
    let one = |text: &String| {
        value::program(text).map_err(|why| match why.contains("no shell") {
            true => here.wrong(flag, why).hint(shell),
            false => here.wrong(flag, why),
        })
    };
    given.iter().map(one).collect()
}

/// `--exec-sh`, and the lines of `--exec-file`; a file that begins with `#!` is one script.
fn scripts(args: &ProbeArgs, here: Here<'_>) -> Result<Vec<String>, UsageError> {
    let mut scripts = args.exec_sh.clone();
    if scripts.iter().any(|script| script.trim().is_empty()) {
        return Err(here.wrong("exec-sh", "the command is empty"));
    }
    for path in &args.exec_file {
        let text = files::text(path).map_err(|error| here.wrong("exec-file", error))?;
        match text.starts_with("#!") {
            true => scripts.push(text.replace("\r\n", "\n")),
            false => scripts.extend(lines("exec-file", path, here)?.into_iter().map(|(_, line)| line)),
        }
    }
    Ok(scripts)
}

fn host_commands(args: &ProbeArgs, here: Here<'_>) -> Result<Vec<Vec<String>>, UsageError> {
    let mut commands = programs("host-exec", &args.host_exec, here)?;
    for path in &args.host_exec_file {
        for (line, text) in lines("host-exec-file", path, here)? {
            let place = format!("{}:{line}", path.display());
            let argv = value::program(&text);
            commands.push(argv.map_err(|why| here.wrong("host-exec-file", format!("{place}: {why}")))?);
        }
    }
    Ok(commands)
}

fn lines(flag: &str, path: &Path, here: Here<'_>) -> Result<Vec<(usize, String)>, UsageError> {
    let lines = files::list(path).map_err(|error| here.wrong(flag, error))?;
    match lines.is_empty() {
        true => Err(here.wrong(flag, format!("there is no command in {}", path.display()))),
        false => Ok(lines),
    }
}

/// A recipe is a file when it looks like a path.
fn recipes(given: &[String], here: Here<'_>) -> Result<Vec<RecipeRef>, UsageError> {
    let one = |text: &String| match text.as_str() {
        "" => Err(here.wrong("probe", "it names no recipe").hint("`slim probes` lists them")),
        "auto" => Ok(RecipeRef::Auto),
        path if path.contains('/') || path.ends_with(".toml") => {
            let path = PathBuf::from(path);
            recipe::from_file(&path).map_err(|error| here.wrong("probe", format!("{error:#}")))?;
            Ok(RecipeRef::File(path))
        }
        name => {
            recipe::named(name).map_err(|error| here.wrong("probe", format!("{error:#}")))?;
            Ok(RecipeRef::Named(name.to_owned()))
        }
    };
    given.iter().map(one).collect()
}

fn readiness(log: Option<&str>, here: Here<'_>) -> Result<Option<Readiness>, UsageError> {
    let Some(pattern) = log else { return Ok(None) };
    let wrong = |error: regex::Error| {
        let text = error.to_string();
        let last = text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
        here.wrong("ready-log", format!("{pattern:?} is no regular expression: {last}"))
    };
    regex::Regex::new(pattern).map_err(wrong)?;
    Ok(Some(Readiness::Log(pattern.to_owned())))
}

fn time(flag: &str, text: Option<&String>, here: Here<'_>) -> Result<Option<Duration>, UsageError> {
    let Some(text) = text else { return Ok(None) };
    match value::duration(text) {
        Ok(time) if time.is_zero() => Err(here.wrong(flag, "no time at all is not enough")),
        Ok(time) => Ok(Some(time)),
        Err(why) => Err(here.wrong(flag, why)),
    }
}

/// `--continue-after`, the spellings of others included.
fn until(text: &str, here: Here<'_>) -> Result<Until, UsageError> {
    let lower = text.trim().to_ascii_lowercase();
    let timeout = lower.strip_prefix("timeout:").or_else(|| lower.strip_prefix("timeout="));
    let number = lower.starts_with(|c: char| c.is_ascii_digit()).then_some(lower.as_str());
    if let Some(time) = timeout.or(number) {
        let time = value::duration(time).map_err(|why| here.wrong("continue-after", why))?;
        return Ok(Until::Timeout(time));
    }
    match lower.as_str() {
        "probe" | "probes" | "exec" | "host-exec" | "probe&exec" | "exec&probe" => Ok(Until::Probes),
        "exit" | "app-exit" => Ok(Until::Exit),
        "signal" => Ok(Until::Signal),
        "enter" => Ok(Until::Enter),
        _ => {
            let hint = "it is probe, exec, exit, timeout:10s, signal or enter";
            Err(here.wrong("continue-after", format!("{text:?} is unknown")).hint(hint))
        }
    }
}
