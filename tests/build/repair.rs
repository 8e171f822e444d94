//! Repair: what the slim image looks for and does not find, found and added, although its answers are right.

use crate::support::{Build, Done, Image, Source, docker, has_image, until};

/// A command that opens another file in each of its runs, and never says so.
fn build_by_turns(test: &str, files: &[&str], words: &[&str]) -> (Image, Done) {
    let mut command = vec!["turns", "/state/runs"];
    command.extend(files);
    let source = files.iter().fold(Source::default(), |source, file| source.with(&file[1..], "taken\n"));
    let image = source.cmd(&command).load(test);
    let build = Build::of(&image).file("state/.keep", "");
    let state = format!("{}:/state", build.work().join("state").display());
    let done = build.args(&["-v", &state]).args(words).run();
    (image, done)
}

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn what_the_slim_image_misses_silently_is_added() {
    let files = ["/data/first.txt", "/data/second.txt", "/data/third.txt"];
    let (image, done) = build_by_turns("repair", &files, &[]);
    let done = done.ended(0);
    let report = done.report();
    assert_eq!(report["verdict"]["kind"], "verified");
    // Recorded, compared, searched: the third run is the first that misses something, and so did the second.
    assert_eq!(report["verify"]["repaired"], serde_json::json!(["/data/third.txt"]));
    assert_eq!(report["verify"]["rounds"], 2);
    assert!(report["verify"]["missed"].as_array().unwrap().is_empty());
    assert!(report["verify"]["unsearched"].is_null());
    let rounds = report["rounds"].as_array().unwrap();
    assert_eq!((rounds.len(), &rounds[0]["round"], &rounds[1]["round"]), (2, &1.into(), &2.into()));
    let miss = &rounds[0]["misses"][0];
    assert_eq!((&miss["path"], &miss["process"]), (&"/data/third.txt".into(), &"/bin/subject".into()));
    assert!(!miss["probe"].as_str().unwrap().is_empty(), "{miss}");
    assert!(rounds[1]["misses"].as_array().unwrap().is_empty() && rounds[0]["differences"].as_array().unwrap().is_empty());
    let sizes = [&rounds[0]["size_bytes"], &rounds[1]["size_bytes"]].map(|size| size.as_u64().unwrap());
    assert!(sizes[0] < sizes[1], "{sizes:?}");
    assert_eq!(report["result"]["size_bytes"], sizes[1]);
    let kept = done.kept();
    assert!(kept.contains(&"/data/third.txt".to_owned()) && !kept.contains(&"/data/second.txt".to_owned()), "{kept:?}");
    assert!(has_image(&image.slim()));
}

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn an_image_that_misses_ever_more_is_not_published() {
    let files: Vec<String> = (0..12).map(|n| format!("/data/{n}.txt")).collect();
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    let (image, done) = build_by_turns("ever-more", &files, &["--repair-rounds", "1"]);
    let done = done.ended(5);
    let report = done.report();
    assert_eq!(report["verdict"]["kind"], "failed");
    assert_eq!(report["verify"]["repaired"].as_array().unwrap().len(), 1);
    assert_eq!(report["verify"]["missed"], serde_json::json!(["/data/4.txt"]));
    done.says(&["/bin/subject looks for /data/4.txt", "not in the slim image"]);
    assert!(!has_image(&image.slim()));
}

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn an_original_that_answers_by_chance_does_not_hide_what_is_still_missed() {
    let files: Vec<String> = (0..16).map(|n| format!("/data/{n}.txt")).collect();
    let image = files.iter().fold(Source::default(), |source, file| source.with(&file[1..], "taken\n")).load("chance-misses");
    let build = Build::of(&image).file("state/.keep", "");
    let state = format!("{}:/state", build.work().join("state").display());
    let turns = format!("/bin/subject turns /state/runs {}", files.join(" "));
    let words = ["-v", &state, "--http-probe-cmd", "/coin?1", "--http-probe-cmd", "/coin?2", "--http-probe-cmd", "/coin?3", "--exec", &turns, "--repair-rounds", "1"];
    let done = build.args(&words).run().ended(5);
    let report = done.report();
    assert_eq!(report["verdict"]["kind"], "failed");
    assert_eq!(report["verify"]["repaired"].as_array().unwrap().len(), 1);
    assert_eq!(report["rounds"].as_array().unwrap().len(), 2);
    let missed = report["verify"]["missed"].as_array().unwrap();
    let path = missed[0].as_str().unwrap();
    assert!(missed.len() == 1 && files.iter().any(|file| file == path), "{missed:?}");
    let again = "asking the original image once more";
    done.says(&[again, "FAILED: ", &format!("/bin/subject looks for {path}"), "not in the slim image"]);
    assert!(!has_image(&image.slim()));
}

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn nobody_looks_when_no_repair_is_allowed() {
    let (_image, done) = build_by_turns("no-repair", &["/data/first.txt", "/data/second.txt"], &["--repair-rounds", "0"]);
    let report = done.ended(0).report();
    assert_eq!(report["verify"]["rounds"], 1);
    assert!(report["verify"]["repaired"].as_array().unwrap().is_empty());
}

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn a_search_that_was_cut_short_is_not_taken_for_one_that_found_nothing() {
    let image = Source::default().cmd(&["wait"]).load("cut-search");
    let run = Build::of(&image).args(&["--exec", "/bin/subject nap 4", "--json"]).start();
    // The run has a name as soon as it makes something.
    until("the run has a name", || run.run_id().is_some());
    let label = format!("label=slim.run={}", run.run_id().unwrap());
    let search = || docker(&["ps", "-q", "--filter", &label, "--filter", "name=search"]);
    until("the search runs", || !search().is_empty());
    docker(&["kill", &search()]);
    let done = run.end().ended(0);
    let report = done.report();
    let line = report["verdict"]["line"].as_str().unwrap();
    assert!(line.starts_with("VERIFIED: ") && line.contains("; what it silently misses is not known ("), "{line}");
    assert!(report["verify"]["unsearched"].is_string());
    let warnings = report["warnings"].to_string();
    assert!(warnings.contains("what it does without and never says is not repaired"), "{warnings}");
}
