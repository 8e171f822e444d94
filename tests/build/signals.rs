//! Signals: a build that is interrupted in any stage ends soon, with its status, and takes everything along.

use crate::support::{Act, Build, Image, Source, docker, has_image, left_of, until};

/// The stages that a build announces.
const STAGES: [&str; 6] = ["record", "probe", "decide", "pack", "load", "verify"];

fn phase(name: &str) -> String {
    format!("\"event\":\"phase\",\"name\":\"{name}\"")
}

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn an_interrupt_in_any_stage_leaves_nothing() {
    signalled("INT", 130, &STAGES);
}

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn a_termination_in_any_stage_leaves_nothing() {
    signalled("TERM", 143, &STAGES);
}

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn a_terminal_that_goes_away_and_a_quit_leave_nothing() {
    signalled("HUP", 129, &["record", "pack", "verify"]);
    signalled("QUIT", 131, &["record", "pack", "verify"]);
}

fn signalled(signal: &str, code: i32, stages: &[&str]) {
    let image = Image::new("signalled");
    for stage in stages {
        let mut run = Build::of(&image).args(&["--http-probe", "--json", "-o", "image.tar"]).start();
        assert!(run.until_line(&phase(stage)), "{stage} never began");
        run.signal(signal);
        let done = run.end().ended(code);
        assert!(done.run.is_some(), "{stage}");
        assert!(!has_image(&image.slim()), "{stage}");
        assert!(!done.work().join("image.tar").exists(), "{stage}");
        assert_eq!(image.nameless_results(), "", "{stage}");
        let containers = docker(&["ps", "-aq", "--filter", &format!("ancestor={}", image.id)]);
        assert_eq!(containers, "", "{stage}");
    }
}

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn a_second_interrupt_does_not_stop_the_cleaning_up() {
    let image = Image::new("twice");
    for stage in ["record", "verify"] {
        let mut run = Build::of(&image).args(&["--http-probe", "--json"]).start();
        assert!(run.until_line(&phase(stage)), "{stage} never began");
        run.signal("INT");
        run.signal("INT");
        run.end().ended(130);
        assert_eq!(image.nameless_results(), "", "{stage}");
    }
}

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn waiting_for_a_target_is_interrupted_at_once() {
    let image = Source::default().cmd(&["wait"]).load("waiting");
    let words = ["--http-probe", "--expose", "8080", "--ready-timeout", "300s", "--json", "--show-clogs"];
    let mut run = Build::of(&image).args(&words).start();
    assert!(run.until_line("subject: waiting"));
    run.signal("INT");
    run.end().ended(130);
}

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn a_build_of_a_dockerfile_is_interrupted_with_its_containers() {
    let command = format!("sleep 300; echo {}", std::process::id());
    let running = || docker(&["ps", "--no-trunc", "--format", "{{.Command}}"]).contains(&command);
    for (signal, code) in [("INT", 130), ("TERM", 143), ("HUP", 129)] {
        let build = Build::new(&["build", "--dockerfile", "context", "--http-probe"]);
        let run = build.file("context/Dockerfile", &format!("FROM slim-fixture/base\nRUN {command}\n")).start();
        until("the build's container runs", running);
        run.signal(signal);
        run.end().ended(code);
        until("the build's container is gone", || !running());
    }
}

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn the_recording_ends_by_itself_when_its_controller_is_killed() {
    let image = Source::default().cmd(&["wait"]).load("killed");
    let words = ["--http-probe", "--expose", "8080", "--ready-timeout", "300s", "--json", "--show-clogs"];
    let mut run = Build::of(&image).args(&words).start();
    assert!(run.until_line("subject: waiting"));
    // One that was created and not started yet would stay: nobody is left to start it.
    let both = || docker(&["ps", "-q", "--filter", &format!("ancestor={}", image.id)]).lines().count() == 2;
    until("the target and the image reader run", both);
    run.signal("KILL");
    let done = run.end();
    assert_eq!(done.code, 137);
    let run = done.run.unwrap();
    let label = format!("label=slim.run={run}");
    until("the containers are gone", || docker(&["ps", "-aq", "--filter", &label]).is_empty());
    // Nobody is left to remove the volume, until somebody comes: this fails for want of an image, and cleans up.
    Build::new(&["build", "slim-test/nosuch:1", "--http-probe"]).run().ended(1);
    until("the volume is gone", || left_of(&run).is_empty());
}

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn what_a_run_needs_is_not_taken_away_by_another() {
    let image = Source::default().cmd(&["wait"]).load("alive");
    let words = ["--http-probe", "--expose", "8080", "--ready-timeout", "300s", "--json", "--show-clogs"];
    let mut run = Build::of(&image).args(&words).start();
    assert!(run.until_line("subject: waiting"));
    Build::new(&["build", "slim-test/nosuch:1", "--http-probe"]).run().ended(1);
    let id = run.run_id().unwrap();
    let label = format!("label=slim.run={id}");
    assert!(!docker(&["ps", "-q", "--filter", &label]).is_empty() && !docker(&["volume", "ls", "-q", "--filter", &label]).is_empty());
    run.signal("INT");
    run.end().ended(130);
}

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn sigusr1_that_comes_early_counts() {
    let image = Image::new("early");
    let mut run = Build::of(&image).args(&["--http-probe", "--json", "--continue-after", "signal"]).start();
    assert!(run.until_line(&phase("record")));
    run.signal("USR1");
    run.end().ended(0);
    let mut run = Build::of(&image).args(&["--http-probe", "--json"]).start();
    assert!(run.until_line(&phase("record")));
    run.signal("USR1");
    run.end().ended(0);
}

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn signals_between_the_stages_leave_nothing() {
    let image = Image::new("between");
    let words = ["build", &image.name, "--http-probe", "--json"];
    let absent = ["build", "slim-test/nosuch:1", "--http-probe", "--pull"];
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        for (request, words) in [("/version", &words[..]), ("/images/create", &absent), ("-search-", &words)] {
            let run = Build::acting(words, Act::Hold, request).start();
            run.until_held();
            run.signal(signal);
            // Some requests are waited for, so that nobody has to ask what became of them.
            std::thread::sleep(std::time::Duration::from_millis(200));
            run.release();
            let done = run.end().ended(code);
            assert_eq!((image.nameless_results().as_str(), has_image(&image.slim())), ("", false), "{request}: {}", done.stderr);
        }
        let mut run = Build::of(&image).args(&["--http-probe", "--json", "--repeat", "3"]).start();
        assert!(run.until_line("recording run 2"));
        run.signal(signal);
        run.end().ended(code);
    }
}
