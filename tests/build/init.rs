//! Init: an image whose first process is systemd, which refuses to be any other one.

use std::process::Command;

use crate::support::{Build, docker};

/// What systemd wants of a container. A tmpfs over the control groups keeps it from this machine's own: it mounts
/// them there by itself.
const FLAGS: &[&str] = &["--cap-add", "SYS_ADMIN", "--tmpfs", "/run", "--tmpfs", "/run/lock", "--tmpfs", "/tmp", "--tmpfs", "/sys/fs/cgroup"];

/// Only the first process's own manager can say this.
const ACTIVE: &str = "until systemctl is-active beat; do sleep 0.2; done";

/// A container, and the image if it is one that was made here.
struct Started<'a> {
    id: String,
    made: Option<&'a str>,
}

impl<'a> Started<'a> {
    fn new(image: &str, made: Option<&'a str>) -> Self {
        Self { id: docker(&[&["run", "-d"], FLAGS, &[image]].concat()), made }
    }

    /// What it says while its service runs, and its status after it was stopped as the image says.
    fn tells(&self) -> (String, String) {
        let active = docker(&["exec", &self.id, "bash", "-c", ACTIVE]);
        docker(&["stop", "-t", "20", &self.id]);
        (active.lines().last().unwrap_or_default().to_owned(), docker(&["inspect", "-f", "{{.State.ExitCode}}", &self.id]))
    }
}

impl Drop for Started<'_> {
    fn drop(&mut self) {
        let image = self.made.map(|image| ["rmi", image]);
        for args in [&["rm", "-f", &self.id][..]].into_iter().chain(image.as_ref().map(|words| &words[..])) {
            let _gone_already = Command::new("docker").args(args).output();
        }
    }
}

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn systemd_is_process_1_while_it_is_recorded_and_in_the_slim_image() {
    let image = "slim-fixture/systemd:latest";
    let slim = format!("slim-test/systemd-{}:slim", std::process::id());
    let exec = format!("bash -c '{ACTIVE}'");
    let done = Build::new(&["build", image, "--tag", &slim]).args(FLAGS).args(&["--exec", &exec]).run().ended(0);
    assert_eq!(done.report()["verdict"]["kind"], "verified");
    let before = Started::new(image, None).tells();
    assert_eq!(before, ("active".to_owned(), "0".to_owned()));
    assert_eq!(Started::new(&slim, Some(&slim)).tells(), before);
}
