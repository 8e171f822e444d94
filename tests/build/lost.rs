//! Lost: the engine goes away in the middle of a build.

use crate::support::proxy::Act;
use crate::support::{Build, Done, Image, OwnEngine, Running, Source, docker, has_image, left_of, until};

/// What an engine that was gone could not be asked to remove, the next run removes.
fn clear(done: &Done) {
    let Some(run) = &done.run else { return };
    Build::new(&["build", "slim-test/nosuch:1", "--http-probe"]).run().ended(1);
    // Others that run at the same time may be at it, too.
    until("what the run left is gone", || left_of(run).is_empty());
}

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn an_engine_that_goes_away_is_worth_trying_again() {
    let image = Image::new("lost");
    for trigger in ["/volumes/create", "-record-", "/start", "/images/load", "-verify-", "/tag?"] {
        let done = Build::cut_at(&image, trigger).args(&["--http-probe"]).run();
        clear(&done);
        assert_eq!(done.code, 75, "{trigger}: {}", done.stderr);
        let errors: Vec<&str> = done.stderr.lines().filter(|line| line.starts_with("slim: ")).collect();
        assert_eq!(errors.len(), 1, "{trigger}: {}", done.stderr);
        assert!(errors[0].contains("engine"), "{trigger}: {}", done.stderr);
        assert!(!has_image(&image.slim()), "{trigger}");
        assert_eq!(done.report()["exit"]["code"], 75, "{trigger}");
    }
}

/// A recording of a target that never gets ready, under way.
fn waiting(image: &Image) -> Running {
    let words = ["--http-probe", "--expose", "8080", "--ready-timeout", "300s", "--json", "--show-clogs"];
    let mut run = Build::of(image).args(&words).start();
    assert!(run.until_line("subject: waiting"));
    run
}

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn an_engine_that_goes_away_while_a_target_runs_is_worth_trying_again() {
    let image = Source::default().cmd(&["wait"]).load("away");
    let run = waiting(&image);
    run.cut();
    let done = run.end();
    clear(&done);
    assert_eq!(done.code, 75, "{}", done.stderr);
    assert!(done.stderr.contains("engine"), "{}", done.stderr);
}

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn a_recording_that_is_killed_is_incomplete() {
    let image = Source::default().cmd(&["wait"]).load("cut-short");
    let run = waiting(&image);
    let label = format!("label=slim.run={}", run.run_id().unwrap());
    let recording = || docker(&["ps", "-q", "--filter", &label, "--filter", "name=record"]);
    // A target's first words can come before the engine says that its container runs.
    until("the recording runs", || !recording().is_empty());
    docker(&["kill", &recording()]);
    let done = run.end().ended(4).says(&["the recording is incomplete: the sensor ended before"]);
    let report = done.report();
    assert_eq!((&report["exit"]["code"], &report["trace"]["complete"]), (&4.into(), &false.into()));
    assert!(report["trace"]["why"].as_str().is_some_and(|why| why.contains("the sensor ended before")), "{}", report["trace"]);
    assert!(!has_image(&image.slim()));
}

#[test]
#[ignore = "needs root and dockerd: tests/run has both"]
fn an_engine_that_is_restarted_in_the_middle_is_worth_trying_again() {
    let mut engine = OwnEngine::start();
    let image = Source::default().cmd(&["wait"]).load("restarted");
    engine.take(&image.name);
    let words = ["--exec", "/bin/subject cat /data/a.txt", "--continue-after", "timeout:300s", "--json", "--show-clogs"];
    let mut run = Build::of(&image).args(&words).env("DOCKER_HOST", &engine.host()).start();
    assert!(run.until_line("going on until"));
    engine.restart();
    let done = run.end().ended(75);
    assert!(done.stderr.contains("engine"), "{}", done.stderr);
    // The next one finds a clean table, and works.
    let words = ["--exec", "/bin/subject cat /data/a.txt"];
    Build::of(&image).args(&words).env("DOCKER_HOST", &engine.host()).run().ended(0);
    let left = ["ps -aq --filter label=slim.run", "volume ls -q --filter label=slim.run"];
    for list in left {
        assert_eq!(engine.docker(&list.split(' ').collect::<Vec<_>>()), "", "{list}");
    }
    assert_eq!(engine.docker(&["images", "-q", "--filter", "reference=slim-*"]), "");
    assert_eq!(engine.docker(&["images", "-q", "--filter", "dangling=true"]), "");
}

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn a_container_that_ends_before_anybody_waits_for_it_has_ended() {
    let image = Source::default().cmd(&["say", "0", "quick"]).load("quick");
    // The question for its end, which is asked before the start, comes to the engine half a minute late.
    Build::acting(&["build", &image.name], Act::Hold, "condition=next-exit").run().ended(0);
}
