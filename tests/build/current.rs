//! Current: what was made and verified before of the same inputs is up to date, and left as it is.

use serde_json::Value;

use crate::support::{Build, Done, Image, docker, id_of};

/// `slim build` that does nothing when nothing is to be done.
fn lazy(words: &[&str]) -> Build {
    Build::new(words).env("SLIM_REBUILD", "false")
}

fn events(done: &Done) -> Vec<Value> {
    done.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn size(image: &str) -> u64 {
    docker(&["image", "inspect", "--format", "{{.Size}}", image]).parse().unwrap()
}

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn a_verified_result_of_the_same_inputs_is_up_to_date() {
    let image = Image::new("current");
    let words = ["build", &image.name, "--http-probe"];
    let first = lazy(&words).run().ended(0);
    let (id, label) = (id_of(&image.slim()), ["image", "inspect", "--format", "{{index .Config.Labels \"slim.inputs\"}}"]);
    let inputs = docker(&[&label[..], &[&image.slim()]].concat());
    assert!(inputs.starts_with("sha256:") && inputs.len() == 71, "{inputs}");
    assert!(first.stderr.contains("VERIFIED"), "{}", first.stderr);

    let current = |more: &[&str]| {
        let done = lazy(&words).args(more).run().ended(0);
        assert_eq!((done.stderr.as_str(), &done.run), (&*format!("up to date: {}\n", image.name), &None), "{more:?}");
        assert!(!done.work().join("slim.report.json").exists(), "{more:?}");
    };
    current(&[]);
    // How it is told and shown is no input.
    current(&["--report-full", "--engine", "docker"]);
    let json = lazy(&words).args(&["--json"]).run().ended(0);
    let told = events(&json);
    assert_eq!((&told[1]["event"], &told[1]["name"]), (&"up_to_date".into(), &image.name.clone().into()));
    assert_eq!(told[1]["result"]["size_bytes"].as_u64(), Some(size(&image.slim())));
    assert_eq!((&told[2]["event"], &told[2]["digest"]), (&"result".into(), &id.clone().into()));

    // Asked for, it is made again, and is the same.
    let again = lazy(&words).args(&["--rebuild"]).run().ended(0);
    assert!(again.stderr.contains("VERIFIED") && id_of(&image.slim()) == id, "{}", again.stderr);
    // Another name is not there yet; other flags make another image.
    let other = image.beside(":other");
    lazy(&words).args(&["-t", &other]).run().ended(0).says(&["VERIFIED"]);
    lazy(&words).args(&["--include-path", "/data/a.txt"]).run().ended(0).says(&["VERIFIED"]);
    assert_ne!(id_of(&image.slim()), id);
    // And this one is not what was asked for before.
    lazy(&words).run().ended(0).says(&["VERIFIED"]);
    assert_eq!(id_of(&image.slim()), id);
}

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn what_nobody_compared_is_never_up_to_date() {
    let image = Image::new("unproven");
    let words = ["build", &image.name, "--http-probe", "--no-verify"];
    lazy(&words).run().ended(0);
    let labels = docker(&["image", "inspect", "--format", "{{json .Config.Labels}}", &image.slim()]);
    assert!(!labels.contains("slim.inputs"), "{labels}");
    lazy(&words).run().ended(0).says(&["UNVERIFIED"]);
    lazy(&words[..3]).run().ended(0).says(&["VERIFIED: "]);
}

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn an_image_made_from_a_result_is_no_result() {
    let image = Image::new("derived");
    let words = ["build", &image.name, "--http-probe"];
    let done = lazy(&words).run().ended(0);
    let context = done.work().join("context");
    std::fs::create_dir(&context).unwrap();
    std::fs::write(context.join("Dockerfile"), format!("FROM {}\nENV MORE=1\n", image.slim())).unwrap();
    docker(&["build", "-q", "-t", &image.slim(), context.to_str().unwrap()]);
    let labels = docker(&["image", "inspect", "--format", "{{json .Config.Labels}}", &image.slim()]);
    assert!(labels.contains("slim.inputs"), "{labels}");
    lazy(&words).run().ended(0).says(&["VERIFIED: "]);
}

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn what_probing_and_mounted_files_hold_decides() {
    let image = Image::new("files");
    let commands = |path: &str| format!("{{\"commands\": [{{\"resource\": \"{path}\"}}]}}");
    let build = |probes: &str, mounted: &str| {
        let build = lazy(&["build", &image.name, "--http-probe-cmd-file", "probes.json"]);
        let build = build.file("probes.json", &commands(probes)).file("in/page", mounted);
        let mount = format!("{}:/in:ro", build.work().join("in").display());
        build.args(&["-v", &mount]).run().ended(0)
    };
    let is_current = |done: &Done| done.stderr.starts_with("up to date: ");
    assert!(!is_current(&build("/", "one")));
    // Each of these runs in a directory of its own: where the files are is no input.
    assert!(is_current(&build("/", "one")));
    let other = build("/about.html", "one");
    assert!(!is_current(&other) && other.kept().contains(&"/www/about.html".to_owned()));
    assert!(is_current(&build("/about.html", "one")));
    assert!(!is_current(&build("/about.html", "two")));
    // What is in a volume nobody can see.
    let volume = format!("slim-test-inputs-{}:/in:ro", std::process::id());
    for _ in 0..2 {
        let done = lazy(&["build", &image.name, "--http-probe", "-v", &volume]).run().ended(0);
        done.says(&["whether it is up to date is not known: what is in the volume", "VERIFIED"]);
    }
    let _gone_already = std::process::Command::new("docker").args(["volume", "rm", volume.split(':').next().unwrap()]).output();
}

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn every_place_that_a_result_goes_to_has_to_have_it() {
    let image = Image::new("places");
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let (file, layout, digest) = (at("slim.tar"), format!("oci:{}:slim", at("layout")), at("digest"));
    let words = ["build", &image.name, "--http-probe", "-o", &layout, "-o", &file, "--digest-file", &digest];
    let is_current = |more: &[&str]| lazy(&words).args(more).run().ended(0).stderr.starts_with("up to date: ");
    assert!(!is_current(&[]));
    let (before, named) = (std::fs::metadata(&file).unwrap().modified().unwrap(), std::fs::read_to_string(&digest).unwrap());
    assert!(is_current(&[]));
    // A file that was asked for is there again, and that is all.
    std::fs::remove_file(&digest).unwrap();
    assert!(is_current(&[]));
    assert_eq!((std::fs::metadata(&file).unwrap().modified().unwrap(), std::fs::read_to_string(&digest).unwrap()), (before, named));
    assert!(!is_current(&["--compress", "zstd"]), "compressed in another way");
    std::fs::remove_file(&file).unwrap();
    assert!(!is_current(&[]));
    // An image from a file is not even given to the engine.
    docker(&["save", "-o", &at("fat.tar"), &image.name]);
    let fat = format!("docker-archive:{}", at("fat.tar"));
    let words = ["build", &fat, "--http-probe", "-o", &layout, "-o", &file];
    let done = lazy(&words).run().ended(0);
    assert!(done.stderr.starts_with("up to date: ") && done.run.is_none(), "{}", done.stderr);
}
