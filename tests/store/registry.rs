//! Registry: images pushed to and pulled from servers, real ones and some that misbehave.

use super::*;

/// Ends a server with the test.
pub struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub const PASSWORD: &str = "p?>~?>~~?>";

/// A registry with a password, over TLS when `tls`.
pub fn registry(dir: &Path, tls: bool) -> (Running, String) {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    std::fs::write(dir.join("htpasswd"), tool(dir, "htpasswd", &["-Bbn", "me", PASSWORD])).unwrap();
    let mut http = format!("http: {{addr: \"{free}\"}}");
    if tls {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        std::fs::write(dir.join("tls.crt"), made.cert.pem()).unwrap();
        // skopeo takes every file of a directory for one of a pair.
        std::fs::create_dir(dir.join("ca")).unwrap();
        std::fs::write(dir.join("ca/tls.crt"), made.cert.pem()).unwrap();
        std::fs::write(dir.join("tls.key"), made.signing_key.serialize_pem()).unwrap();
        http = format!("http: {{addr: \"{free}\", tls: {{certificate: {0}/tls.crt, key: {0}/tls.key}}}}", dir.display());
    }
    let config = format!(
        "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {0}/data}}}}\n{http}\n\
         auth: {{htpasswd: {{realm: test, path: {0}/htpasswd}}}}\n",
        dir.display()
    );
    std::fs::write(dir.join("config.yml"), config).unwrap();
    let mut serve = Command::new("docker-registry");
    let log = std::fs::File::create(dir.join("access.log")).unwrap();
    let serve = serve.arg("serve").arg(dir.join("config.yml")).stdout(log).stderr(Stdio::null());
    let server = Running(serve.spawn().unwrap());
    for _ in 0..400 {
        if std::net::TcpStream::connect(free).is_ok() {
            return (server, free.to_string());
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    panic!("the registry does not answer");
}

#[test]
#[ignore = "needs docker-registry, htpasswd and skopeo: tests/run installs them"]
fn a_registry_with_password_and_tls_takes_and_gives_images() {
    let dir = place();
    let dir = dir.path();
    two_platforms(dir);
    let (server, address) = registry(dir, true);
    let name = format!("docker://{address}/team/app:1");
    let me = ["--registry-account", "me", "--registry-secret", PASSWORD];
    let with = |args: &[&str], more: &[&str]| [&["copy"], args, &me, more].concat().iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
    let run = |words: Vec<String>| ok(dir, &words.iter().map(String::as_str).collect::<Vec<_>>());
    let wrong = |words: Vec<String>| fails(dir, &words.iter().map(String::as_str).collect::<Vec<_>>());
    let ca = ["--registry-ca", "tls.crt"];
    let (said, _) = wrong(with(&["docker-archive:image.tar", &name], &[]));
    assert!(said.contains("cannot be trusted") && said.contains("--registry-ca"), "{said}");
    let (said, _) = fails(dir, &["copy", "docker-archive:image.tar", &name, ca[0], ca[1]]);
    assert!(said.contains("refuses") && said.contains("docker login"), "{said}");
    let (said, _) = fails(dir, &["copy", &name, "oci:x:1", ca[0], ca[1], "--registry-account", "me", "--registry-secret", "wrong;"]);
    assert!(said.contains("refuses") && !said.contains("wrong;"), "{said}");
    let (said, _) = wrong(with(&[&name, "oci:x:1"], &ca));
    assert!(said.contains("has no image") && said.lines().any(|line| line.starts_with("slim: ")), "{said}");

    run(with(&["docker-archive:image.tar", &name], &[&ca[..], &["--digest-file", "digest"]].concat()));
    let creds = format!("me:{PASSWORD}");
    let inspect = |name: &str| tool(dir, "skopeo", &["inspect", "--raw", "--creds", &creds, "--cert-dir", dir.join("ca").to_str().unwrap(), name]);
    let manifest = inspect(&name);
    assert_eq!(slim::store::digest::Digest::of(manifest.as_bytes()).to_string(), std::fs::read_to_string(dir.join("digest")).unwrap());
    tool(dir, "skopeo", &["copy", "-q", "--src-creds", &creds, "--src-cert-dir", dir.join("ca").to_str().unwrap(), &name, "oci:theirs:1"]);
    assert_eq!(config_of(dir, "theirs"), std::fs::read("fixtures/hostile/config.json").unwrap());

    // What docker login stored is enough.
    let auth = { use base64::Engine; base64::engine::general_purpose::STANDARD.encode(&creds) };
    std::fs::create_dir(dir.join(".docker")).unwrap();
    std::fs::write(dir.join(".docker/config.json"), format!(r#"{{"auths":{{"{address}":{{"auth":"{auth}"}}}}}}"#)).unwrap();
    ok(dir, &["copy", &name, "docker-archive:back.tar:app:1", ca[0], ca[1]]);
    ok(dir, &["copy", &name, "oci:back:1", ca[0], ca[1]]);
    assert_eq!(config_of(dir, "back"), std::fs::read("fixtures/hostile/config.json").unwrap());
    // From one repository to another: nothing has to be sent.
    let other = format!("docker://{address}/other/place:1");
    ok(dir, &["copy", &name, &other, ca[0], ca[1]]);
    assert_eq!(inspect(&other), manifest);
    let log = std::fs::read_to_string(dir.join("access.log")).unwrap();
    let sent = |what: &str| log.lines().filter(|line| line.contains("/v2/other/place/blobs/uploads/") && line.contains(what)).count();
    assert_eq!((sent("?from=team%2Fapp&mount=sha256%3A") + sent("?mount=sha256"), sent("\"PUT "), sent("\"PATCH ")), (2, 0, 0), "{log}");
    // An index.
    let both = format!("docker://{address}/team/both:1");
    ok(dir, &["copy", "oci:multi:both", &both, ca[0], ca[1], "--platform", "linux/amd64,linux/arm64"]);
    assert_eq!(json(inspect(&both))["manifests"].as_array().unwrap().len(), 2);
    let (said, _) = fails(dir, &["copy", "oci:multi:both", &both, ca[0], ca[1]]);
    assert!(said.contains("is an index of several platforms"), "{said}");
    ok(dir, &["copy", &both, "docker-archive:arm.tar", ca[0], ca[1], "--platform", "linux/arm64"]);
    // A signature, as cosign names it.
    let digest = std::fs::read_to_string(dir.join("digest")).unwrap();
    let signature = format!("docker://{address}/team/app:{}.sig", digest.replace(':', "-"));
    ok(dir, &["copy", "docker-archive:image.tar", &signature, ca[0], ca[1]]);
    let said = ok(dir, &["copy", &name, "oci:signed:1", ca[0], ca[1]]);
    assert!(said.contains("left out: the signature sha256-"), "{said}");
    // Somebody damaged the store.
    let blob = slim::store::digest::Digest::of(&std::fs::read("fixtures/hostile/config.json").unwrap());
    let file = dir.join(format!("data/docker/registry/v2/blobs/sha256/{}/{}/data", &blob.hex()[..2], blob.hex()));
    std::fs::write(&file, std::fs::read_to_string(&file).unwrap().replace("linux", "Linux")).unwrap();
    let (said, _) = fails(dir, &["copy", &name, "oci:damaged:1", ca[0], ca[1]]);
    assert!(said.contains("sha256:") && !dir.join("damaged").exists(), "{said}");
    drop(server);
    let (said, code) = fails(dir, &["copy", &name, "oci:gone:1", ca[0], ca[1]]);
    assert!(said.contains("cannot reach") && code == 75, "{said}");
}

#[test]
#[ignore = "needs docker-registry and htpasswd: tests/run installs them"]
fn a_registry_on_this_machine_may_speak_plain_http() {
    let dir = place();
    let dir = dir.path();
    let (_server, address) = registry(dir, false);
    let name = format!("docker://{address}/app:1");
    let me = ["--registry-account", "me", "--registry-secret", PASSWORD];
    ok(dir, &[&["copy", "docker-archive:image.tar", &name][..], &me].concat());
    ok(dir, &[&["copy", &name, "oci:back:1"][..], &me].concat());
    assert_eq!(config_of(dir, "back"), std::fs::read("fixtures/hostile/config.json").unwrap());
}

#[test]
#[ignore = "needs docker-registry, htpasswd and skopeo: tests/run installs them"]
fn dockers_words_stay_in_a_registry_and_become_ocis_elsewhere() {
    let dir = place();
    let dir = dir.path();
    let (_server, address) = registry(dir, false);
    let me = ["--registry-account", "me", "--registry-secret", PASSWORD];
    let creds = format!("me:{PASSWORD}");
    let (theirs, ours) = (format!("docker://{address}/theirs:1"), format!("docker://{address}/ours:1"));
    ok(dir, &["copy", "docker-archive:image.tar", "oci:seed:1"]);
    let schema2 = ["copy", "-q", "--format", "v2s2", "--dest-creds", &creds, "--dest-tls-verify=false", "oci:seed:1", &theirs];
    tool(dir, "skopeo", &schema2);
    let inspect = |name: &str| tool(dir, "skopeo", &["inspect", "--raw", "--creds", &creds, "--tls-verify=false", name]);
    let raw = inspect(&theirs);
    assert_eq!(json(&raw)["mediaType"], "application/vnd.docker.distribution.manifest.v2+json");
    ok(dir, &[&["copy", &theirs, &ours][..], &me].concat());
    assert_eq!(inspect(&ours), raw);
    ok(dir, &[&["copy", &theirs, "oci:back:1"][..], &me].concat());
    let back = json(tool(dir, "skopeo", &["inspect", "--raw", "oci:back:1"]));
    assert_eq!(back["mediaType"], "application/vnd.oci.image.manifest.v1+json");
    assert_eq!(back["layers"][0]["digest"], json(&raw)["layers"][0]["digest"]);
    assert_eq!(json(config_of(dir, "back")), json(std::fs::read("fixtures/hostile/config.json").unwrap()));
}

/// A server that gives `image.tar`'s image, and cuts the first answer for the layer short; tells what was asked.
fn moody(dir: &Path, host: &str) -> (String, std::sync::mpsc::Receiver<String>) {
    use std::io::{BufRead, BufReader, Write};
    ok(dir, &["copy", "oci-archive:image.tar", "oci:served:1"]);
    let listener = std::net::TcpListener::bind((host, 0)).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let blobs = dir.join("served/blobs/sha256");
    let (tell, told) = std::sync::mpsc::channel();
    let mut cut = false;
    let serve = move |mut stream: std::net::TcpStream| {
        let mut head = String::new();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head).unwrap_or(0) == 0 {
                // What is no HTTP gets an answer all the same, as from Go's servers.
                let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n");
                return;
            }
        }
        let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
        let range = head.lines().find_map(|line| line.to_lowercase().strip_prefix("range: bytes=").map(str::to_owned));
        let _ = tell.send(format!("{path} {}", range.clone().unwrap_or_default()));
        let answer = |status: &str, body: &[u8], length: usize| {
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
            [head.as_bytes(), body].concat()
        };
        let manifest = std::fs::read("fixtures/hostile/manifest.json").unwrap();
        let bytes = match path.rsplit('/').next().unwrap_or_default() {
            "" => answer("200 OK", b"", 0),
            "1" => answer("200 OK", &manifest, manifest.len()),
            name => match std::fs::read(blobs.join(name.trim_start_matches("sha256:"))) {
                Ok(blob) if path.contains("/blobs/") && blob.starts_with(b"\x1f\x8b") && !cut => {
                    cut = true;
                    answer("200 OK", &blob[..100], blob.len())
                }
                Ok(blob) => match range.and_then(|range| range.trim_end_matches('-').parse::<usize>().ok()) {
                    Some(from) => answer("206 Partial Content", &blob[from..], blob.len() - from),
                    None => answer("200 OK", &blob, blob.len()),
                },
                Err(_) => answer("404 Not Found", b"", 0),
            },
        };
        let _ = stream.write_all(&bytes);
    };
    std::thread::spawn(move || listener.incoming().filter_map(Result::ok).for_each(serve));
    (address, told)
}

#[test]
fn a_download_that_breaks_goes_on_where_it_was() {
    let dir = place();
    let dir = dir.path();
    let (address, told) = moody(dir, "127.0.0.1");
    ok(dir, &["copy", &format!("docker://{address}/app:1"), "oci:got:1"]);
    assert_eq!(config_of(dir, "got"), std::fs::read("fixtures/hostile/config.json").unwrap());
    let asked: Vec<String> = told.try_iter().collect();
    assert!(asked.iter().any(|line| line.contains("/blobs/") && line.ends_with(" 100-")), "{asked:?}");
}

#[test]
#[ignore = "needs an address of this machine that is not loopback: the engine that tests/run starts has one"]
fn a_registry_elsewhere_speaks_plain_http_only_when_it_is_named() {
    let dir = place();
    let dir = dir.path();
    let addresses = tool(dir, "ip", &["-4", "-o", "addr", "show", "scope", "global"]);
    let host = addresses.split_whitespace().find_map(|word| word.split_once('/')).expect("an address").0;
    let (address, _told) = moody(dir, host);
    let name = format!("docker://{address}/app:1");
    let (said, _) = fails(dir, &["copy", &name, "oci:got:1"]);
    assert!(said.contains("does not speak TLS") && said.contains(&format!("--insecure-registry {address}")), "{said}");
    assert!(!dir.join("got").exists());
    ok(dir, &["copy", &name, "oci:got:1", "--insecure-registry", &address]);
    assert_eq!(config_of(dir, "got"), std::fs::read("fixtures/hostile/config.json").unwrap());
}

/// A server that answers the first question and then nothing more.
fn stalling() -> String {
    use std::io::{Read, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        for mut stream in listener.incoming().filter_map(Result::ok) {
            let mut head = [0u8; 512];
            let n = stream.read(&mut head).unwrap_or(0);
            if head[..n].starts_with(b"GET /v2/ ") {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            } else {
                kept.push(stream);
            }
        }
    });
    address
}

#[test]
fn a_copy_that_is_interrupted_ends_at_once_and_leaves_nothing() {
    let dir = place();
    let address = stalling();
    let mut command = Command::new(env!("CARGO_BIN_EXE_slim"));
    command.current_dir(dir.path()).args(["copy", &format!("docker://{address}/app:1"), "oci:out:1"]).env("TMPDIR", dir.path());
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    // It said what it reads: from then on it waits for the registry.
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stderr.take().unwrap()), &mut line).unwrap();
    while std::fs::read_dir(dir.path()).unwrap().count() < 2 {
        std::thread::yield_now();
    }
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.id() as i32), nix::sys::signal::Signal::SIGTERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(143), "{line}");
    let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["image.tar"]);
}

#[test]
fn a_registry_that_stalls_is_given_up() {
    let address = stalling();
    let access = slim::store::Access {
        stall: std::time::Duration::from_millis(200),
        ..slim::store::Access::anonymous(std::sync::Arc::new(slim::progress::Void))
    };
    let transport = slim::store::Transport::parse(&format!("docker://{address}/app:1")).unwrap().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let error = runtime.block_on(slim::store::Source::open(&transport, &access)).err().unwrap();
    let text = format!("{error:#}");
    assert!(text.contains("does not answer in time"), "{text}");
    assert_eq!(slim::exit::Exit::of(&error), slim::exit::Exit::Retry);
}

/// A server that begins every upload and never says that one has ended.
fn unwilling() -> String {
    use std::io::{Read, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        for mut stream in listener.incoming().filter_map(Result::ok) {
            let mut head = [0u8; 1024];
            let n = stream.read(&mut head).unwrap_or(0);
            let (status, more) = match head[..n].split(|b| *b == b' ').next() {
                Some(b"PUT") => {
                    kept.push(stream);
                    continue;
                }
                Some(b"POST") => ("202 Accepted", "Location: /v2/app/blobs/uploads/1\r\n"),
                _ if head.starts_with(b"GET /v2/ ") => ("200 OK", ""),
                _ => ("404 Not Found", ""),
            };
            let _ = stream.write_all(format!("HTTP/1.1 {status}\r\n{more}Content-Length: 0\r\nConnection: close\r\n\r\n").as_bytes());
        }
    });
    address
}

#[test]
fn a_registry_that_takes_an_upload_and_says_nothing_is_given_up() {
    use slim::store::outgoing::{Bundle, Outgoing, Words};
    let access = slim::store::Access {
        stall: std::time::Duration::from_millis(100),
        ..slim::store::Access::anonymous(std::sync::Arc::new(slim::progress::Void))
    };
    let transport = |text: &str| slim::store::Transport::parse(text).unwrap().unwrap();
    let to = transport(&format!("docker://{}/app:1", unwilling()));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let error = runtime.block_on(async {
        let source = slim::store::Source::open(&transport("docker-archive:fixtures/hostile/image.tar"), &access).await.unwrap();
        let image = std::sync::Arc::new(source.image(None).await.unwrap());
        let bundle = Bundle::one(Outgoing::prepare(&image, Words::Any, None).unwrap());
        slim::store::sink::write(&to, &bundle, &access, slim::store::layout::Replace::Alike, None).await.unwrap_err()
    });
    let text = format!("{error:#}");
    assert!(text.contains("push sha256:") && text.contains("it took nothing for"), "{text}");
    assert_eq!(slim::exit::Exit::of(&error), slim::exit::Exit::Retry);
}
