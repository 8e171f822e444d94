//! What `slim xray` says of images, held against what docker and dpkg-query say. The tests that build an image need an
//! engine and the nginx fixture.

#![allow(clippy::unwrap_used)] // helpers of tests too

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

/// Values that must never be shown, apart from their first four characters.
const CANARIES: [&str; 4] = ["CANARYpemBodyThatNobodyMayEverSee0123456789", "hunterCANARYinTheEnvFile", "CANARYinTheLabel0815", "CANARYofTheRunLine4711"];

fn token() -> String {
    ["gh", "p_CANARY2F292c6912E7710c838347Ae178B4abcd"].concat()
}

fn slim(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_slim")).args(args).env("NO_COLOR", "1").output().unwrap()
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[track_caller]
fn told(image: &str, more: &[&str]) -> String {
    let output = slim(&[&["xray", image], more].concat());
    assert!(output.status.success(), "{}", said(&output));
    for canary in CANARIES.iter().copied().chain([token().as_str()]) {
        assert!(!said(&output).contains(&canary[..6]), "{canary} is in {}", said(&output));
    }
    String::from_utf8(output.stdout).unwrap()
}

fn json(image: &str) -> Value {
    serde_json::from_str(&told(image, &["--json"])).unwrap()
}

fn docker(args: &[&str]) -> String {
    let output = Command::new("docker").args(args).env("DOCKER_BUILDKIT", "0").output().expect("the docker command is needed");
    assert!(output.status.success(), "docker {args:?}: {}", said(&output));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// An image that was built here; it goes when this is dropped.
struct Built(String);

impl Built {
    fn new(test: &str, files: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for (name, content) in files {
            std::fs::write(dir.path().join(name), content).unwrap();
        }
        let name = format!("slim-test/xray-{test}-{}:1", std::process::id());
        docker(&["build", "-q", "-t", &name, dir.path().to_str().unwrap()]);
        Self(name)
    }
}

impl Drop for Built {
    fn drop(&mut self) {
        let _gone_already = Command::new("docker").args(["rmi", "-f", &self.0]).output();
    }
}

/// Layers as docker counts them, lowest first, and those that are not empty only.
fn layers_of(image: &str) -> Vec<u64> {
    let sizes = docker(&["history", "--no-trunc", "--human=false", "--format", "{{.Size}}", image]);
    let sizes: Vec<u64> = sizes.lines().rev().map(|size| size.trim_end_matches('B').parse().unwrap()).collect();
    sizes.into_iter().filter(|size| *size > 0).collect()
}

fn agrees_with_docker(image: &str, xray: &Value) {
    let size: u64 = docker(&["image", "inspect", "--format", "{{.Size}}", image]).parse().unwrap();
    assert_eq!(xray["image"]["size_bytes"], size);
    assert_eq!(xray["image"]["id"], docker(&["image", "inspect", "--format", "{{.Id}}", image]));
    let bytes = xray["layers"].as_array().unwrap().iter().map(|layer| layer["bytes"].as_u64().unwrap());
    assert_eq!(bytes.filter(|bytes| *bytes > 0).collect::<Vec<_>>(), layers_of(image));
    let installed = docker(&["run", "--rm", "--network", "none", "--entrypoint", "dpkg-query", image, "-W", "-f", "${db:Status-Abbrev}\n"]);
    let installed = installed.lines().filter(|line| line.starts_with("ii")).count();
    let of_dpkg = xray["packages"].as_array().unwrap().iter().filter(|package| package["system"] == "dpkg").count();
    assert_eq!(of_dpkg, installed);
}

#[test]
#[ignore = "needs an engine with the nginx fixture (fixtures/make nginx)"]
fn a_fixture_has_the_layers_and_packages_that_docker_and_dpkg_say() {
    let xray = json("slim-fixture/nginx");
    agrees_with_docker("slim-fixture/nginx", &xray);
    assert_eq!(xray["schema"], "slim.xray/1");
    assert_eq!(xray["image"]["root"], true);
    let made: Vec<&str> = xray["layers"].as_array().unwrap().iter().map(|layer| layer["made_by"].as_str().unwrap()).collect();
    assert!(made.iter().any(|made| made.starts_with("RUN groupadd --system")), "{made:?}");
    let versions = xray["packages"].as_array().unwrap().iter().find(|package| package["name"] == "nginx").unwrap();
    assert!(versions["version"].as_str().unwrap().starts_with("1."), "{versions}");
    let text = told("slim-fixture/nginx", &[]);
    assert!(text.lines().count() < 50, "{text}");
    assert!(text.contains("root: USER is not set") && text.contains("private key (PEM)"), "{text}");
}

#[test]
#[ignore = "needs an engine with the nginx fixture (fixtures/make nginx)"]
fn what_a_later_layer_deletes_is_found_and_no_value_is_told() {
    let pem = format!("-----BEGIN {} KEY-----\n{}\n-----END {} KEY-----\n", "PRIVATE", CANARIES[0], "PRIVATE");
    let dockerfile = format!(
        "FROM slim-fixture/nginx\nENV API_TOKEN={}\nLABEL registry.password={}\nCOPY key.pem .env one two /srv/\n\
         RUN DEPLOY_TOKEN={} true && install -m 4755 /srv/one /srv/raised && rm /srv/key.pem\nRUN rm /srv/two\n",
        token(),
        CANARIES[2],
        CANARIES[3]
    );
    let same = "the same content in several files\n".repeat(1000);
    let env = format!("DEBUG=true\nDB_PASSWORD={}\n", CANARIES[1]);
    let built = Built::new("secrets", &[("Dockerfile", &dockerfile), ("key.pem", &pem), (".env", &env), ("one", &same), ("two", &same)]);
    let xray = json(&built.0);
    agrees_with_docker(&built.0, &xray);
    let secrets = xray["secrets"].as_array().unwrap();
    let of = |rule: &str, place: &str, path: Option<&str>| {
        let found = secrets.iter().find(|s| s["rule"] == rule && s["place"] == place && s["path"].as_str() == path);
        found.unwrap_or_else(|| panic!("{rule} in {place} {path:?} is not in {secrets:#?}"))
    };
    let layers = xray["layers"].as_array().unwrap();
    let top = layers.len() as u64;
    let key = of("private-key", "file", Some("/srv/key.pem"));
    assert_eq!((key["layer"].as_u64(), key["gone_in"].as_u64(), &key["replaced"]), (Some(top - 2), Some(top - 1), &Value::Bool(false)));
    assert_eq!((&key["shown"], key["line"].as_u64()), (&Value::from("CANA***"), Some(2)));
    let env = of("env-file", "file", Some("/srv/.env"));
    assert_eq!((env["line"].as_u64(), &env["gone_in"]), (Some(2), &Value::Null));
    assert_eq!(of("github-token", "environment", None)["name"], "API_TOKEN");
    of("github-token", "history", None);
    assert_eq!(of("variable", "label", None)["name"], "registry.password");
    let label = secrets.iter().find(|secret| secret["place"] == "history" && secret["name"] == "registry.password").unwrap();
    assert_eq!(label["layer"], Value::Null, "its instruction makes no layer");
    assert!(secrets.iter().any(|secret| secret["name"] == "DEPLOY_TOKEN" && secret["layer"] == top - 1), "{secrets:#?}");
    // Of the layer with the copies the key and one of them are gone.
    assert_eq!(layers[top as usize - 3]["wasted_bytes"], (pem.len() + same.len()) as u64);
    assert_eq!(layers[top as usize - 2]["removed"]["files"], 1);
    assert_eq!(layers[top as usize - 1]["made_by"], "RUN rm /srv/two");
    let raised: Vec<&Value> = xray["surface"]["setuid"]["paths"].as_array().unwrap().iter().filter(|path| **path == "/srv/raised").collect();
    assert_eq!(raised.len(), 1);
    let equal = xray["duplicates"].as_array().unwrap().iter().find(|group| group["paths"][0] == "/srv/one").unwrap();
    assert_eq!((equal["spent_bytes"].as_u64(), equal["paths"].as_array().unwrap().len()), (Some(same.len() as u64), 2));
    let text = told(&built.0, &[]);
    let deleted = format!("private key (PEM) CANA*** in /srv/key.pem:2, deleted by layer {}, still in layer {}; slimmed: gone", top - 1, top - 2);
    let words: Vec<&str> = text.split_whitespace().collect();
    assert!(words.join(" ").contains(&deleted), "{text}");
    assert_eq!((&key["slimming"], &env["slimming"]), (&"removes".into(), &"removes_untouched".into()));
    assert_eq!(of("github-token", "environment", None)["slimming"], "keeps");
    assert!(told(&built.0, &["--format", "markdown", "--top", "3"]).contains("#### secrets"));
}

#[test]
fn an_archive_is_looked_into_without_an_engine() {
    let of = |place: &str| json(&format!("{place}:fixtures/hostile/image.tar"));
    let (docker, oci) = (of("docker-archive"), of("oci-archive"));
    assert_eq!(docker["layers"][0]["diff_id"], oci["layers"][0]["diff_id"]);
    assert_eq!(docker["image"]["id"], oci["image"]["id"]);
    assert!(oci["image"]["digest"].is_string());
    assert_eq!(docker["surface"], oci["surface"]);
}

/// An archive as `docker save` writes it, of one layer with these files.
fn archive(at: &Path, files: &[(&str, &str)], mut config: Value) {
    let tar_of = |files: &[(&str, &[u8])]| {
        let mut tar = tar::Builder::new(Vec::new());
        for (path, content) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o666);
            tar.append_data(&mut header, path, *content).unwrap();
        }
        tar.into_inner().unwrap()
    };
    let files: Vec<(&str, &[u8])> = files.iter().map(|(path, content)| (*path, content.as_bytes())).collect();
    let layer = tar_of(&files);
    let diff_id = slim::store::digest::Digest::of(&layer).to_string();
    config["rootfs"] = serde_json::json!({"type": "layers", "diff_ids": [diff_id]});
    let manifest = r#"[{"Config":"config.json","Layers":["layer.tar"]}]"#;
    let config = config.to_string();
    let whole = tar_of(&[("config.json", config.as_bytes()), ("layer.tar", &layer), ("manifest.json", manifest.as_bytes())]);
    std::fs::write(at, whole).unwrap();
}

#[test]
fn an_image_cannot_move_the_cursor_nor_write_a_line_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("image.tar");
    let evil = "\u{1b}[2J\u{202e}\nslim: all is well <b>|";
    let big = "x".repeat(5000);
    let files = [(&*format!("app/{evil}/id_rsa"), "x"), (&*format!("app/{evil}a"), &*big), (&*format!("app/{evil}b"), &*big)];
    let config = serde_json::json!({"os": "linux", "architecture": evil, "created": evil,
        "config": {"User": evil, "Cmd": [evil], "Env": [evil], "ExposedPorts": {evil: {}}, "Labels": {evil: format!("password={}", CANARIES[0])}},
        "history": [{"created_by": format!("RUN {evil}")}]});
    archive(&at, &files, config);
    let image = format!("docker-archive:{}", at.display());
    for format in ["text", "markdown", "json"] {
        let told = told(&image, &["--format", format]);
        assert!(!told.contains(['\u{1b}', '\u{202e}']), "{told}");
        assert!(!told.lines().any(|line| line.starts_with("slim:")), "{told}");
        assert!(format != "markdown" || !told.contains("<b>"), "{told}");
        assert!(told.contains("all is well"), "{told}");
    }
    let xray = json(&image);
    assert_eq!((&xray["secrets"][0]["rule"], &xray["surface"]["writable"]["count"]), (&"ssh-key".into(), &3.into()));
    assert_eq!(xray["duplicates"][0]["spent_bytes"], 5000);
}

#[test]
fn what_is_no_image_is_answered_with_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let cut = dir.path().join("cut.tar");
    let whole = std::fs::read("fixtures/hostile/image.tar").unwrap();
    std::fs::write(&cut, &whole[..whole.len() / 3]).unwrap();
    let cut = format!("docker-archive:{}", cut.display());
    for (image, text, status) in [
        ("sif:x", "no transport that is known", 2),
        ("docker-archive:/nowhere/x.tar", "/nowhere/x.tar", 1),
        ("oci:/nowhere", "is no directory", 1),
        ("UPPER", "UPPER", 2),
        (cut.as_str(), "cut.tar", 1),
    ] {
        let output = slim(&["xray", image]);
        let lines = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(status), "{image}: {lines}");
        assert_eq!(lines.lines().filter(|line| line.starts_with("slim: ")).count(), 1, "{lines}");
        assert!(lines.contains(text) && output.stdout.is_empty(), "{image}: {lines}");
    }
    let output = slim(&["xray", "app", "--json", "--format", "text"]);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
}
