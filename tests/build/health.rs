//! The image's HEALTHCHECK: who runs it, and that a slim image where it alone is broken is found out.

use serde_json::json;

use crate::support::{Build, Image, Source};

fn image(test: &str, check: &[&str]) -> Image {
    let test_of = [&["CMD", "/bin/subject"], check].concat();
    let healthcheck = json!({"Test": test_of, "Interval": 1_000_000_000u64});
    Source::default().set("Healthcheck", healthcheck).set("User", json!("4321:4322")).load(test)
}

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn a_broken_healthcheck_is_found_also_when_a_log_line_makes_ready() {
    let image = image("health-broken", &["cat", "/data/b.txt"]);
    let ready = ["--http-probe", "--ready-log", "listening"];
    let done = Build::of(&image).args(&ready).run().ended(0);
    let probes = done.report()["probes"].as_array().unwrap().clone();
    let health = probes.iter().find(|probe| probe["name"] == "healthcheck").expect("it is among the answers");
    assert_eq!(health["baseline"]["status"], 0, "{health}");
    assert_eq!(health["baseline"]["body"]["length"], "content of b\n".len());
    for rounds in ["0", "3"] {
        let words = ["--exclude-pattern", "/data/b.txt", "--repair-rounds", rounds];
        let done = Build::of(&image).args(&ready).args(&words).run().ended(5);
        let done = done.says(&["healthcheck"]);
        assert!(!done.kept().iter().any(|path| path == "/data/b.txt"));
    }
}

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn a_healthcheck_runs_as_the_images_user() {
    let image = image("health-user", &["am", "4321"]);
    Build::of(&image).args(&["--http-probe"]).run().ended(0);
    let done = Build::of(&image).args(&["--http-probe", "--ready-log", "listening"]).run().ended(0);
    let probes = done.report()["probes"].as_array().unwrap().clone();
    let health = probes.iter().find(|probe| probe["name"] == "healthcheck").unwrap().clone();
    assert_eq!((&health["baseline"]["status"], &health["baseline"]["body"]["length"]), (&json!(0), &json!(9)), "{health}");
    // As another user it fails, and so does what waits for it.
    let done = Build::of(&image).args(&["--http-probe", "-u", "5", "--ready-timeout", "3s"]).run().ended(3);
    done.says(&["HEALTHCHECK"]);
}
