//! Applets: names of one program that acts by the name it is called by, where no recorder of the run saw the names.

use std::process::Command;

use crate::support::{Build, docker};

/// An image with busybox under many names beside a shell that starts programs by name; it goes with its results.
struct Box(String);

const DOCKERFILE: &str = "FROM slim-fixture/base
COPY --from=slim-fixture/musl /bin/busybox /usr/local/bin/busybox
RUN cd /usr/local/bin && for name in $(busybox --list | head -40) rev tac factor uudecode; do \\
        [ $name = busybox ] || LINK busybox $name; done
ENTRYPOINT [\"/bin/sh\", \"-c\", \"[ -x /usr/local/bin/uudecode ]; echo 6 | rev; echo abc | /usr/local/bin/tac; factor 12\"]
";

impl Box {
    /// `link` is how the names are made: `ln -f` or `ln -sf`.
    fn new(test: &str, link: &str) -> Self {
        let image = format!("slim-test/applets-{test}-{}:1", std::process::id());
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("Dockerfile"), DOCKERFILE.replace("LINK", link)).unwrap();
        docker(&["build", "-q", "--no-cache", "-t", &image, &dir.path().display().to_string()]);
        Self(image)
    }

    fn slim(&self) -> String {
        self.0.replace(":1", ".slim:1")
    }
}

impl Drop for Box {
    fn drop(&mut self) {
        for image in [self.slim(), self.0.clone()] {
            let _gone_already = Command::new("docker").args(["rmi", "-f", &image]).output();
        }
    }
}

/// The names in the directory of programs that stay.
fn names(kept: &[String]) -> Vec<&str> {
    kept.iter().filter_map(|path| path.strip_prefix("/usr/local/bin/")).collect()
}

#[test]
#[ignore = "needs a container engine and slim-fixture images: tests/run makes them"]
fn links_to_a_program_of_many_names_all_stay_where_no_recorder_saw_the_names() {
    let image = Box::new("links", "ln -sf");
    let done = Build::new(&["build", &image.0, "--sensor", "fanotify"]).run().ended(0);
    assert_eq!(done.report()["verdict"]["kind"], "verified");
    let kept = done.kept();
    let names = names(&kept);
    assert!(["busybox", "rev", "tac", "factor", "uudecode"].iter().all(|name| names.contains(name)), "{names:?}");
}

#[test]
#[ignore = "needs a container engine and slim-fixture images: tests/run makes them"]
fn a_further_name_that_fanotify_does_not_see_looked_for_is_missed_and_added() {
    let image = Box::new("names", "ln -f");
    let done = Build::new(&["build", &image.0, "--sensor", "fanotify"]).run().ended(0);
    let report = done.report();
    assert_eq!(report["verdict"]["kind"], "verified");
    // What is run is recorded by each of its names; what is only looked for is not recorded at all.
    assert_eq!(report["verify"]["repaired"], serde_json::json!(["/usr/local/bin/uudecode"]));
    assert_eq!(report["verify"]["rounds"], 2);
    assert!(report["verify"]["missed"].as_array().unwrap().is_empty());
    let kept = done.kept();
    let names = names(&kept);
    assert!(["rev", "tac", "factor", "uudecode"].iter().all(|name| names.contains(name)) && names.len() <= 5, "{names:?}");
}
