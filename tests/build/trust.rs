//! Trust: what a build says of how far it can be trusted, and what it does not wait for.

use std::time::{Duration, Instant};

use crate::support::{Build, Image, Source, has_image};

/// A site of pages that answer by their file and pages that need none; one page is linked from another only.
fn site() -> Source {
    let pages: Vec<String> = (0..6).map(|n| format!("<a href=\"/page{n}.html\">{n}</a><a href=\"/env?{n}\">e</a>")).collect();
    let mut source = Source::default();
    source.files.retain(|(path, _)| path != "www/index.html");
    let source = source.with("www/index.html", &pages.concat());
    let source = (0..6).fold(source, |source, n| source.with(&format!("www/page{n}.html"), &format!("<a href=\"/deep{n}.html\">{n}</a>\n")));
    (0..6).fold(source, |source, n| source.with(&format!("www/deep{n}.html"), &format!("deep {n}\n")))
}

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn what_is_kept_out_of_the_recording_is_an_estimate_and_then_repaired() {
    let image = site().load("holdout");
    let done = Build::of(&image).args(&["--http-probe", "--holdout", "0.5", "--holdout-seed", "7"]).run().ended(0);
    let report = done.report();
    let held = &report["holdout"];
    assert_eq!((&held["fraction"], &held["seed"]), (&0.5.into(), &7.into()));
    let names: Vec<&str> = held["names"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    let by_file = names.iter().filter(|name| name.ends_with(".html")).count();
    let without = names.len() - by_file;
    assert!(by_file > 0 && without > 0, "{names:?}");
    assert_eq!((&held["kept_out"], &held["passed"]), (&names.len().into(), &without.into()));
    assert_eq!(held["failures"].as_array().unwrap().len(), by_file);
    assert_eq!(held["failures"][0]["got"], "status 404");
    let score = format!("; kept-out probes passed {without} of {}", names.len());
    let line = report["verdict"]["line"].as_str().unwrap();
    assert!(line.starts_with("VERIFIED: ") && line.ends_with(&score), "{line}");
    // Every page was found although half of those that lead on were kept out, and all are in the result.
    let asked = report["probes"].to_string();
    let kept = done.kept();
    for n in 0..6 {
        for page in [format!("/page{n}.html"), format!("/deep{n}.html")] {
            assert!(asked.contains(&format!("\"GET {page}\"")), "{page} was not asked");
            assert!(kept.contains(&format!("/www{page}")), "{page} is not kept");
        }
    }
    assert_eq!(report["rounds"].as_array().unwrap().len(), 2);
    assert_eq!(report["verify"]["differences"].as_array().unwrap().len(), 0);
    // Drawn by the seed alone.
    let again = Build::of(&image).args(&["--http-probe", "--holdout", "0.5", "--holdout-seed", "7"]).run().ended(0);
    assert_eq!(again.report()["holdout"], *held);
}

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn what_is_kept_out_and_answers_all_the_same_needs_no_second_image() {
    let image = Image::new("holdout-passes");
    let words = ["--http-probe-cmd", "/", "--http-probe-cmd", "/env", "--http-probe-cmd", "/time", "--http-probe-crawl=false"];
    let done = Build::of(&image).args(&words).args(&["--holdout", "1"]).run().ended(0);
    let report = done.report();
    let kept_out = report["holdout"]["names"].as_array().unwrap().len();
    assert!(kept_out >= 2, "{}", report["holdout"]);
    assert_eq!((&report["holdout"]["passed"], &report["holdout"]["kept_out"]), (&kept_out.into(), &kept_out.into()));
    assert_eq!(report["rounds"].as_array().unwrap().len(), 1);
    assert!(report["verdict"]["line"].as_str().unwrap().ends_with(&format!("; kept-out probes passed {kept_out} of {kept_out}")), "{}", report["verdict"]);
}

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn repeated_recordings_say_whether_another_one_would_find_more() {
    let image = Image::new("saturation");
    let done = Build::of(&image).args(&["--http-probe", "--repeat", "2"]).run().ended(0);
    let report = done.report();
    let line = report["verdict"]["line"].as_str().unwrap();
    assert!(line.ends_with("; last run: no new path"), "{line}");
}

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn the_floor_is_what_was_really_opened() {
    let image = Image::new("floor");
    let words = ["--http-probe", "--include-path", "/data/b.txt"];
    let done = Build::of(&image).args(&words).run().ended(0);
    let report = done.report();
    let size = |path: &str| {
        let kept = report["kept"].as_array().unwrap().iter().find(|kept| kept["path"] == path).unwrap();
        kept["size"].as_u64().unwrap()
    };
    let opened = ["/bin/subject", "/www/index.html", "/www/about.html"].map(size).iter().sum::<u64>();
    assert_eq!(report["floor_bytes"], opened);
    assert_eq!(report["result"]["content_bytes"].as_u64().unwrap(), opened + size("/data/b.txt"));
    done.says(&["  floor "]);
}

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn a_slim_image_that_does_not_come_to_an_answer_is_not_waited_for() {
    let image = Image::new("patient");
    // Readiness asks the first probe.
    let words = ["--http-probe-cmd", "/", "--http-probe-cmd", "/patient", "--http-probe-crawl=false"];
    let began = Instant::now();
    let done = Build::of(&image).args(&words).args(&["--exclude-pattern", "/data/b.txt", "--verify-timeout", "3s"]).run().ended(5);
    assert!(began.elapsed() < Duration::from_secs(55), "{:?}", began.elapsed());
    let report = done.says(&["FAILED: all answers: expected as the original, after "]).report();
    let got = report["verify"]["differences"][0]["got"].as_str().unwrap();
    assert!(got.contains("missing after 3 s, the first is GET /patient (--verify-timeout)"), "{got}");
    assert!(!has_image(&image.slim()));
}

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn what_only_the_slim_image_complains_about_is_a_warning() {
    let image = Image::new("grumble");
    let words = ["--http-probe-cmd", "/grumble", "--http-probe-crawl=false"];
    let done = Build::of(&image).args(&words).args(&["--exclude-pattern", "/data/b.txt"]).run().ended(0);
    done.says(&["only the slim image logs: error: cannot read /data/b.txt", "VERIFIED"]);
    let done = Build::of(&image).args(&words).run().ended(0);
    assert!(!done.stderr.contains("only the slim image logs"), "{}", done.stderr);
}
