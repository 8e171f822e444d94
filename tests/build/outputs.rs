//! Outputs: names, archives, what is printed, and that the same build gives the same image.

use std::process::Command;

use serde_json::Value;

use crate::support::{Act, Build, Done, Image, docker, has_image, id_of};

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn a_dockerfile_is_built_first_and_both_images_are_named() {
    let image = Image::new("dockerfile");
    let (fat, slim) = (image.beside(":fat"), image.beside(":slim"));
    let dockerfile = format!("FROM {}\nARG PAGE\nCOPY ${{PAGE}} /www/index.html\n", image.name);
    let build = Build::new(&["build", "--dockerfile", "context", "--build-arg", "PAGE=page.html"]);
    let build = build.file("context/Dockerfile", &dockerfile).file("context/page.html", "<p>built</p>\n");
    let done = build.args(&["--tag-fat", &fat, "--tag", &slim, "--http-probe"]).run().ended(0);
    assert_eq!(docker(&["run", "--rm", &slim, "cat", "/www/index.html"]), "<p>built</p>");
    let report = done.report();
    assert_eq!((&report["source"]["ref"], &report["source"]["digest"]), (&fat.clone().into(), &id_of(&fat).into()));
    assert!(!has_image(&image.slim()));
    let broken = Build::new(&["build", "--dockerfile", "context", "--http-probe", "--tag", &image.beside(":none")]);
    let done = broken.file("context/Dockerfile", &format!("FROM {}\nCOPY missing /\n", image.name)).run().ended(1);
    done.says(&["build the Dockerfile", "missing"]);
    assert!(!has_image(&image.beside(":none")));
}

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn an_archive_is_read_by_docker_and_as_either_format_by_skopeo() {
    let image = Image::new("archive");
    let done = Build::of(&image).args(&["--http-probe", "-o", "image.tar"]).run().ended(0);
    let (id, file) = (id_of(&image.slim()), done.work().join("image.tar"));
    let file = file.to_str().unwrap();
    docker(&["rmi", &image.slim()]);
    docker(&["load", "-i", file]);
    assert_eq!(id_of(&image.slim()), id);
    for format in ["docker-archive", "oci-archive"] {
        let copy = format!("dir:{}", done.work().join(format).display());
        let copied = Command::new("skopeo").args(["--insecure-policy", "copy", "-q", &format!("{format}:{file}"), &copy]).output();
        let copied = copied.expect("skopeo is needed");
        assert!(copied.status.success(), "{format}: {}", String::from_utf8_lossy(&copied.stderr));
        let manifest = std::fs::read(done.work().join(format).join("manifest.json")).unwrap();
        let manifest: Value = serde_json::from_slice(&manifest).unwrap();
        assert_eq!(manifest["config"]["digest"], id, "{format}");
        assert_eq!(manifest["layers"].as_array().unwrap().len(), 1);
    }
    assert_eq!(done.report()["result"]["archive"], "image.tar");
}

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn quiet_prints_the_results_and_nothing_else() {
    let image = Image::new("quiet");
    let (one, two) = (image.beside(":one"), image.beside(":two"));
    let done = Build::of(&image).args(&["--http-probe", "-q", "-t", &one, "-t", &two]).run().ended(0);
    let id = id_of(&one);
    assert_eq!(done.stdout, format!("{one}@{id}\n{two}@{id}\n"));
    assert_eq!(done.stderr, "");
    let done = Build::of(&image).args(&["--http-probe-cmd", "/none", "-q", "--report", "off"]).run().ended(3);
    assert_eq!(done.stdout, "");
    assert!(done.stderr.starts_with("slim: ") && done.stderr.lines().count() == 1, "{}", done.stderr);
    assert!(!done.work().join("slim.report.json").exists());
}

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn json_lines_tell_the_whole_build() {
    let image = Image::new("json");
    let done = Build::of(&image).args(&["--http-probe", "--json"]).run().ended(0);
    assert_eq!(done.stderr, "");
    let events: Vec<Value> = done.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let named = |name: &'static str| events.iter().filter(move |event| event["event"] == name);
    assert_eq!((&events[0]["event"], &events[0]["schema"]), (&"begin".into(), &"slim.events/1".into()));
    let phases: Vec<&str> = named("phase").map(|event| event["name"].as_str().unwrap()).collect();
    assert_eq!(phases, ["record", "probe", "decide", "pack", "load", "verify"]);
    assert_eq!(named("phase_done").count(), phases.len());
    let summary = named("summary").next().unwrap();
    assert_eq!((&summary["verdict"]["kind"], &summary["exit"]["code"]), (&"verified".into(), &0.into()));
    let result = named("result").next().unwrap();
    assert_eq!((&result["ref"], &result["digest"]), (&image.slim().into(), &id_of(&image.slim()).into()));
    let done = Build::of(&image).args(&["--http-probe-cmd", "/none", "--json"]).run().ended(3);
    let last: Value = serde_json::from_str(done.stdout.lines().last().unwrap()).unwrap();
    assert_eq!((&last["event"], &last["exit"]), (&"error".into(), &3.into()));
}

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn the_same_build_twice_and_at_once_gives_the_same_image() {
    let image = Image::new("same");
    let names = [image.beside(":first"), image.beside(":second"), image.beside(":third")];
    let build = |name: &str| Build::of(&image).args(&["--http-probe", "-t", name]);
    build(&names[0]).run().ended(0);
    let both = [build(&names[1]).start(), build(&names[2]).start()];
    for run in both {
        run.end().ended(0);
    }
    let ids: Vec<String> = names.iter().map(|name| id_of(name)).collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
}

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn copies_of_the_report_go_where_they_are_asked_to() {
    let image = Image::new("artifacts");
    let done = Build::of(&image).args(&["--http-probe", "--copy-meta-artifacts", "a/b", "--report", "r.json"]).run().ended(0);
    let read = |path: &str| std::fs::read_to_string(done.work().join(path)).unwrap();
    let (copy, report): (Value, Value) =
        (serde_json::from_str(&read("a/b/slim.report.json")).unwrap(), serde_json::from_str(&read("r.json")).unwrap());
    assert_eq!(copy["kept"], report["kept"]);
    assert_eq!(read("a/b/slim.report.removed.jsonl"), read("r.removed.jsonl"));
    let trace = read("a/b/slim.trace");
    assert!(trace.starts_with("{\"t\":\"trace\"") && trace.contains("/www/about.html"), "{trace}");
    // It is one that a build takes.
    let again = Build::of(&image).file("slim.trace", &trace).args(&["--exec", "/bin/subject cat /data/a.txt", "--trace", "slim.trace"]);
    assert!(again.run().ended(0).kept().contains(&"/www/about.html".to_owned()));
}

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn figures_of_the_result_are_those_of_its_layer() {
    let image = Image::new("figures");
    let done = Build::of(&image).args(&["--http-probe", "-o", "image.tar"]).run().ended(0);
    let report = done.report();
    let layer = gzipped_layer(&done);
    let compressed = report["result"]["compressed_bytes"].as_u64().unwrap();
    assert!(compressed.abs_diff(layer) < layer / 20, "{compressed}, and gzip -6 makes {layer} of it");
    assert!(report["source"]["compressed_bytes"].is_null(), "the engine keeps it unpacked");
    let phases = report["phases"].as_array().unwrap();
    let archive = std::fs::metadata(done.work().join("image.tar")).unwrap().len();
    for (name, least) in [("record", 500), ("pack", 500), ("load", archive - 2048)] {
        let phase = phases.iter().find(|phase| phase["name"] == name).unwrap();
        assert!(phase["bytes"].as_u64().is_some_and(|bytes| bytes >= least), "{phase}");
    }
    assert!(report["trace"]["events"].as_u64().unwrap() > 0);
}

/// What gzip makes of the one layer in `image.tar`.
fn gzipped_layer(done: &Done) -> u64 {
    let mut archive = tar::Archive::new(std::fs::File::open(done.work().join("image.tar")).unwrap());
    let sizes = archive.entries().unwrap().map(|entry| entry.unwrap()).map(|entry| (entry.size(), entry.path().unwrap().into_owned()));
    let (_, layer) = sizes.max().unwrap();
    let command = format!("tar -xOf image.tar {} | gzip -6 | wc -c", layer.display());
    let output = Command::new("sh").args(["-c", &command]).current_dir(done.work()).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
}

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn quiet_says_on_stderr_why_nothing_was_published() {
    let image = Image::new("quiet-differs");
    let done = Build::of(&image).args(&["--http-probe", "-q", "--exclude-pattern", "/www/about.html"]).run().ended(5);
    assert_eq!((done.stdout.as_str(), done.stderr.as_str()), ("", "slim: FAILED: 1 of 5 answers differs: GET /about.html\n"));
}

/// Two names, one of them another image's already, and the second cannot be given.
fn half_named(test: &str, act: Act) -> (Image, [String; 2], Build) {
    let image = Image::new(test);
    let names = [image.beside(":older"), image.beside(":second")];
    docker(&["tag", &image.name, &names[0]]);
    let words = ["build", &image.name, "--http-probe", "-t", &names[0], "-t", &names[1], "-o", "image.tar"];
    let build = Build::acting(&words, act, "tag=second");
    (image, names, build)
}

#[track_caller]
fn nothing_has_a_name(image: &Image, names: &[String; 2], done: &Done) {
    assert_eq!(id_of(&names[0]), image.id, "the older image has to have its name back");
    assert!(!has_image(&names[1]));
    assert!(!done.work().join("image.tar").exists());
    assert_eq!(image.nameless_results(), "");
}

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn a_name_that_cannot_be_given_takes_the_others_back() {
    let (image, names, build) = half_named("refused", Act::Refuse(500, "the disk of names is full"));
    let done = build.file("image.tar", "").run().ended(1);
    let done = done.says(&["slim: tag the result", &names[1], "the disk of names is full"]);
    assert_eq!(std::fs::read(done.work().join("image.tar")).unwrap(), b"", "an older archive stays");
    std::fs::remove_file(done.work().join("image.tar")).unwrap();
    nothing_has_a_name(&image, &names, &done);
    assert_eq!(done.report()["verdict"]["kind"], "failed");
}

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn an_interrupt_between_two_names_takes_them_back() {
    let (image, names, build) = half_named("between", Act::Hold);
    let run = build.start();
    run.until_held();
    run.signal("INT");
    // The signal is to be seen before the engine answers.
    std::thread::sleep(std::time::Duration::from_millis(300));
    run.release();
    nothing_has_a_name(&image, &names, &run.end().ended(130));
}

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn a_tag_that_is_too_long_to_be_lengthened_is_cut() {
    let image = Image::new("long");
    let long = "x".repeat(128);
    let words = ["--http-probe", "--exclude-pattern", "/www/about.html", "-t", &image.beside(&format!(":{long}"))];
    Build::of(&image).args(&words).run().ended(5);
    assert!(has_image(&image.beside(&format!(":{}-unverified", "x".repeat(117)))));
}
