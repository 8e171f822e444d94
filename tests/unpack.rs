//! Layers unpacked: hostile ones stay inside of their directory, and the files on disk are those that the merged
//! tree says.

#![allow(clippy::unwrap_used)] // helpers of tests too

use std::collections::BTreeMap;
use std::io::{Cursor, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;

use slim::image::{Entry, ImagePath, Kind, Tree};
use slim::store::cache::LayerCache;
use slim::store::digest::Digest;
use slim::store::merge::Merge;
use slim::store::unpack::{Form, unpack, visible};
use tar::{EntryType, Header};

#[path = "unpack/cache.rs"]
mod cache;

/// A tar in the making, without the checks that a decent writer has.
#[derive(Default)]
struct Tar(Vec<u8>);

impl Tar {
    fn raw(mut self, kind: u8, name: &[u8], link: &[u8], content: &[u8], change: impl FnOnce(&mut Header)) -> Self {
        let mut header = Header::new_ustar();
        let fields = header.as_ustar_mut().unwrap();
        fields.name[..name.len()].copy_from_slice(name);
        fields.linkname[..link.len()].copy_from_slice(link);
        header.set_entry_type(EntryType::new(kind));
        header.set_mode(if kind == b'5' { 0o755 } else { 0o644 });
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1000);
        header.set_size(content.len() as u64);
        header.set_device_major(0).unwrap();
        header.set_device_minor(0).unwrap();
        change(&mut header);
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }
    fn file(self, name: &str, content: &str) -> Self {
        self.raw(b'0', name.as_bytes(), b"", content.as_bytes(), |_| {})
    }
    fn dir(self, name: &str) -> Self {
        self.raw(b'5', name.as_bytes(), b"", b"", |_| {})
    }
    fn link(self, name: &str, to: &str) -> Self {
        self.raw(b'2', name.as_bytes(), to.as_bytes(), b"", |_| {})
    }
    fn hard(self, name: &str, to: &str) -> Self {
        self.raw(b'1', name.as_bytes(), to.as_bytes(), b"", |_| {})
    }
    fn pax(self, key: &str, value: &[u8]) -> Self {
        let rest = key.len() + value.len() + 3;
        let mut length = rest + 1;
        while length != rest + length.to_string().len() {
            length = rest + length.to_string().len();
        }
        let record = [format!("{length} {key}=").as_bytes(), value, b"\n"].concat();
        self.raw(b'x', b"pax", b"", &record, |_| {})
    }
    fn end(mut self) -> Vec<u8> {
        self.0.extend_from_slice(&[0; 1024]);
        self.0
    }
}

fn tar() -> Tar {
    Tar::default()
}

/// What lies in a directory, as a tree. Directories of unprivileged users have no owners to compare.
fn listing(dir: &Path) -> BTreeMap<ImagePath, Entry> {
    fn walk(dir: &Path, at: &ImagePath, found: &mut BTreeMap<ImagePath, Entry>) {
        let meta = std::fs::symlink_metadata(dir).unwrap();
        let kind = match meta.file_type() {
            kind if kind.is_dir() => Kind::Directory,
            kind if kind.is_symlink() => Kind::Symlink { target: std::fs::read_link(dir).unwrap().as_os_str().as_bytes().to_vec() },
            kind if kind.is_fifo() => Kind::Fifo,
            kind if kind.is_char_device() => Kind::CharDevice { rdev: (meta.rdev() as u32 >> 8, meta.rdev() as u32 & 255) },
            kind if kind.is_block_device() => Kind::BlockDevice { rdev: (meta.rdev() as u32 >> 8, meta.rdev() as u32 & 255) },
            _ => Kind::File,
        };
        if kind == (Kind::CharDevice { rdev: (0, 0) }) {
            return;
        }
        let mut entry = Entry::new(kind);
        entry.mode = meta.mode() & 0o7777;
        entry.mtime = (meta.mtime(), meta.mtime_nsec() as u32);
        entry.size = if entry.is_file() { meta.size() } else { 0 };
        if entry.is_dir() {
            for child in std::fs::read_dir(dir).unwrap() {
                let child = child.unwrap();
                walk(&child.path(), &at.child(child.file_name().as_bytes()), found);
            }
        }
        found.insert(at.clone(), entry);
    }
    let mut found = BTreeMap::new();
    walk(dir, &ImagePath::root(), &mut found);
    found
}

fn comparable(tree: &Tree) -> BTreeMap<ImagePath, Entry> {
    let plain = |entry: &Entry| Entry { uid: 0, gid: 0, hardlink: None, xattrs: BTreeMap::new(), ..entry.clone() };
    tree.iter().map(|(path, entry)| (path.clone(), plain(entry))).collect()
}

/// Unpacks a layer in a directory with a neighbour, which must stay as it is; gives what was made.
fn unpacked(layer: &[u8]) -> Result<BTreeMap<ImagePath, Entry>, String> {
    let place = tempfile::tempdir().unwrap();
    let outside = place.path().join("outside");
    std::fs::write(&outside, "untouched").unwrap();
    let dir = place.path().join("layer");
    std::fs::create_dir(&dir).unwrap();
    let result = unpack(layer, &dir, Form::User);
    assert_eq!(std::fs::read_to_string(&outside).unwrap(), "untouched");
    let neighbours: Vec<_> = std::fs::read_dir(place.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(neighbours.len(), 2, "{neighbours:?}");
    assert_eq!(std::fs::metadata(&outside).unwrap().nlink(), 1);
    let mut merge = Merge::new();
    let merged = merge.layer(layer);
    match result {
        Ok(()) => {
            merged.unwrap();
            let found = listing(&dir);
            assert_eq!(found, comparable(&merge.tree()));
            Ok(found)
        }
        Err(error) => {
            assert!(merged.is_err(), "the tree took what was not unpacked: {error:#}");
            Err(format!("{error:#}"))
        }
    }
}

#[test]
fn hostile_layers_are_refused_or_stay_inside() {
    // `Ok`: the paths that are there then; `Err`: words of the one line that says what is wrong.
    type Row = (&'static str, Vec<u8>, Result<&'static [&'static str], &'static str>);
    let long = "x".repeat(90);
    let table: Vec<Row> = vec![
        ("dot dot", tar().file("../outside", "x").end(), Err(".. in it")),
        ("dot dot in the middle", tar().file("a/../../outside", "x").end(), Err(".. in it")),
        ("an absolute name", tar().file("/etc/passwd", "x").end(), Ok(&["/", "/etc", "/etc/passwd"])),
        ("an absolute PAX name", tar().pax("path", b"/../../outside").file("a", "x").end(), Err(".. in it")),
        ("a symlink out, then through it", tar().link("l", "..").file("l/outside", "x").end(), Ok(&["/", "/l", "/outside"])),
        ("an absolute symlink, then through it", tar().link("l", "/").file("l/outside", "x").end(), Ok(&["/", "/l", "/outside"])),
        ("links in a circle", tar().link("a", "b").link("b", "a").file("a/x", "x").end(), Ok(&["/", "/a", "/a/x", "/b"])),
        ("a file over a symlink", tar().link("l", "../outside").file("l", "x").end(), Ok(&["/", "/l"])),
        ("a directory over a symlink", tar().link("l", "..").dir("l").file("l/outside", "x").end(), Ok(&["/", "/l", "/l/outside"])),
        ("a hardlink out", tar().hard("h", "../outside").end(), Err(".. in it")),
        ("a hardlink through a symlink", tar().link("l", "..").hard("h", "l/outside").end(), Err("does not hold")),
        ("a hardlink to a symlink", tar().link("l", "../outside").hard("h", "l").end(), Ok(&["/", "/h", "/l"])),
        ("a hardlink to a directory", tar().dir("d").hard("h", "d").end(), Err("directory /d")),
        ("a hardlink to itself", tar().file("h", "x").hard("h", "h").end(), Err("does not hold")),
        ("a hardlink to what is gone", tar().file(".wh.g", "").hard("h", "g").end(), Err("does not hold")),
        ("writing through a hardlink", tar().file("a", "1").hard("b", "a").file("b", "22").end(), Ok(&["/", "/a", "/b"])),
        ("a device that hides", tar().raw(b'3', b"a", b"", b"", |_| {}).end(), Err("whiteout")),
        ("a whiteout of the root", tar().file(".wh.", "").end(), Err("whiteout of nothing")),
        ("a whiteout of the parent", tar().file("a/.wh...", "").end(), Err("whiteout of nothing")),
        ("something in a whiteout", tar().file(".wh.a/b", "").end(), Err("below a whiteout")),
        ("a whiteout through a symlink", tar().link("l", "..").file("l/.wh.outside", "").end(), Ok(&["/", "/l"])),
        ("an entry and its whiteout", tar().file("a", "1").file(".wh.a", "").end(), Ok(&["/", "/a"])),
        ("a whiteout and its entry", tar().file(".wh.a", "").file("a", "1").end(), Ok(&["/", "/a"])),
        ("twice the same", tar().file("a", "1").file("a", "22").end(), Ok(&["/", "/a"])),
        ("a file over a directory", tar().file("d/e/f", "1").file("d", "2").end(), Ok(&["/", "/d"])),
        ("a directory over a file", tar().file("d", "1").file("d/e", "2").end(), Ok(&["/", "/d", "/d/e"])),
        ("the root as a file", tar().file("/", "").link(".", "x").end(), Err("root")),
        ("a size that lies", tar().pax("size", b"100000").file("a", "x").end(), Err("cut short")),
        ("a size beyond everything", tar().pax("size", b"18446744073709551615").file("a", "x").end(), Err("says that it has")),
        ("a size that is none", tar().pax("size", b"-1").file("a", "x").end(), Err("no number")),
        ("an owner beyond everything", tar().pax("uid", b"4294967296").file("a", "x").end(), Err("owner")),
        ("NUL in a name", tar().pax("path", b"a\0b").file("a", "x").end(), Err("NUL")),
        ("a name of 300 bytes", tar().pax("path", &[b'x'; 300]).file("a", "x").end(), Err("255 bytes")),
        ("a path of 5000 bytes", tar().pax("path", format!("{long}/").repeat(60).as_bytes()).file("a", "x").end(), Err("a path of")),
        ("PAX records at the end", tar().pax("path", b"a").end(), Err("further entry")),
        ("GNU sparse", tar().raw(b'S', b"a", b"", b"", |_| {}).end(), Err("sparse")),
        ("a type that nobody knows", tar().raw(b'Z', b"a", b"", b"", |_| {}).end(), Err("unknown")),
        ("a wrong checksum", { let mut bytes = tar().file("a", "x").end(); bytes[0] = b'b'; bytes }, Err("checksum")),
        ("no tar", b"#!/bin/sh\n".repeat(100), Err("checksum")),
        ("cut in a header", tar().file("a", "x").0[..300].to_vec(), Err("cut short")),
        ("cut in a file", tar().file("a", &"x".repeat(600)).0[..800].to_vec(), Err("cut short")),
        ("a second archive behind the first", { let mut bytes = tar().file("a", "x").0; bytes.extend([0; 512]); bytes.extend(tar().file("b", "x").end()); bytes }, Err("after its end")),
        ("names that are terminal escapes", tar().file("\u{1b}[2J\n\r", "x").end(), Ok(&["/", "/\u{1b}[2J\n\r"])),
        ("nothing", Vec::new(), Ok(&["/"])),
    ];
    for (name, layer, expected) in table {
        match (unpacked(&layer), expected) {
            (Ok(found), Ok(paths)) => {
                assert_eq!(found.keys().map(|p| String::from_utf8_lossy(p.as_bytes()).into_owned()).collect::<Vec<_>>(), paths, "{name}");
            }
            (Err(error), Err(words)) => {
                assert!(error.contains(words) && !error.contains('\n') && !error.contains('\u{1b}'), "{name}: {error}");
            }
            (found, _) => panic!("{name}: {found:?}"),
        }
    }
}

#[test]
fn metadata_that_a_layer_states_is_on_the_files() {
    let layer = tar()
        .raw(b'5', b"locked", b"", b"", |h| h.set_mode(0o555))
        .file("locked/in", "x")
        .raw(b'0', b"set", b"", b"x", |h| h.set_mode(0o6755))
        .pax("mtime", b"-4.5")
        .file("old", "x")
        .raw(b'6', b"fifo", b"", b"", |_| {})
        .raw(b'0', b"v7dir/", b"", b"", |h| h.set_mode(0o1777))
        .pax("SCHILY.xattr.user.line", b"a\nb=\0")
        .file("attributes", "x")
        .pax("SCHILY.xattr.user.overlay.opaque", b"y")
        .dir("steers")
        .file("zeros", &"\0".repeat(600_000))
        .end();
    let found = unpacked(&layer).unwrap();
    let of = |path: &str| found[&ImagePath::from(path)].clone();
    assert_eq!((of("/locked").mode, of("/set").mode, of("/v7dir").mode), (0o555, 0o6755, 0o1777));
    assert_eq!(of("/old").mtime, (-5, 500_000_000));
    let dir = tempfile::tempdir().unwrap();
    unpack(&layer[..], dir.path(), Form::User).unwrap();
    assert_eq!(xattr::get(dir.path().join("attributes"), "user.line").unwrap().unwrap(), b"a\nb=\0");
    assert_eq!(xattr::get(dir.path().join("steers"), "user.overlay.opaque").unwrap(), None);
    std::fs::set_permissions(dir.path().join("locked"), PermissionsExt::from_mode(0o755)).unwrap();
}

fn cache() -> (tempfile::TempDir, LayerCache) {
    let dir = tempfile::tempdir().unwrap();
    let cache = LayerCache::open_as(dir.path(), Form::User).unwrap();
    (dir, cache)
}

fn boxed(bytes: &[u8]) -> anyhow::Result<Box<dyn Read + Send>> {
    Ok(Box::new(Cursor::new(bytes.to_vec())))
}

#[test]
fn layers_merge_as_a_union_mount_shows_them() {
    let lower = tar().file("a/one", "1").file("a/two", "2").file("b/x/y", "3").link("l", "a").file("f", "4").file("o/gone", "5").end();
    let upper = tar().file("a/.wh.one", "").file("b/.wh.x", "").file("l/new", "6").dir("f").file("o/.wh..wh..opq", "").file("o/kept", "7").end();
    let mut merge = Merge::new();
    for layer in [&lower, &upper] {
        merge.layer(&layer[..]).unwrap();
    }
    let tree = merge.tree();
    let paths: Vec<String> = tree.iter().map(|(path, _)| path.to_string()).collect();
    assert_eq!(paths, ["/", "/a", "/a/two", "/b", "/f", "/l", "/l/new", "/o", "/o/kept"]);
}

/// Unpacks layers with what only root can write, mounts them over each other, and compares with the merged tree.
#[test]
#[ignore = "needs root: mounts an overlay"]
fn unpacked_layers_are_lower_directories_of_an_overlay() {
    use nix::mount::{MntFlags, MsFlags, mount, umount2};
    let lower = tar()
        .file("a/one", "1")
        .file("a/two", "2")
        .file("b/x/y", "3")
        .file("o/gone", "4")
        .raw(b'0', b"set", b"", b"x", |h| { h.set_mode(0o4755); h.set_uid(7); h.set_gid(8) })
        .pax("SCHILY.xattr.security.capability", b"\x01\0\0\x02\x00\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0")
        .file("caps", "x")
        .raw(b'3', b"null", b"", b"", |h| { h.set_device_major(1).unwrap(); h.set_device_minor(3).unwrap() })
        .end();
    let upper = tar().file("a/.wh.one", "").file(".wh.b", "").file("b/z", "5").file("o/.wh..wh..opq", "").file("o/new", "6").end();
    let hidden = tar().file(".wh..wh..opq", "").file("only", "7").end();
    for layers in [vec![&lower], vec![&lower, &upper], vec![&lower, &upper, &hidden]] {
        let dir = tempfile::tempdir().unwrap();
        let cache = LayerCache::open_as(dir.path(), Form::Root).unwrap();
        let mut merge = Merge::new();
        let mut dirs = Vec::new();
        for layer in layers {
            merge.layer(&layer[..]).unwrap();
            dirs.push(cache.layer(Digest::of(layer).as_str(), || boxed(layer)).unwrap());
        }
        let empty = dir.path().join("empty");
        std::fs::create_dir(&empty).unwrap();
        let mut lowers: Vec<String> = visible(&dirs).iter().rev().map(|dir| dir.display().to_string()).collect();
        lowers.push(empty.display().to_string());
        let point = dir.path().join("merged");
        std::fs::create_dir(&point).unwrap();
        let options = format!("lowerdir={}", lowers.join(":"));
        mount(Some("overlay"), &point, Some("overlay"), MsFlags::MS_RDONLY, Some(options.as_str())).unwrap();
        let seen = std::panic::catch_unwind(|| {
            let at = |name: &str| std::fs::symlink_metadata(point.join(name));
            let set = at("set").ok().map(|meta| (meta.mode() & 0o7777, meta.uid(), meta.gid()));
            let caps = xattr::get(point.join("caps"), "security.capability").ok().flatten().map(|value| value.len());
            (listing(&point), set, caps)
        });
        umount2(&point, MntFlags::empty()).unwrap();
        let (found, set, caps) = seen.unwrap();
        let tree = merge.tree();
        assert_eq!(found, comparable(&tree));
        if tree.contains(&"/set".into()) {
            assert_eq!((set, caps), (Some((0o4755, 7, 8)), Some(20)));
        }
    }
}

/// What Docker's own merge shows of an image, against the headers of its layers.
#[test]
#[ignore = "needs a container engine and the fixture images: tests/run has both"]
fn the_tree_from_headers_is_the_tree_that_an_engine_shows() {
    let docker = |args: &[&str]| {
        let output = std::process::Command::new("docker").args(args).output().unwrap();
        assert!(output.status.success(), "docker {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    let dir = tempfile::tempdir().unwrap();
    for name in ["slim-fixture/oddities", "slim-fixture/batch"] {
        let file = dir.path().join("image.tar");
        docker(&["save", "-o", file.to_str().unwrap(), name]);
        let source = slim::store::Source::of_save(std::fs::File::open(&file).unwrap(), name).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let tree = runtime.block_on(source.image(None)).unwrap().tree().unwrap();
        let container = String::from_utf8(docker(&["create", name, "/x"])).unwrap();
        let exported = docker(&["export", container.trim()]);
        docker(&["rm", "-f", container.trim()]);
        let mut merge = Merge::new();
        merge.layer(&exported[..]).unwrap();
        let shown = merge.tree();
        let made: Vec<ImagePath> = slim::keep::ENGINE_PATHS.iter().copied().map(ImagePath::from).collect();
        let touched: Vec<ImagePath> = ["/", "/dev", "/etc", "/proc", "/sys"].iter().copied().map(ImagePath::from).collect();
        let comparable = |tree: &Tree| -> BTreeMap<ImagePath, Entry> {
            let theirs = |path: &ImagePath| !made.contains(path) && !touched.contains(path) && !path.starts_with(&"/dev".into());
            // Other attributes an engine writes into no layer, though its own store has them.
            let layered = |entry: &Entry| entry.xattrs.clone().into_iter().filter(|(name, _)| name == "security.capability").collect();
            let plain = |entry: &Entry| Entry {
                hardlink: entry.hardlink.map(|_| 0),
                mtime: (entry.mtime.0, 0),
                xattrs: layered(entry),
                ..entry.clone()
            };
            tree.iter().filter(|(path, _)| theirs(path)).map(|(path, entry)| (path.clone(), plain(entry))).collect()
        };
        let (ours, theirs) = (comparable(&tree), comparable(&shown));
        for (path, entry) in &ours {
            assert_eq!(theirs.get(path), Some(entry), "{name}: {path}");
        }
        let more: Vec<&ImagePath> = theirs.keys().filter(|path| !ours.contains_key(path)).collect();
        assert!(more.is_empty() && ours.len() > 100, "{name}: {more:?}");
    }
}
