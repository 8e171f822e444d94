//! What `slim diff` says of two images or reports: of archives with layers that are made here, of reports, and of the
//! reports of others. The tests that build an image need an engine.

#![allow(clippy::unwrap_used, dead_code)] // helpers of tests too; not all of support is used here

#[allow(unused_imports, reason = "not all of it is used here")]
mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use support::{Build, Source, docker};

/// A value that must never be shown.
const CANARY: &str = "CANARY-of-the-environment-4711";
/// Names that want to be more than names.
const HOSTILE: &str = "/srv/\u{1b}[31m\u{202e}<img src=x>|`@all\n#";

fn slim(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_slim")).args(args).env("NO_COLOR", "1").output().unwrap()
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// What is on stdout; nothing of it is harmful or secret.
#[track_caller]
fn told(args: &[&str], status: i32) -> String {
    let output = slim(&[&["diff"], args].concat());
    assert_eq!(output.status.code(), Some(status), "{}", said(&output));
    let all = said(&output);
    assert!(!all.contains(['\u{1b}', '\u{202e}']) && !all.contains(CANARY), "{all}");
    String::from_utf8(output.stdout).unwrap()
}

#[track_caller]
fn json_of(args: &[&str]) -> Value {
    serde_json::from_str(&told(&[args, &["--json"]].concat(), 0)).unwrap()
}

#[track_caller]
fn refused(args: &[&str], status: i32, texts: &[&str]) {
    let output = slim(&[&["diff"], args].concat());
    let lines = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(status), "{args:?}: {lines}");
    assert_eq!(lines.lines().filter(|line| line.starts_with("slim: ")).count(), 1, "{lines}");
    assert!(output.stdout.is_empty(), "{args:?}");
    for text in texts {
        assert!(lines.contains(text), "{args:?}: {text:?} is not in {lines}");
    }
}

// ---- images ---------------------------------------------------------------------------------------------

/// A member of a layer: path, content, mode, owner.
type Member<'a> = (&'a str, &'a str, u32, u64);

fn layer(members: &[Member<'_>]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, content, mode, owner) in members {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(*mode);
        header.set_uid(*owner);
        header.set_gid(*owner);
        header.set_mtime(1_700_000_000);
        tar.append_data(&mut header, path, content.as_bytes()).unwrap();
    }
    tar.into_inner().unwrap()
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An archive as `docker save` writes it.
fn archive(at: &Path, name: &str, layers: &[Vec<u8>], config: Value) -> String {
    let diff_ids: Vec<String> = layers.iter().map(|layer| format!("sha256:{}", sha256(layer))).collect();
    let history: Vec<Value> = (1..=layers.len()).map(|n| json!({"created_by": format!("RUN step {n} of {name}")})).collect();
    let document = json!({"architecture": "amd64", "os": "linux", "config": config, "history": history, "rootfs": {"type": "layers", "diff_ids": diff_ids}}).to_string();
    let id = format!("{}.json", sha256(document.as_bytes()));
    let names: Vec<String> = (0..layers.len()).map(|n| format!("{n}/layer.tar")).collect();
    let manifest = json!([{"Config": id, "RepoTags": [name], "Layers": names}]).to_string();
    let mut tar = tar::Builder::new(std::fs::File::create(at).unwrap());
    let members = names.iter().map(String::as_str).zip(layers.iter().map(Vec::as_slice));
    for (path, bytes) in members.chain([(id.as_str(), document.as_bytes()), ("manifest.json", manifest.as_bytes())]) {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, path, bytes).unwrap();
    }
    tar.finish().unwrap();
    format!("docker-archive:{}", at.display())
}

const STATUS: &str = "Package: one\nStatus: install ok installed\nArchitecture: all\nVersion: 1.0\n\n\
                      Package: two\nStatus: install ok installed\nArchitecture: all\nVersion: 1.0\n\n\
                      Package: three\nStatus: install ok installed\nArchitecture: all\nVersion: 1.0\n";

/// Two images with a common base, by name and by where they are.
fn pair(dir: &Path) -> [String; 2] {
    let base = layer(&[
        ("bin/sh", "#!shell", 0o755, 0),
        ("bin/su", "raises", 0o4755, 0),
        ("etc/app.conf", "a = 1\n", 0o644, 0),
        ("etc/same", "same", 0o600, 7),
        ("var/lib/dpkg/status", STATUS, 0o644, 0),
        ("var/lib/dpkg/info/one.list", "/opt/one/a\n/opt/one/b\n", 0o644, 0),
        ("var/lib/dpkg/info/two.list", "/opt/two\n", 0o644, 0),
        ("var/lib/dpkg/info/three.list", "/opt/three\n", 0o644, 0),
        ("opt/one/a", "one a", 0o644, 0),
        ("opt/one/b", "one b", 0o644, 0),
        ("opt/two", "two", 0o644, 0),
        ("opt/three", "three", 0o644, 0),
    ]);
    let old = layer(&[("opt/old", &"old".repeat(1000), 0o644, 0), ("srv/tool", "x", 0o755, 0)]);
    let changed = STATUS.replace("Package: two\nStatus: install ok installed\nArchitecture: all\nVersion: 1.0", "Package: two\nStatus: install ok installed\nArchitecture: all\nVersion: 2.0");
    let key = format!("-----BEGIN {0} KEY-----\nMIIEabcdefghijklmnop\n-----END {0} KEY-----\n", "PRIVATE");
    let new = layer(&[
        ("bin/.wh.su", "", 0o644, 0),
        ("bin/curl", "fetches", 0o755, 0),
        ("etc/app.conf", "a = 2\n", 0o644, 0),
        ("etc/key.pem", &key, 0o600, 0),
        ("opt/one/.wh.b", "", 0o644, 0),
        ("opt/.wh.three", "", 0o644, 0),
        ("srv/tool", "x", 0o4755, 33),
        ("var/lib/dpkg/status", &changed, 0o644, 0),
    ]);
    let config = |value: &str, user: &str, port: &str| json!({"Env": [format!("SECRET_TOKEN={CANARY}{value}")], "User": user, "ExposedPorts": {port: {}}});
    [
        archive(&dir.join("old.tar"), "diff-old:1", &[base.clone(), old], config("1", "", "80/tcp")),
        archive(&dir.join("new.tar"), "diff-new:1", &[base, new], config("2", "app", "8080/tcp")),
    ]
}

fn paths(list: &Value) -> Vec<&str> {
    list["list"].as_array().unwrap().iter().map(|file| file["path"].as_str().unwrap()).collect()
}

fn named<'a>(list: &'a Value, key: &str, name: &str) -> &'a Value {
    list.as_array().unwrap().iter().find(|entry| entry[key] == name).unwrap_or_else(|| panic!("no {name} in {list}"))
}

#[test]
fn two_images_with_a_common_base_differ_by_what_their_other_layers_hold() {
    let dir = TempDir::new().unwrap();
    let [old, new] = pair(dir.path());
    let diff = json_of(&[&old, &new]);
    assert_eq!(diff["schema"], "slim.diff/1");
    let states: Vec<&str> = diff["layers"].as_array().unwrap().iter().map(|layer| layer["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["shared", "gone", "new"]);
    let pulled = named(&diff["layers"], "state", "new");
    let pull = &diff["sizes"]["pull"];
    assert_eq!((&pull["layers"], &pull["bytes"], &pull["compressed_bytes"]), (&json!(1), &pulled["bytes"], &pulled["compressed_bytes"]));
    assert!(pull["compressed_bytes"].as_u64().unwrap() > 0 && diff["sizes"]["compressed_after"] == "gzip");
    let files = &diff["files"];
    assert_eq!(files["compared"], json!(["content", "mode", "owner", "capabilities"]));
    assert_eq!(paths(&files["added"]), ["/etc/key.pem", "/bin/curl"]);
    assert_eq!(paths(&files["removed"]), ["/opt/old", "/bin/su", "/opt/one/b", "/opt/three"]);
    assert_eq!(paths(&files["changed"]), ["/srv/tool", "/etc/app.conf", "/var/lib/dpkg/status"]);
    let tool = &files["changed"]["list"][0];
    assert_eq!(tool["changes"], json!([{"what": "mode", "from": "0755", "to": "4755"}, {"what": "owner", "from": "0:0", "to": "33:33"}]));
    let state = |name: &str| named(&diff["packages"]["list"], "name", name)["state"].clone();
    assert_eq!((state("one"), state("two")), (json!("part"), json!("version")));
    assert_eq!(named(&diff["packages"]["list"], "name", "one")["after"]["files"], 2);
    assert_eq!(named(&diff["programs"], "name", "network clients")["new"], json!(["/bin/curl"]));
    assert_eq!(named(&diff["programs"], "name", "setuid")["gone"], json!(["/bin/su"]));
    assert_eq!(named(&diff["secrets"]["new"], "path", "/etc/key.pem")["rule"], "private-key");
    let fields: Vec<&str> = diff["config"].as_array().unwrap().iter().map(|change| change["field"].as_str().unwrap()).collect();
    assert_eq!(fields, ["Env.SECRET_TOKEN", "ExposedPorts.80/tcp", "ExposedPorts.8080/tcp", "User"]);
    assert_eq!((&diff["probes"], &diff["time"], &diff["unknown"]), (&Value::Null, &Value::Null, &json!([])));
    for format in ["text", "markdown", "csv"] {
        let text = told(&[&old, &new, "--format", format], 0);
        assert!(text.contains("/srv/tool") && text.contains("0755"), "{text}");
    }
    assert_eq!(told(&[&old, &new, "--json"], 0), told(&[&old, &new, "--json"], 0));
}

#[test]
fn an_image_and_itself_differ_in_nothing() {
    let dir = TempDir::new().unwrap();
    let [old, _] = pair(dir.path());
    let diff = json_of(&[&old, &old]);
    for list in ["added", "changed", "removed"] {
        assert_eq!(diff["files"][list]["files"], 0, "{diff:#}");
    }
    assert_eq!((&diff["packages"]["list"], &diff["config"], &diff["sizes"]["pull"]["layers"]), (&json!([]), &json!([]), &json!(0)));
    assert_eq!((&diff["packages"]["whole"], &diff["notes"]), (&json!(3), &json!(["both are the same image, by its ID"])));
}

#[test]
fn images_that_share_nothing_are_compared_and_it_is_said() {
    let dir = TempDir::new().unwrap();
    let [old, _] = pair(dir.path());
    let other = archive(&dir.path().join("other.tar"), "other:1", &[layer(&[("else", "x", 0o644, 0)])], json!({}));
    let text = told(&[&old, &other], 0);
    assert!(text.lines().nth(1).unwrap().contains("share no layer and no file path"), "{text}");
    assert!(text.contains("/else") && text.contains("14 gone"), "{text}");
}

#[test]
fn hostile_names_stay_names_in_every_format() {
    let dir = TempDir::new().unwrap();
    let [old, _] = pair(dir.path());
    let hostile = HOSTILE.trim_start_matches('/');
    let other = archive(&dir.path().join("other.tar"), "other:1", &[layer(&[(hostile, "x", 0o755, 0), ("srv/=1+1,\"q\"", "y", 0o644, 0)])], json!({"Labels": {"<b>": "\u{1b}]0;x\u{7}"}}));
    let text = told(&[&old, &other], 0);
    assert!(!text.contains("\n#"), "{text}");
    let page = told(&[&old, &other, "--markdown"], 0);
    assert!(!page.contains("<img") && !page.contains("@all") && !page.contains("<b>") && !page.contains('\u{7}'), "{page}");
    let table = told(&[&old, &other, "--format", "csv"], 0);
    assert!(table.contains("\"/srv/=1+1,\"\"q\"\"\"") && table.lines().all(|line| line.matches(',').count() >= 7), "{table}");
    let diff = json_of(&[&old, &other]);
    assert!(paths(&diff["files"]["added"]).contains(&HOSTILE), "{diff:#}");
}

#[test]
fn sections_and_entries_are_as_many_as_are_asked_for() {
    let dir = TempDir::new().unwrap();
    let [old, new] = pair(dir.path());
    let diff = json_of(&[&old, &new, "--only", "files,sizes", "--top", "1"]);
    assert_eq!((&diff["only"], &diff["packages"], &diff["config"]), (&json!(["sizes", "files"]), &Value::Null, &Value::Null));
    assert_eq!((paths(&diff["files"]["removed"]), &diff["files"]["removed"]["more"], &diff["files"]["removed"]["files"]), (vec!["/opt/old"], &json!(3), &json!(4)));
    let text = told(&[&old, &new, "--only", "config"], 0);
    assert!(text.contains("Env.SECRET_TOKEN") && !text.contains("files"), "{text}");
    let file = dir.path().join("diff.md");
    assert_eq!(told(&[&old, &new, "--markdown", "-o", file.to_str().unwrap()], 0), "");
    assert!(std::fs::read_to_string(&file).unwrap().starts_with("### "));
}

#[test]
fn budgets_of_images_are_measured_against_the_other_one() {
    let dir = TempDir::new().unwrap();
    let [old, new] = pair(dir.path());
    let budgets = ["setuid>+0", "network-clients", "root", "path:/etc/*.pem", "package:one", "size>+5%", "unverified"];
    let mut args = vec![old.as_str(), new.as_str(), "--only", "sizes"];
    args.extend(budgets.iter().flat_map(|budget| ["--fail-on", *budget]));
    let text = told(&args, 6);
    let lines: Vec<&str> = text.lines().skip(1).take(budgets.len()).map(|line| line.trim_start().split(' ').next().unwrap()).collect();
    assert_eq!(lines, ["kept", "MISSED", "kept", "MISSED", "MISSED", "kept", "MISSED"], "{text}");
    told(&[&old, &new, "--fail-on", "setuid>+0"], 0);
}

// ---- reports --------------------------------------------------------------------------------------------

fn write(dir: &Path, name: &str, document: &Value) -> String {
    let path = dir.join(name);
    std::fs::write(&path, document.to_string()).unwrap();
    path.display().to_string()
}

/// A report of a result with these files, all for the first reason.
fn report(size: u64, files: &[&str], probes: &[(&str, bool)]) -> Value {
    let kept: Vec<Value> = files.iter().map(|path| json!({"path": path, "kind": "file", "size": 10, "mode": "0755", "reasons": [0], "package": "dpkg:one"})).collect();
    let probe = |(name, passed): &(&str, bool)| json!({"name": name, "passed": passed, "failure": if *passed { Value::Null } else { json!("500 instead of 200") }});
    json!({
        "schema": "slim.report/1",
        "verdict": {"kind": if probes.iter().all(|(_, passed)| *passed) { "verified" } else { "failed" }},
        "source": {"ref": "app:1", "size_bytes": 1000},
        "result": {"ref": "app.slim:1", "size_bytes": size, "compressed_bytes": size / 2, "files": files.len(), "layers": 1, "user": "app",
            "layer_list": [{"diff_id": format!("sha256:{size:064}"), "bytes": size}]},
        "surface": {"programs": {"before": 9, "after": files.len()}},
        "packages": [{"system": "dpkg", "name": "one", "version": "1.0", "files": 2, "kept_files": files.len().min(2), "bytes": 20, "kept_bytes": 10 * files.len().min(2)}],
        "kept": kept,
        "reasons": [{"kind": "touched", "how": "opened", "process": "/bin/app", "probe": "GET /new"}],
        "probes": probes.iter().map(probe).collect::<Vec<_>>(),
        "phases": [{"name": "record", "seconds": size as f64 / 100.0}],
    })
}

fn golden(name: &str, text: &str) {
    let path = Path::new("fixtures/diff").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all("fixtures/diff").unwrap();
        std::fs::write(&path, text).unwrap();
    }
    let want = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(want == text, "{} differs; UPDATE_GOLDEN=1 writes it anew. It is now:\n{text}", path.display());
}

#[test]
fn two_reports_say_which_new_files_came_in_and_why() {
    let dir = TempDir::new().unwrap();
    let old = write(dir.path(), "old.json", &report(100, &["/a"], &[("GET /", true), ("GET /gone", true), ("GET /bad", false)]));
    let new = write(dir.path(), "new.json", &report(140, &["/a", "/bin/wget", HOSTILE], &[("GET /", false), ("GET /bad", true), ("GET /new", true)]));
    let diff = json_of(&[&old, &new]);
    assert_eq!(diff["files"]["added"]["list"][0]["reason"], "opened by /bin/app while `GET /new` ran");
    assert_eq!(diff["files"]["compared"], json!(["size", "mode"]));
    let probes = &diff["probes"];
    assert_eq!((&probes["failing"][0]["name"], &probes["mended"], &probes["gone"], &probes["new"]), (&json!("GET /"), &json!(["GET /bad"]), &json!(["GET /gone"]), &json!(["GET /new"])));
    assert_eq!(named(&diff["packages"]["list"], "name", "one")["state"], "more");
    assert_eq!(named(&diff["programs"], "name", "network clients")["new"], json!(["/bin/wget"]));
    // An older report does not count capabilities, and no report has owners or contents.
    assert_eq!(named(&diff["programs"], "name", "capabilities")["count"], json!({"before": null, "after": null}));
    assert!(diff["unknown"].to_string().contains("owners and capabilities of files"), "{diff:#}");
    assert_eq!(diff["sizes"]["pull"], json!({"layers": 1, "bytes": 140, "compressed_bytes": 70}));
    let clean = |text: String| text.replace(&dir.path().display().to_string(), "DIR");
    golden("reports.txt", &clean(told(&[&old, &new], 0)));
    golden("reports.md", &clean(told(&[&old, &new, "--markdown", "--fail-on", "size>+5%"], 6)));
}

#[test]
fn a_report_without_a_result_speaks_of_its_original() {
    let dir = TempDir::new().unwrap();
    let mut failed = report(100, &[], &[("GET /", false)]);
    failed["result"] = Value::Null;
    let (failed, new) = (write(dir.path(), "failed.json", &failed), write(dir.path(), "new.json", &report(140, &["/a"], &[])));
    let diff = json_of(&[&failed, &new]);
    assert_eq!((&diff["before"]["kind"], &diff["files"], &diff["sizes"]["size_bytes"]["before"]), (&json!("report_source"), &Value::Null, &json!(1000)));
    assert!(diff["notes"][0].as_str().unwrap().contains("has no result"), "{diff:#}");
    told(&[&new, &failed, "--fail-on", "path:/a"], 6);
}

#[test]
fn reports_of_slimtoolkit_are_compared_as_far_as_they_go() {
    let dir = TempDir::new().unwrap();
    let theirs = json!({"version": "1.1", "engine": "linux|Transformer|1.40", "containerized": false, "type": "build", "state": "done",
        "target_reference": "app:1", "source_image": {"identity": {"id": "sha256:1"}, "size": 1000, "user": "root"},
        "minified_image_size": 200, "minified_image": "app.slim", "minified_by": 5.0, "container_report_name": "/etc/../creport.json"});
    let container = json!({"system": {}, "monitors": {"fan": {}, "pt": {}}, "image": {"files": [
        {"file_type": "File", "file_path": "/a", "mode": "-rwxr-xr-x", "flags": {"R": true}, "file_size": 12, "sha1_hash": "f".repeat(40)},
        {"file_type": "File", "file_path": "/bin/su", "mode": "urwxr-xr-x", "file_size": 3},
        {"file_type": "Symlink", "file_path": "/bin/sh", "mode": "Lrwxrwxrwx", "link_ref": "../a", "file_size": 0}]}});
    let build = write(dir.path(), "slim.report.json", &theirs);
    let ours = write(dir.path(), "ours.json", &report(140, &["/a", "/b"], &[]));
    let alone = json_of(&[&build, &ours]);
    assert_eq!((&alone["before"]["kind"], &alone["sizes"]["size_bytes"], &alone["files"]), (&json!("slimtoolkit_report"), &json!({"before": 200, "after": 140}), &Value::Null));
    let creport = write(dir.path(), "creport.json", &container);
    for theirs in [&build, &creport] {
        let diff = json_of(&[theirs, &ours]);
        assert_eq!((paths(&diff["files"]["added"]), paths(&diff["files"]["changed"])), (vec!["/b"], vec!["/a"]), "{diff:#}");
        assert_eq!(named(&diff["programs"], "name", "setuid")["gone"], json!(["/bin/su"]));
    }
    // What it does not say keeps no budget.
    told(&[&ours, &build, "--fail-on", "packages>100"], 6);
    for words in [["report", "show", build.as_str(), ""], ["report", "check", build.as_str(), ""], ["why", creport.as_str(), "/a", ""]] {
        let words: Vec<&str> = words.into_iter().filter(|word| !word.is_empty()).collect();
        let output = slim(&words);
        assert!(!output.status.success() && said(&output).contains("a report of SlimToolkit, which `slim diff` compares"), "{}", said(&output));
    }
    let lint = write(dir.path(), "lint.json", &json!({"engine": "x", "containerized": false, "type": "lint"}));
    refused(&[&lint, &ours], 1, &["`lint` reports", "no size of an image"]);
}

#[test]
fn what_xray_said_of_an_image_is_compared_with_it() {
    let dir = TempDir::new().unwrap();
    let [old, new] = pair(dir.path());
    let stored = dir.path().join("stored.json");
    std::fs::write(&stored, slim(&["xray", &old, "--json"]).stdout).unwrap();
    let stored = stored.to_str().unwrap();
    let diff = json_of(&[stored, &new]);
    assert_eq!((&diff["before"]["kind"], &diff["files"], &diff["sizes"]["pull"]["layers"]), (&json!("xray"), &Value::Null, &json!(1)));
    assert_eq!(named(&diff["secrets"]["new"], "path", "/etc/key.pem")["rule"], "private-key");
    let output = slim(&["report", "show", stored]);
    assert!(said(&output).contains("which `slim diff` compares"), "{}", said(&output));
}

#[test]
fn bad_input_is_answered_with_one_line() {
    let dir = TempDir::new().unwrap();
    let good = report(100, &["/a"], &[]);
    let ours = write(dir.path(), "ours.json", &good);
    let file = |name: &str, text: &str| -> String {
        let path: PathBuf = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let text = good.to_string();
    let newer = file("newer.json", &text.replace("slim.report/1", "slim.report/2"));
    let cut = file("cut.json", &text[..text.len() / 2]);
    let other = file("other.json", "{\"schema\": \"sbom/1\"}");
    let [image, _] = pair(dir.path());
    let tar = dir.path().join("old.tar").display().to_string();
    for (first, status, texts) in [
        (newer.as_str(), 1, ["newer.json", "of a newer version (slim.report/2)"]),
        (&cut, 1, ["cut.json", "cut short at line 1, column"]),
        (&other, 1, ["other.json", "its `schema` is `sbom/1`"]),
        (&tar, 2, ["is an archive, no report", "docker-archive:"]),
        ("nowhere.json", 2, ["there is no report nowhere.json", "give the file"]),
        ("sif:x", 2, ["\"sif\"", "no transport that is known"]),
        ("docker-archive:/nowhere/x.tar", 1, ["/nowhere/x.tar", "read docker-archive"]),
    ] {
        refused(&[first, &ours], status, &texts);
        refused(&[&image, first], status, &texts);
    }
    refused(&[&ours, &ours, "--fail-on", "size>>5"], 2, &["--fail-on", "column 6", "60MB"]);
    refused(&[&ours, &ours, "--fail-on", "shells", "--fail-on", "sizes>5"], 2, &["budget 2", "size>60MB"]);
    refused(&[&ours, &ours, "--only", "sizes,dust"], 2, &["\"dust\"", "sizes, probes, secrets"]);
    refused(&[&ours, &ours, "--format", "json", "--markdown"], 2, &["several formats"]);
    // Before the images are looked for.
    refused(&["nosuch", "nosuch2", "-o", "/nowhere/at/all.md"], 2, &["--output", "there is no directory /nowhere/at"]);
    refused(&[&ours, &ours, "--registry-account", "me", "--registry-secret", "x"], 2, &["no registry is named"]);
    // What is set for builds is not for this.
    let output = Command::new(env!("CARGO_BIN_EXE_slim"))
        .args(["diff", &ours, &ours])
        .envs([("SLIM_MARKDOWN", "x.md"), ("SLIM_OUTPUT", "x.tar"), ("SLIM_FAIL_ON", "size>1")])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", said(&output));
}

// ---- an engine ------------------------------------------------------------------------------------------

#[test]
#[ignore = "needs an engine"]
fn an_engine_and_an_archive_of_the_same_images_give_the_same_differences() {
    let dir = TempDir::new().unwrap();
    let [old, new] = pair(dir.path());
    for name in ["old.tar", "new.tar"] {
        docker(&["load", "-q", "-i", dir.path().join(name).to_str().unwrap()]);
    }
    let (by_engine, by_archive) = (json_of(&["diff-old:1", "diff-new:1"]), json_of(&[&old, &new]));
    docker(&["rmi", "-f", "diff-old:1", "diff-new:1"]);
    for section in ["sizes", "layers", "files", "packages", "programs", "config", "secrets"] {
        assert_eq!(by_engine[section], by_archive[section], "{section}");
        assert!(!by_engine[section].is_null(), "{section}");
    }
}

#[test]
#[ignore = "needs an engine"]
fn an_original_and_what_a_build_made_of_it_differ_by_what_the_report_says() {
    let image = Source::default().with("unused/big", &"unused".repeat(10_000)).load("diff");
    let done = Build::of(&image).args(&["--http-probe"]).run().ended(0);
    let report = done.report();
    let at = |words: &[&str]| -> Value {
        let (code, stdout, stderr) = done.then(&[&["diff"], words, &["--json"]].concat());
        assert_eq!(code, 0, "{stderr}");
        serde_json::from_str(&stdout).unwrap()
    };
    let diff = at(&[&image.name, &image.slim()]);
    assert_eq!(diff["files"]["removed"]["files"], report["removed"]["files"]);
    assert_eq!(diff["files"]["removed"]["bytes"], report["removed"]["bytes"]);
    assert_eq!(diff["files"]["removed"]["list"][0]["path"], "/unused/big");
    assert_eq!((&diff["files"]["added"]["files"], &diff["files"]["changed"]["list"]), (&json!(0), &json!([])));
    assert_eq!(diff["sizes"]["files"]["after"], report["result"]["files"]);
    let of_report = at(&["slim.report.json", &image.slim()]);
    for list in ["added", "changed", "removed"] {
        assert_eq!(of_report["files"][list]["files"], 0, "{of_report:#}");
    }
    let compressed = &of_report["sizes"]["compressed_bytes"];
    let (before, after) = (compressed["before"].as_u64().unwrap(), compressed["after"].as_u64().unwrap());
    assert!(before.abs_diff(after) < before / 100, "{compressed}");
}
