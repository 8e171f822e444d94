//! Images copied between transports by the binary, and what other tools read of the results.

#![allow(clippy::unwrap_used)] // helpers of tests too

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

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

/// Ends a server with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const PASSWORD: &str = "p?>~?>~~?>";

/// A registry with a password, over TLS when `tls`.
fn registry(dir: &Path, tls: bool) -> (Running, String) {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    std::fs::write(dir.join("htpasswd"), tool(dir, "htpasswd", &["-Bbn", "me", PASSWORD])).unwrap();
    let mut http = format!("http: {{addr: \"{free}\"}}");
    if tls {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        std::fs::write(dir.join("tls.crt"), made.cert.pem()).unwrap();
        // skopeo takes every file of a directory for one of a pair.
        std::fs::create_dir(dir.join("ca")).unwrap();
        std::fs::write(dir.join("ca/tls.crt"), made.cert.pem()).unwrap();
        std::fs::write(dir.join("tls.key"), made.signing_key.serialize_pem()).unwrap();
        http = format!("http: {{addr: \"{free}\", tls: {{certificate: {0}/tls.crt, key: {0}/tls.key}}}}", dir.display());
    }
    let config = format!(
        "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {0}/data}}}}\n{http}\n\
         auth: {{htpasswd: {{realm: test, path: {0}/htpasswd}}}}\n",
        dir.display()
    );
    std::fs::write(dir.join("config.yml"), config).unwrap();
    let mut serve = Command::new("docker-registry");
    let log = std::fs::File::create(dir.join("access.log")).unwrap();
    let serve = serve.arg("serve").arg(dir.join("config.yml")).stdout(log).stderr(Stdio::null());
    let server = Running(serve.spawn().unwrap());
    for _ in 0..400 {
        if std::net::TcpStream::connect(free).is_ok() {
            return (server, free.to_string());
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    panic!("the registry does not answer");
}

#[test]
#[ignore = "needs docker-registry, htpasswd and skopeo: tests/run installs them"]
fn a_registry_with_password_and_tls_takes_and_gives_images() {
    let dir = place();
    let dir = dir.path();
    two_platforms(dir);
    let (server, address) = registry(dir, true);
    let name = format!("docker://{address}/team/app:1");
    let me = ["--registry-account", "me", "--registry-secret", PASSWORD];
    let with = |args: &[&str], more: &[&str]| [&["copy"], args, &me, more].concat().iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
    let run = |words: Vec<String>| ok(dir, &words.iter().map(String::as_str).collect::<Vec<_>>());
    let wrong = |words: Vec<String>| fails(dir, &words.iter().map(String::as_str).collect::<Vec<_>>());
    let ca = ["--registry-ca", "tls.crt"];
    let (said, _) = wrong(with(&["docker-archive:image.tar", &name], &[]));
    assert!(said.contains("cannot be trusted") && said.contains("--registry-ca"), "{said}");
    let (said, _) = fails(dir, &["copy", "docker-archive:image.tar", &name, ca[0], ca[1]]);
    assert!(said.contains("refuses") && said.contains("docker login"), "{said}");
    let (said, _) = fails(dir, &["copy", &name, "oci:x:1", ca[0], ca[1], "--registry-account", "me", "--registry-secret", "wrong;"]);
    assert!(said.contains("refuses") && !said.contains("wrong;"), "{said}");
    let (said, _) = wrong(with(&[&name, "oci:x:1"], &ca));
    assert!(said.contains("has no image") && said.lines().any(|line| line.starts_with("slim: ")), "{said}");

    run(with(&["docker-archive:image.tar", &name], &[&ca[..], &["--digest-file", "digest"]].concat()));
    let creds = format!("me:{PASSWORD}");
    let inspect = |name: &str| tool(dir, "skopeo", &["inspect", "--raw", "--creds", &creds, "--cert-dir", dir.join("ca").to_str().unwrap(), name]);
    let manifest = inspect(&name);
    assert_eq!(slim::store::digest::Digest::of(manifest.as_bytes()).to_string(), std::fs::read_to_string(dir.join("digest")).unwrap());
    tool(dir, "skopeo", &["copy", "-q", "--src-creds", &creds, "--src-cert-dir", dir.join("ca").to_str().unwrap(), &name, "oci:theirs:1"]);
    assert_eq!(config_of(dir, "theirs"), std::fs::read("fixtures/hostile/config.json").unwrap());

    // What docker login stored is enough.
    let auth = { use base64::Engine; base64::engine::general_purpose::STANDARD.encode(&creds) };
    std::fs::create_dir(dir.join(".docker")).unwrap();
    std::fs::write(dir.join(".docker/config.json"), format!(r#"{{"auths":{{"{address}":{{"auth":"{auth}"}}}}}}"#)).unwrap();
    ok(dir, &["copy", &name, "docker-archive:back.tar:app:1", ca[0], ca[1]]);
    ok(dir, &["copy", &name, "oci:back:1", ca[0], ca[1]]);
    assert_eq!(config_of(dir, "back"), std::fs::read("fixtures/hostile/config.json").unwrap());
    // From one repository to another: nothing has to be sent.
    let other = format!("docker://{address}/other/place:1");
    ok(dir, &["copy", &name, &other, ca[0], ca[1]]);
    assert_eq!(inspect(&other), manifest);
    let log = std::fs::read_to_string(dir.join("access.log")).unwrap();
    let sent = |what: &str| log.lines().filter(|line| line.contains("/v2/other/place/blobs/uploads/") && line.contains(what)).count();
    assert_eq!((sent("?from=team%2Fapp&mount=sha256%3A") + sent("?mount=sha256"), sent("\"PUT "), sent("\"PATCH ")), (2, 0, 0), "{log}");
    // An index.
    let both = format!("docker://{address}/team/both:1");
    ok(dir, &["copy", "oci:multi:both", &both, ca[0], ca[1], "--platform", "linux/amd64,linux/arm64"]);
    assert_eq!(json(inspect(&both))["manifests"].as_array().unwrap().len(), 2);
    let (said, _) = fails(dir, &["copy", "oci:multi:both", &both, ca[0], ca[1]]);
    assert!(said.contains("is an index of several platforms"), "{said}");
    ok(dir, &["copy", &both, "docker-archive:arm.tar", ca[0], ca[1], "--platform", "linux/arm64"]);
    // A signature, as cosign names it.
    let digest = std::fs::read_to_string(dir.join("digest")).unwrap();
    let signature = format!("docker://{address}/team/app:{}.sig", digest.replace(':', "-"));
    ok(dir, &["copy", "docker-archive:image.tar", &signature, ca[0], ca[1]]);
    let said = ok(dir, &["copy", &name, "oci:signed:1", ca[0], ca[1]]);
    assert!(said.contains("left out: the signature sha256-"), "{said}");
    // Somebody damaged the store.
    let blob = slim::store::digest::Digest::of(&std::fs::read("fixtures/hostile/config.json").unwrap());
    let file = dir.join(format!("data/docker/registry/v2/blobs/sha256/{}/{}/data", &blob.hex()[..2], blob.hex()));
    std::fs::write(&file, std::fs::read_to_string(&file).unwrap().replace("linux", "Linux")).unwrap();
    let (said, _) = fails(dir, &["copy", &name, "oci:damaged:1", ca[0], ca[1]]);
    assert!(said.contains("sha256:") && !dir.join("damaged").exists(), "{said}");
    drop(server);
    let (said, code) = fails(dir, &["copy", &name, "oci:gone:1", ca[0], ca[1]]);
    assert!(said.contains("cannot reach") && code == 75, "{said}");
}

#[test]
#[ignore = "needs docker-registry and htpasswd: tests/run installs them"]
fn a_registry_on_this_machine_may_speak_plain_http() {
    let dir = place();
    let dir = dir.path();
    let (_server, address) = registry(dir, false);
    let name = format!("docker://{address}/app:1");
    let me = ["--registry-account", "me", "--registry-secret", PASSWORD];
    ok(dir, &[&["copy", "docker-archive:image.tar", &name][..], &me].concat());
    ok(dir, &[&["copy", &name, "oci:back:1"][..], &me].concat());
    assert_eq!(config_of(dir, "back"), std::fs::read("fixtures/hostile/config.json").unwrap());
}

#[test]
#[ignore = "needs docker-registry, htpasswd and skopeo: tests/run installs them"]
fn dockers_words_stay_in_a_registry_and_become_ocis_elsewhere() {
    let dir = place();
    let dir = dir.path();
    let (_server, address) = registry(dir, false);
    let me = ["--registry-account", "me", "--registry-secret", PASSWORD];
    let creds = format!("me:{PASSWORD}");
    let (theirs, ours) = (format!("docker://{address}/theirs:1"), format!("docker://{address}/ours:1"));
    ok(dir, &["copy", "docker-archive:image.tar", "oci:seed:1"]);
    let schema2 = ["copy", "-q", "--format", "v2s2", "--dest-creds", &creds, "--dest-tls-verify=false", "oci:seed:1", &theirs];
    tool(dir, "skopeo", &schema2);
    let inspect = |name: &str| tool(dir, "skopeo", &["inspect", "--raw", "--creds", &creds, "--tls-verify=false", name]);
    let raw = inspect(&theirs);
    assert_eq!(json(&raw)["mediaType"], "application/vnd.docker.distribution.manifest.v2+json");
    ok(dir, &[&["copy", &theirs, &ours][..], &me].concat());
    assert_eq!(inspect(&ours), raw);
    ok(dir, &[&["copy", &theirs, "oci:back:1"][..], &me].concat());
    let back = json(tool(dir, "skopeo", &["inspect", "--raw", "oci:back:1"]));
    assert_eq!(back["mediaType"], "application/vnd.oci.image.manifest.v1+json");
    assert_eq!(back["layers"][0]["digest"], json(&raw)["layers"][0]["digest"]);
    assert_eq!(json(config_of(dir, "back")), json(std::fs::read("fixtures/hostile/config.json").unwrap()));
}

/// A server that gives `image.tar`'s image, and cuts the first answer for the layer short; tells what was asked.
fn moody(dir: &Path, host: &str) -> (String, std::sync::mpsc::Receiver<String>) {
    use std::io::{BufRead, BufReader, Write};
    ok(dir, &["copy", "oci-archive:image.tar", "oci:served:1"]);
    let listener = std::net::TcpListener::bind((host, 0)).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let blobs = dir.join("served/blobs/sha256");
    let (tell, told) = std::sync::mpsc::channel();
    let mut cut = false;
    let serve = move |mut stream: std::net::TcpStream| {
        let mut head = String::new();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head).unwrap_or(0) == 0 {
                // What is no HTTP gets an answer all the same, as from Go's servers.
                let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n");
                return;
            }
        }
        let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
        let range = head.lines().find_map(|line| line.to_lowercase().strip_prefix("range: bytes=").map(str::to_owned));
        let _ = tell.send(format!("{path} {}", range.clone().unwrap_or_default()));
        let answer = |status: &str, body: &[u8], length: usize| {
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
            [head.as_bytes(), body].concat()
        };
        let manifest = std::fs::read("fixtures/hostile/manifest.json").unwrap();
        let bytes = match path.rsplit('/').next().unwrap_or_default() {
            "" => answer("200 OK", b"", 0),
            "1" => answer("200 OK", &manifest, manifest.len()),
            name => match std::fs::read(blobs.join(name.trim_start_matches("sha256:"))) {
                Ok(blob) if path.contains("/blobs/") && blob.starts_with(b"\x1f\x8b") && !cut => {
                    cut = true;
                    answer("200 OK", &blob[..100], blob.len())
                }
                Ok(blob) => match range.and_then(|range| range.trim_end_matches('-').parse::<usize>().ok()) {
                    Some(from) => answer("206 Partial Content", &blob[from..], blob.len() - from),
                    None => answer("200 OK", &blob, blob.len()),
                },
                Err(_) => answer("404 Not Found", b"", 0),
            },
        };
        let _ = stream.write_all(&bytes);
    };
    std::thread::spawn(move || listener.incoming().filter_map(Result::ok).for_each(serve));
    (address, told)
}

#[test]
fn a_download_that_breaks_goes_on_where_it_was() {
    let dir = place();
    let dir = dir.path();
    let (address, told) = moody(dir, "127.0.0.1");
    ok(dir, &["copy", &format!("docker://{address}/app:1"), "oci:got:1"]);
    assert_eq!(config_of(dir, "got"), std::fs::read("fixtures/hostile/config.json").unwrap());
    let asked: Vec<String> = told.try_iter().collect();
    assert!(asked.iter().any(|line| line.contains("/blobs/") && line.ends_with(" 100-")), "{asked:?}");
}

#[test]
#[ignore = "needs an address of this machine that is not loopback: the engine that tests/run starts has one"]
fn a_registry_elsewhere_speaks_plain_http_only_when_it_is_named() {
    let dir = place();
    let dir = dir.path();
    let addresses = tool(dir, "ip", &["-4", "-o", "addr", "show", "scope", "global"]);
    let host = addresses.split_whitespace().find_map(|word| word.split_once('/')).expect("an address").0;
    let (address, _told) = moody(dir, host);
    let name = format!("docker://{address}/app:1");
    let (said, _) = fails(dir, &["copy", &name, "oci:got:1"]);
    assert!(said.contains("does not speak TLS") && said.contains(&format!("--insecure-registry {address}")), "{said}");
    assert!(!dir.join("got").exists());
    ok(dir, &["copy", &name, "oci:got:1", "--insecure-registry", &address]);
    assert_eq!(config_of(dir, "got"), std::fs::read("fixtures/hostile/config.json").unwrap());
}

/// A server that answers the first question and then nothing more.
fn stalling() -> String {
    use std::io::{Read, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        for mut stream in listener.incoming().filter_map(Result::ok) {
            let mut head = [0u8; 512];
            let n = stream.read(&mut head).unwrap_or(0);
            if head[..n].starts_with(b"GET /v2/ ") {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            } else {
                kept.push(stream);
            }
        }
    });
    address
}

#[test]
fn a_copy_that_is_interrupted_ends_at_once_and_leaves_nothing() {
    let dir = place();
    let address = stalling();
    let mut command = Command::new(env!("CARGO_BIN_EXE_slim"));
    command.current_dir(dir.path()).args(["copy", &format!("docker://{address}/app:1"), "oci:out:1"]).env("TMPDIR", dir.path());
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    // It said what it reads: from then on it waits for the registry.
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stderr.take().unwrap()), &mut line).unwrap();
    while std::fs::read_dir(dir.path()).unwrap().count() < 2 {
        std::thread::yield_now();
    }
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.id() as i32), nix::sys::signal::Signal::SIGTERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(143), "{line}");
    let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["image.tar"]);
}

#[test]
fn a_registry_that_stalls_is_given_up() {
    let address = stalling();
    let access = slim::store::Access {
        stall: std::time::Duration::from_millis(200),
        ..slim::store::Access::anonymous(std::sync::Arc::new(slim::progress::Void))
    };
    let transport = slim::store::Transport::parse(&format!("docker://{address}/app:1")).unwrap().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let error = runtime.block_on(slim::store::Source::open(&transport, &access)).err().unwrap();
    let text = format!("{error:#}");
    assert!(text.contains("does not answer in time"), "{text}");
    assert_eq!(slim::exit::Exit::of(&error), slim::exit::Exit::Retry);
}

/// A server that begins every upload and never says that one has ended.
fn unwilling() -> String {
    use std::io::{Read, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        for mut stream in listener.incoming().filter_map(Result::ok) {
            let mut head = [0u8; 1024];
            let n = stream.read(&mut head).unwrap_or(0);
            let (status, more) = match head[..n].split(|b| *b == b' ').next() {
                Some(b"PUT") => {
                    kept.push(stream);
                    continue;
                }
                Some(b"POST") => ("202 Accepted", "Location: /v2/app/blobs/uploads/1\r\n"),
                _ if head.starts_with(b"GET /v2/ ") => ("200 OK", ""),
                _ => ("404 Not Found", ""),
            };
            let _ = stream.write_all(format!("HTTP/1.1 {status}\r\n{more}Content-Length: 0\r\nConnection: close\r\n\r\n").as_bytes());
        }
    });
    address
}

#[test]
fn a_registry_that_takes_an_upload_and_says_nothing_is_given_up() {
    use slim::store::outgoing::{Bundle, Outgoing, Words};
    let access = slim::store::Access {
        stall: std::time::Duration::from_millis(100),
        ..slim::store::Access::anonymous(std::sync::Arc::new(slim::progress::Void))
    };
    let transport = |text: &str| slim::store::Transport::parse(text).unwrap().unwrap();
    let to = transport(&format!("docker://{}/app:1", unwilling()));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let error = runtime.block_on(async {
        let source = slim::store::Source::open(&transport("docker-archive:fixtures/hostile/image.tar"), &access).await.unwrap();
        let image = std::sync::Arc::new(source.image(None).await.unwrap());
        let bundle = Bundle::one(Outgoing::prepare(&image, Words::Any, None).unwrap());
        slim::store::sink::write(&to, &bundle, &access, slim::store::layout::Replace::Alike, None).await.unwrap_err()
    });
    let text = format!("{error:#}");
    assert!(text.contains("push sha256:") && text.contains("it took nothing for"), "{text}");
    assert_eq!(slim::exit::Exit::of(&error), slim::exit::Exit::Retry);
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
    let before = tool(dir, "docker", &["image", "ls", "-q"]);
    let more = ["-o", "oci:build/app-slim:latest", "-o", "app-slim.tar", "--digest-file", "digest", "--exec", "true", "--report", "off"];
    ok(dir, &[&["build", "oci:build/app:latest"][..], &more].concat());
    let after = tool(dir, "docker", &["image", "ls", "-q"]);
    for line in after.lines() {
        let own = tool(dir, "docker", &["image", "inspect", "--format", "{{.RepoTags}}", line]);
        assert!(before.contains(line) || !own.contains("app:latest"), "left in the engine: {own}");
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
