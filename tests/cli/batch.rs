//! Batch: which command lines `--all` stands for, and what is wrong with one before any of them runs.

use std::ffi::OsString;

use slim::batch::{self, Here, Job};
use slim::cli::{self, Vars};

use super::{dir, text_of, vars, words};

/// The jobs of a settings file; `line` is what is typed besides `--all`.
fn jobs(toml: &str, line: &str, env: &[(&str, &str)]) -> Result<Vec<Job>, String> {
    let dir = dir(&[("Dockerfile", "FROM x")]);
    let toml = toml.replace("DIR", &dir.path().display().to_string());
    std::fs::write(dir.path().join("slim.toml"), toml).unwrap();
    let shorten = |text: String| text.replace(&format!("{}/", dir.path().display()), "");
    let mut all = words(&format!("build --all {line}"));
    all[1] = format!("--config={}", dir.path().join("slim.toml").display()).into();
    let vars: Vars = vars(env);
    let invocation = cli::parse(all, &vars).map_err(text_of).map_err(shorten)?;
    let here = Here { vars: &vars, stdin: b"secret\n" };
    batch::jobs(&invocation.batch.unwrap(), here).map_err(|error| shorten(error.to_string()))
}

/// What is typed for a job behind the settings file's name.
fn typed(job: &Job) -> Vec<&str> {
    job.words[2..].iter().map(|word| word.to_str().unwrap()).collect()
}

#[test]
fn each_section_is_a_command_line_that_one_could_type() {
    let toml = "[build]\nhttp-probe = true\n\n[image.zebra]\nexec = [\"ls\"]\n\n[image.\"team/app:1\"]\nreport = \"app.json\"\n\n\
                [image.\"built:1\"]\ndockerfile = \"DIR\"\n\n[image.\"docker-archive:in/x.tar\"]\nreport = \"off\"\n";
    let jobs = jobs(toml, "--keep app --registry-secret-stdin --registry-account me -- serve --now", &[]).unwrap();
    let start = ["build", "--all", "--keep", "app", "--registry-secret-stdin", "--registry-account", "me", "--all=false"];
    for (job, (image, report)) in jobs.iter().zip([
        ("zebra", "--report=slim.report.zebra.json"),
        ("team/app:1", "--report=app.json"),
        ("--tag-fat=built:1", "--report=slim.report.built_1.json"),
        ("docker-archive:in/x.tar", "--report=off"),
    ]) {
        assert_eq!(typed(job), [&start[..], &[image, "--json=true", report, "--", "serve", "--now"]].concat());
        assert_eq!(job.stdin.as_deref(), Some(&b"secret\n"[..]));
        let alone = [&["slim", "--config=off"].map(OsString::from), &job.words[2..]].concat();
        assert_eq!(cli::parse(alone, &Vars::new()).unwrap().batch, None, "{image}");
    }
    assert_eq!(jobs.len(), 4);
}

#[test]
fn what_is_wrong_with_one_stops_all_before_they_run() {
    let two = "[image.a]\n[image.b]\n";
    for (toml, line, env, expected) in [
        (two, "img", &[][..], "--all takes its images from the settings file, and \"img\" names one; leave --all away"),
        (two, "--target img", &[], "and --target names one"),
        (two, "--dockerfile .", &[], "and --dockerfile names one"),
        (two, "", &[("SLIM_TARGET", "x")], "and SLIM_TARGET names one"),
        ("[build]\nrepeat = 2\n", "", &[], "slim.toml lists no images; write a section [image.\"NAME\"] for each"),
        (two, "-t same:1", &[], "slim.toml:2:8: the name same:1 is also where that of \"a\" goes; say it in the section"),
        (two, "-o same.tar", &[], "slim.toml:2:8: the output docker-archive:same.tar is also where that of \"a\" goes"),
        (two, "--report same.json", &[], "slim.toml:2:8: the report same.json is also"),
        ("[image.\"x/a\"]\n[image.x_a]\n", "", &[], "slim.toml:2:8: the report slim.report.x_a.json is also"),
        ("[image.a]\n[image.\"docker.io/library/a:latest\"]\n", "", &[], "slim.toml:2:8: \"docker.io/library/a:latest\" has a section already, at slim.toml:1:8"),
        ("[image.\"--json\"]\n", "", &[], "slim.toml:1:8: \"--json\" is no image; allowed are names"),
        ("[image.UPPER]\n", "", &[], "slim.toml:1:8: UPPER: "),
        ("[image.a]\ntarget = \"b\"\n", "", &[], "slim.toml:2:1: `target` has no place here: the section's name is the image"),
        ("[image.a]\nall = true\n", "", &[], "slim.toml:2:1: there is no setting `all`"),
        ("[image.a]\nsettle = \"soon\"\n", "", &[], "slim.toml:2:1: --settle: "),
        ("[image.a]\n[image.b]\nhttp-probe-cmd-file = [\"none.json\"]\n", "", &[], "slim.toml:3:1: --http-probe-cmd-file: "),
        ("[image.a]\n", "--continue-after enter", &[], "slim.toml:1:8: a: --continue-after enter: nobody knows which"),
    ] {
        let error = jobs(toml, line, env).unwrap_err();
        assert!(error.contains(expected) && !error.contains('\n'), "{toml}\n  gave: {error}\n  not: {expected}");
    }
    let none = cli::parse(["slim", "--config=off", "build", "--all"].map(OsString::from), &Vars::new());
    assert_eq!(text_of(none.unwrap_err()), "--all: there is no slim.toml that lists images; write a section [image.\"NAME\"] for each");
}
