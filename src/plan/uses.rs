//! Uses: how Kubernetes manifests and compose files run images: their probes, hooks, and command lines.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use yaml_serde::Value;

use super::{Here, files};
use crate::cli::UsageError;
use crate::cli::Vars;
use crate::image::ImageConfig;
use crate::image::reference::{Name, Reference};

/// The largest file that is read, in bytes.
const LARGEST: usize = 4 << 20;
/// How deep documents may lie in lists of them.
const DEEPEST: usize = 8;

/// A file of `--uses`, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UseFile {
    /// As given.
    pub path: PathBuf,
    /// Its containers, in order.
    pub containers: Vec<Container>,
}

/// A container that a file describes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// Where it stands: `Deployment web, container app`, `service web`.
    pub place: String,
    /// The image, as written.
    pub image: String,
    /// What takes the entrypoint's place; `None`: the image's own.
    pub entrypoint: Option<Vec<String>>,
    /// What takes the command's place; `None`: the image's own, unless there is an entrypoint.
    pub cmd: Option<Vec<String>>,
    /// What is executed in it while it runs, in the order in which that happens: its name, and the command line.
    pub execs: Vec<Exec>,
}

/// A command that is executed in a running container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exec {
    /// `readinessProbe`, `preStop`, `healthcheck`.
    pub name: String,
    /// The command line; empty for a text.
    pub argv: Vec<String>,
    /// What the image's shell runs; empty for a command line.
    pub text: String,
}

impl Exec {
    /// The command line, a text behind the image's shell.
    pub fn command(&self, config: &ImageConfig) -> Vec<String> {
        match self.text.as_str() {
            "" => self.argv.clone(),
            text => [config.shell().as_slice(), &[text.to_owned()]].concat(),
        }
    }
}

impl Container {
    /// The command line that it starts; empty when that is what the image starts anyway.
    pub fn command_line(&self, config: &ImageConfig) -> Vec<String> {
        match (&self.entrypoint, &self.cmd) {
            (None, None) => Vec::new(),
            (None, Some(cmd)) => [config.entrypoint(), cmd.clone()].concat(),
            (Some(entrypoint), cmd) => [entrypoint.clone(), cmd.clone().unwrap_or_default()].concat(),
        }
    }

    /// Whether it runs the image that has these names (tags, and names with digests).
    pub fn runs(&self, names: &[String]) -> bool {
        let Ok(wanted) = Reference::parse(&self.image) else { return false };
        names.iter().filter_map(|name| Reference::parse(name).ok()).any(|name| same(&wanted, &name))
    }
}

/// Whether one means the other: the same repository, and the same digest, or without one the same tag.
fn same(wanted: &Reference, has: &Reference) -> bool {
    let place = |name: &Name| (name.registry.clone(), name.repository.clone());
    match (wanted, has) {
        (Reference::Name(wanted), Reference::Name(has)) if place(wanted) == place(has) => match &wanted.digest {
            Some(digest) => has.digest.as_ref() == Some(digest),
            None => wanted.tag_or_latest() == has.tag_or_latest(),
        },
        (Reference::Id(wanted), Reference::Id(has)) => has.starts_with(wanted.as_str()),
        _ => false,
    }
}

/// Reads the files of `--uses`.
///
/// # Errors
/// When one cannot be read, is no YAML (says line and column), or describes no container.
pub(super) fn read(paths: &[PathBuf], here: Here<'_>) -> Result<Vec<UseFile>, UsageError> {
    let one = |path: &PathBuf| {
        let text = files::text(path).map_err(|error| here.wrong("uses", error))?;
        let containers = containers(path, &text, here.vars).map_err(|why| here.wrong("uses", why))?;
        Ok(UseFile { path: path.clone(), containers })
    };
    paths.iter().map(one).collect()
}

/// The containers that a text describes.
fn containers(path: &Path, text: &str, vars: &Vars) -> Result<Vec<Container>, String> {
    let shown = path.display();
    if text.len() > LARGEST {
        return Err(format!("{shown} is larger than {} MiB", LARGEST >> 20));
    }
    let mut found = Vec::new();
    for document in yaml_serde::Deserializer::from_str(text) {
        let document = <Value as serde::Deserialize>::deserialize(document).and_then(|mut value| value.apply_merge().map(|()| value));
        let document = document.map_err(|error| wrong_yaml(&shown.to_string(), &error))?;
        of_document(&document, vars, 0, &mut found).map_err(|why| format!("{shown}: {why}"))?;
    }
    match found.is_empty() {
        true => Err(format!("{shown} describes no container: neither a Kubernetes manifest nor a compose file")),
        false => Ok(found),
    }
}

/// `FILE:LINE:COLUMN: reason`
fn wrong_yaml(shown: &str, error: &yaml_serde::Error) -> String {
    let message = error.to_string();
    match error.location() {
        Some(at) => {
            let reason = message.split(" at line ").next().unwrap_or_default();
            format!("{shown}:{}:{}: {reason}", at.line(), at.column())
        }
        None => format!("{shown}: {message}"),
    }
}

fn of_document(document: &Value, vars: &Vars, depth: usize, found: &mut Vec<Container>) -> Result<(), String> {
    if let Some(Value::Mapping(services)) = document.get("services") {
        for (name, service) in services {
            let name = name.as_str().unwrap_or("?");
            found.extend(service_of(name, service, vars).map_err(|why| format!("service {name}: {why}"))?);
        }
        return Ok(());
    }
    if let Some(Value::Sequence(items)) = document.get("items").filter(|_| depth < DEEPEST) {
        return items.iter().try_for_each(|item| of_document(item, vars, depth + 1, found));
    }
    // A Pod's spec lies directly in it, those of others in a template, a CronJob's one deeper.
    const PLACES: &[&[&str]] = &[&["spec"], &["spec", "template", "spec"], &["spec", "jobTemplate", "spec", "template", "spec"], &["template", "spec"]];
    let kind = text(document.get("kind"));
    let name = text(document.get("metadata").and_then(|meta| meta.get("name")));
    for place in PLACES {
        let Some(spec) = place.iter().try_fold(document, |value, key| value.get(*key)) else { continue };
        for list in ["initContainers", "containers", "ephemeralContainers"] {
            for container in spec.get(list).and_then(Value::as_sequence).into_iter().flatten() {
                let place = format!("{kind} {name}, container {}", text(container.get("name")));
                found.extend(container_of(&place, container).map_err(|why| format!("{place}: {why}"))?);
            }
        }
    }
    Ok(())
}

/// A container of a pod; `None` for one without an image.
fn container_of(place: &str, value: &Value) -> Result<Option<Container>, String> {
    const EXECS: &[(&str, &[&str])] = &[
        ("postStart", &["lifecycle", "postStart"]),
        ("startupProbe", &["startupProbe"]),
        ("readinessProbe", &["readinessProbe"]),
        ("livenessProbe", &["livenessProbe"]),
        ("preStop", &["lifecycle", "preStop"]),
    ];
    let Some(image) = value.get("image").and_then(Value::as_str) else { return Ok(None) };
    let mut execs = Vec::new();
    for (name, way) in EXECS {
        let found = way.iter().try_fold(value, |value, key| value.get(*key)).and_then(|probe| probe.get("exec"));
        let argv = list(found.and_then(|exec| exec.get("command")), &format!("{name}.exec.command"))?;
        execs.extend(argv.filter(|argv| !argv.is_empty()).map(|argv| Exec { name: (*name).to_owned(), argv, text: String::new() }));
    }
    let (entrypoint, cmd) = (list(value.get("command"), "command")?, list(value.get("args"), "args")?);
    let empty = |words: &Vec<String>| !words.is_empty();
    Ok(Some(Container {
        place: place.to_owned(),
        image: image.to_owned(),
        entrypoint: entrypoint.filter(empty),
        cmd: cmd.filter(empty),
        execs,
    }))
}

/// A service of a compose file; `None` for one that names no image.
fn service_of(name: &str, value: &Value, vars: &Vars) -> Result<Option<Container>, String> {
    let Some(image) = value.get("image").and_then(Value::as_str) else { return Ok(None) };
    let filled = |words: Vec<String>| words.iter().map(|word| fill(word, vars)).collect::<Vec<_>>();
    let line = |key: &str| -> Result<Option<Vec<String>>, String> {
        match value.get(key) {
            Some(Value::String(text)) => {
                let words = shell_words::split(&fill(text, vars)).map_err(|error| format!("{key}: {error}"))?;
                Ok(Some(words))
            }
            other => Ok(list(other, key)?.map(filled)),
        }
    };
    let mut execs = Vec::new();
    let hooks = |key: &str| value.get(key).and_then(Value::as_sequence).into_iter().flatten();
    let hook = |execs: &mut Vec<Exec>, name: &str| -> Result<(), String> {
        for entry in hooks(name) {
            let argv = match entry.get("command") {
                Some(Value::String(text)) => Some(shell_words::split(&fill(text, vars)).map_err(|error| format!("{name}: {error}"))?),
                other => list(other, name)?.map(filled),
            };
            execs.extend(argv.map(|argv| Exec { name: name.to_owned(), argv, text: String::new() }));
        }
        Ok(())
    };
    hook(&mut execs, "post_start")?;
    let check = value.get("healthcheck");
    let off = check.and_then(|check| check.get("disable")).and_then(Value::as_bool) == Some(true);
    execs.extend(health(check.and_then(|check| check.get("test")).filter(|_| !off), vars)?);
    hook(&mut execs, "pre_stop")?;
    execs.retain(|exec| !exec.argv.is_empty() || !exec.text.is_empty());
    Ok(Some(Container {
        place: format!("service {name}"),
        image: fill(image, vars),
        entrypoint: line("entrypoint")?.filter(|words| !words.is_empty()),
        cmd: line("command")?.filter(|words| !words.is_empty()),
        execs,
    }))
}

/// `test` of a compose healthcheck: a text, or a list that begins with NONE, CMD or CMD-SHELL.
fn health(test: Option<&Value>, vars: &Vars) -> Result<Option<Exec>, String> {
    let exec = |argv, text| Some(Exec { name: "healthcheck".to_owned(), argv, text });
    if let Some(Value::String(text)) = test {
        return Ok(exec(Vec::new(), fill(text, vars)));
    }
    let words = list(test, "healthcheck.test")?.unwrap_or_default();
    let words: Vec<String> = words.iter().map(|word| fill(word, vars)).collect();
    match words.split_first() {
        Some((how, words)) if how == "CMD" => Ok(exec(words.to_vec(), String::new())),
        Some((how, words)) if how == "CMD-SHELL" => Ok(exec(Vec::new(), words.join(" "))),
        Some((how, _)) if how != "NONE" => Err(format!("healthcheck.test begins with {how:?}; it is NONE, CMD or CMD-SHELL")),
        _ => Ok(None),
    }
}

fn text(value: Option<&Value>) -> &str {
    value.and_then(Value::as_str).unwrap_or("?")
}

/// A list of words. Numbers and switches stand for their text, as kubectl refuses and compose takes them.
fn list(value: Option<&Value>, what: &str) -> Result<Option<Vec<String>>, String> {
    let word = |value: &Value| match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(switch) => Ok(switch.to_string()),
        _ => Err(format!("{what} is not a list of words")),
    };
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Sequence(words)) => words.iter().map(word).collect::<Result<_, _>>().map(Some),
        Some(_) => Err(format!("{what} is not a list of words")),
    }
}

/// A compose file's `$NAME`, `${NAME}`, `${NAME:-default}`, `${NAME:+other}` and `$$`; what is not set is empty.
fn fill(text: &str, vars: &Vars) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        if let Some(tail) = after.strip_prefix('$') {
            out.push('$');
            rest = tail;
            continue;
        }
        let braced = after.strip_prefix('{').and_then(|inner| inner.split_once('}'));
        let (inner, tail) = braced.unwrap_or_else(|| {
            after.split_at(after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(after.len()))
        });
        let end = inner.find([':', '-', '+', '?']).unwrap_or(inner.len());
        let (name, how) = inner.split_at(end);
        let empty_counts = how.starts_with(':');
        let value = vars.get(name).map(String::as_str).filter(|value| !empty_counts || !value.is_empty());
        let how = how.trim_start_matches(':');
        match (value, how.split_at_checked(1)) {
            (None, Some(("-", default))) => out.push_str(&fill(default, vars)),
            (Some(_), Some(("+", other))) => out.push_str(&fill(other, vars)),
            (None, _) => {}
            (Some(value), _) => out.push_str(value),
        }
        rest = tail;
    }
    out.push_str(rest);
    out
}

/// Images that files name, each once, for an error.
pub fn images(file: &UseFile) -> String {
    let images: BTreeSet<&str> = file.containers.iter().map(|container| container.image.as_str()).collect();
    images.into_iter().collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixture(name: &str) -> Vec<Container> {
        let path = Path::new("fixtures/uses").join(name);
        containers(&path, &std::fs::read_to_string(&path).unwrap(), &Vars::new()).unwrap()
    }

    /// `PLACE [IMAGE] COMMAND LINE; NAME: COMMAND LINE; ...`, on an image with entrypoint `/entry` and cmd `x`.
    fn tell(all: &[Container]) -> Vec<String> {
        let config = ImageConfig::parse(br#"{"config":{"Entrypoint":["/entry"],"Cmd":["x"]}}"#).unwrap();
        let one = |container: &Container| {
            let line = container.command_line(&config).join(" ");
            let execs: Vec<String> =
                container.execs.iter().map(|exec| format!("; {}: {}", exec.name, exec.command(&config).join(" "))).collect();
            format!("{} [{}] {line}{}", container.place, container.image, execs.concat())
        };
        all.iter().map(one).collect()
    }

    #[test]
    fn a_manifest_says_how_its_containers_run() {
        assert_eq!(
            tell(&fixture("web.k8s.yaml")),
            [
                "Deployment web, container migrate [shop/web:2] /app/manage migrate",
                "Deployment web, container wait [busybox:1.36] sh -c until nc -z db 5432; do sleep 1; done",
                "Deployment web, container web [docker.io/shop/web:2] /entry --workers 4; postStart: /bin/sh -c touch /run/ready; \
                 startupProbe: /app/check; readinessProbe: cat /run/ready; preStop: /bin/sh -c sleep 1",
                "CronJob nightly, container job [shop/web:2@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef] /app/report",
                "Pod shell, container shell [shop/web] bash",
            ]
        );
    }

    #[test]
    fn a_compose_file_says_how_its_services_run() {
        assert_eq!(
            tell(&fixture("shop.compose.yaml")),
            [
                "service web [shop/web:2] /entry serve --port 80 two words; healthcheck: /app/check --level 1",
                "service worker [shop/web:2] /app/worker $HOME; post_start: /app/warm up; \
                 healthcheck: /bin/sh -c pgrep worker || exit 1; pre_stop: /app/drain",
                "service quiet [shop/web:2] ",
                "service db [postgres] ; healthcheck: /bin/sh -c pg_isready",
            ]
        );
    }

    #[test]
    fn a_container_runs_the_image_of_the_same_repository_and_tag_or_digest() {
        let digest = format!("sha256:{}", "ab".repeat(32));
        let names = ["shop/web:2".to_owned(), "web:latest".to_owned(), format!("shop/web@{digest}")];
        for (image, runs) in [
            ("shop/web:2", true),
            ("docker.io/shop/web:2", true),
            ("shop/web", false),
            ("shop/web:3", false),
            ("web", true),
            ("library/web:latest", true),
            ("other/web:2", false),
            ("host:5000/shop/web:2", false),
            ("not an image", false),
        ] {
            let container = Container { place: String::new(), image: image.into(), entrypoint: None, cmd: None, execs: Vec::new() };
            assert_eq!(container.runs(&names), runs, "{image}");
        }
        for (image, runs) in [(format!("shop/web:9@{digest}"), true), (format!("shop/web@sha256:{}", "cd".repeat(32)), false)] {
            let container = Container { place: String::new(), image, entrypoint: None, cmd: None, execs: Vec::new() };
            assert_eq!(container.runs(&names), runs);
        }
    }

    #[test]
    fn what_cannot_be_used_says_where_it_is_wrong() {
        let bomb = format!("a0: &a0 [x,x]\n{}", (1..40).map(|n| format!("a{n}: &a{n} [*a{0},*a{0}]\n", n - 1)).collect::<String>());
        for (text, error) in [
            ("services:\n  web: [\n", "f.yaml:3:1: "),
            ("services:\n  web:\n\timage: x\n", "f.yaml:3:1: "),
            ("a: *nobody\n", "f.yaml:1:4: unknown anchor"),
            ("services:\n  web:\n    image: x\n    command: {a: 1}\n", "f.yaml: service web: command is not a list of words"),
            ("services:\n  web: {image: x, healthcheck: {test: [true]}}\n", "f.yaml: service web: healthcheck.test begins with \"true\""),
            ("kind: ConfigMap\n", "f.yaml describes no container"),
            ("", "f.yaml describes no container"),
            (&bomb, "f.yaml:"),
            (&"[".repeat(100_000), "f.yaml:"),
        ] {
            let got = containers(Path::new("f.yaml"), text, &Vars::new()).unwrap_err();
            assert!(got.starts_with(error), "{got}\n{error}");
        }
    }

    #[test]
    fn variables_of_a_compose_file_are_filled_in() {
        let vars = Vars::from([("A", "1"), ("E", "")].map(|(name, value)| (name.to_owned(), value.to_owned())));
        for (text, filled) in [
            ("x$A-${A}y", "x1-1y"),
            ("${B:-d}${E:-e}${E-f}", "de"),
            ("${A:+set}${B:+set}$B.", "set."),
            ("$$A ${A?needed}", "$A 1"),
            ("a$", "a"),
        ] {
            assert_eq!(fill(text, &vars), filled, "{text}");
        }
    }
}
