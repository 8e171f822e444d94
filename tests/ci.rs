//! docs/ci: the recipes are what their servers read, and their shell does what it says, run as a runner does; and a
//! build's statuses are seen as a CI job sees them.

#![allow(clippy::unwrap_used, reason = "tests")]

#[allow(dead_code, unused_imports, reason = "other tests use more of it")]
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use support::{Image, docker, has_image};
use tempfile::TempDir;
use yaml_serde::Value;

fn at(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/ci").join(name)
}

fn yaml(name: &str) -> Value {
    yaml_serde::from_str(&fs::read_to_string(at(name)).unwrap()).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn list(value: &Value) -> Vec<Value> {
    value.as_sequence().cloned().unwrap_or_default()
}

fn map(value: &Value) -> BTreeMap<String, Value> {
    let pairs = value.as_mapping().into_iter().flatten();
    pairs.map(|(name, value)| (name.as_str().unwrap().to_owned(), value.clone())).collect()
}

fn names(value: &Value) -> BTreeSet<String> {
    map(value).into_keys().collect()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value:?} is no text")).to_owned()
}

/// The texts of `sh '...'` in the pipeline.
fn jenkins() -> Vec<String> {
    let page = fs::read_to_string(at("Jenkinsfile")).unwrap();
    page.lines().filter_map(|line| Some(line.trim().strip_prefix("sh '")?.strip_suffix('\'')?.to_owned())).collect()
}

/// All shell in the recipes, by where it stands.
fn scripts() -> Vec<(String, String)> {
    let mut all = Vec::new();
    let steps = [list(&yaml("github/action.yml")["runs"]["steps"]), list(&yaml("github/workflow.yml")["jobs"]["slim"]["steps"])];
    for step in steps.iter().flatten().filter(|step| step.get("run").is_some()) {
        all.push(("github".to_owned(), text(&step["run"])));
    }
    let job = &yaml("gitlab.yml")["slim"];
    for line in list(&job["before_script"]).iter().chain(&list(&job["script"])) {
        all.push(("gitlab.yml".to_owned(), text(line)));
    }
    all.extend(jenkins().into_iter().map(|script| ("Jenkinsfile".to_owned(), script)));
    for step in list(&yaml("tekton.yaml")["spec"]["steps"]) {
        all.push(("tekton.yaml".to_owned(), text(&step["script"])));
    }
    for name in ["slim-ci.sh", "github/install.sh", "github/build.sh"] {
        all.push((name.to_owned(), fs::read_to_string(at(name)).unwrap()));
    }
    all
}

#[test]
fn every_script_of_the_recipes_is_one() {
    let scripts = scripts();
    assert_eq!(scripts.len(), 13);
    for (place, script) in scripts {
        assert!(!script.contains("${{"), "{place}: what the server puts into a script is read as shell");
        let done = Command::new("bash").args(["-n", "-c", &script]).output().unwrap();
        assert!(done.status.success(), "{place}: {}\n{script}", String::from_utf8_lossy(&done.stderr));
    }
    for name in ["slim-ci.sh", "github/install.sh", "github/build.sh"] {
        assert!(fs::metadata(at(name)).unwrap().permissions().mode() & 0o111 != 0, "{name} is a program");
    }
}

#[test]
#[ignore = "needs shellcheck: tests/run installs it"]
fn a_reader_of_shell_finds_nothing_in_the_scripts() {
    for (place, script) in scripts() {
        let dir = TempDir::new().unwrap();
        fs::write(dir.path().join("script"), script).unwrap();
        // Programs beside them are not followed, and variables come from the server.
        let words = ["--shell=bash", "--exclude=SC2154,SC2012", "script"];
        let done = Command::new("shellcheck").args(words).current_dir(dir.path()).output().expect("shellcheck is needed");
        assert!(done.status.success(), "{place}: {}", String::from_utf8_lossy(&done.stdout));
    }
}

#[test]
fn the_action_declares_what_its_steps_use_and_the_workflow_gives_what_it_takes() {
    let action = yaml("github/action.yml");
    assert_eq!(action["runs"]["using"].as_str(), Some("composite"));
    let (inputs, steps) = (names(&action["inputs"]), list(&action["runs"]["steps"]));
    let mut used = BTreeSet::new();
    for step in &steps {
        assert_eq!(step["shell"].as_str(), Some("bash"), "a composite action has to say it");
        for (name, value) in map(&step["env"]) {
            let value = text(&value);
            let source = value.strip_prefix("${{ ").and_then(|rest| rest.strip_suffix(" }}")).unwrap_or_else(|| panic!("{value}"));
            let Some(input) = source.strip_prefix("inputs.") else {
                assert_eq!(source, "steps.install.outputs.program");
                continue;
            };
            assert_eq!(name, format!("INPUT_{}", input.to_uppercase().replace('-', "_")));
            used.insert(input.to_owned());
        }
    }
    assert_eq!(used, inputs);
    let build = fs::read_to_string(at("github/build.sh")).unwrap();
    for (name, output) in map(&action["outputs"]) {
        assert_eq!(text(&output["value"]), format!("${{{{ steps.build.outputs.{name} }}}}"));
        assert!(build.contains(&format!("output {name} ")), "build.sh never says {name}");
    }
    let workflow = yaml("github/workflow.yml");
    let uses = list(&workflow["jobs"]["slim"]["steps"]).into_iter().find(|step| step["id"].as_str() == Some("slim")).unwrap();
    assert!(names(&uses["with"]).is_subset(&inputs), "{uses:?}");
    let page = fs::read_to_string(at("github/workflow.yml")).unwrap();
    for part in page.split("steps.slim.outputs.").skip(1) {
        let name = part.split(' ').next().unwrap();
        assert!(names(&action["outputs"]).contains(name), "{name}");
    }
}

#[test]
fn the_job_in_the_readme_is_ten_lines_that_the_action_takes() {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let block = page.split("\n```yaml\n").skip(1).find(|block| block.starts_with("jobs:")).unwrap().split("\n```").next().unwrap();
    assert_eq!(block.lines().count(), 10);
    let job: Value = yaml_serde::from_str(block).unwrap();
    let steps = list(&job["jobs"]["slim"]["steps"]);
    let uses = steps.iter().find(|step| step["uses"].as_str().is_some_and(|uses| uses.contains("/docs/ci/github@"))).unwrap();
    let inputs = names(&yaml("github/action.yml")["inputs"]);
    assert!(names(&uses["with"]).is_subset(&inputs), "{uses:?}");
    assert_eq!(steps.last().unwrap()["with"]["path"], yaml("github/action.yml")["inputs"]["reports"]["default"]);
}

#[test]
fn the_other_recipes_agree_with_the_script_that_they_run() {
    let script = fs::read_to_string(at("slim-ci.sh")).unwrap();
    for file in ["slim.junit.xml", "slim.sarif", "slim.html", "slim.md", "slim.report.json", "digest"] {
        assert!(script.contains(&format!("$reports/{file}")) || script.contains(&format!("=$reports/{file}")), "{file}");
    }
    let job = &yaml("gitlab.yml")["slim"];
    assert_eq!(text(&job["artifacts"]["reports"]["junit"]), "slim-reports/slim.junit.xml");
    assert_eq!(list(&job["cache"]["paths"]), [job["variables"]["BASELINE"].clone()]);
    let task = yaml("tekton.yaml");
    assert_eq!((text(&task["apiVersion"]), text(&task["kind"])), ("tekton.dev/v1".into(), "Task".into()));
    let step = &list(&task["spec"]["steps"])[0];
    let declared = |field: &str| -> BTreeSet<String> { list(&task["spec"][field]).iter().map(|item| text(&item["name"])).collect() };
    for variable in list(&step["env"]) {
        let value = text(&variable["value"]);
        for (field, kind) in [("params", "params"), ("workspaces", "workspaces"), ("results", "results")] {
            let Some(rest) = value.strip_prefix(&format!("$({kind}.")) else { continue };
            let name = rest.trim_end_matches(')').trim_end_matches(".path");
            assert!(declared(field).contains(name), "{value}");
        }
    }
    let jenkins = fs::read_to_string(at("Jenkinsfile")).unwrap();
    assert_eq!(jenkins.matches('{').count(), jenkins.matches('}').count());
    assert!(jenkins.contains("'slim-reports/slim.junit.xml'") && jenkins.contains("'slim-reports/slim.sarif'"));
}

/// A job's directory: a checkout with the scripts in `ci`, the program on PATH, and a runner's files.
struct Job {
    dir: TempDir,
    outputs: BTreeMap<String, String>,
    said: String,
}

impl Job {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        fs::create_dir_all(dir.path().join("bin")).unwrap();
        std::os::unix::fs::symlink(at(""), dir.path().join("ci")).unwrap();
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_slim"), dir.path().join("bin/slim")).unwrap();
        Self { dir, outputs: BTreeMap::new(), said: String::new() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// A stand-in for the command that talks to the server.
    fn without_docker(self) -> Self {
        fs::write(self.path("bin/docker"), "#!/bin/sh\necho \"$@\" >>docker.log\n").unwrap();
        fs::set_permissions(self.path("bin/docker"), fs::Permissions::from_mode(0o755)).unwrap();
        self
    }

    /// A script as runners run them: bash, which stops at the first failure.
    fn shell(&self, script: &str, vars: &[(&str, &str)]) -> Output {
        fs::write(self.path("script.sh"), script).unwrap();
        let path = format!("{}:{}", self.path("bin").display(), std::env::var("PATH").unwrap());
        let mut command = Command::new("bash");
        command.args(["--noprofile", "--norc", "-e", "-o", "pipefail", "script.sh"]).current_dir(self.dir.path());
        command.env("PATH", path).env("SLIM_SETTLE", "100ms").env_remove("SOURCE_DATE_EPOCH").env_remove("GITHUB_STEP_SUMMARY");
        command.envs(vars.iter().copied()).output().unwrap()
    }

    /// The action, step after step: what its inputs are not given is the default. Gives the status.
    fn action(&mut self, given: &[(&str, &str)]) -> i32 {
        let action = yaml("github/action.yml");
        let mut known: BTreeMap<String, String> = BTreeMap::new();
        for (name, input) in map(&action["inputs"]) {
            let value = given.iter().find(|(given, _)| *given == name).map(|(_, value)| (*value).to_owned());
            known.insert(format!("inputs.{name}"), value.or(input["default"].as_str().map(str::to_owned)).unwrap_or_default());
        }
        (self.outputs, self.said) = (BTreeMap::new(), String::new());
        for step in list(&action["runs"]["steps"]) {
            let mut vars = vec![
                ("GITHUB_ACTION_PATH".to_owned(), at("github").display().to_string()),
                ("GITHUB_OUTPUT".to_owned(), self.path("output").display().to_string()),
                ("GITHUB_STEP_SUMMARY".to_owned(), self.path("summary").display().to_string()),
            ];
            for (name, value) in map(&step["env"]) {
                let value = text(&value);
                vars.push((name, known[value.trim_start_matches("${{ ").trim_end_matches(" }}")].clone()));
            }
            let vars: Vec<(&str, &str)> = vars.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            fs::write(self.path("output"), "").unwrap();
            let done = self.shell(&text(&step["run"]), &vars);
            self.said += &format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
            for line in self.read("output").lines() {
                let (name, value) = line.split_once('=').unwrap();
                known.insert(format!("steps.{}.outputs.{name}", text(&step["id"])), value.to_owned());
                self.outputs.insert(name.to_owned(), value.to_owned());
            }
            if !done.status.success() {
                return done.status.code().unwrap();
            }
        }
        0
    }
}

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn the_action_builds_gates_and_measures_against_the_last_build() {
    let image = Image::new("action");
    let (mut job, name, tag) = (Job::new(), image.name.clone(), image.beside(":ci"));
    let program = job.path("bin/slim").display().to_string();
    let with = |more: &[(&'static str, &'static str)]| {
        let all = [("image", name.as_str()), ("slim", program.as_str()), ("tag", tag.as_str()), ("baseline", "base/last.json")];
        all.into_iter().chain(more.iter().copied()).map(|(name, value)| (name.to_owned(), value.to_owned())).collect::<Vec<_>>()
    };
    let run = |job: &mut Job, more: &[(&'static str, &'static str)]| {
        let given = with(more);
        job.action(&given.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect::<Vec<_>>())
    };
    // There is no baseline yet, so only the other budget counts; a command with blanks is one line.
    let (args, budgets) = ("--http-probe\n--exec\n/bin/subject say 0 two words\n", "size>+1%\nfiles>4\n");
    assert_eq!(run(&mut job, &[("args", args), ("fail-on", budgets)]), 0, "{}", job.said);
    assert!(job.said.contains("size>+1% is left out"), "{}", job.said);
    let id = docker(&["image", "inspect", "--format", "{{.Id}}", &tag]);
    assert_eq!((job.outputs["ref"].as_str(), job.outputs["digest"].as_str()), (tag.as_str(), id.as_str()));
    assert_eq!((job.outputs["verdict"].as_str(), job.outputs["status"].as_str()), ("verified", "0"));
    assert!(job.outputs["size-before"].parse::<u64>().unwrap() > job.outputs["size-after"].parse::<u64>().unwrap());
    assert!(job.read("summary").contains("VERIFIED"), "{}", job.read("summary"));
    for file in ["slim.report.json", "slim.html", "slim.md", "slim.junit.xml", "slim.sarif", "slim.provenance.json"] {
        assert!(job.path(&format!("slim-reports/{file}")).is_file(), "{file}");
    }
    assert_eq!(job.read("base/last.json"), job.read("slim-reports/slim.report.json"));

    // Budgets that are measured against the first report are other ones; then it is up to date, and nothing is made.
    assert_eq!(run(&mut job, &[("args", args), ("fail-on", budgets)]), 0, "{}", job.said);
    let id = docker(&["image", "inspect", "--format", "{{.Id}}", &tag]);
    assert!(!job.said.contains("left out") && job.outputs["verdict"] == "verified", "{}", job.said);
    assert_eq!(run(&mut job, &[("args", args), ("fail-on", budgets)]), 0, "{}", job.said);
    assert_eq!((job.outputs["verdict"].as_str(), job.outputs["digest"].as_str()), ("up-to-date", id.as_str()), "{}", job.said);
    assert_eq!(job.outputs["ref"], tag);

    // What misses a budget fails the step, is an annotation, and leaves the baseline and the name as they were.
    let before = job.read("base/last.json");
    assert_eq!(run(&mut job, &[("args", "--http-probe\n--include-path\n/data\n"), ("fail-on", "size>+0%")]), 6, "{}", job.said);
    assert!(job.said.contains("::error title=slim: budget missed::size: "), "{}", job.said);
    assert_eq!((job.outputs["status"].as_str(), job.outputs["verdict"].as_str(), job.outputs.get("ref")), ("6", "failed", None));
    assert_eq!((job.read("base/last.json"), docker(&["image", "inspect", "--format", "{{.Id}}", &tag])), (before, id));
}

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn what_an_image_prints_is_no_command_to_the_runner() {
    let image = support::Source::default().cmd(&["say", "3", "::error::from the image"]).load("commands");
    let mut job = Job::new();
    let program = job.path("bin/slim").display().to_string();
    let given = [("image", image.name.as_str()), ("slim", program.as_str()), ("args", "--http-probe\n--expose\n8080\n")];
    assert_ne!(job.action(&given), 0, "{}", job.said);
    let stop = job.said.lines().position(|line| line.starts_with("::stop-commands::")).unwrap();
    let token = job.said.lines().nth(stop).unwrap().trim_start_matches("::stop-commands::").to_owned();
    assert!(token.len() == 32 && job.said.lines().any(|line| line == format!("::{token}::")), "{}", job.said);
    let mut job = Job::new();
    assert_eq!(job.action(&[("image", "x"), ("slim", "/no/such/slim")]), 1);
    assert!(job.said.contains("::error title=slim::/no/such/slim cannot be executed"), "{}", job.said);
}

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn gitlab_s_job_and_jenkins_pipeline_do_what_they_say() {
    let image = Image::new("recipes");
    let variables = map(&yaml("gitlab.yml")["slim"]["variables"]);
    let script: Vec<String> = list(&yaml("gitlab.yml")["slim"]["script"]).iter().map(text).collect();
    let job = Job::new().without_docker();
    // The engine is the one here; what the server defines is defined.
    let given = [("IMAGE", image.name.as_str()), ("BASELINE", variables["BASELINE"].as_str().unwrap()), ("FAIL_ON", variables["FAIL_ON"].as_str().unwrap())];
    let done = job.shell(&script.join("\n"), &given);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let slim = format!("{}-slim", image.name);
    assert_eq!(job.read("docker.log"), format!("push {slim}\n"));
    assert!(has_image(&slim) && job.path("slim.baseline.json").is_file() && job.path("slim-reports/slim.junit.xml").is_file());

    // Where a budget is missed, nothing is pushed.
    let job = Job::new().without_docker();
    let done = job.shell(&script.join("\n"), &[given[0], given[1], ("FAIL_ON", "files>1")]);
    assert_eq!((done.status.code(), job.read("docker.log").as_str()), (Some(6), ""));
    assert!(!job.path("slim.baseline.json").exists());
    docker(&["rmi", &slim]);

    let job = Job::new().without_docker();
    for script in jenkins() {
        let done = job.shell(&script, &[("IMAGE", image.name.as_str()), ("BASELINE", "slim.baseline.json"), ("FAIL_ON", "size>60MB\nsize>+5%")]);
        assert!(done.status.success(), "{script}: {}", String::from_utf8_lossy(&done.stderr));
    }
    assert_eq!(job.read("docker.log"), format!("build --tag {} .\n", image.name));
    assert!(has_image(&slim) && job.path("slim.baseline.json").is_file());
    docker(&["rmi", &slim]);
}

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn every_status_is_seen_by_a_shell_and_nothing_is_published_but_for_0() {
    let (image, job) = (Image::new("status"), Job::new());
    let script = r#"
        set +e
        report() { echo "$1 $2 $(docker images -q "$SLIM_NAME" | grep -c .) $(ls image.tar 2>/dev/null | grep -c .)"; }
        run() { slim build "$IMAGE" --rebuild -o image.tar --report "$1.json" "${@:2}" >>log 2>&1; report "$1" $?; }
        check() { slim report check "$2" "${@:3}" >>log 2>&1; report "$1" $?; }
        run usage --http-probe --fail-on 'size>much'
        run baseline --http-probe-cmd /none
        run differs --http-probe --http-probe-cmd /about.html --exclude-pattern /www/about.html
        run budget --http-probe --fail-on 'files>1'
        check check-missed budget.json --fail-on shells --fail-on 'files>1'
        check check-kept budget.json --fail-on 'files>100'
        check check-usage budget.json
        check check-none none.json --fail-on shells
        run done --http-probe --fail-on 'files>100'
    "#;
    let slim = image.slim();
    let done = job.shell(script, &[("IMAGE", image.name.as_str()), ("SLIM_NAME", slim.as_str()), ("SLIM_REBUILD", "true")]);
    let log = job.read("log");
    let expected = [
        "usage 2 0 0", "baseline 3 0 0", "differs 5 0 0", "budget 6 0 0", "check-missed 6 0 0", "check-kept 0 0 0",
        "check-usage 2 0 0", "check-none 1 0 0", "done 0 1 1",
    ];
    let seen = String::from_utf8_lossy(&done.stdout).into_owned();
    assert_eq!(seen.lines().collect::<Vec<_>>(), expected, "{log}");
}
