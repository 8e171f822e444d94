//! Gate: a result that misses a budget is not published, and a stored report can be held against budgets again.

use crate::support::{Build, Image, has_image};

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn a_missed_budget_publishes_nothing() {
    let image = Image::new("gate");
    let words = ["--http-probe", "-o", "image.tar", "--fail-on", "files>2", "--fail-on", "path:/bin/subject", "--fail-on", "size>1GB"];
    let build = Build::of(&image).args(&words).args(&["--junit", "probes.xml", "--html", "page.html"]).file("summary.md", "of another step\n");
    let done = build.env("GITHUB_STEP_SUMMARY", "summary.md").run().ended(6);
    let says = [
        "FAILED: 2 budgets missed, nothing is published\n",
        "  files: 3, the limit is at most 2\n",
        "  path:/bin/subject: /bin/subject stays\n",
        "change the budget",
    ];
    let done = done.says(&says);
    assert!(!done.stderr.contains("  image "), "{}", done.stderr);
    assert_eq!((has_image(&image.slim()), image.nameless_results().as_str(), done.work().join("image.tar").exists()), (false, "", false));
    let report = done.report();
    let junit = std::fs::read_to_string(done.work().join("probes.xml")).unwrap();
    assert!(junit.contains("<failure message=\"files: 3, the limit is at most 2\"/>") && junit.contains("name=\"GET /\"/>"), "{junit}");
    let page = std::fs::read_to_string(done.work().join("page.html")).unwrap();
    assert!(page.contains("<h1 class=\"failed\">FAILED: 2 budgets missed") && page.contains("files: 3, the limit is at most 2"), "{page}");
    let summary = std::fs::read_to_string(done.work().join("summary.md")).unwrap();
    assert!(summary.starts_with("of another step\n### ❌ FAILED: 2 budgets missed"), "{summary}");
    let kept: Vec<_> = report["budgets"].as_array().unwrap().iter().map(|standing| standing["kept"].as_bool().unwrap()).collect();
    assert_eq!(kept, [false, false, true]);
    assert_eq!((&report["exit"]["code"], &report["verdict"]["kind"]), (&6.into(), &"failed".into()));

    // Where nobody looks at a screen, each line is still there, and stdout stays empty.
    let done = Build::of(&image).args(&["--http-probe", "-q", "--fail-on", "shells", "--fail-on", "holdout<50%"]).run().ended(6);
    let lines = "slim: FAILED: 1 budget missed, nothing is published\n  holdout: not measured, the limit is at least 50.0 %\n";
    assert_eq!((done.stdout.as_str(), done.stderr.as_str()), ("", lines));
}

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn a_report_is_held_against_budgets_without_a_build() {
    let image = Image::new("check");
    let toml = format!("[image.\"{}\"]\nfail-on = [\"size>+1%\", \"unverified\"]\nbaseline = \"slim.report.json\"\n", image.name);
    let done = Build::of(&image).args(&["--http-probe", "--fail-on", "files>3", "--fail-on", "unverified"]).run().ended(0);
    assert!(has_image(&image.slim()));
    let check = |words: &[&str]| done.then(&[&["report", "check"], words].concat());
    let (code, out, _) = check(&["--fail-on", "files>3", "--fail-on", "files>2"]);
    assert_eq!((code, out.as_str()), (6, "kept   files: 3, the limit is at most 3\nMISSED files: 3, the limit is at most 2\n"));
    let (code, out, _) = check(&["slim.report.json", "--fail-on", "root", "--json"]);
    assert_eq!((code, out.as_str()), (6, "[{\"rule\":\"root\",\"kept\":false,\"line\":\"user: root, it must not be\"}]\n"));
    let (code, _, said) = check(&[]);
    assert_eq!(code, 2);
    assert!(said.contains("there is no budget to hold slim.report.json against"), "{said}");
    std::fs::write(done.work().join("slim.toml"), toml).unwrap();
    let (code, out, said) = check(&[]);
    assert_eq!(code, 0, "{said}");
    assert!(out.starts_with("kept   size: 8") && out.ends_with("the limit is at most +1 %\nkept   verdict: verified\n"), "{out}");
    let (code, _, said) = check(&["nope.json", "--fail-on", "shells"]);
    assert_eq!(code, 1);
    assert!(said.contains("nope.json"), "{said}");
}

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn what_was_published_under_looser_budgets_is_not_up_to_date() {
    let image = Image::new("looser");
    let build = |limit: &str| Build::of(&image).args(&["--http-probe", "--fail-on", limit]).env("SLIM_REBUILD", "false").run();
    build("files>3").ended(0).says(&["VERIFIED"]);
    build("files>3").ended(0).says(&["up to date"]);
    build("files>2").ended(6).says(&["files: 3, the limit is at most 2", "is still the result of an earlier build"]);
    assert!(has_image(&image.slim()));
}
