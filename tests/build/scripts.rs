//! Scripts: what the shell scripts of an image call on ways that the run did not take, and what files of `--uses`
//! run in it. The image is slim-fixture/base with a few scripts.

use std::process::Command;

use crate::support::{Build, Done, docker};

/// An image made from slim-fixture/base; it goes with all that was made of it.
struct Made(String);

impl Made {
    fn new(name: &str) -> Self {
        let image = format!("slim-test/scripts-{name}-{}:1", std::process::id());
        let dir = tempfile::tempdir().unwrap();
        let file = |path: &str, text: &str| std::fs::write(dir.path().join(path), text).unwrap();
        file("Dockerfile", DOCKERFILE);
        file("entry.sh", ENTRY);
        file("lib.sh", "greet() { echo hello; }\n");
        file("migrate", "#!/bin/bash\n[ \"$1\" = up ] && exit 0\nsort -u /etc/passwd | cksum\n");
        // The builder does not need to be found again: the layers are this test's own.
        docker(&["build", "-q", "--no-cache", "-t", &image, &dir.path().display().to_string()]);
        Self(image)
    }

    fn slim(&self) -> String {
        self.0.replace(":1", ".slim:1")
    }

    fn build(&self, words: &[&str]) -> Build {
        Build::new(&["build", &self.0, "--exec", "true"]).args(words)
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        for image in [self.slim(), self.0.clone()] {
            let _gone_already = Command::new("docker").args(["rmi", "-f", &image]).output();
        }
    }
}

const DOCKERFILE: &str = "FROM slim-fixture/base
COPY entry.sh lib.sh migrate /opt/shop/
RUN chmod 755 /opt/shop/entry.sh /opt/shop/migrate
ENTRYPOINT [\"/opt/shop/entry.sh\"]
CMD [\"serve\"]
";

const ENTRY: &str = "#!/bin/bash
. \"$(dirname \"$0\")/lib.sh\"
case $1 in
    serve) greet; trap 'exit 0' TERM; while :; do sleep 0.1 & wait $!; done ;;
    count) printf 'b\\na\\n' | sed s/a/c/ | wc -l; nproc >/dev/null ;;
esac
";

/// The calls of a script, as the report has them: `NAME kept ran`.
fn calls(done: &Done, path: &str) -> Vec<String> {
    let report = done.report();
    let scripts = report["scripts"].as_array().unwrap();
    let script = scripts.iter().find(|script| script["path"] == path).unwrap_or_else(|| panic!("no {path} in {scripts:?}"));
    let word = |call: &serde_json::Value, what: &str| match call[what].as_bool().unwrap() {
        true => format!(" {what}"),
        false => String::new(),
    };
    let tell = |call: &serde_json::Value| {
        format!("{}{}{}", call["name"].as_str().unwrap(), word(call, "kept"), word(call, "ran"))
    };
    script["calls"].as_array().unwrap().iter().map(tell).collect()
}

/// What `entry.sh count` says in the slim image.
fn count_in(image: &str) -> (bool, String) {
    let done = Command::new("docker").args(["run", "--rm", image, "count"]).output().unwrap();
    (done.status.success(), String::from_utf8_lossy(&done.stdout).trim().to_owned())
}

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn what_a_script_calls_and_the_run_did_not_is_told_and_kept_when_asked_for() {
    let made = Made::new("told");
    let done = made.build(&[]).run().ended(0);
    let told = "/opt/shop/entry.sh also calls: nproc, sed, wc (not kept";
    let done = done.says(&[told]);
    // The screen cuts lines, the report does not.
    assert_eq!(done.report()["warnings"][0], format!("{told}; --include-script-commands keeps them)"));
    assert_eq!(
        calls(&done, "/opt/shop/entry.sh"),
        ["${0%/*}/lib.sh kept", "dirname kept ran", "nproc", "sed", "sleep kept ran", "wc"]
    );
    let kept = done.kept();
    assert!(!kept.iter().any(|path| path.ends_with("/sed")), "{kept:?}");
    assert!(!count_in(&made.slim()).0);

    for words in [&["--include-script-commands"][..], &["--keep", "app"]] {
        let done = made.build(words).run().ended(0);
        assert!(!done.stderr.contains("also calls"), "{}", done.stderr);
        assert!(calls(&done, "/opt/shop/entry.sh").contains(&"sed kept".to_owned()));
        assert_eq!(count_in(&made.slim()), (true, "2".to_owned()), "{words:?}");
    }
}

const MANIFEST: &str = "kind: Deployment
metadata: {name: shop}
spec:
  template:
    spec:
      initContainers:
        - {name: migrate, image: IMAGE, command: [/opt/shop/migrate, up]}
      containers:
        - name: other
          image: elsewhere/other:1
        - name: shop
          image: docker.io/IMAGE
          readinessProbe: {exec: {command: [cut, -c1, /etc/debian_version]}}
          lifecycle:
            preStop: {exec: {command: [bash, -c, 'head -n 1 /etc/group']}}
";

const COMPOSE: &str = "services:
  shop:
    image: IMAGE
    healthcheck:
      test: tail -n 1 /etc/passwd || exit 1
  migrate:
    image: IMAGE
    entrypoint: /opt/shop/migrate
    command: [up]
";

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn what_files_run_in_an_image_is_probed_and_kept() {
    let made = Made::new("used");
    let done = made.build(&["--uses", "shop.yaml", "--uses", "compose.yaml"]);
    let done = done.file("shop.yaml", &MANIFEST.replace("IMAGE", &made.0));
    let done = done.file("compose.yaml", &COMPOSE.replace("IMAGE", &made.0)).run().ended(0);
    let report = done.report();
    let probes: Vec<&str> = report["probes"].as_array().unwrap().iter().map(|probe| probe["name"].as_str().unwrap()).collect();
    for (program, count) in [("cut", 1), ("head", 1), ("tail", 1), ("migrate", 0)] {
        assert_eq!(probes.iter().filter(|name| name.contains(program)).count(), count, "{program} {probes:?}");
    }
    assert!(probes.last().unwrap().contains("head"), "what stops it comes last: {probes:?}");
    // Of the command that nobody ran also what its script calls.
    assert_eq!(calls(&done, "/opt/shop/migrate"), ["cksum kept", "sort kept"]);
    let run = |words: &[&str]| docker(&[&["run", "--rm", "--entrypoint", "/opt/shop/migrate", &made.slim()], words].concat());
    assert_eq!(run(&["up"]), "");
    assert!(!run(&["down"]).is_empty());
}

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn what_files_run_and_is_gone_or_never_was_fails_the_build() {
    let made = Made::new("gone");
    let uses = |text: &str, words: &[&str]| {
        made.build(words).args(&["--uses", "k.yaml"]).file("k.yaml", &text.replace("IMAGE", &made.0)).run()
    };
    let manifest = "kind: Pod\nspec: {containers: [{name: a, image: IMAGE, command: [/opt/shop/migrate]}]}\n";
    let done = uses(manifest, &["--exclude-pattern", "/opt/shop/migrate"]).ended(5);
    done.says(&["what --uses runs is gone: /opt/shop/migrate (k.yaml: Pod ?, container a, command)"]);
    let manifest = "kind: Pod\nspec: {containers: [{name: a, image: IMAGE, livenessProbe: {exec: {command: [no-such, x]}}}]}\n";
    uses(manifest, &[]).ended(2).says(&["the original image has no such program: no-such (k.yaml: Pod ?, container a, livenessProbe)"]);
    uses("kind: Pod\nspec: {containers: [{name: a, image: 'IMAGE0'}]}\n", &[])
        .ended(2)
        .says(&["k.yaml: no container in it runs slim-test/scripts-gone-", "its images are slim-test/scripts-gone-"]);
    uses("kind: Pod\nspec: [\n", &[]).ended(2).says(&["--uses: k.yaml:3:1: "]);
    assert_eq!(docker(&["images", "-q", &made.slim()]), "");
}
