//! `--pull` from a registry that wants a password, which comes from each of the places where it may stand.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::support::{Build, Image, docker, has_image, until};

/// A password whose JSON has `+` or `/` in base64, which the two alphabets write differently.
const PASSWORD: &str = "p?>~?>~~?>";

/// A registry; it ends with this.
struct Registry {
    address: String,
    server: Child,
}

impl Registry {
    fn start(dir: &Path) -> Self {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let users = Command::new("htpasswd").args(["-Bbn", "me", PASSWORD]).output().expect("htpasswd is needed");
        std::fs::write(dir.join("htpasswd"), users.stdout).unwrap();
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {0}/data}}}}\nhttp: {{addr: \"{free}\"}}\n\
             auth: {{htpasswd: {{realm: test, path: {0}/htpasswd}}}}\n",
            dir.display()
        );
        std::fs::write(dir.join("config.yml"), config).unwrap();
        let mut serve = Command::new("docker-registry");
        let serve = serve.arg("serve").arg(dir.join("config.yml")).stdout(Stdio::null()).stderr(Stdio::null());
        let server = serve.spawn().expect("docker-registry is needed");
        until("the registry answers", || std::net::TcpStream::connect(free).is_ok());
        Self { address: free.to_string(), server }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _gone_already = self.server.kill();
        let _status = self.server.wait();
    }
}

/// A build of an image that the engine has not; takes what was pulled away again.
fn pulls(source: &str, name: &str, build: Build) {
    assert!(!has_image(name), "{name} is still there");
    let tag = format!("{}.slim:pulled", name.split_once(':').unwrap().1.replace(['/', ':'], "-"));
    let tag = format!("slim-test/{tag}");
    let done = build.args(&["--http-probe", "-t", &tag]).run().ended(0);
    assert!(done.report()["source"]["ref"].as_str().unwrap().contains("/team/app"), "{}", done.report()["source"]);
    assert!(has_image(&tag), "{source}");
    docker(&["rmi", "-f", &tag]);
    docker(&["rmi", "-f", source]);
}

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn an_image_is_pulled_with_credentials_from_wherever_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::start(dir.path());
    let image = Image::new("pulled");
    let name = format!("{}/team/app:1", registry.address);
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    docker(&["--config", &at("login"), "login", "-u", "me", "-p", PASSWORD, &registry.address]);
    docker(&["tag", &image.name, &name]);
    let pushed = docker(&["--config", &at("login"), "push", &name]);
    let digest = pushed.split("digest: ").nth(1).unwrap().split(' ').next().unwrap().to_owned();
    docker(&["rmi", "-f", &image.name, &name]);
    let build = |source: &str| Build::new(&["build", "--pull", source]).env("DOCKER_CONFIG", &at("none"));

    // Nobody, and somebody else.
    build(&name).args(&["--http-probe"]).run().ended(1).says(&[&registry.address]);
    build(&name).args(&["--registry-account", "me", "--registry-secret-stdin"]).stdin("wrong\n").run().ended(1);

    pulls(&name, &name, build(&name).env("DOCKER_CONFIG", &at("login")));
    pulls(&name, &name, build(&name).args(&["--registry-account", "me", "--registry-secret-stdin"]).stdin(&format!("{PASSWORD}\n")));
    std::fs::create_dir_all(at("helper/bin")).unwrap();
    let says = serde_json::json!({"ServerURL": registry.address, "Username": "me", "Secret": PASSWORD});
    let helper = format!("#!/bin/sh\ntest \"$1\" = get && test \"$(cat)\" = {} && echo '{says}'\n", registry.address);
    std::fs::write(at("helper/bin/docker-credential-slimtest"), helper).unwrap();
    let executable = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(at("helper/bin/docker-credential-slimtest"), executable).unwrap();
    let config = serde_json::json!({"credHelpers": {&registry.address: "slimtest"}});
    std::fs::write(at("helper/config.json"), config.to_string()).unwrap();
    let path = format!("{}:{}", at("helper/bin"), std::env::var("PATH").unwrap());
    pulls(&name, &name, build(&name).env("DOCKER_CONFIG", &at("helper")).env("PATH", &path));

    let by_digest = format!("{}/team/app@{digest}", registry.address);
    pulls(&by_digest, &name, build(&by_digest).env("DOCKER_CONFIG", &at("login")));
    // By its ID, long and short, it needs no registry.
    docker(&["--config", &at("login"), "pull", "-q", &name]);
    let id = docker(&["image", "inspect", "--format", "{{.Id}}", &name]);
    assert_eq!(id, image.id);
    for id in [id.as_str(), &id["sha256:".len()..][..12]] {
        let tag = image.beside(".slim:by-id");
        Build::new(&["build", id, "--http-probe", "-t", &tag]).run().ended(0);
        assert!(has_image(&tag));
        docker(&["rmi", "-f", &tag]);
    }
    docker(&["rmi", "-f", &name]);
}
