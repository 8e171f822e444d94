//! The packer against a real engine: what it reads from an image and writes into a layer is compared through
//! programs of others (skopeo, umoci, GNU find and tar, getfattr).

#![allow(clippy::unwrap_used)] // helpers of tests too

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use slim::engine::{ContainerSpec, DockerEngine, Engine, EngineChoice, RunOptions};
use slim::image::ImageConfig;
use slim::pack::archive::PackedImage;
use slim::pack::config::Provenance;
use slim::pack::sparse::Sparse;
use slim::pack::{PristineImage, layer};
use slim::plan::ConfigEdits;
use slim::progress::Void;
use slim::run::kit;
use slim::sensor::control::{Pid1, SENSOR_DIR, SensorMode, Start, TraceOf};

/// A volume with the executable, as a recording makes it.
async fn volume_with_program(engine: &DockerEngine, image: &str) -> String {
    let volume = engine.create_volume("kit").await.unwrap();
    let spec = ContainerSpec {
        purpose: "kit".into(),
        image: image.into(),
        options: RunOptions { entrypoint: Some(vec!["/x".into()]), ..RunOptions::default() },
        volume: Some((volume.clone(), SENSOR_DIR.into())),
        ..ContainerSpec::default()
    };
    let start = Start {
        nonce: "n".into(),
        trace: TraceOf::Original,
        argv: vec!["/x".into()],
        user: String::new(),
        groups: Vec::new(),
        home_is_set: false,
        drop_caps: Vec::new(),
        narrow_seccomp: true,
        sensor: SensorMode::Auto,
        content_mounts: Vec::new(),
        pid1: Pid1::Auto,
    };
    let container = engine.create(&spec).await.unwrap();
    container.put(SENSOR_DIR, kit::archive(Some(std::path::Path::new(env!("CARGO_BIN_EXE_slim"))), &start).unwrap()).await.unwrap();
    container.remove().await.unwrap();
    volume
}

/// Packs every file of an image into a slim one.
async fn pack_whole(engine: &DockerEngine, image: &str) -> PackedImage {
    let info = engine.image(image).await.unwrap().expect("run fixtures/make first");
    let config = ImageConfig::parse(&engine.image_config(&info.id).await.unwrap()).unwrap();
    let volume = volume_with_program(engine, &info.id).await;
    let points = config.volumes();
    let mut pristine = PristineImage::open(engine, &info.id, &volume, &points).await.unwrap();
    let tree = pristine.tree(&config, &points).await.unwrap();
    let file = tempfile::tempfile().unwrap();
    let mut out = Sparse(file.try_clone().unwrap());
    let kept: Vec<_> = tree.iter().map(|(path, _)| path.clone()).collect();
    let layer = layer::write(&tree, kept.iter(), &mut pristine, &mut out).await.unwrap();
    assert_eq!(pristine.warnings, [] as [String; 0]);
    pristine.close().remove().await.unwrap();
    let provenance = Provenance {
        source_id: info.id,
        keep_set: "sha256:test".into(),
        level: "touched".into(),
        base_name: None,
        inputs: None,
    };
    let bytes =
        slim::pack::config::build(&config, &layer.diff_id, &ConfigEdits::default(), &provenance).unwrap();
    PackedImage::new(bytes, layer, file).unwrap()
}

fn sh(script: &str) -> String {
    let output = Command::new("bash").args(["-euo", "pipefail", "-c", script]).output().unwrap();
    assert!(output.status.success(), "{script}\n{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// One line per file of a root directory, by programs of others; directories' times and sizes are left out,
/// they belong to the file system that they were unpacked on.
fn listing(root: &Path) -> String {
    listed(root, "|%n")
}

/// The same without the numbers of links, which belong to what else was kept.
fn listing_without_links(root: &Path) -> String {
    listed(root, "")
}

fn listed(root: &Path, links: &str) -> String {
    let root = root.display();
    sh(&format!(
        "cd '{root}' && find . -mindepth 1 ! -type d -printf '%p|%y|%m|%U|%G|%s|%T@|%l{links}\\n' | sed 's/\\.\\([0-9]*[1-9]\\)0*|/.\\1|/; s/\\.0*|/|/' | LC_ALL=C sort
         find . -mindepth 1 -type d -printf '%p|%y|%m|%U|%G\\n' | LC_ALL=C sort
         find . -type f -exec sha256sum {{}} + | LC_ALL=C sort
         getfattr -R -h -d -m '^(user|security|system)\\.' -e hex . 2>/dev/null | grep -v '^$' || true"
    ))
}

fn unpack(source: &str, into: &Path) {
    let at = into.display();
    sh(&format!(
        "mkdir -p '{at}' && skopeo copy -q --insecure-policy {source} oci:'{at}/oci':x && umoci unpack --image '{at}/oci':x '{at}/bundle'"
    ));
}

async fn engine() -> DockerEngine {
    DockerEngine::connect(&EngineChoice::default(), Arc::new(Void)).await.unwrap()
}

fn docker_host() -> String {
    std::env::var("DOCKER_HOST").unwrap_or_else(|_| "unix:///var/run/docker.sock".into())
}

#[tokio::test]
#[ignore = "needs a container engine: tests/run starts one"]
async fn every_file_of_the_oddities_comes_through_unchanged() {
    let engine = engine().await;
    let packed = pack_whole(&engine, "slim-fixture/oddities").await;
    let dir = tempfile::tempdir().unwrap();
    let archive = dir.path().join("slim.tar");
    let mut stream = packed.archive(&["slim-test/oddities:packed".into()]).unwrap();
    std::io::copy(&mut stream, &mut std::fs::File::create(&archive).unwrap()).unwrap();
    let host = docker_host();
    unpack(&format!("--src-daemon-host {host} docker-daemon:slim-fixture/oddities:latest"), &dir.path().join("fat"));
    unpack(&format!("docker-archive:'{}'", archive.display()), &dir.path().join("slim"));
    unpack(&format!("oci-archive:'{}'", archive.display()), &dir.path().join("oci"));
    let fat = listing(&dir.path().join("fat/bundle/rootfs"));
    let slim = listing(&dir.path().join("slim/bundle/rootfs"));
    let oci = listing(&dir.path().join("oci/bundle/rootfs"));
    // What engines make in every container is left out on purpose; what a container always has may be new.
    let engine_made = ["/proc", "/sys", "/dev", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/etc/mtab"];
    let without = |text: &str| -> Vec<String> {
        let keep = |line: &&str| !engine_made.iter().any(|path| line.contains(&format!(".{path}")));
        text.lines().filter(keep).map(str::to_owned).collect()
    };
    similar(&without(&fat), &without(&slim));
    similar(&without(&slim), &without(&oci));
    assert!(fat.lines().count() > 100, "the fixture lost its oddities");
    for oddity in ["system.posix_acl_access=0x", "system.posix_acl_default=0x", "security.capability=0x", "user.bytes=0x", "./srv/kinds/block|b|"] {
        assert!(fat.contains(oddity), "the fixture or its reader lost {oddity}");
    }
    engine.sweep().await.unwrap();
}

/// Files that have several names: the names of each, in order.
fn hardlinks(root: &Path) -> std::collections::BTreeSet<Vec<String>> {
    let found = sh(&format!("cd '{}' && find . -type f -printf '%i|%p\\0'", root.display()));
    let mut names: std::collections::BTreeMap<&str, Vec<String>> = std::collections::BTreeMap::new();
    for (inode, name) in found.split('\0').filter_map(|line| line.split_once('|')) {
        names.entry(inode).or_default().push(name.to_owned());
    }
    names.values_mut().for_each(|names| names.sort());
    names.into_values().collect()
}

/// Of every kind of oddity a part, some of it because the run touched it.
const PART: &[&str] = &[
    "/srv/acl", "/srv/deep", "/srv/hard/b", "/srv/kinds", "/srv/layers", "/srv/links", "/srv/names", "/srv/times", "/srv/volume",
    "/srv/volume with space", "/srv/xattr", "/usr/bin/odd-setuid", "/usr/bin/odd-setgid",
    "/usr/bin/odd-rawsock",
];

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn what_a_build_keeps_of_the_oddities_is_as_it_was() {
    let tag = format!("slim-test/oddities-part-{}:1", std::process::id());
    let dir = tempfile::tempdir().unwrap();
    let mut build = Command::new(env!("CARGO_BIN_EXE_slim"));
    build.args(["build", "slim-fixture/oddities", "--http-probe", "--no-verify", "--tag", &tag, "-q"]).current_dir(dir.path());
    build.args(PART.iter().flat_map(|path| ["--include-path", path])).args(["--exclude-pattern", "/srv/hard/a/one"]);
    let done = build.output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let daemon = |name: &str| format!("--src-daemon-host {} docker-daemon:{name}", docker_host());
    unpack(&daemon("slim-fixture/oddities:latest"), &dir.path().join("fat"));
    unpack(&daemon(&tag), &dir.path().join("slim"));
    sh(&format!("docker rmi {tag}"));
    let (fat, slim) = (dir.path().join("fat/bundle/rootfs"), dir.path().join("slim/bundle/rootfs"));
    let lines = |root: &Path| -> std::collections::BTreeSet<String> {
        listing_without_links(root).lines().map(str::to_owned).collect()
    };
    let (before, after) = (lines(&fat), lines(&slim));
    let engine_made = ["./dev|", "./proc|", "./sys|"];
    let other: Vec<&String> =
        after.difference(&before).filter(|line| !engine_made.iter().any(|made| line.starts_with(made))).collect();
    assert!(other.is_empty(), "not as in the original: {other:#?}");
    assert!(before.len() - after.len() > 40, "the image lost {} lines only", before.len() - after.len());
    // All of what was named is there, and of the file with three names the two.
    let below = |line: &&String| PART.iter().any(|part| line.contains(&format!(".{part}")));
    let gone: Vec<&String> = before.difference(&after).filter(below).collect();
    assert!(gone.is_empty(), "lost: {gone:#?}");
    let present: std::collections::BTreeSet<String> = hardlinks(&slim).into_iter().flatten().collect();
    let expected: std::collections::BTreeSet<Vec<String>> = hardlinks(&fat)
        .into_iter()
        .map(|names| names.into_iter().filter(|name| present.contains(name)).collect::<Vec<_>>())
        .filter(|names| !names.is_empty())
        .collect();
    assert_eq!(hardlinks(&slim), expected);
    assert!(expected.contains(&vec!["./srv/hard/b/c/three".to_owned(), "./srv/hard/b/two".to_owned()]), "{expected:?}");
    // Times of directories in which neither engine nor layers above made anything.
    let times = |root: &Path| sh(&format!("cd '{}/srv' && find kinds names times xattr deep hard/b -type d -printf '%p|%T@\\n' | sort", root.display()));
    assert_eq!(times(&slim), times(&fat));
}

/// An image that is its directory's content, loaded from a tar of sparse files, which costs what they hold.
fn load_directory(dir: &Path, name: &str) {
    let at = dir.display();
    let script = format!(
        "cd '{at}' && tar -C root --format=pax --sparse --sparse-version=1.0 --sort=name -cf layer.tar .
         id=$(sha256sum layer.tar | cut -d' ' -f1)
         arch=$(docker version -f '{{{{.Server.Arch}}}}')
         printf '{{\"architecture\":\"%s\",\"os\":\"linux\",\"config\":{{}},\"rootfs\":{{\"type\":\"layers\",\"diff_ids\":[\"sha256:%s\"]}}}}' $arch $id > config.json
         printf '[{{\"Config\":\"config.json\",\"RepoTags\":[\"{name}\"],\"Layers\":[\"layer.tar\"]}}]' > manifest.json
         tar -c config.json manifest.json layer.tar | docker load"
    );
    sh(&script);
}

/// Takes 9 GB in the engine, and minutes where other things run besides.
#[tokio::test]
#[ignore = "needs a container engine: tests/run starts one"]
async fn a_file_over_8_gib_and_a_hundred_thousand_files_come_through_the_agent() {
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::MetadataExt;
    let name = format!("slim-test/large-{}:1", std::process::id());
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    for n in 0..100 {
        std::fs::create_dir_all(root.join(format!("many/{n}"))).unwrap();
    }
    for n in 0..100_000 {
        // More with content than are asked for at a time; the others are empty: file systems are slow to give back blocks.
        let content = if n % 20 == 0 { n.to_string() } else { String::new() };
        std::fs::write(root.join(format!("many/{}/{n}", n % 100)), content).unwrap();
    }
    let big = root.join("big");
    sh(&format!("truncate -s 8589946937 '{0}'; printf middle | dd of='{0}' bs=1 seek=5000000000 conv=notrunc status=none", big.display()));
    sh(&format!("printf end | dd of='{}' bs=1 seek=8589946934 conv=notrunc status=none", big.display()));
    load_directory(dir.path(), &name);
    let engine = engine().await;
    let packed = pack_whole(&engine, &name).await;
    sh(&format!("docker rmi {name}"));
    let layer = format!("/proc/{}/fd/{}", std::process::id(), packed.layer_file.as_raw_fd());
    let room = packed.layer_file.metadata().unwrap().blocks() * 512;
    assert!(room < 400 << 20, "the temporary file takes {room} bytes on disk");
    assert_eq!(sh(&format!("tar -tf {layer} | grep -c '^many/[0-9]*/[0-9]'")), "100000\n");
    // GNU tar compares content, size, owner, mode and time of each.
    assert_eq!(sh(&format!("tar --numeric-owner -C '{}' -df {layer} big many", root.display())), "");
    engine.sweep().await.unwrap();
}

#[tokio::test]
#[ignore = "needs a container engine: tests/run starts one"]
async fn the_same_image_packs_to_the_same_bytes() {
    let engine = engine().await;
    let one = pack_whole(&engine, "slim-fixture/nginx").await;
    let two = pack_whole(&engine, "slim-fixture/nginx").await;
    assert_eq!(one.layer.diff_id, two.layer.diff_id);
    assert_eq!(one.id, two.id);
    engine.sweep().await.unwrap();
}

/// Fails with the first lines that differ.
fn similar(want: &[String], got: &[String]) {
    let missing: Vec<&String> = want.iter().filter(|line| !got.contains(line)).take(10).collect();
    let extra: Vec<&String> = got.iter().filter(|line| !want.contains(line)).take(10).collect();
    assert!(missing.is_empty() && extra.is_empty(), "missing: {missing:#?}\nextra: {extra:#?}");
}
