//! Batch: the images that a settings file lists, made small by one command.

use serde_json::Value;
use crate::support::{Build, Done, Image, Source, docker, has_image, id_of, left_of, until};

/// A settings file with a section for each image.
fn settings(sections: &[(&str, &str)]) -> String {
    let sections = sections.iter().map(|(image, settings)| format!("[image.\"{image}\"]\n{settings}\n"));
    sections.collect()
}

fn events(done: &Done) -> Vec<Value> {
    done.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn last(done: &Done) -> Value {
    events(done).pop().unwrap()
}

fn size(image: &str) -> u64 {
    docker(&["image", "inspect", "--format", "{{.Size}}", image]).parse().unwrap()
}

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn one_that_fails_stops_no_other() {
    let (one, two) = (Image::new("one"), Source::default().with("www/more", "more").load("two"));
    let file = settings(&[(&one.name, ""), ("slim-test/nosuch:1", ""), (&two.name, "repeat = 2")]);
    let build = Build::new(&["build", "--all", "--jobs", "2", "--http-probe"]).file("slim.toml", &file);
    let done = build.run().ended(1);
    assert_eq!(done.runs.len(), 2, "runs that made something");
    let (failed, reason) = ("FAILED       slim-test/nosuch:1 ", "  the engine has no image slim-test/nosuch:1; give --pull to fetch it");
    let (first, second) = (format!("VERIFIED     {}", one.name), format!("VERIFIED     {}", two.name));
    let done = done.says(&[&first, &second, failed, reason, "\n2 of 3 images fine, the others are not\n"]);
    // What each says has its name in front.
    let named = |line: &str| [&one.name, &two.name, "slim-test/nosuch:1"].iter().any(|name| line.starts_with(&format!("{name}: ")));
    let before = done.stderr.split("VERIFIED     ").next().unwrap();
    assert!(before.lines().all(named), "{before}");
    for image in [&one, &two] {
        let file = format!("slim.report.{}.json", image.name.replace(['/', ':'], "_"));
        let report: Value = serde_json::from_slice(&std::fs::read(done.work().join(file)).unwrap()).unwrap();
        assert_eq!((&report["verdict"]["kind"], &report["result"]["digest"]), (&"verified".into(), &id_of(&image.slim()).into()));
    }
}

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn programs_get_every_event_with_its_image_and_figures_of_all() {
    // Two images that differ in nothing but their names have the same layer, and so have the slim ones.
    let (one, two) = (Image::new("first"), Image::new("second"));
    let file = settings(&[(&one.name, "http-probe = true"), (&two.name, "http-probe = true")]);
    let done = Build::new(&["build", "--all", "--jobs", "2", "--json"]).file("slim.toml", &file).run().ended(0);
    let events = events(&done);
    assert_eq!(events[0]["event"], "begin");
    let (batch, of_images) = events[1..].split_last().unwrap();
    assert!(of_images.iter().all(|event| [&one.name, &two.name].contains(&&event["image"].as_str().unwrap().to_owned())));
    for image in [&one, &two] {
        let its = |event: &&Value| event["image"] == image.name.as_str();
        let results: Vec<&Value> = of_images.iter().filter(its).filter(|event| event["event"] == "result").collect();
        assert_eq!((results.len(), &results[0]["ref"]), (1, &image.slim().into()));
    }
    let images = batch["images"].as_array().unwrap();
    for (image, told) in [&one, &two].into_iter().zip(images) {
        assert_eq!((&told["image"], &told["state"]), (&image.name.clone().into(), &"verified".into()));
        assert_eq!((told["before"].as_u64(), told["after"].as_u64()), (Some(size(&image.name)), Some(size(&image.slim()))));
    }
    let unique = serde_json::json!({"images": 2, "before": size(&one.name), "after": size(&one.slim())});
    assert_eq!((&batch["event"], &batch["unique_bytes"], &batch["exit"]), (&"batch".into(), &unique, &0.into()));

    let quiet = Build::new(&["build", "--all", "-q", "--rebuild=false"]).file("slim.toml", &file).run().ended(0);
    let mut lines: Vec<&str> = quiet.stdout.lines().collect();
    lines.sort_unstable();
    assert_eq!((lines, quiet.stderr.as_str()), (vec![&*format!("{}@{}", one.slim(), id_of(&one.slim())), &*format!("{}@{}", two.slim(), id_of(&two.slim()))], ""));
    assert_eq!(quiet.runs, [""; 0], "something was built");
}

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn an_interrupt_ends_all_and_leaves_nothing() {
    let waiting = || Source::default().cmd(&["wait"]).load("interrupted");
    let (one, two, three) = (waiting(), waiting(), waiting());
    let each = "expose = [\"8080\"]\nready-timeout = \"300s\"\nshow-clogs = true";
    let file = settings(&[(&one.name, each), (&two.name, each), (&three.name, each)]);
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let build = Build::new(&["build", "--all", "--jobs", "2", "--http-probe", "--json"]).file("slim.toml", &file);
        let mut run = build.start();
        assert!(run.until_line("subject: waiting"));
        assert!(run.until_line("subject: waiting"));
        run.signal(signal);
        let done = run.end().ended(code);
        assert_eq!(done.runs.len(), 2, "more than two at a time");
        let batch = last(&done);
        let states: Vec<&str> = batch["images"].as_array().unwrap().iter().map(|image| image["state"].as_str().unwrap()).collect();
        assert_eq!((states, &batch["exit"]), (vec!["interrupted", "interrupted", "not_started"], &code.into()));
        for image in [&one, &two, &three] {
            let containers = docker(&["ps", "-aq", "--filter", &format!("ancestor={}", image.id)]);
            assert_eq!((containers.as_str(), has_image(&image.slim())), ("", false));
        }
    }
}

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn what_a_killed_batch_runs_cleans_up_by_itself() {
    let image = Source::default().cmd(&["wait"]).load("orphan");
    let file = settings(&[(&image.name, "expose = [\"8080\"]\nready-timeout = \"300s\"\nshow-clogs = true")]);
    let mut run = Build::new(&["build", "--all", "--http-probe", "--json"]).file("slim.toml", &file).start();
    assert!(run.until_line("subject: waiting"));
    run.signal("KILL");
    let done = run.end();
    assert_eq!(done.code, 137);
    until("everything is gone", || done.runs.iter().all(|run| left_of(run).is_empty()));
}
