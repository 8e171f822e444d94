//! Verdicts: what is recorded, compared, and what follows from it.

use serde_json::Value;

use crate::support::{Build, Image, Source, docker, has_image, id_of};

/// A report's verdict and the number behind the exit code.
fn verdict(report: &Value) -> (&str, &str, i64) {
    let verdict = &report["verdict"];
    (verdict["kind"].as_str().unwrap(), verdict["line"].as_str().unwrap(), report["exit"]["code"].as_i64().unwrap())
}

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn a_server_is_recorded_packed_verified_tagged_and_reported() {
    let image = Image::new("server");
    let done = Build::of(&image).args(&["--http-probe"]).run().ended(0);
    assert!(done.stderr.contains("\nVERIFIED: 4 probes, 5 answers: 5 whole\n"), "{}", done.stderr);
    assert_eq!(done.stdout, "");
    let report = done.report();
    assert_eq!(verdict(&report), ("verified", "VERIFIED: 4 probes, 5 answers: 5 whole", 0));
    assert_eq!(report["result"]["digest"], id_of(&image.slim()));
    let kept = done.kept();
    for path in ["/bin/subject", "/www/index.html", "/www/about.html"] {
        assert!(kept.iter().any(|kept| kept == path), "{path} is not in {kept:?}");
    }
    for path in ["/www/unlinked.html", "/data/a.txt"] {
        assert!(!kept.iter().any(|kept| kept == path), "{path} is in {kept:?}");
    }
    let status = |path: &str| docker(&["run", "--rm", "--entrypoint", "/bin/subject", &image.slim(), "cat", path]);
    assert_eq!(status("/www/about.html"), "<p>about</p>");
    assert_eq!(image.nameless_results(), "");
}

const WHILE_SETTLING: &str = "put to the slim image while the run settled";

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn what_is_touched_on_the_way_down_is_in_the_image_that_is_verified() {
    let image = Source::default().with("data/last.txt", "the last\n").load("down");
    let done = Build::of(&image).args(&["--http-probe", "--settle", "5s"]).run().ended(0);
    assert!(!done.stderr.contains(WHILE_SETTLING), "{}", done.stderr);
    assert!(done.kept().iter().any(|path| path == "/data/last.txt"), "{:?}", done.kept());
    assert_eq!(image.nameless_results(), "");
    // A trial that is not over when that is known is broken off, and leaves nothing either.
    let done = Build::of(&image).args(&["--http-probe", "--exec", "/bin/subject nap 3"]).run().ended(0);
    assert!(!done.stderr.contains(WHILE_SETTLING) && done.stderr.contains("VERIFIED"), "{}", done.stderr);
    assert!(done.kept().iter().any(|path| path == "/data/last.txt"), "{:?}", done.kept());
    // The same server, with nothing to read there, or with something that two runs would fight for.
    let image = Image::new("settled");
    let done = Build::of(&image).args(&["--http-probe"]).run().ended(0);
    assert!(done.stderr.contains(WHILE_SETTLING), "{}", done.stderr);
    for words in [&["--before-run", "true"], &["--repeat", "2"], &["--publish-port", "127.0.0.1::8080"]] {
        let done = Build::of(&image).args(&["--http-probe"]).args(words).run().ended(0);
        assert!(!done.stderr.contains(WHILE_SETTLING), "{words:?}: {}", done.stderr);
    }
}

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn the_numbers_of_a_report_add_up_with_each_other_and_the_engine() {
    let image = Image::new("numbers");
    let done = Build::of(&image).args(&["--http-probe"]).run().ended(0);
    let report = done.report();
    let number = |value: &Value| value.as_u64().unwrap();
    let size = |name: &str| docker(&["image", "inspect", "--format", "{{.Size}}", name]).parse::<u64>().unwrap();
    assert_eq!(number(&report["source"]["size_bytes"]), size(&image.name));
    assert_eq!(number(&report["result"]["size_bytes"]), size(&image.slim()));
    assert_eq!((number(&report["source"]["layers"]), number(&report["result"]["layers"])), (1, 1));
    let kept = report["kept"].as_array().unwrap();
    let reasons = report["reasons"].as_array().unwrap();
    for path in kept {
        let named = path["reasons"].as_array().unwrap();
        assert!(!named.is_empty(), "{path} has no reason");
        assert!(named.iter().all(|n| number(n) < reasons.len() as u64), "{path} has a reason that is not listed");
    }
    let files = || kept.iter().filter(|path| path["kind"] != "directory");
    let bytes: u64 = files().filter(|path| path["same_as"].is_null()).map(|path| number(&path["size"])).sum();
    let removed = &report["removed"];
    assert_eq!(number(&report["source"]["content_bytes"]), bytes + number(&removed["bytes"]));
    assert_eq!(number(&report["source"]["files"]), files().count() as u64 + number(&removed["files"]));
    assert_eq!(number(&report["result"]["content_bytes"]), bytes);
    assert_eq!(number(&report["result"]["files"]), files().count() as u64);
    let groups = removed["groups"].as_array().unwrap();
    assert_eq!(groups.iter().map(|group| number(&group["files"])).sum::<u64>(), number(&removed["files"]));
    assert_eq!(groups.iter().map(|group| number(&group["bytes"])).sum::<u64>(), number(&removed["bytes"]));
    let list = std::fs::read_to_string(done.work().join("slim.report.removed.jsonl")).unwrap();
    let listed: Vec<Value> = list.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let listed_files = listed.iter().filter(|path| path["kind"] != "directory").count() as u64;
    assert_eq!(listed_files, number(&removed["files"]));
    assert!(listed.iter().any(|path| path["path"] == "/www/unlinked.html"), "{list}");
    let phases: Vec<&str> =
        report["phases"].as_array().unwrap().iter().map(|phase| phase["name"].as_str().unwrap()).collect();
    assert_eq!(phases, ["record", "probe", "decide", "pack", "load", "verify"]);
}

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn a_report_tells_afterwards_why_and_shows_itself() {
    let image = Image::new("afterwards");
    let done = Build::of(&image).args(&["--http-probe"]).run().ended(0);
    let (code, shown, _) = done.then(&["report", "show", "slim.report.json"]);
    assert!(code == 0 && shown.starts_with("VERIFIED: 4 probes, 5 answers: 5 whole\n"), "{shown}");
    for subject in ["slim.report.json", &image.slim()] {
        let (code, why, error) = done.then(&["why", subject, "/www/about.html"]);
        assert!(code == 0 && why.contains("GET /about.html") && why.contains("/bin/subject"), "{why}{error}");
        let (code, why, _) = done.then(&["why", subject, "/www/unlinked.html"]);
        assert!(code == 1 && why.contains("not kept: never touched"), "{why}");
    }
    let (code, _, error) = done.then(&["why", &image.name, "/www/about.html"]);
    assert!(code == 1 && error.contains("was not made by slim"), "{error}");
}

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn commands_are_recorded_and_compared_with_status_and_output() {
    let image = Source::default().cmd(&["wait"]).load("exec");
    let done = Build::of(&image).args(&["--exec", "/bin/subject cat /data/a.txt"]).run().ended(0);
    assert_eq!(done.report()["verdict"]["line"], "VERIFIED: 1 probe, 1 answer: 1 whole");
    let kept = done.kept();
    assert!(kept.iter().any(|path| path == "/data/a.txt"), "{kept:?}");
    assert!(!kept.iter().any(|path| path == "/data/b.txt"), "{kept:?}");
    let done = Build::of(&image).args(&["--exec", "/bin/subject cat /data/none"]).run().ended(3);
    done.says(&["cat /data/none", "status 1, expected 0"]);
}

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn a_program_that_exits_is_its_own_probe() {
    let image = Source::default().cmd(&["say", "64", "nothing"]).load("run");
    let done = Build::of(&image).args(&["--", "cat", "/data/b.txt"]).run().ended(0);
    let report = done.report();
    assert_eq!(report["verdict"]["line"], "VERIFIED: 1 probe, 1 answer: 1 whole");
    let answer = &report["probes"][0];
    assert_eq!((&answer["kind"], &answer["baseline"]["status"]), (&"run".into(), &0.into()));
    assert_eq!(answer["baseline"]["body"]["length"], "content of b\n".len());
    assert!(done.kept().iter().any(|path| path == "/data/b.txt"));
    // The arguments were for the run: the image has its own.
    let config = docker(&["image", "inspect", "--format", "{{json .Config.Cmd}}", &image.slim()]);
    assert_eq!(config, r#"["say","64","nothing"]"#);
}

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn the_time_in_a_page_is_masked_and_the_rest_of_it_compared() {
    let image = Image::new("time");
    let words = ["--http-probe-cmd", "/time", "--http-probe-cmd", "/boot", "--http-probe-crawl=false"];
    let done = Build::of(&image).args(&words).run().ended(0);
    let report = done.report();
    assert_eq!(report["verify"]["compared"]["masked"], 2, "{}", report["verify"]);
    assert_eq!(verdict(&report).0, "verified");
}

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn an_original_that_answers_by_chance_is_flaky() {
    let image = Image::new("coin");
    let words = ["--http-probe-cmd", "/coin?1", "--http-probe-cmd", "/coin?2", "--http-probe-cmd", "/coin?3"];
    let done = Build::of(&image).args(&words).run().ended(3);
    assert!(done.stderr.contains("\nFLAKY: the original image answers differently"), "{}", done.stderr);
    assert_eq!(verdict(&done.report()).0, "flaky");
    assert!(!has_image(&image.slim()));
    assert!(has_image(&image.beside(".slim:1-unverified")));
}

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn what_behaves_differently_gets_no_tag_but_its_own() {
    let image = Image::new("differs");
    let good = Build::of(&image).args(&["--http-probe", "-q"]).run().ended(0);
    let id = id_of(&image.slim());
    assert_eq!(good.stdout, format!("{}@{id}\n", image.slim()));
    let words = ["--http-probe", "--exclude-pattern", "/www/about.html", "-o", "image.tar"];
    let done = Build::of(&image).args(&words).run().ended(5);
    let done = done.says(&[
        "\nFAILED: 1 of 5 answers differs: GET /about.html\n",
        &format!("{} is still the result of an earlier build", image.slim()),
        "status 200",
        "status 404",
    ]);
    assert_eq!(id_of(&image.slim()), id, "the older result has to stay");
    assert!(has_image(&image.beside(".slim:1-unverified")));
    assert!(!done.work().join("image.tar").exists());
    let report = done.report();
    assert_eq!(verdict(&report), ("failed", "FAILED: 1 of 5 answers differs: GET /about.html", 5));
    let difference = &report["verify"]["differences"][0];
    assert_eq!(difference["request"], "GET /about.html");
    assert_eq!((&difference["expected"], &difference["got"]), (&"status 200".into(), &"status 404".into()));
    assert_eq!(report["result"]["ref"], image.beside(".slim:1-unverified"));
}

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn a_slim_image_that_cannot_start_is_a_finding_about_it() {
    let image = Image::new("unable");
    let done = Build::of(&image).args(&["--http-probe", "--exclude-pattern", "/bin/subject"]).run().ended(5);
    let done = done.says(&["FAILED:", "/bin/subject"]);
    assert_eq!(done.report()["verdict"]["kind"], "failed");
}

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn what_was_not_compared_is_called_unverified() {
    let image = Image::new("unverified");
    let done = Build::of(&image).args(&["--http-probe", "--no-verify"]).run().ended(0);
    let done = done.says(&["\nUNVERIFIED: --no-verify; 5 of 5 answers passed while recording\n"]);
    let report = done.report();
    assert_eq!((verdict(&report).0, verdict(&report).2), ("unverified", 0));
    assert!(report["verify"].is_null());
    assert!(has_image(&image.slim()));
}
