//! Traces: recordings that are kept as files and taken in by a build, and the comparison alone.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::support::{Build, Done, Image, Source, docker, has_image};

/// `slim trace IMAGE -o NAME.trace WORDS`.
fn trace(image: &Image, name: &str, words: &[&str]) -> (Done, PathBuf) {
    let file = format!("{name}.trace");
    let done = Build::new(&["trace", &image.name, "-o", &file]).args(words).run().ended(0);
    let path = done.work().join(file);
    (done, path)
}

/// `slim build IMAGE --trace FILE ...`, with the files beside it.
fn build(image: &Image, files: &[&Path]) -> Build {
    files.iter().fold(Build::of(image), |build, file| {
        let name = file.file_name().unwrap().to_str().unwrap();
        let text = std::fs::read_to_string(file).unwrap();
        build.file(name, &text).args(&["--trace", name])
    })
}

/// A trace with something else in it and a checksum that agrees.
fn altered(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "{from}");
    let changed = text.replace(from, to);
    let lines: Vec<&str> = changed.split_inclusive('\n').collect();
    let before = lines[..lines.len() - 1].concat();
    let sha256: String = Sha256::digest(before.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{before}{{\"t\":\"sum\",\"lines\":{},\"sha256\":\"{sha256}\"}}\n", lines.len() - 1)
}

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn recordings_of_two_commands_make_one_image_that_is_asked_both_again() {
    let image = Image::new("two-traces");
    let (_a, web) = trace(&image, "web", &["--http-probe"]);
    let (_b, job) = trace(&image, "job", &["--", "cat", "/data/a.txt"]);
    let done = build(&image, &[&web, &job]).run().ended(0);
    let report = done.report();
    assert_eq!(report["verdict"]["kind"], "verified");
    let kept = done.kept();
    for path in ["/bin/subject", "/www/index.html", "/www/about.html", "/data/a.txt"] {
        assert!(kept.iter().any(|kept| kept == path), "{path} is not in {kept:?}");
    }
    for path in ["/data/b.txt", "/www/unlinked.html"] {
        assert!(!kept.iter().any(|kept| kept == path), "{path} is in {kept:?}");
    }
    let asked: Vec<&str> = report["probes"].as_array().unwrap().iter().map(|probe| probe["name"].as_str().unwrap()).collect();
    assert!(asked.contains(&"web: GET /about.html") && asked.iter().any(|name| name.starts_with("job: ")), "{asked:?}");
    assert!(report["probes"].as_array().unwrap().iter().all(|probe| !probe["slim"].is_null() && probe["passed"] == true));
    assert_eq!(report["verdict"]["line"], format!("VERIFIED: 5 probes, {} answers: {} whole", asked.len(), asked.len()));
    let phases: Vec<&str> = report["phases"].as_array().unwrap().iter().map(|phase| phase["name"].as_str().unwrap()).collect();
    assert!(!phases.contains(&"probe"), "{phases:?}");
    let used = report["traces"].as_array().unwrap();
    assert_eq!((&used[0]["path"], &used[1]["path"]), (&"web.trace".into(), &"job.trace".into()));
    let sha256: String = Sha256::digest(std::fs::read(&job).unwrap()).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!((&used[1]["sha256"], &used[1]["id"]), (&sha256.into(), &image.id.clone().into()));
    assert_eq!(used[1]["argv"], serde_json::json!(["/bin/subject", "cat", "/data/a.txt"]));
    assert!(used[1]["new_paths"].as_u64().unwrap() >= 1 && used[1]["asked"] == 1 && used[1]["not_asked"].is_null());
    let said = docker(&["run", "--rm", &image.slim(), "cat", "/data/a.txt"]);
    assert_eq!(said, "content of a");
}

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn a_build_with_probes_of_its_own_records_them_and_takes_traces_in_besides() {
    let image = Image::new("besides");
    let (_a, job) = trace(&image, "job", &["--", "cat", "/data/a.txt"]);
    let done = build(&image, &[&job]).args(&["--http-probe"]).run().ended(0);
    let kept = done.kept();
    assert!(["/www/about.html", "/data/a.txt"].iter().all(|path| kept.iter().any(|kept| kept == path)), "{kept:?}");
    let names = done.report()["probes"].to_string();
    assert!(names.contains("\"GET /about.html\"") && names.contains("\"job: "), "{names}");
    let (code, why, error) = done.then(&["why", "slim.report.json", "/data/a.txt"]);
    assert!(code == 0 && why.contains("job: "), "{why}{error}");
}

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn a_trace_of_another_image_is_taken_on_the_word_of_the_comparison_only() {
    let (image, other) = (Image::new("digest"), Source::default().with("www/more.html", "more\n").load("digest-other"));
    let (_a, job) = trace(&other, "job", &["--", "cat", "/data/a.txt"]);
    let done = build(&image, &[&job]).run().ended(2);
    done.says(&["job.trace was recorded from", &other.id, &image.id, "give --trace-other-digest if the images are alike"]);
    assert!(!has_image(&image.slim()));
    let done = build(&image, &[&job]).args(&["--trace-other-digest", "--no-verify"]).run().ended(2);
    done.says(&["proves nothing without a comparison"]);
    let done = build(&image, &[&job]).args(&["--trace-other-digest"]).run().ended(0);
    assert_eq!(done.report()["verdict"]["kind"], "verified");
    assert_eq!(done.report()["traces"][0]["id"], other.id);
}

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn a_trace_from_an_engine_that_counts_ids_otherwise_is_of_this_image() {
    let image = Image::new("stores");
    let (_a, job) = trace(&image, "job", &["--", "cat", "/data/a.txt"]);
    let text = std::fs::read_to_string(&job).unwrap();
    // A containerd store calls an image by its manifest; the config document is the same.
    let manifest = format!("sha256:{}", "ab".repeat(32));
    let moved = altered(&text, &format!("\"id\":\"{}\"", image.id), &format!("\"id\":\"{manifest}\""));
    let done = Build::of(&image).file("job.trace", &moved).args(&["--trace", "job.trace"]).run().ended(0);
    assert_eq!(done.report()["traces"][0]["id"], manifest);
}

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn a_trace_that_was_cut_or_changed_names_line_and_reason() {
    let image = Image::new("cut");
    let (_a, job) = trace(&image, "job", &["--", "cat", "/data/a.txt"]);
    let text = std::fs::read_to_string(&job).unwrap();
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let cut = lines[..lines.len() - 3].concat();
    let stops = format!("it stops after line {}", lines.len() - 3);
    let changed = text.replace("/data/a.txt", "/data/b.txt");
    let at_sum = format!("line {} of the trace is broken: its checksum", lines.len());
    let lost = altered(&text, "{\"t\":\"exit\"", "{\"t\":\"lost\",\"what\":\"queue overflow\"}\n{\"t\":\"exit\"");
    let torn = altered(&text, "\"t\":\"process\"", "\"t\":\"proc");
    for (bad, says) in [
        (cut, stops.as_str()),
        (changed, at_sum.as_str()),
        (lost, "the recording is incomplete: queue overflow"),
        (torn, "of the trace is broken: "),
        ("hello\n".into(), "line 1 of the trace is broken: it is no `trace` line"),
        (String::new(), "line 1 of the trace is broken: it is no `trace` line"),
    ] {
        let done = Build::of(&image).file("bad.trace", &bad).args(&["--trace", "bad.trace"]).run().ended(4);
        done.says(&["bad.trace", "line ", says]);
    }
    assert!(!has_image(&image.slim()));
    let done = Build::of(&image).args(&["--trace", "none.trace"]).run().ended(2);
    done.says(&["read the trace none.trace"]);
}

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn what_cannot_be_asked_again_is_said_and_never_taken_for_compared() {
    let image = Image::new("not-asked");
    let words = ["-e", "SUBJECT_SAYS=hello-there", "--http-probe-cmd", "/env", "--http-probe-crawl=false"];
    let (_a, env) = trace(&image, "env", &words);
    assert!(!std::fs::read_to_string(&env).unwrap().contains("hello-there"), "a value of the environment is in the file");
    let done = build(&image, &[&env]).run().ended(2);
    done.says(&["nothing of the traces can be asked again", "give --no-verify", "env SUBJECT_SAYS, which this build is not given"]);
    build(&image, &[&env]).args(&["--no-verify"]).run().ended(0).says(&["UNVERIFIED"]);
    let done = build(&image, &[&env]).args(&["--http-probe"]).run().ended(0);
    let report = done.report();
    let line = report["verdict"]["line"].as_str().unwrap();
    assert!(line.ends_with("; not all that was recorded in env.trace was asked again"), "{line}");
    let used = &report["traces"][0];
    assert!(used["asked"] == 0 && used["not_asked"].as_str().unwrap().contains("env SUBJECT_SAYS"), "{used}");
    // With the same variable it can.
    let done = build(&image, &[&env]).args(&["-e", "SUBJECT_SAYS=other"]).run().ended(0);
    assert!(done.report()["traces"][0]["not_asked"].is_null());
    // A secret argument is in no file; what else was asked is.
    let words = ["--exec", "/bin/subject cat /data/a.txt", "--exec", "/bin/subject say 0 --password hunter2-hunter2"];
    let (_b, part) = trace(&image, "part", &words);
    assert!(!std::fs::read_to_string(&part).unwrap().contains("hunter2"));
    let done = build(&image, &[&part]).run().ended(0);
    let used = done.report()["traces"][0].clone();
    assert!(used["asked"] == 1 && used["not_asked"].as_str().unwrap().contains("looks like it holds a secret"), "{used}");
}

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn a_slim_image_that_fails_what_a_trace_was_asked_is_not_verified() {
    let image = Image::new("trace-fails");
    let (_a, job) = trace(&image, "job", &["--", "cat", "/data/a.txt"]);
    let done = build(&image, &[&job]).args(&["--http-probe", "--exclude-pattern", "/data/a.txt"]).run().ended(5);
    let done = done.says(&["FAILED: ", "job: "]);
    let difference = &done.report()["verify"]["differences"][0];
    assert!(difference["request"].as_str().unwrap().starts_with("job: "), "{difference}");
    assert_eq!((&difference["expected"], &difference["got"]), (&"exit status 0".into(), &"exit status 1".into()));
    assert!(!has_image(&image.slim()));
}

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn a_trace_that_cannot_be_recorded_leaves_no_file() {
    let image = Image::new("no-trace");
    let words = ["trace", &image.name, "-o", "x.trace", "--exec", "/bin/subject say 3 no"];
    let done = Build::new(&words).run().ended(3);
    assert!(!done.work().join("x.trace").exists());
}

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn any_two_images_are_compared() {
    let (image, other) = (Image::new("verify"), Source::default().with("www/more.html", "more\n").load("verify-other"));
    let verify = |other: &Image, words: &[&str]| {
        Build::new(&["verify", &image.name, &other.name, "--report", "slim.report.json"]).args(words).run()
    };
    let done = verify(&other, &["--http-probe"]).ended(0).says(&["VERIFIED: 4 probes, 5 answers: 5 whole"]);
    let report = done.report();
    assert_eq!((&report["source"]["digest"], &report["result"]["digest"]), (&image.id.clone().into(), &other.id.clone().into()));
    assert_eq!(report["verify"]["compared"]["answers"], 5);
    assert!(report["verify"]["unsearched"].is_null() && report["verify"]["only_compared"] == true);

    let mut source = Source::default();
    source.files.retain(|(path, _)| path != "www/about.html");
    let broken = source.load("verify-broken");
    let done = verify(&broken, &["--http-probe"]).ended(5).says(&["FAILED: 1 of 5 answers differs: GET /about.html"]);
    let difference = &done.report()["verify"]["differences"][0];
    assert_eq!((&difference["expected"], &difference["got"]), (&"status 200".into(), &"status 404".into()));

    let done = verify(&other, &["--http-probe-cmd", "/none"]).ended(3).says(&["GET /none"]);
    assert_eq!(done.report()["exit"]["code"], 3);
    let done = Build::new(&["verify", &image.name, "slim-test/none:1", "--http-probe"]).run().ended(1);
    done.says(&["the engine has no image slim-test/none:1"]);
    let done = Build::new(&["verify", &image.name, &other.name]).args(&["--", "cat", "/data/a.txt"]).run().ended(0);
    assert!(!done.says(&["VERIFIED: 1 probe, 1 answer"]).work().join("slim.report.json").exists());
    assert_eq!(image.nameless_results(), "");
}
