//! Config: the source image's document in the result, and what flags change in it.

use serde_json::{Value, json};

use crate::support::{Build, Image, Source};

/// The config document of an image.
fn document(name: &str) -> Value {
    serde_json::from_str(&text(name)).unwrap()
}

/// A member of an object as it is written.
fn raw(object: &str, name: &str) -> String {
    let members: std::collections::BTreeMap<String, Box<serde_json::value::RawValue>> = serde_json::from_str(object).unwrap();
    members[name].get().to_owned()
}

/// The same as the engine stores it.
fn text(name: &str) -> String {
    let output = std::process::Command::new("docker").args(["save", name]).output().unwrap();
    assert!(output.status.success(), "docker save {name}");
    let read = |wanted: &str| {
        let mut archive = tar::Archive::new(&output.stdout[..]);
        let mut entry =
            archive.entries().unwrap().map(Result::unwrap).find(|entry| entry.path().unwrap().to_str() == Some(wanted)).unwrap();
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut bytes).unwrap();
        String::from_utf8(bytes).unwrap()
    };
    let manifest: Value = serde_json::from_str(&read("manifest.json")).unwrap();
    read(manifest[0]["Config"].as_str().unwrap())
}

/// A server with everything in its config that Docker, OCI and others have invented.
fn rich() -> Source {
    Source::default()
        .set("Env", json!(["PATH=/bin", "EMPTY=", "QUOTED=a \"b\" \\ c", "Z=1", "A=2"]))
        .set("Healthcheck", json!({
            "Test": ["CMD", "/bin/subject", "health"],
            "Interval": 30_000_000_000_i64, "Timeout": 5_000_000_000_i64, "StartPeriod": 2_000_000_000_i64,
            "StartInterval": 1_000_000_000_i64, "Retries": 7,
        }))
        .set("StopSignal", json!("SIGTERM"))
        .set("StopTimeout", json!(7))
        .set("OnBuild", json!(["RUN one", "RUN two"]))
        .set("Shell", json!(["/bin/subject", "-c"]))
        .set("User", json!("1000:1000"))
        .set("WorkingDir", json!("/www"))
        .set("Labels", json!({"z": "last", "a": "first", "unicode": "\u{fc}\u{2603}"}))
        .set("Volumes", json!({"/data": {}}))
        .set("ArgsEscaped", json!(true))
        .set("com.example.vendor", json!({"nested": [1, 2.5, null, {"deep": "er"}]}))
        .document("variant", json!("v3"))
        .document("os.version", json!("10.0"))
        .document("com.example.top", json!(["kept", 1e3]))
        .document("docker_version", json!("99"))
}

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn the_config_is_carried_over_whole() {
    let spelled = rich()
        .spelled("1000.0", "1e3")
        .spelled("\u{fc}\u{2603}", "\\u00fc\\u2603")
        .spelled("\"docker_version\":", "\n  \"docker_version\" : ")
        .spelled("\"Shell\"", "\"\\u0053hell\"");
    let image = spelled.load("config");
    let done = Build::of(&image).args(&["--http-probe"]).run().ended(0);
    let (before, after) = (text(&image.name), text(&image.slim()));
    let labels = |document: &str| raw(&raw(document, "config"), "Labels");
    let parsed: Value = serde_json::from_str(&after).unwrap();
    let ours = parsed["config"]["Labels"].as_object().unwrap().keys().filter(|name| name.starts_with("slim."));
    assert_eq!(ours.count(), 5, "{}", labels(&after));
    assert!(labels(&after).starts_with(labels(&before).trim_end_matches('}')), "{}", labels(&after));
    assert_eq!(parsed["rootfs"]["diff_ids"].as_array().unwrap().len(), 1);
    let history = parsed["history"].as_array().unwrap();
    assert_eq!(history.iter().filter(|entry| entry["empty_layer"] != json!(true)).count(), 1, "{history:?}");
    // Byte for byte but for these three.
    let expected = before
        .replace(&raw(&before, "rootfs"), &raw(&after, "rootfs"))
        .replace(&raw(&before, "history"), &raw(&after, "history"))
        .replace(&labels(&before), &labels(&after));
    assert_eq!(after, expected);
    let changed = done.report()["config"]["changed"].clone();
    let fields: Vec<&str> = changed.as_array().unwrap().iter().map(|change| change["field"].as_str().unwrap()).collect();
    let ours = |field: &&str| field.starts_with("Labels.slim.") || *field == "Labels.org.opencontainers.image.base.name";
    assert!(fields.iter().all(ours), "{fields:?}");
}

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn flags_that_edit_the_config_change_what_they_name() {
    let image = rich().load("edits");
    let words = [
        "--http-probe", "--no-verify",
        "--new-entrypoint", "[\"/bin/subject\", \"serve\"]", "--new-cmd", "8082", "--new-user", "7:8",
        "--new-workdir", "/data", "--new-env", "A=3", "--new-env", "NEW=x", "--new-expose", "8082",
        "--new-volume", "/more", "--new-label", "added=yes", "--new-stop-signal", "SIGINT",
        "--remove-env", "EMPTY", "--remove-label", "z", "--remove-expose", "8080", "--remove-volume", "/data",
        "--remove-healthcheck",
    ];
    let done = Build::of(&image).args(&words).run().ended(0);
    let config = document(&image.slim())["config"].clone();
    for (field, value) in [
        ("Entrypoint", json!(["/bin/subject", "serve"])),
        ("Cmd", json!(["8082"])),
        ("User", json!("7:8")),
        ("WorkingDir", json!("/data")),
        ("Env", json!(["PATH=/bin", "QUOTED=a \"b\" \\ c", "Z=1", "A=3", "NEW=x"])),
        ("ExposedPorts", json!({"8082/tcp": {}})),
        ("Volumes", json!({"/more": {}})),
        ("StopSignal", json!("SIGINT")),
        ("StopTimeout", json!(7)),
        ("Shell", json!(["/bin/subject", "-c"])),
    ] {
        assert_eq!(config[field], value, "{field}");
    }
    assert!(config.get("Healthcheck").is_none_or(Value::is_null), "{}", config["Healthcheck"]);
    assert_eq!((&config["Labels"]["added"], config["Labels"].get("z")), (&json!("yes"), None));
    let report = done.report();
    let changed = report["config"]["changed"].to_string();
    for field in ["Entrypoint", "Cmd", "User", "WorkingDir", "Env.A", "Env.NEW", "Env.EMPTY", "Labels.added", "Healthcheck"] {
        assert!(changed.contains(&format!("\"field\":\"{field}\"")), "{field} is not in {changed}");
    }
}

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn flags_of_the_run_go_into_the_image_where_they_are_asked_to() {
    let image = Image::new("overrides");
    let words = ["--http-probe", "-e", "SUBJECT_SAYS=hi", "-u", "5:5", "--image-overrides", "env"];
    Build::of(&image).args(&words).run().ended(0);
    let config = document(&image.slim())["config"].clone();
    assert_eq!(config["Env"], json!(["PATH=/bin", "SUBJECT_SAYS=hi"]));
    assert!(config.get("User").is_none());
}
