//! Secrets: values that must not come out anywhere, put in everywhere.

use crate::support::{Build, Done, Image, Source};

/// In every secret of these tests.
const CANARY: &str = "kanarienvogel";

/// Everything that a build wrote, by name.
fn written(done: &Done) -> Vec<(String, String)> {
    let mut all = vec![("stdout".to_owned(), done.stdout.clone()), ("stderr".to_owned(), done.stderr.clone())];
    for entry in walk(&done.work()) {
        let bytes = std::fs::read(&entry).unwrap();
        all.push((entry.display().to_string(), String::from_utf8_lossy(&bytes).into_owned()));
    }
    all
}

fn walk(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(walk(&path)) } else { files.push(path) }
    }
    files
}

#[track_caller]
fn keeps_quiet(done: Done) {
    let all = written(&done);
    assert!(all.len() >= 3, "nothing was written");
    for (name, text) in all {
        assert!(!text.contains(CANARY), "a secret is in {name}:\n{text}");
    }
}

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn no_secret_of_a_run_is_written_anywhere() {
    let secret = |name: &str| format!("{CANARY}-{name}");
    let image = Image::new("quiet");
    let crashing = Source::default()
        .cmd(&["say", "3", &format!("password={CANARY}")])
        .set("ExposedPorts", serde_json::json!({"8080/tcp": {}}))
        .load("talks");
    let header = format!("Authorization: Bearer {}", secret("header"));
    let variable = format!("API_TOKEN={}", secret("typed"));
    let basic = [
        "--http-probe", "--http-probe-cmd", "/env", "-e", &variable, "-e", "PASSWORD", "-e", "SUBJECT_SAYS",
        "--http-probe-header", &header, "--http-probe-header", "X-Api-Key: env:KEY", "--registry-account", "someone",
        "--registry-secret-stdin", "--show-clogs", "--report-bodies", "--report-full", "--copy-meta-artifacts", "copies",
        "--html", "r.html", "--markdown", "r.md", "--junit", "r.xml", "--csv", "r.csv",
        "--provenance", "made.json", "--sarif", "found.sarif", "-o", "oci:layout",
        "--sbom", "cyclonedx=bom.cdx.json", "--sbom", "spdx=bom.spdx.json",
    ];
    for (image, more, code) in [
        (&image, &["--progress", "plain"][..], 0),
        (&image, &["--json"], 0),
        (&image, &["--http-probe-cmd", "/none"], 3),
        (&image, &["--exclude-pattern", "/www/about.html"], 5),
        (&crashing, &["--progress", "plain"], 3),
    ] {
        let build = Build::of(image).args(&basic).args(more);
        let build = build.env("PASSWORD", &secret("inherited")).env("KEY", &secret("key"));
        // The program prints and serves this variable; it is known to be secret from another one.
        let build = build.env("SUBJECT_SAYS", &secret("key")).stdin(&format!("{}\n", secret("registry")));
        let done = build.run().ended(code);
        if code == 0 {
            assert!(done.work().join("made.json").is_file() && done.work().join("found.sarif").is_file());
            let report = std::fs::read_to_string(done.work().join("slim.report.json")).unwrap();
            assert!(report.contains("API_TOKEN") && report.contains("PASSWORD"), "names of variables may be told");
        }
        keeps_quiet(done);
    }
}

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn secrets_that_only_the_image_knows_are_masked_too() {
    let value = format!("{CANARY}-image");
    let env = serde_json::json!(["PATH=/bin", format!("API_TOKEN={value}"), format!("SUBJECT_SAYS={value}")]);
    let image = Source::default().set("Env", env).load("own");
    let words = ["--http-probe", "--http-probe-cmd", "/env", "--show-clogs", "--report-bodies", "--copy-meta-artifacts", "copies"];
    for (more, code) in [
        (&["--progress", "plain"][..], 0),
        (&["--json"], 0),
        (&["--http-probe-cmd", "/none"], 3),
        (&["--exclude-pattern", "/www/about.html"], 5),
    ] {
        let done = Build::of(&image).args(&words).args(more).run().ended(code);
        let shown = done.stdout.contains("says ***") || done.stderr.contains("says ***");
        assert!(shown, "the log was to be shown:\n{}\n{}", done.stdout, done.stderr);
        keeps_quiet(done);
    }
    let done = Build::new(&["verify", &image.name, &image.name, "--http-probe", "--show-clogs", "--report", "r.json"]).run().ended(0);
    assert!(done.stderr.contains("says ***"), "{}", done.stderr);
    keeps_quiet(done);
}

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn a_secret_for_a_build_is_masked_where_the_build_fails() {
    let value = format!("API_TOKEN={CANARY}-argument");
    let dockerfile = "FROM slim-fixture/base\nARG API_TOKEN\nRUN echo \"it is $API_TOKEN\" >&2; exit 3\n";
    let build = Build::new(&["build", "--dockerfile", "context", "--build-arg", &value, "--http-probe"]);
    let done = build.file("context/Dockerfile", dockerfile).run().ended(1);
    assert!(done.stderr.contains("build the Dockerfile") && done.stderr.contains("it is ***"), "{}", done.stderr);
    for (name, text) in written(&done) {
        assert!(!text.contains(CANARY), "a secret is in {name}:\n{text}");
    }
}

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn what_looks_like_a_secret_is_gone_or_said_to_be_still_present() {
    let token = ["gh", "p_", CANARY, "67AbCdEfGhIjKlMnOpQrStUvWx"].concat();
    let token = &token[..40];
    let image = Source::default()
        .with("www/settings.js", &format!("let a = 1;\nlet token = '{token}';\n"))
        .with("www/.env", &format!("DB_PASSWORD={CANARY}-4711-in-a-file\n"))
        .with("root/.netrc", &format!("machine git.internal login me password {CANARY}4711\n"))
        .with("root/notes.txt", &format!("token {token}\n"))
        .set("Env", serde_json::json!(["PATH=/bin", format!("API_TOKEN={CANARY}-4711-set")]))
        .load("leaky");
    let build = || Build::of(&image).args(&["--http-probe", "--http-probe-cmd", "/settings.js", "--progress", "plain"]);
    let done = build().run().ended(0);
    let report = done.report();
    let secrets = report["secrets"].as_array().unwrap();
    let told: Vec<(&str, &str, bool)> = secrets
        .iter()
        .map(|secret| {
            let place = secret["path"].as_str().or(secret["name"].as_str()).unwrap();
            (secret["rule"].as_str().unwrap(), place, secret["present"].as_bool().unwrap())
        })
        .collect();
    assert!(told.contains(&("github-token", "/www/settings.js", true)), "{told:?}");
    assert!(told.contains(&("variable", "API_TOKEN", true)), "{told:?}");
    for gone in ["/www/.env", "/root/.netrc"] {
        assert!(told.iter().any(|(_, place, present)| *place == gone && !present), "{told:?}");
    }
    let kept = done.kept();
    for secret in secrets.iter().filter(|secret| secret["place"] == "file") {
        let path = secret["path"].as_str().unwrap().to_owned();
        assert_eq!(secret["present"], kept.contains(&path), "{path}");
    }
    assert!(done.stderr.contains("STILL PRESENT") && done.stderr.contains("/www/settings.js:2"), "{}", done.stderr);
    assert!(done.stderr.contains("2 places look like secrets") && done.stderr.contains("--remove-env"), "{}", done.stderr);
    keeps_quiet(done);
    let missed = build().args(&["--fail-on", "secrets"]).run().ended(6);
    assert!(missed.stderr.contains("secrets: 2, the limit is at most 0"), "{}", missed.stderr);
    let clean = build().args(&["--fail-on", "secrets", "--remove-env", "API_TOKEN", "--exclude-pattern", "/www/settings.js", "--no-verify"]);
    assert_eq!(clean.run().ended(0).report()["secrets"].as_array().unwrap().iter().filter(|s| s["present"] == true).count(), 0);
}
