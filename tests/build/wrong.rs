//! Wrong: bad input and bad luck, each with its one clear line, its exit status, and nothing left behind.

use std::process::Command;

use serde_json::json;

use crate::support::{Act, Build, Done, Image, Source, has_image};

/// How every error about the command line begins.
const WRONG: &str = "slim: the command line or a file it names is wrong: ";

/// The lines of stderr that are errors or hints, in order.
fn errors(done: &Done) -> Vec<&str> {
    done.stderr.lines().filter(|line| line.starts_with("slim: ") || line.starts_with("hint: ")).collect()
}

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn a_wrong_command_line_is_one_line_and_status_2() {
    for (words, first, hint) in [
        (&["build", "."][..], "\".\" is a directory, not an image", "hint: to build it first, write `slim build --dockerfile .`"),
        (&["build"], "no image is named", "hint: write `slim build IMAGE` or give --dockerfile"),
        (&["build", "a", "-t", "A B"], "--tag: ", ""),
        (&["build", "a", "-t", "sha256:0123456789012345678901234567890123456789012345678901234567890123"], "--tag: ", ""),
        (&["build", "UPPER"], "", ""),
        (&["build", "a", "--http-probe-cmd-file", "none.json"], "--http-probe-cmd-file: ", ""),
        (&["build", "a", "--probe", "nosuch"], "--probe: ", ""),
        (&["build", "a", "--exec", "echo 'open"], "--exec: ", ""),
        (&["build", "a", "--sensor", "magic"], "", ""),
        (&["build", "a", "--ready-timeout", "soon"], "--ready-timeout: ", ""),
        (&["build", "a", "-o", "no/such/dir/x.tar"], "--output: there is no directory no/such/dir", ""),
        (&["build", "a", "--report", "no/such/dir/x.json"], "--report: there is no directory no/such/dir", ""),
        (&["build", "a", "--include-path-file", "none"], "--include-path-file: ", ""),
        (&["build", "--dockerfile", "nowhere"], "--dockerfile: ", ""),
    ] {
        let done = Build::new(words).run().ended(2);
        let lines = errors(&done);
        assert!(lines.first().and_then(|line| line.strip_prefix(WRONG)).is_some_and(|line| line.starts_with(first)), "{words:?}: {}", done.stderr);
        assert!(lines.len() <= 2 && lines.len() == done.stderr.lines().count(), "{words:?}: {}", done.stderr);
        assert!(hint.is_empty() || lines.get(1) == Some(&hint), "{words:?}: {}", done.stderr);
        assert_eq!(done.stdout, "");
    }
}

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn an_image_of_another_architecture_is_said_to_be_one() {
    let here = Image::new("here");
    let there = Source { document: json!({"architecture": "s390x"}), ..Source::default() }.load("there");
    for (image, words, says) in [
        (&here, &["--platform", "linux/s390x"][..], " is for linux/amd64, not for linux/s390x as --platform says"),
        (&there, &[], " is for linux/s390x, the engine runs linux/amd64: an image has to run to be recorded"),
    ] {
        let says = says.replace("amd64", if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" });
        let done = Build::of(image).args(&["--http-probe"]).args(words).run().ended(1);
        assert_eq!(errors(&done)[0], format!("slim: {}{says}", image.name));
        assert!(done.stderr.lines().count() <= 2, "{}", done.stderr);
    }
}

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn a_probe_file_that_cannot_be_read_is_named_with_line_and_column() {
    let json = "{\n \"commands\": [\n  {\"resource\": \"/\",}\n ]\n}\n";
    let toml = "description = \"x\"\nformat = 1\n[[step]]\nhttp = { path = }\n";
    for (flag, name, text, place) in [
        ("--http-probe-cmd-file", "probes.json", json, "probes.json:3:20: "),
        ("--probe", "./probe.toml", toml, "probe.toml:4:17: "),
    ] {
        let done = Build::new(&["build", "any", flag, name]).file(name, text).run().ended(2);
        let line = done.stderr.clone();
        assert!(line.starts_with(&format!("{WRONG}{flag}: ")), "{line}");
        assert!(line.contains(place), "{place} is not in {line}");
        assert_eq!(line.lines().count(), 1, "{line}");
    }
}

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn an_engine_that_is_not_there_is_said_with_what_to_do() {
    for (host, says) in [
        ("unix:///nowhere/docker.sock", "slim: cannot reach the container engine at unix:///nowhere/docker.sock"),
        ("tcp://127.0.0.1:9", "slim: cannot reach the container engine at "),
    ] {
        let done = Build::new(&["build", "any", "--host", host]).run();
        assert_eq!(done.code, 1, "{}", done.stderr);
        let lines = errors(&done);
        assert!(lines[0].starts_with(says) && done.stderr.lines().count() <= 2, "{}", done.stderr);
        done.clean();
    }
}

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn an_engine_that_is_busy_is_worth_trying_again() {
    for request in ["/version", "/info"] {
        let done = Build::acting(&["build", "any"], Act::Refuse(503, "starting up"), request).run().ended(75);
        let done = done.says(&["slim: ", "cannot reach the container engine at unix://", "starting up"]);
        assert_eq!(done.stderr.lines().count(), 1, "{}", done.stderr);
    }
}

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn a_full_disk_of_the_engine_is_said_and_publishes_nothing() {
    let image = Image::new("engine-full");
    let words = ["build", &image.name, "--http-probe"];
    let full = "write /var/lib/docker/tmp/x: no space left on device";
    let done = Build::acting(&words, Act::Refuse(500, full), "/images/load").run().ended(1);
    let done = done.says(&["slim: load the slim image", full]);
    assert_eq!((errors(&done).len(), image.nameless_results()), (1, String::new()), "{}", done.stderr);
    assert!(!has_image(&image.slim()));
}

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn a_bug_is_status_70_and_one_line_and_leaves_nothing() {
    let image = Image::new("panics");
    for stage in ["record", "pack", "verify"] {
        let done = Build::of(&image).args(&["--http-probe"]).env("SLIMTEST_PANIC_AT", stage).env("RUST_BACKTRACE", "0").run().ended(70);
        let lines = errors(&done);
        assert_eq!(lines.len(), 1, "{}", done.stderr);
        assert!(lines[0].starts_with(&format!("slim: a bug in slim: a test asked for this at {stage}, at src/build/")), "{}", lines[0]);
        assert!(lines[0].ends_with("; please report it, with the command line"), "{}", lines[0]);
        assert!(!done.stderr.contains("RUST_BACKTRACE"), "{}", done.stderr);
        assert!(done.run.is_some() && image.nameless_results().is_empty() && !has_image(&image.slim()), "{stage}");
    }
}

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn an_image_that_is_not_there_is_not_guessed() {
    let done = Build::new(&["build", "slim-test/nosuch:1", "--http-probe"]).run().ended(1);
    assert_eq!(
        done.stderr,
        "slim: the engine has no image slim-test/nosuch:1\nhint: give --pull to fetch it, or build it first\n"
    );
    assert_eq!(done.report()["exit"]["code"], 1);
    assert_eq!(done.report()["verdict"]["line"], "FAILED: the engine has no image slim-test/nosuch:1");
}

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn an_image_that_cannot_run_here_is_refused_before_anything_is_made() {
    let other = if cfg!(target_arch = "x86_64") { "arm64" } else { "amd64" };
    let cases = [
        (Source::default().document("architecture", other.into()), 1, format!("linux/{other}")),
        (
            Source::default().set("Entrypoint", serde_json::Value::Null).set("Cmd", serde_json::Value::Null),
            2,
            "has neither ENTRYPOINT nor CMD".to_owned(),
        ),
    ];
    for (source, code, says) in cases {
        let image = source.load("unfit");
        let done = Build::of(&image).args(&["--http-probe"]).run().ended(code);
        assert!(done.stderr.contains(&says) && done.stderr.lines().count() <= 2, "{}", done.stderr);
        assert_eq!(done.run, None, "something was made in the engine");
        assert!(!has_image(&image.slim()));
    }
}

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn an_image_without_anything_to_probe_is_told_what_to_give() {
    let image = Source::default().cmd(&["wait"]).load("nothing");
    let done = Build::of(&image).args(&["--http-probe"]).run().ended(2);
    done.says(&["slim: ", "there is no port to probe by HTTP", "--expose PORT"]);
    let image = Image::new("skipped");
    let done = Build::of(&image).args(&["--http-probe=false"]).run().ended(2);
    let done = done.says(&["HTTP probes are off, and no other probe asks port 8080", "--exec 'COMMAND'"]);
    assert_eq!((done.stderr.lines().count(), &done.run), (1, &None), "{}", done.stderr);
    assert!(!has_image(&image.slim()));
}

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn an_original_that_fails_is_status_3_with_the_last_lines_of_its_log() {
    let port = |source: Source| source.set("ExposedPorts", serde_json::json!({"8080/tcp": {}}));
    let cases = [
        ("ends at once", port(Source::default().cmd(&["say", "9", "no config"])), &["--http-probe"][..], &["| out: no config", "| err: no config", "exit status 9"][..]),
        ("needs a variable", port(Source::default().cmd(&["need", "TOKEN"])), &["--http-probe"], &["| error: TOKEN is not set; run again with -e TOKEN=***", "exit status 1"]),
        ("crashes while probed", Source::default(), &["--http-probe-cmd", "/", "--http-probe-cmd", "/crash"], &["| subject: out of order", "exit status 7", "GET /crash"]),
        ("never opens its port", port(Source::default().cmd(&["wait"])), &["--http-probe", "--ready-timeout", "2s"], &["| subject: waiting", "8080"]),
        ("fails a stated probe", Source::default(), &["--http-probe-cmd", "/nowhere"], &["GET /nowhere", "404"]),
        ("cannot be executed", Source::default().set("Entrypoint", serde_json::json!(["/bin/none"])), &["--http-probe"], &["/bin/none"]),
    ];
    for (what, source, words, says) in cases {
        let image = source.load("original");
        let done = Build::of(&image).args(words).run();
        assert_eq!(done.code, 3, "{what}: {}", done.stderr);
        let done = done.clean().says(says);
        assert_eq!(errors(&done).iter().filter(|line| line.starts_with("slim: ")).count(), 1, "{what}: {}", done.stderr);
        let report = done.report();
        assert_eq!((&report["exit"]["code"], &report["verdict"]["kind"]), (&3.into(), &"failed".into()), "{what}");
        assert!(!has_image(&image.slim()) && !has_image(&image.beside(".slim:1-unverified")), "{what}");
        if what == "fails a stated probe" {
            let failed = report["probes"].as_array().unwrap().iter().find(|probe| probe["passed"] == false).expect(what);
            assert_eq!((&failed["name"], &failed["baseline"]["status"]), (&"GET /nowhere".into(), &404.into()));
        }
    }
}

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn a_database_without_its_password_says_what_it_wants() {
    let done = Build::new(&["build", "slim-fixture/postgres:latest", "-t", "slim-test/postgres:none"]).run().ended(3);
    done.says(&["| ", "POSTGRES_PASSWORD", "slim: "]);
    assert!(!has_image("slim-test/postgres:none"));
}

/// A file system of this many kilobytes; gone when dropped.
struct Tiny(std::path::PathBuf);

impl Tiny {
    fn mount(dir: &std::path::Path, kilobytes: u32) -> Self {
        std::fs::create_dir(dir).unwrap();
        let options = format!("size={kilobytes}k");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(dir).status().unwrap();
        assert!(mounted.success(), "mounting a tmpfs needs root");
        Self(dir.to_owned())
    }
}

impl Drop for Tiny {
    fn drop(&mut self) {
        let _already = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
#[ignore = "needs root and a container engine: tests/run starts one"]
fn a_full_disk_is_said_and_publishes_nothing() {
    let image = Image::new("full");
    let build = Build::of(&image).args(&["--http-probe"]);
    let tiny = Tiny::mount(&build.work().join("tiny"), 200);
    let done = build.env("TMPDIR", tiny.0.to_str().unwrap()).run().ended(1);
    let done = done.says(&["write the layer", "No space left on device"]);
    assert_eq!(errors(&done).len(), 1, "{}", done.stderr);
    assert!(!has_image(&image.slim()) && image.nameless_results().is_empty());

    let build = Build::of(&image).args(&["--http-probe", "-o", "tiny/image.tar"]);
    let tiny = Tiny::mount(&build.work().join("tiny"), 200);
    let done = build.run().ended(1).says(&["write the archive tiny/image.tar", "No space left on device"]);
    assert_eq!(std::fs::read_dir(&tiny.0).unwrap().count(), 0);
    assert_eq!(done.report()["verdict"]["kind"], "failed");
    assert!(!has_image(&image.slim()), "an image was tagged although its archive could not be written");
}
