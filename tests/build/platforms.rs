//! Several platforms by one command: images of amd64 and i386, which both run on amd64, in one index.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::{Build, Done, Image, Source, docker};

/// A program for one of them: support/greet.c.
fn program(flag: &str) -> Vec<u8> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/greet.c");
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("greet{flag}-{}", std::process::id()));
    let flags = [flag, "-nostdlib", "-static", "-fno-stack-protector", "-o"];
    let made = Command::new("gcc").args(flags).arg(&out).arg(&source).status();
    assert!(made.expect("gcc is needed").success(), "gcc cannot compile {}", source.display());
    let bytes = std::fs::read(&out).unwrap();
    std::fs::remove_file(&out).unwrap();
    bytes
}

/// An image that says what is in a file of it.
fn greeting(arch: &str) -> Image {
    made(arch, |_| {})
}

/// One that is changed before it is made.
fn made(arch: &str, change: impl FnOnce(&mut Source)) -> Image {
    let mut source = Source::default().document("architecture", arch.into());
    let flag = if arch == "386" { "-m32" } else { "-m64" };
    source.files.push(("bin/greet".into(), program(flag)));
    change(&mut source);
    source.set("Entrypoint", json!(["/bin/greet"])).set("Cmd", Value::Null).set("ExposedPorts", Value::Null).load(&format!("greet-{arch}"))
}

fn tool(dir: &Path, program: &str, args: &[&str]) -> String {
    let output = Command::new(program).current_dir(dir).args(args).output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn put(layout: &Path, document: &Value) -> Value {
    let bytes = document.to_string().into_bytes();
    let digest = slim::store::digest::Digest::of(&bytes);
    std::fs::write(layout.join(digest.blob_path()), &bytes).unwrap();
    json!({"mediaType": document["mediaType"], "digest": digest.as_str(), "size": bytes.len()})
}

/// An index of the images, and of an attestation, as `oci:in:all`; each image has its architecture as a tag, too.
fn index_of(dir: &Path, images: &[(&str, &Image)]) {
    let slim = env!("CARGO_BIN_EXE_slim");
    for (arch, image) in images {
        tool(dir, slim, &["copy", &format!("docker-daemon:{}", image.name), &format!("oci:in:{arch}"), "--platform", &format!("linux/{arch}")]);
    }
    let layout = dir.join("in");
    let mut top: Value = serde_json::from_slice(&std::fs::read(layout.join("index.json")).unwrap()).unwrap();
    let mut manifests = Vec::new();
    for entry in top["manifests"].as_array().unwrap() {
        let arch = &entry["annotations"]["org.opencontainers.image.ref.name"];
        let platform = json!({"architecture": arch, "os": "linux"});
        manifests.push(json!({"mediaType": entry["mediaType"], "digest": entry["digest"], "size": entry["size"], "platform": platform}));
    }
    let mut attestation = manifests[0].clone();
    attestation["platform"] = json!({"architecture": "unknown", "os": "unknown"});
    attestation["annotations"] = json!({"vnd.docker.reference.type": "attestation-manifest"});
    manifests.push(attestation);
    let index = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": manifests});
    let mut entry = put(&layout, &index);
    entry["annotations"] = json!({"org.opencontainers.image.ref.name": "all"});
    top["manifests"].as_array_mut().unwrap().push(entry);
    std::fs::write(layout.join("index.json"), top.to_string()).unwrap();
}

/// `slim build` where the index is.
fn build(images: &[(&str, &Image)], words: &[&str]) -> Build {
    let build = Build::new(&["build"]).args(words);
    index_of(&build.work(), images);
    build
}

fn report(done: &Done, platform: &str) -> Value {
    serde_json::from_slice(&std::fs::read(done.work().join(format!("slim.report.{platform}.json"))).unwrap()).unwrap()
}

#[test]
#[cfg(target_arch = "x86_64")]
#[ignore = "needs root, a container engine, gcc -m32 and skopeo: tests/run has them"]
fn every_platform_that_runs_here_is_made_small_into_one_index() {
    let (wide, narrow, other) = (greeting("amd64"), greeting("386"), greeting("arm64"));
    let images = [("amd64", &wide), ("386", &narrow), ("arm64", &other)];
    let words = ["oci:in:all", "--platform", "linux/amd64,linux/386", "-o", "oci:out:1", "-o", "oci-archive:out.tar:1", "--digest-file", "digest", "--provenance", "made.json"];
    let done = build(&images, &words).run().ended(0);
    let done = done.says(&["left out: linux/arm64", "left out, attached to the images: 1 (attestation-manifest)"]);
    let dir = done.work();
    let raw = tool(&dir, "skopeo", &["inspect", "--raw", "oci:out:1"]);
    assert_eq!(raw, tool(&dir, "skopeo", &["inspect", "--raw", "oci-archive:out.tar:1"]));
    let digest = std::fs::read_to_string(dir.join("digest")).unwrap();
    assert_eq!(digest, slim::store::digest::Digest::of(raw.as_bytes()).as_str());
    let index: Value = serde_json::from_str(&raw).unwrap();
    let made: Value = serde_json::from_slice(&std::fs::read(dir.join("made.json")).unwrap()).unwrap();
    let subjects = made["subject"].as_array().unwrap();
    assert_eq!((subjects.len(), format!("sha256:{}", subjects[1]["digest"]["sha256"].as_str().unwrap())), (2, digest.clone()));
    let definition = &made["predicate"]["buildDefinition"];
    let runs: Vec<&str> = definition["internalParameters"]["images"].as_array().unwrap().iter().map(|image| image["platform"].as_str().unwrap()).collect();
    assert_eq!((runs, definition["resolvedDependencies"].as_array().unwrap().len()), (vec!["linux/amd64", "linux/386"], 2));
    let platforms: Vec<&Value> = index["manifests"].as_array().unwrap().iter().map(|entry| &entry["platform"]["architecture"]).collect();
    assert_eq!(platforms, ["amd64", "386"]);
    tool(&dir, "skopeo", &["copy", "-q", "--all", "oci:out:1", "oci:theirs:1"]);
    for (platform, image) in [("linux/amd64", &wide), ("linux/386", &narrow)] {
        let report = report(&done, &platform.replace('/', "-"));
        assert_eq!((&report["verdict"]["kind"], &report["result"]["archive"]), (&json!("verified"), &json!("oci:out:1")), "{platform}");
        // It is small, and it runs.
        let name = image.beside(".small:1");
        let (code, _, said) = done.then(&["copy", "oci:out:1", &format!("docker-daemon:{name}"), "--platform", platform]);
        assert_eq!(code, 0, "{said}");
        assert_eq!(docker(&["run", "--rm", &name]), "content of a");
        assert!(!report["kept"].as_array().unwrap().iter().any(|kept| kept["path"] == "/data/b.txt"), "{platform}");
    }
    // One image does not take the place of an index, and that is said before anything is made.
    let done = build(&images, &["oci:in:amd64", "-o", "oci:out:1"]);
    tool(&done.work(), "cp", &["-r", dir.join("out").to_str().unwrap(), "out"]);
    let done = done.run().ended(1).says(&["is an index of several platforms", "--force"]);
    assert_eq!(done.run, None, "something was made in the engine");
    // The engine in slim makes the same.
    let cache = tempfile::tempdir().unwrap();
    let embedded = build(&images, &words).env("SLIM_CACHE_DIR", cache.path().to_str().unwrap()).args(&["--engine", "embedded"]).run().ended(0);
    assert_eq!(std::fs::read_to_string(embedded.work().join("digest")).unwrap(), digest);
}

#[test]
#[cfg(target_arch = "x86_64")]
#[ignore = "needs a container engine, gcc -m32 and skopeo: tests/run has them"]
fn a_platform_that_is_not_there_or_does_not_run_is_one_line_before_anything_is_made() {
    let (wide, narrow, other) = (greeting("amd64"), greeting("386"), greeting("arm64"));
    let images = [("amd64", &wide), ("386", &narrow), ("arm64", &other)];
    for (words, says) in [
        (&["oci:in:all", "--platform", "linux/amd64,linux/arm64"][..], "linux/arm64 cannot run here: the engine runs linux/amd64"),
        (&["oci:in:all", "--platform", "linux/arm64"], "linux/arm64 cannot run here: the engine runs linux/amd64"),
        (&["oci:in:arm64"], "linux/arm64 cannot run here"),
        (&["oci:in:all", "--platform", "linux/amd64/v9,linux/386"], "there is no image for linux/amd64/v9; there is linux/amd64, linux/386, linux/arm64"),
        (&["oci:in:amd64", "--platform", "linux/amd64,linux/386"], "there is no image for linux/386; it is for linux/amd64 only"),
    ] {
        let done = build(&images, &[words, &["-o", "oci:out:1"]].concat()).run().ended(1).says(&[says]);
        assert_eq!(done.stderr.lines().filter(|line| line.starts_with("slim: ")).count(), 1, "{}", done.stderr);
        assert!(done.run.is_none() && !done.work().join("out").exists(), "{words:?}: something was made");
    }
}

#[test]
#[cfg(target_arch = "x86_64")]
#[ignore = "needs a container engine, gcc -m32 and skopeo: tests/run has them"]
fn nothing_is_written_unless_every_platform_passes() {
    let (wide, narrow) = (greeting("amd64"), made("386", |source| source.files.retain(|(path, _)| path != "data/a.txt")));
    let words = ["oci:in:all", "--platform", "linux/amd64,linux/386", "-o", "oci:out:1", "--digest-file", "digest"];
    let done = build(&[("amd64", &wide), ("386", &narrow)], &words).run().ended(3);
    assert_eq!((&report(&done, "linux-amd64")["exit"]["code"], &report(&done, "linux-386")["exit"]["code"]), (&json!(0), &json!(3)));
    assert!(!done.work().join("out").exists() && !done.work().join("digest").exists(), "{}", done.stderr);
}
