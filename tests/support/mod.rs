//! What the build tests stand on: small images made here, the binary run on them, and a look at what it left.

pub mod engine;
pub mod image;
pub mod proxy;
pub mod remote;
pub mod slim;

pub use engine::OwnEngine;
pub use image::{Image, Source};
pub use proxy::{Act, Proxy};
pub use remote::Remote;
pub use slim::{Build, Done, Running};

use std::process::Command;
use std::time::{Duration, Instant};

/// The docker command's answer, for a second opinion.
pub fn docker(args: &[&str]) -> String {
    let output = Command::new("docker").args(args).output().expect("the docker command is needed");
    assert!(output.status.success(), "docker {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Whether the engine has an image of this name or ID.
pub fn has_image(name: &str) -> bool {
    !docker(&["images", "-q", "--no-trunc", "--filter", &format!("reference={name}")]).is_empty()
}

/// The ID of an image that is there.
pub fn id_of(name: &str) -> String {
    docker(&["image", "inspect", "--format", "{{.Id}}", name])
}

/// Everything in the engine that one run of slim made and did not give a name to; empty when all is well.
pub fn left_of(run: &str) -> String {
    let label = format!("label=slim.run={run}");
    let containers = docker(&["ps", "-aq", "--filter", &label]);
    let volumes = docker(&["volume", "ls", "-q", "--filter", &label]);
    let networks = docker(&["network", "ls", "-q", "--filter", &label]);
    let images = docker(&["images", "-aq", "--filter", &format!("reference=slim-{run}*")]);
    [containers, volumes, networks, images].concat()
}

/// Waits until something holds, at most half a minute.
pub fn until(what: &str, holds: impl Fn() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < Duration::from_secs(30), "not within 30 s: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
