//! Flags of the recording and of what stays, one build each.

use std::os::unix::fs::PermissionsExt;

use serde_json::json;

use crate::support::{Build, Image, Source, docker, id_of};

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn every_recorder_gives_an_image_that_is_verified() {
    let image = Image::new("recorders");
    for (mode, fanotify, syscalls) in
        [("split", true, true), ("fanotify", true, false), ("syscalls", false, true), ("auto", true, true)]
    {
        let done = Build::of(&image).args(&["--http-probe", "--sensor", mode]).run().ended(0);
        let trace = &done.report()["trace"];
        let recorders = trace["recorders"].to_string();
        assert_eq!(recorders.contains("fanotify"), fanotify, "{mode}: {recorders}");
        assert_eq!(recorders.contains("syscalls"), syscalls, "{mode}: {recorders}");
        assert_eq!(trace["complete"], true, "{mode}");
    }
}

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn repeated_runs_are_put_together() {
    let image = Image::new("repeat");
    let done = Build::of(&image).args(&["--http-probe", "--repeat", "3"]).run().ended(0);
    let trace = &done.report()["trace"];
    assert_eq!(trace["runs"], 3);
    let new = trace["new_paths_per_run"].as_array().unwrap();
    assert!(new.len() == 3 && new[0].as_u64() > Some(2) && new[1..] == [0, 0], "{new:?}");
    assert!(done.stderr.contains("the last recording run found nothing new"), "{}", done.stderr);
}

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn a_last_run_that_still_finds_something_is_warned_about() {
    let image = Image::new("still");
    let state = tempfile::tempdir().unwrap();
    let volume = format!("{}:/state", state.path().display());
    let words = ["--repeat", "2", "--no-verify", "-v", &volume, "--", "turns", "/state/runs", "/data/a.txt", "/data/b.txt"];
    let done = Build::of(&image).args(&words).run().ended(0);
    assert!(done.stderr.contains("still found new paths: --repeat more, or probe more"), "{}", done.stderr);
    assert_eq!(done.report()["trace"]["new_paths_per_run"][1], 1);
}

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn what_flags_name_stays_or_goes_whatever_was_touched() {
    let image = Source::default().with("data/odd name", "x").load("paths");
    for (words, stays, goes) in [
        (&["--include-path", "/data/b.txt"][..], &["/data/b.txt"][..], &["/data/a.txt"][..]),
        (&["--include-path", "/data"], &["/data/a.txt", "/data/b.txt", "/data/odd name"], &["/www/unlinked.html"]),
        (&["--include-path", "/www/*.html"], &["/www/unlinked.html"], &["/data/a.txt"]),
        (&["--include-path-file", "list"], &["/data/a.txt", "/data/odd name"], &["/data/b.txt"]),
        (&["--exclude-pattern", "/data/**", "--include-path", "/data/a.txt"], &["/www/about.html"], &["/data/b.txt"]),
    ] {
        let list = "\u{feff}/data/a.txt\r\n# nothing\r\n\r\n/data/odd name\r\n";
        let done = Build::of(&image).file("list", list).args(&["--http-probe"]).args(words).run().ended(0);
        let kept = done.kept();
        for path in stays {
            assert!(kept.iter().any(|kept| kept == path), "{words:?}: {path} is not in {kept:?}");
        }
        for path in goes {
            assert!(!kept.iter().any(|kept| kept == path), "{words:?}: {path} is in {kept:?}");
        }
    }
}

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn a_package_that_a_flag_names_stays_whole_at_the_lowest_level() {
    let metadata = "Metadata-Version: 2.1\nName: Thing\nVersion: 1.2\n";
    let record = "thing/__init__.py,,\nthing/later.py,,\nthing-1.2.dist-info/METADATA,,\nthing-1.2.dist-info/RECORD,,\n";
    let site = "usr/lib/python3/dist-packages";
    let mut source = Source::default();
    for (path, text) in [
        ("thing/__init__.py", "import later\n"),
        ("thing/later.py", "x = 1\n"),
        ("thing-1.2.dist-info/METADATA", metadata),
        ("thing-1.2.dist-info/RECORD", record),
        ("other.py", "y = 2\n"),
    ] {
        source = source.with(&format!("{site}/{path}"), text);
    }
    let image = source.load("keep-package");
    let done = Build::of(&image).args(&["--http-probe", "--keep-package", "thing", "--keep-package", "nosuch"]).run().ended(0);
    let kept = done.kept();
    let stays = |path: &str| kept.iter().any(|kept| *kept == format!("/{site}/{path}"));
    assert!(stays("thing/__init__.py") && stays("thing/later.py") && stays("thing-1.2.dist-info/RECORD"), "{kept:?}");
    assert!(!stays("other.py"), "{kept:?}");
    done.says(&["--keep-package nosuch: the image has no such package"]);
}

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn package_databases_that_lie_are_survived_with_a_warning_each() {
    let mut source = Source::default();
    for (path, text) in [
        ("var/lib/dpkg/status", "Package: a\nVersion: 1\nDepends: b\n\nPackage: b\nDepends: a, gone\n\nPackage: c\n"),
        ("var/lib/dpkg/info/a.list", "/www/index.html\n/www/never-there.html\n/../../../data/a.txt\n"),
        ("var/lib/dpkg/info/b.list", "/data/b.txt\n"),
        ("lib/apk/db/installed", "what apk would not write\n"),
        ("var/lib/rpm/rpmdb.sqlite", "SQLite format 3\0 and no more"),
        ("app/node_modules/x/package.json", "{{{"),
        ("usr/lib/python3/dist-packages/x-1.dist-info/RECORD", "../../../../../data/a.txt,,\n"),
    ] {
        source = source.with(path, text);
    }
    let image = source.load("lies");
    let done = Build::of(&image).args(&["--http-probe", "--keep", "package"]).run().ended(0);
    assert_eq!(done.report()["verdict"]["kind"], "verified");
    let warnings = done.report()["warnings"].to_string();
    for says in ["dpkg has no list of files for 1 of its packages, c the first", "/lib/apk/db/installed is not what apk writes", "rpmdb.sqlite is damaged"] {
        assert_eq!(warnings.matches(says).count(), 1, "{says}: {warnings}");
    }
    assert!(done.kept().iter().any(|path| path == "/data/b.txt"), "a circle of needs: {:?}", done.kept());
}

/// A script beside the command that counts its runs and says what the target finds in /state.
fn with_reset(build: Build, script: &str) -> Build {
    let build = build.file("reset", script).file("state/flag", "old\n");
    std::fs::set_permissions(build.work().join("reset"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let mount = format!("{}:/state", build.work().join("state").display());
    build.args(&["--before-run", "./reset", "--mount", &mount, "--http-probe-cmd", "/state"])
}

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn a_command_before_each_run_resets_what_is_outside_of_the_target() {
    let image = Image::new("before");
    let script = "#!/bin/sh\necho run >>runs\necho fresh >state/flag\n";
    let done = with_reset(Build::of(&image), script).args(&["--repeat", "2"]).run().ended(0);
    let runs = std::fs::read_to_string(done.work().join("runs")).unwrap();
    assert_eq!(runs, "run\n".repeat(4), "two recordings, the comparison, and the search for misses");
    let report = done.report();
    let state = report["probes"].as_array().unwrap().iter().find(|probe| probe["name"] == "GET /state").unwrap().clone();
    assert_eq!(state["baseline"]["body"]["length"], "fresh\n".len());
    let fails = "#!/bin/sh\necho the database is locked >&2\nexit 4\n";
    with_reset(Build::of(&image), fails).run().ended(1).says(&["--before-run ./reset", "exit status: 4", "the database is locked"]);
}

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn flags_come_from_the_settings_file_and_from_variables_too() {
    let image = Image::new("settings");
    let (one, two) = (image.beside(".slim:from-file"), image.beside(".slim:from-variable"));
    let settings = |tag: &str| format!("[build]\nhttp-probe = true\ntag = [\"{tag}\"]\ninclude-path = [\"/data/a.txt\"]\n");
    let done = Build::of(&image).file("slim.toml", &settings(&one)).run().ended(0);
    assert!(done.kept().iter().any(|path| path == "/data/a.txt"));
    id_of(&one);
    let done = Build::of(&image).file("slim.toml", &settings(&one)).env("SLIM_TAG", &two).args(&["--include-path", "/data/b.txt"]).run();
    let done = done.ended(0);
    id_of(&two);
    assert!(done.kept().iter().any(|path| path == "/data/b.txt") && !done.kept().iter().any(|path| path == "/data/a.txt"));
    let done = Build::of(&image).file("slim.toml", "[build]\nhttp-prob = true\n").run().ended(2);
    done.says(&["slim.toml", "http-prob"]);
}

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn flags_of_the_run_reach_the_target_and_not_the_image() {
    let image = Image::new("run-flags");
    Build::of(&image).args(&["--http-probe", "-t", &image.beside(".slim:plain")]).run().ended(0);
    let words = [
        "--http-probe", "-e", "SUBJECT_SAYS=hello", "-u", "1234:1234", "-w", "/data", "--hostname", "somewhere",
        "--cmd", "serve 8081", "--expose", "8081", "--http-probe-ports", "8081", "--http-probe-cmd", "/env",
        "-l", "a=b", "--tmpfs", "/scratch", "--read-only", "--cap-drop", "ALL", "--memory", "256m",
    ];
    let done = Build::of(&image).args(&words).run().ended(0);
    let report = done.report();
    let answer = report["probes"].as_array().unwrap().iter().find(|probe| probe["name"] == "GET /env").unwrap().clone();
    assert_eq!(answer["baseline"]["body"]["length"], "<p>hello</p>\n".len());
    assert_eq!(report["target"]["user"], "1234:1234");
    assert_eq!(report["target"]["argv"], json!(["/bin/subject", "serve", "8081"]));
    let config = |name: &str| {
        let text = docker(&["image", "inspect", "--format", "{{json .Config}}", name]);
        let mut config: serde_json::Value = serde_json::from_str(&text).unwrap();
        // What it was made of, and what stays: another run.
        config["Labels"].as_object_mut().unwrap().retain(|name, _| !["slim.inputs", "slim.keep-set"].contains(&name.as_str()));
        config
    };
    assert_eq!(config(&image.slim()), config(&image.beside(".slim:plain")));
    let changed = report["config"]["changed"].as_array().unwrap();
    let ours = |field: &str| field.starts_with("Labels.slim.") || field == "Labels.org.opencontainers.image.base.name";
    assert!(changed.iter().all(|change| ours(change["field"].as_str().unwrap())), "{changed:?}");
}

#[test]
#[ignore = "needs a container engine and slim-fixture images: tests/run makes them"]
fn the_locale_that_the_config_or_the_run_names_stays_for_programs_that_did_not_ask_for_it() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("Dockerfile"), "FROM slim-fixture/base\nENV LANG=C.UTF-8\n").unwrap();
    let [named, slim] = ["named", "slim"].map(|tag| format!("slim-test/locale-{}:{tag}", std::process::id()));
    docker(&["build", "-q", "-t", &named, &dir.path().display().to_string()]);
    // Programs that never call setlocale.
    let base = "slim-fixture/base:latest";
    for (image, env, stays) in
        [(base, "LC_ALL=C.utf8", true), (base, "LC_TIME=C.utf8", true), (base, "OTHER=C.UTF-8", false), (named.as_str(), "OTHER=x", true)]
    {
        let build = Build::new(&["build", image, "--tag", &slim, "--no-verify", "--entrypoint", "/usr/bin/dash", "--exec", "true"]);
        let kept = build.args(&["--env", env, "--", "-c", "while :; do sleep 1; done"]).run().ended(0).kept();
        assert_eq!(kept.iter().any(|path| path == "/usr/lib/locale/C.utf8/LC_CTYPE"), stays, "{image} {env}");
    }
    docker(&["rmi", "-f", &slim, &named]);
}
