//! docs/scale.md: its manifests are YAML of the kinds that they say, its command lines can be typed, and its arithmetic
//! is right.

#![allow(clippy::unwrap_used)]

use std::ffi::OsString;

use serde::Deserialize;
use slim::cli::{self, Command, Vars};
use yaml_serde::Value;

fn page() -> String {
    std::fs::read_to_string("docs/scale.md").unwrap()
}

/// The texts of a kind in fences.
fn blocks(kind: &str) -> Vec<String> {
    let (page, fence) = (page(), format!("\n```{kind}\n"));
    page.split(&fence).skip(1).map(|rest| rest.split("\n```").next().unwrap().to_owned()).collect()
}

fn documents() -> Vec<Value> {
    let parse = |block: &String| {
        let documents = yaml_serde::Deserializer::from_str(block);
        documents.map(|document| Value::deserialize(document).unwrap_or_else(|error| panic!("{error}\n{block}"))).collect::<Vec<_>>()
    };
    blocks("yaml").iter().flat_map(parse).collect()
}

/// Every text in a document.
fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => vec![text.clone()],
        Value::Sequence(items) => items.iter().flat_map(texts).collect(),
        Value::Mapping(fields) => fields.values().flat_map(texts).collect(),
        _ => Vec::new(),
    }
}

#[test]
fn its_manifests_are_yaml_and_agree_with_themselves() {
    let documents = documents();
    assert_eq!(documents.len(), 5, "a list, a Job, a sidecar, and two CI systems");
    let (list, job, sidecar) = (&documents[0], &documents[1], &documents[2]);
    let lines = list["data"]["images"].as_str().unwrap().lines().count() as u64;
    assert_eq!((job["kind"].as_str(), job["spec"]["completionMode"].as_str()), (Some("Job"), Some("Indexed")));
    assert_eq!(job["spec"]["completions"].as_u64(), Some(lines));
    let pods = [&job["spec"]["template"]["spec"], sidecar];
    for pod in pods {
        assert_eq!(pod["restartPolicy"].as_str(), Some("Never"), "a policy for failures needs that");
        let named = |volumes: &Value| -> Vec<String> {
            volumes.as_sequence().unwrap().iter().map(|volume| volume["name"].as_str().unwrap().to_owned()).collect()
        };
        let volumes = named(&pod["volumes"]);
        for mount in named(&pod["containers"][0]["volumeMounts"]) {
            assert!(volumes.contains(&mount), "there is no volume {mount}");
        }
    }
    let security = &pods[0]["containers"][0]["securityContext"];
    let added: Vec<String> = texts(&security["capabilities"]["add"]);
    assert_eq!(added, ["SYS_ADMIN", "NET_ADMIN", "SYS_PTRACE"]);
    let slices = &documents[3]["jobs"]["slim"];
    let matrix = slices["strategy"]["matrix"]["slice"].as_sequence().unwrap().len() as u64;
    assert_eq!(slices["env"]["SLICES"].as_u64(), Some(matrix));
}

#[test]
fn its_command_lines_can_be_typed() {
    let page = page();
    let lines: Vec<&str> = page.lines().filter_map(|line| line.split_once("slim build ")).filter(|(before, _)| {
        matches!(before.trim(), "" | "exec" | "-")
    }).map(|(_, words)| words).collect();
    assert_eq!(lines.len(), 5, "{lines:?}");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("slim.toml");
    let toml = blocks("toml");
    std::fs::write(&file, &toml[0]).unwrap();
    for line in lines {
        let line = line.replace("$image", "registry.example/shop/web:1").replace("--config /list/slim.toml", "");
        let typed = shell_words::split(&line).unwrap();
        let words = ["slim", "--config", file.to_str().unwrap(), "build"].map(str::to_owned).into_iter().chain(typed);
        let invocation = cli::parse(words.map(OsString::from), &Vars::new()).unwrap_or_else(|stop| panic!("{line}: {stop:?}"));
        assert!(matches!(invocation.command, Command::Build(_)), "{line}");
        assert_eq!(invocation.batch.map(|batch| batch.len()), line.contains("--all").then_some(2), "{line}");
    }
}

#[test]
fn its_settings_are_settings() {
    let documents = documents();
    let list = documents[0]["data"]["slim.toml"].as_str().unwrap().to_owned();
    let dir = tempfile::tempdir().unwrap();
    for text in blocks("toml").into_iter().chain([list]) {
        let file = dir.path().join("slim.toml");
        std::fs::write(&file, &text).unwrap();
        let words = ["slim", "--config", file.to_str().unwrap(), "build", "--all"].map(OsString::from);
        let invocation = cli::parse(words, &Vars::new()).unwrap_or_else(|stop| panic!("{text}: {stop:?}"));
        let here = slim::batch::Here { vars: &Vars::new(), stdin: b"" };
        slim::batch::jobs(&invocation.batch.unwrap(), here).unwrap_or_else(|error| panic!("{text}: {error}"));
    }
}

#[test]
fn no_registry_but_the_example_is_named() {
    let page = page();
    for word in page.split(|c: char| c.is_whitespace() || "\"'`()[]{},".contains(c)) {
        let name = word.trim_start_matches("docker://");
        let Some((host, _)) = name.split_once('/') else { continue };
        let is_host = host.contains('.') && !host.starts_with('.') && host.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.');
        assert!(!is_host || host == "registry.example", "{word}");
    }
}

#[test]
fn its_arithmetic_is_right() {
    let (n, b, c, p, f, s, r, h, layers) = (10_000.0, 60.0, 1.5, 100.0, 0.02, 150e6, 30e6, 0.5, 8.0);
    let time = |u: f64| n * ((1.0 - u) * b + u * c) * (1.0 + f) / p;
    let fetch = |u: f64| n * (1.0 - u) * s * (1.0 + f) * (1.0 - h) / 1e9;
    let asks = |u: f64| n * (1.0 - u) * (6.0 + layers) + n * u * 4.0;
    let near = |a: f64, b: f64| assert!((a - b).abs() <= b * 0.01, "{a} is not {b}");
    let page = page();
    for (value, told, text) in [
        (time(0.0), 6120.0, "6,120 s: 1 h 42 min"),
        (time(0.97), 332.0, "332 s: 6 min"),
        (fetch(0.0), 765.0, "765 GB"),
        (fetch(0.97), 23.0, "23 GB"),
        (n * r / 1e9, 300.0, "300 GB"),
        (n * 0.03 * r / 1e9, 9.0, "9 GB"),
        (asks(0.0), 140_000.0, "140,000: 23 a second"),
        (asks(0.97), 43_000.0, "43,000: 130 a second"),
        (asks(0.0) / time(0.0), 23.0, "23 a second"),
        (asks(0.97) / time(0.97), 130.0, "130 a second"),
        (fetch(0.0) * 1000.0 / time(0.0), 125.0, "125 MB a second"),
    ] {
        near(value, told);
        assert!(page.contains(text), "{text}");
    }
}
