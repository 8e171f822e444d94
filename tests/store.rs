//! Images copied between transports by the binary, and what other tools read of the results.

#![allow(clippy::unwrap_used)] // helpers of tests too

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

#[path = "store/registry.rs"]
mod registry;

use registry::{PASSWORD, registry};

fn slim(dir: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_slim"));
    command.current_dir(dir).args(args).env_remove("DOCKER_CONFIG").env("HOME", dir).env("NO_COLOR", "1");
    command.output().unwrap()
}

fn ok(dir: &Path, args: &[&str]) -> String {
    let output = slim(dir, args);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "slim {args:?}: {said}");
    said
}

/// A copy that is to fail: its one line, the hint behind it, and the exit status.
fn fails(dir: &Path, args: &[&str]) -> (String, i32) {
    let output = slim(dir, args);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "slim {args:?} went well: {said}");
    (said, output.status.code().unwrap())
}

fn tool(dir: &Path, program: &str, args: &[&str]) -> String {
    let output = Command::new(program).current_dir(dir).args(args).output().unwrap_or_else(|error| panic!("run {program}: {error}"));
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn json(bytes: impl AsRef<[u8]>) -> Value {
    serde_json::from_slice(bytes.as_ref()).unwrap()
}

/// A directory with the seed image as `image.tar`.
fn place() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::copy("fixtures/hostile/image.tar", dir.path().join("image.tar")).unwrap();
    dir
}

fn config_of(dir: &Path, layout: &str) -> Vec<u8> {
    let index = json(std::fs::read(dir.join(layout).join("index.json")).unwrap());
    let blob = |digest: &Value| std::fs::read(dir.join(layout).join("blobs").join(digest.as_str().unwrap().replace(':', "/"))).unwrap();
    let manifest = json(blob(&index["manifests"][0]["digest"]));
    blob(&manifest["config"]["digest"])
}

#[test]
fn an_image_goes_through_every_archive_and_comes_back_the_same() {
    let dir = place();
    let dir = dir.path();
    ok(dir, &["copy", "docker-archive:image.tar:seed", "oci:one:latest"]);
    ok(dir, &["copy", "oci:one", "oci-archive:two.tar:v2", "--compress", "zstd"]);
    ok(dir, &["copy", "oci-archive:two.tar:v2", "docker-archive:three.tar:app:1"]);
    ok(dir, &["copy", "docker-archive:three.tar:app:1", "oci:four:latest"]);
    assert_eq!(config_of(dir, "four"), std::fs::read("fixtures/hostile/config.json").unwrap());
    assert_eq!(std::fs::read(dir.join("one/index.json")).unwrap(), std::fs::read(dir.join("four/index.json")).unwrap());
    // What is compressed and in OCI's words goes as it is. Who reads the digest meanwhile reads the old one or the new.
    std::fs::write(dir.join("digest"), "old").unwrap();
    std::fs::hard_link(dir.join("digest"), dir.join("before")).unwrap();
    ok(dir, &["copy", "oci-archive:image.tar:latest", "oci:five:latest", "--digest-file", "digest"]);
    let manifest = std::fs::read("fixtures/hostile/manifest.json").unwrap();
    let digest = std::fs::read_to_string(dir.join("digest")).unwrap();
    assert_eq!(std::fs::read_to_string(dir.join("before")).unwrap(), "old");
    assert_eq!(std::fs::read(dir.join("five/blobs").join(digest.replace(':', "/"))).unwrap(), manifest);
    // The same again: the same bytes.
    ok(dir, &["copy", "oci-archive:two.tar:v2", "docker-archive:again.tar:app:1"]);
    assert_eq!(std::fs::read(dir.join("three.tar")).unwrap(), std::fs::read(dir.join("again.tar")).unwrap());
}

#[test]
fn a_layout_keeps_its_other_tags_and_takes_one_writer_at_a_time() {
    let dir = place();
    let dir = dir.path();
    std::thread::scope(|scope| {
        for i in 0..6 {
            scope.spawn(move || ok(dir, &["copy", "docker-archive:image.tar", &format!("oci:many:t{i}")]));
        }
    });
    ok(dir, &["copy", "docker-archive:image.tar", "oci:many:t0"]);
    let index = json(std::fs::read(dir.join("many/index.json")).unwrap());
    let mut tags: Vec<&str> =
        index["manifests"].as_array().unwrap().iter().map(|m| m["annotations"]["org.opencontainers.image.ref.name"].as_str().unwrap()).collect();
    tags.sort();
    assert_eq!(tags, ["t0", "t1", "t2", "t3", "t4", "t5"]);
    let left: Vec<String> = std::fs::read_dir(dir.join("many")).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(left.iter().filter(|name| name.starts_with('.')).count(), 0, "{left:?}");
    let (said, _) = fails(dir, &["copy", "oci:many", "oci:x"]);
    assert!(said.contains("several images") && said.contains("t3"), "{said}");
}

/// An index of two platforms and an attestation, as `oci:DIR:both`.
fn two_platforms(dir: &Path) {
    ok(dir, &["copy", "oci-archive:image.tar", "oci:multi:amd64"]);
    let blobs = dir.join("multi/blobs/sha256");
    let put = |bytes: &[u8]| {
        let digest = slim::store::digest::Digest::of(bytes);
        std::fs::write(blobs.join(digest.hex()), bytes).unwrap();
        (digest.to_string(), bytes.len())
    };
    let mut manifests = Vec::new();
    for arch in ["amd64", "arm64"] {
        let mut config = json(std::fs::read("fixtures/hostile/config.json").unwrap());
        config["architecture"] = arch.into();
        let (digest, size) = put(config.to_string().as_bytes());
        let mut manifest = json(std::fs::read("fixtures/hostile/manifest.json").unwrap());
        manifest["config"]["digest"] = digest.into();
        manifest["config"]["size"] = size.into();
        let (digest, size) = put(manifest.to_string().as_bytes());
        manifests.push(serde_json::json!({"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": size,
            "platform": {"architecture": arch, "os": "linux"}}));
    }
    let mut attestation = manifests[0].clone();
    attestation["platform"] = serde_json::json!({"architecture": "unknown", "os": "unknown"});
    attestation["annotations"] = serde_json::json!({"vnd.docker.reference.type": "attestation-manifest"});
    manifests.push(attestation);
    let index = serde_json::json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": manifests});
    let (digest, size) = put(index.to_string().as_bytes());
    let top = serde_json::json!({"schemaVersion": 2, "manifests": [{"mediaType": "application/vnd.oci.image.index.v1+json", "digest": digest,
        "size": size, "annotations": {"org.opencontainers.image.ref.name": "both"}}]});
    std::fs::write(dir.join("multi/index.json"), top.to_string()).unwrap();
}

#[test]
fn platforms_are_chosen_and_what_is_left_out_is_named() {
    let dir = place();
    let dir = dir.path();
    two_platforms(dir);
    let said = ok(dir, &["copy", "oci:multi:both", "docker-archive:arm.tar", "--platform", "linux/arm64"]);
    assert!(said.contains("left out: linux/amd64") && said.contains("attestation-manifest"), "{said}");
    let (said, _) = fails(dir, &["copy", "oci:multi:both", "oci:x:1", "--platform", "linux/s390x"]);
    assert!(said.contains("there is linux/amd64, linux/arm64"), "{said}");
    assert!(!dir.join("x").exists());
    let (said, _) = fails(dir, &["copy", "docker-archive:arm.tar", "oci:x:1", "--platform", "linux/amd64"]);
    assert!(said.contains("it is for linux/arm64 only"), "{said}");
    ok(dir, &["copy", "oci:multi:both", "oci:index:1", "--platform", "linux/amd64,linux/arm64"]);
    let (said, _) = fails(dir, &["copy", "oci:multi:both", "oci:index:1", "--platform", "linux/amd64"]);
    assert!(said.contains("is an index of several platforms") && said.contains("--force"), "{said}");
    ok(dir, &["copy", "oci:multi:both", "oci:index:2", "--platform", "linux/amd64"]);
    ok(dir, &["copy", "oci:multi:both", "oci:index:1", "--platform", "linux/amd64", "--force"]);
    ok(dir, &["copy", "oci:multi:both", "oci-archive:all.tar:1", "--platform", "all"]);
    let (said, _) = fails(dir, &["copy", "oci:index:2", "oci-archive:all.tar:1"]);
    assert!(said.contains("is an index of several platforms"), "{said}");
    let (said, _) = fails(dir, &["copy", "oci:index:2", "docker-archive:all.tar"]);
    assert!(said.contains("is an index of several platforms"), "{said}");
    let (said, code) = fails(dir, &["copy", "oci:multi:both", "docker-archive:no.tar", "--platform", "all"]);
    assert!(said.contains("holds one image") && code == 2, "{said}");
}

#[test]
fn what_is_wrong_is_one_line_and_nothing_is_half_written() {
    let dir = place();
    let dir = dir.path();
    let whole = std::fs::read(dir.join("image.tar")).unwrap();
    std::fs::write(dir.join("cut.tar"), &whole[..whole.len() / 2]).unwrap();
    std::fs::write(dir.join("text.tar"), "no tar at all\n".repeat(100)).unwrap();
    ok(dir, &["copy", "oci-archive:image.tar", "oci:bad:1"]);
    let layer = slim::store::digest::Digest::of(&std::fs::read("fixtures/hostile/layer.tar.gz").unwrap());
    let blob = dir.join("bad").join(layer.blob_path());
    let mut bytes = std::fs::read(&blob).unwrap();
    bytes[200] ^= 1;
    std::fs::write(&blob, bytes).unwrap();
    std::fs::create_dir(dir.join("full")).unwrap();
    std::fs::write(dir.join("full/file"), "").unwrap();
    let table: &[(&[&str], &str)] = &[
        (&["oci:bad:1", "oci:out:1"], "is really sha256:"),
        (&["oci:bad:1", "docker-archive:out.tar"], "deflate|sha256|gzip|corrupt"),
        (&["docker-archive:cut.tar", "oci:out:1"], "cut short"),
        (&["docker-archive:text.tar", "oci:out:1"], "no tar archive"),
        (&["docker-archive:absent.tar", "oci:out:1"], "No such file"),
        (&["oci:absent", "oci:out:1"], "no directory"),
        (&["oci:full", "oci:out:1"], "no index.json"),
        (&["oci-archive:image.tar:v9", "oci:out:1"], "no tag v9; it has latest"),
        (&["docker-archive:image.tar:other", "oci:out:1"], "has no image other; it has seed:latest"),
        (&["oci-archive:image.tar", "oci:full:1"], "neither empty nor an OCI layout"),
        (&["oci-archive:image.tar", "oci-archive:no/such/dir.tar"], "No such file"),
        (&["oci-archive:image.tar", "docker-archive:out.tar", "--compress", "zstd"], "cannot be compressed"),
        (&["sif:x", "oci:out:1"], "there are docker-daemon:NAME"),
        (&["oci-archive:image.tar", "oci:out:1", "--registry-account", "me", "--registry-secret", "x"], "no registry is named"),
    ];
    for (args, expected) in table {
        let (said, _) = fails(dir, &[&["copy"], *args].concat());
        assert!(expected.split('|').any(|word| said.contains(word)), "{args:?}: {said}");
        assert!(said.lines().filter(|line| line.starts_with("slim: ")).count() == 1, "{args:?}: {said}");
        assert!(!dir.join("out").exists() && !dir.join("out.tar").exists(), "{args:?}");
    }
    let mut left: Vec<String> = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    left.sort();
    assert_eq!(left, ["bad", "cut.tar", "full", "image.tar", "text.tar"]);
}

#[test]
#[ignore = "needs skopeo and umoci: tests/run installs them"]
fn other_tools_read_what_is_written_and_write_what_is_read() {
    let dir = place();
    let dir = dir.path();
    two_platforms(dir);
    let ids = |text: &str| json(text)["rootfs"]["diff_ids"].clone();
    let original = ids(&std::fs::read_to_string("fixtures/hostile/config.json").unwrap());
    for (to, how) in [
        ("oci:a:1", "gzip"),
        ("oci:b:1", "zstd"),
        ("oci:c:1", "none"),
        ("oci-archive:d.tar:1", "gzip"),
        ("oci-archive:e.tar:1", "zstd"),
        ("docker-archive:f.tar:app:1", "none"),
    ] {
        ok(dir, &["copy", "docker-archive:image.tar", to, "--compress", how]);
        assert_eq!(ids(&tool(dir, "skopeo", &["inspect", "--config", "--raw", to])), original, "{to}");
        // Copying it reads every blob and checks every digest.
        tool(dir, "skopeo", &["copy", "-q", to, &format!("dir:{}", dir.join(format!("copy-{how}-{}", to.len())).display())]);
    }
    tool(dir, "umoci", &["unpack", "--rootless", "--image", "a:1", "bundle"]);
    assert_eq!(std::fs::read_to_string(dir.join("bundle/rootfs/h")).unwrap(), "root:x:0:0::/:/bin/sh\n");
    assert_eq!(std::fs::read(dir.join("bundle/rootfs/etc/through")).unwrap().len(), 700);
    ok(dir, &["copy", "oci:multi:both", "oci:index:1", "--platform", "linux/amd64,linux/arm64"]);
    let index = json(tool(dir, "skopeo", &["inspect", "--raw", "oci:index:1"]));
    assert_eq!(index["manifests"].as_array().unwrap().len(), 2);
    tool(dir, "skopeo", &["copy", "-q", "--all", "oci:index:1", "oci:again:1"]);
    // What others write.
    tool(dir, "skopeo", &["copy", "-q", "oci:a:1", "docker-archive:theirs.tar:x:1"]);
    tool(dir, "skopeo", &["copy", "-q", "oci:a:1", "oci-archive:theirs-oci.tar:1"]);
    for from in ["docker-archive:theirs.tar", "oci-archive:theirs-oci.tar:1", "oci:again:1"] {
        ok(dir, &["copy", from, "oci:back:1"]);
        assert_eq!(json(config_of(dir, "back")), json(std::fs::read("fixtures/hostile/config.json").unwrap()), "{from}");
        std::fs::remove_dir_all(dir.join("back")).unwrap();
    }
}

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn an_image_goes_through_an_engine_and_comes_back_the_same() {
    let dir = place();
    let dir = dir.path();
    let name = format!("slim-test-copy-{}:1", std::process::id());
    let engine = format!("docker-daemon:{name}");
    ok(dir, &["copy", "docker-archive:image.tar", &engine]);
    let id = tool(dir, "docker", &["image", "inspect", "--format", "{{.Id}}", &name]);
    let config = std::fs::read("fixtures/hostile/config.json").unwrap();
    assert_eq!(id.trim(), slim::store::digest::Digest::of(&config).as_str());
    ok(dir, &["copy", &engine, "oci:back:1"]);
    tool(dir, "docker", &["rmi", &name]);
    assert_eq!(config_of(dir, "back"), config);
    let (said, _) = fails(dir, &["copy", &engine, "oci:gone:1"]);
    assert!(said.contains("has no image"), "{said}");
}

#[test]
#[ignore = "needs a container engine and the fixture images: tests/run has both"]
fn an_image_from_a_layout_is_made_small_into_a_layout() {
    let dir = place();
    let dir = dir.path();
    ok(dir, &["copy", "docker-daemon:slim-fixture/batch", "oci:build/app:latest"]);
    // In one answer: other tests remove images of theirs at the same time.
    let images = || tool(dir, "docker", &["image", "ls", "--format", "{{.ID}} {{.Repository}}:{{.Tag}}"]);
    let before = images();
    let more = ["-o", "oci:build/app-slim:latest", "-o", "app-slim.tar", "--digest-file", "digest", "--exec", "true", "--report", "off"];
    ok(dir, &[&["build", "oci:build/app:latest"][..], &more].concat());
    for line in images().lines() {
        assert!(before.contains(line) || !line.ends_with("app:latest"), "left in the engine: {line}");
    }
    let small = json(config_of(dir, "build/app-slim"));
    assert_eq!(small["rootfs"]["diff_ids"].as_array().unwrap().len(), 1);
    let raw = tool(dir, "skopeo", &["inspect", "--raw", "oci:build/app-slim:latest"]);
    assert_eq!(slim::store::digest::Digest::of(raw.as_bytes()).to_string(), std::fs::read_to_string(dir.join("digest")).unwrap());
    let archived = json(tool(dir, "skopeo", &["inspect", "--config", "--raw", "docker-archive:app-slim.tar"]));
    assert_eq!(archived["rootfs"], small["rootfs"]);
}

#[test]
#[ignore = "needs a container engine, its fixture images, docker-registry and htpasswd: tests/run has them"]
fn an_image_from_a_registry_is_made_small_into_a_registry() {
    let dir = place();
    let dir = dir.path();
    let (_server, address) = registry(dir, false);
    let me = ["--registry-account", "me", "--registry-secret", PASSWORD];
    let (fat, small) = (format!("docker://{address}/app:1"), format!("docker://{address}/app:slim"));
    ok(dir, &[&["copy", "docker-daemon:slim-fixture/batch", &fat][..], &me].concat());
    let more = ["-o", &small, "--compress", "zstd", "--exec", "true", "--report", "off", "--digest-file", "digest"];
    ok(dir, &[&["build", &fat][..], &more, &me].concat());
    let creds = format!("me:{PASSWORD}");
    let raw = tool(dir, "skopeo", &["inspect", "--raw", "--creds", &creds, "--tls-verify=false", &small]);
    assert_eq!(slim::store::digest::Digest::of(raw.as_bytes()).to_string(), std::fs::read_to_string(dir.join("digest")).unwrap());
    assert_eq!(json(&raw)["layers"][0]["mediaType"], "application/vnd.oci.image.layer.v1.tar+zstd");
    // Another machine has nothing but the registry, and sees there that nothing is to be done.
    std::fs::remove_file(dir.join("digest")).unwrap();
    let again = ok(dir, &[&["build", &fat][..], &more, &me].concat());
    assert!(again.ends_with(&format!("up to date: {address}/app:1\n")) && !again.contains("pull"), "{again}");
    assert_eq!(slim::store::digest::Digest::of(raw.as_bytes()).to_string(), std::fs::read_to_string(dir.join("digest")).unwrap());
    let tags = tool(dir, "docker", &["image", "ls", "--format", "{{.Repository}}"]);
    assert!(!tags.contains(&address), "{tags}");
}

#[test]
#[ignore = "needs root: tests/run is root"]
fn the_engine_in_slim_takes_images_and_says_why_it_gives_none() {
    let dir = place();
    let dir = dir.path();
    let run = |words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_slim"));
        command.args(words).args(["--engine", "embedded"]).current_dir(dir).env("SLIM_CACHE_DIR", dir.join("cache")).env("HOME", dir);
        let output = command.stdin(Stdio::null()).output().unwrap();
        (output.status.code().unwrap(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, said) = run(&["copy", "docker-archive:image.tar", "app:1"]);
    assert_eq!(code, 0, "{said}");
    let id = slim::store::digest::Digest::of(&std::fs::read("fixtures/hostile/config.json").unwrap());
    assert!(dir.join(format!("cache/images/{}.json", id.hex())).exists(), "{said}");
    for (words, expected, code) in [
        (&["copy", "app:1", "oci:out:1"][..], "give their bytes back to nobody: copy sha256:", 1),
        (&["copy", "other:1", "oci:out:1"], "the engine has no image other:1", 1),
        (&["copy", "docker-daemon:app:1", "oci:out:1"], "is in a container engine, and --engine embedded is none", 2),
        (&["copy", "docker-archive:image.tar", "containers-storage:app:1"], "is in a container engine", 2),
        (&["build", "sha256:0123456789ab", "--pull", "-o", "out.tar", "--report", "off"], "an image ID cannot be pulled", 1),
    ] {
        let (status, said) = run(words);
        assert!(status == code && said.contains(expected), "{words:?}: {status} {said}");
        assert!(said.lines().filter(|line| line.starts_with("slim: ")).count() == 1 && !dir.join("out").exists(), "{words:?}: {said}");
    }
}

/// `slim build` where no container engine is: nothing names one, and no socket is at a usual place.
fn without_engine(dir: &Path, words: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", "mount -t tmpfs none /run && exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_slim"), "build"]).args(words);
    command.args(["--exec", "true", "--report", "off"]).current_dir(dir).env("SLIM_CACHE_DIR", dir.join("cache"));
    command.env_remove("DOCKER_HOST").env_remove("CONTAINER_HOST").env_remove("XDG_RUNTIME_DIR").env("HOME", dir).stdin(Stdio::null());
    let output = command.output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
#[ignore = "needs root, a container engine, its fixture images, docker-registry and htpasswd: tests/run has them"]
fn without_an_engine_a_bare_name_comes_from_the_registry_that_it_implies() {
    let dir = place();
    let dir = dir.path();
    let (_server, address) = registry(dir, false);
    let me = ["--registry-account", "me", "--registry-secret", PASSWORD];
    let name = format!("{address}/app:1");
    ok(dir, &[&["copy", "docker-daemon:slim-fixture/batch", &format!("docker://{name}")][..], &me].concat());
    let (status, text) = without_engine(dir, &[&[&name[..], "-o", "small.tar", "-o", "oci:small"][..], &me].concat());
    assert!(status == Some(0) && text.contains("VERIFIED"), "{text}");
    assert!(text.contains("no container engine is reachable; the one in this program is used"), "{text}");
    let small = json(config_of(dir, "small"));
    let archived = json(tool(dir, "skopeo", &["inspect", "--config", "--raw", "docker-archive:small.tar"]));
    assert_eq!(archived["rootfs"], small["rootfs"]);
    // Nothing but layers stays.
    assert_eq!(std::fs::read_dir(dir.join("cache/images")).unwrap().count(), 0);
    // What is wrong is one line, with a remedy.
    for (words, expected, code) in [
        (&[&name[..]][..], ["nothing says where the result goes", "-o: a FILE, oci:DIR or docker://NAME"], 2),
        (&[&name, "-o", "x.tar", "--pull=never"], ["has no image", "--pull"], 1),
        (&["127.0.0.1:1/app", "-o", "x.tar"], ["cannot reach the registry 127.0.0.1:1", "check its name and the network"], 75),
        (&["sha256:0123456789ab", "-o", "x.tar"], ["has no image", "build it first"], 1),
    ] {
        let (status, text) = without_engine(dir, words);
        let lines: Vec<&str> = text.lines().filter(|line| !line.contains("is reachable; the one in this program") && !line.starts_with("pull: ")).collect();
        assert!(status == Some(code) && lines.len() == 2 && lines[1].starts_with("hint: "), "{words:?} {status:?}\n{text}");
        assert!(expected.iter().all(|word| text.contains(word)) && !dir.join("x.tar").exists(), "{text}");
    }
}
