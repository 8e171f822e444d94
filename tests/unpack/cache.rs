//! Cache: unpacked layers that many builds share, that are listed, removed, and made again.

use super::*;

#[test]
fn a_layer_is_unpacked_once_and_only_when_its_digest_fits() {
    let (dir, cache) = cache();
    let layer = tar().file("a", "x").end();
    let digest = Digest::of(&layer);
    let error = cache.layer(digest.as_str(), || boxed(&tar().file("a", "y").end())).unwrap_err();
    assert!(format!("{error:#}").contains("is really sha256:"), "{error:#}");
    assert!(cache.list().unwrap().is_empty());
    assert_eq!(std::fs::read_dir(dir.path().join("layers-user")).unwrap().count(), 0);
    let place = cache.layer(digest.as_str(), || boxed(&layer)).unwrap();
    assert_eq!(std::fs::read_to_string(place.join("a")).unwrap(), "x");
    assert_eq!(cache.layer(digest.as_str(), || panic!("opened again")).unwrap(), place);
    assert!(cache.layer("sha256:../../../etc", || boxed(&layer)).is_err());
}

#[test]
fn many_at_once_unpack_a_layer_once() {
    let (dir, cache) = cache();
    let layer = (0..200).fold(tar(), |tar, i| tar.file(&format!("d/{i}"), "x")).end();
    let digest = Digest::of(&layer);
    let opened = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let cache = LayerCache::open_as(dir.path(), Form::User).unwrap();
                let place = cache.layer(digest.as_str(), || {
                    opened.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                    boxed(&layer)
                });
                assert_eq!(std::fs::read_dir(place.unwrap().join("d")).unwrap().count(), 200);
            });
        }
    });
    assert_eq!(opened.into_inner(), 1);
    // Who asked for it keeps it until it closes.
    let wipe = |dir: &Path| if dir.exists() { Ok(std::fs::remove_dir_all(dir)?) } else { Ok(()) };
    let place = cache.get(digest.as_str()).unwrap().unwrap();
    let other = LayerCache::open_as(dir.path(), Form::User).unwrap();
    assert!(other.list().unwrap()[0].busy && !other.remove(digest.as_str(), wipe).unwrap() && place.exists());
    drop(cache);
    assert!(!other.list().unwrap()[0].busy && other.remove(digest.as_str(), wipe).unwrap());
    assert_eq!(std::fs::read_dir(dir.path().join("layers-user")).unwrap().count(), 0);
}

/// Some make and read a layer while others remove it: nobody finds it half.
#[test]
fn a_layer_that_is_removed_under_builds_is_made_again() {
    let (dir, cache) = cache();
    drop(cache);
    let layer = (0..20).fold(tar(), |tar, i| tar.file(&format!("d/{i}"), "x")).end();
    let digest = Digest::of(&layer);
    let wipe = |dir: &Path| if dir.exists() { Ok(std::fs::remove_dir_all(dir)?) } else { Ok(()) };
    let (removed, done) = (std::sync::atomic::AtomicUsize::new(0), std::sync::atomic::AtomicUsize::new(0));
    let relaxed = std::sync::atomic::Ordering::Relaxed;
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                // Until it happened a few times; a machine on which it never does fails below.
                for _ in 0..10_000 {
                    if removed.load(relaxed) >= 5 {
                        break;
                    }
                    let cache = LayerCache::open_as(dir.path(), Form::User).unwrap();
                    let place = cache.layer(digest.as_str(), || boxed(&layer)).unwrap();
                    assert_eq!(std::fs::read_dir(place.join("d")).unwrap().count(), 20);
                }
                done.fetch_add(1, relaxed);
            });
        }
        scope.spawn(|| {
            while done.load(relaxed) < 3 {
                let cache = LayerCache::open_as(dir.path(), Form::User).unwrap();
                let was_there = cache.list().unwrap().iter().any(|layer| layer.whole);
                removed.fetch_add(usize::from(was_there && cache.remove(digest.as_str(), wipe).unwrap()), relaxed);
            }
        });
    });
    assert!(removed.into_inner() >= 5);
}

/// `slim cache` with these words, on this cache.
fn slim_cache(dir: &Path, words: &[&str]) -> (Option<i32>, String) {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_slim"));
    let output = command.arg("cache").args(words).env("SLIM_CACHE_DIR", dir).env("NO_COLOR", "1").output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

#[test]
fn the_cache_is_listed_and_made_smaller_while_a_build_uses_it() {
    let (dir, cache) = cache();
    let layers = ["one", "two", "three"].map(|name| tar().file(name, &name.repeat(1000)).end());
    let ids = layers.each_ref().map(|layer| Digest::of(layer).as_str().to_owned());
    for (id, layer) in ids.iter().zip(&layers) {
        LayerCache::open_as(dir.path(), Form::User).unwrap().layer(id, || boxed(layer)).unwrap();
    }
    // What a killed process left of a fourth; what other programs keep here is nobody's business.
    let left = format!("layers-user/.tmp-{}", Digest::of(b"x").hex());
    for made in [left.as_str(), "fixtures/engine"] {
        std::fs::create_dir_all(dir.path().join(made)).unwrap();
        std::fs::write(dir.path().join(made).join("file"), "12345").unwrap();
    }
    // One of the images has a name.
    let config = format!("{{\"architecture\": \"amd64\", \"os\": \"linux\", \"rootfs\": {{\"type\": \"layers\", \"diff_ids\": [\"{}\"]}}}}", ids[2]);
    let image = Digest::of(config.as_bytes());
    std::fs::create_dir(dir.path().join("images")).unwrap();
    std::fs::write(dir.path().join("images").join(format!("{}.json", image.hex())), &config).unwrap();
    std::fs::write(dir.path().join("names.json"), format!("{{\"app.slim:1\": \"{}\"}}", image.as_str())).unwrap();

    let (status, text) = slim_cache(dir.path(), &["ls"]);
    assert_eq!(status, Some(0), "{text}");
    let rows: Vec<&str> = text.lines().collect();
    assert!(rows[0].starts_with("KIND") && rows.len() == 7, "{text}");
    assert!(rows.iter().any(|row| row.starts_with("layer") && row.contains(" 3.00 kB ") && row.contains(&ids[0])), "{text}");
    assert!(rows.iter().any(|row| row.starts_with("leftover") && row.contains(" 5 B ")), "{text}");
    assert_eq!(text.matches(" named ").count(), 2, "the image and its layer\n{text}");
    assert!(rows[6].starts_with("3 layers, 1 image, 1 leftover (11.") && rows[6].contains(dir.path().to_str().unwrap()), "{text}");

    let (status, text) = slim_cache(dir.path(), &["prune", "--older-than", "1h"]);
    assert_eq!((status, text.contains("removed nothing; left 3 layers, 1 image, 1 leftover")), (Some(0), true), "{text}");
    // A build has the first in use.
    cache.get(&ids[0]).unwrap().unwrap();
    let (status, text) = slim_cache(dir.path(), &["prune"]);
    assert_eq!(status, Some(0), "{text}");
    assert!(text.starts_with("removed 1 layer, 1 leftover (3.0") && text.contains("; left 2 layers, 1 image ("), "{text}");
    assert!(text.contains("running builds use some of it, images with a name (--all) some"), "{text}");
    assert!(cache.get(&ids[0]).unwrap().is_some() && cache.get(&ids[1]).unwrap().is_none() && !dir.path().join(&left).exists());
    drop(cache);
    let (_, text) = slim_cache(dir.path(), &["prune", "--all", "--max-size", "4k"]);
    assert!(text.starts_with("removed 1 layer, 1 image (") || text.starts_with("removed 1 layer (") , "{text}");
    let (_, text) = slim_cache(dir.path(), &["prune", "--all", "--json"]);
    let gone: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(gone["schema"], "slim.cache/1", "{gone}");
    assert_eq!(slim_cache(dir.path(), &["ls"]).1, format!("nothing in {}\n", dir.path().display()));
    assert!(dir.path().join("fixtures/engine/file").exists());
    // Nothing there at all is no error; what makes no sense is one line.
    assert_eq!(slim_cache(&dir.path().join("none"), &["ls"]).0, Some(0));
    assert!(slim_cache(&dir.path().join("none"), &["prune"]).1.starts_with("removed nothing; left nothing"));
    for (words, expected) in [
        (["prune", "--older-than=soon"], "--older-than: \"soon\" is no time"),
        (["prune", "--max-size=much"], "--max-size: \"much\" is no size"),
    ] {
        let (status, text) = slim_cache(dir.path(), &words);
        assert!(status == Some(2) && text.contains(expected) && text.lines().count() == 1, "{text}");
    }
    std::fs::write(dir.path().join("names.json"), "{").unwrap();
    let (status, text) = slim_cache(dir.path(), &["ls"]);
    assert!(status == Some(1) && text.contains("understand") && text.contains("names.json"), "{text}");
}

#[test]
#[ignore = "needs root: mounts a small file system"]
fn a_cache_that_is_full_or_read_only_is_said_and_holds_nothing_half() {
    use nix::mount::{MntFlags, MsFlags, mount, umount2};
    let dir = tempfile::tempdir().unwrap();
    let layer = tar().file("big", &"x".repeat(3 << 20)).end();
    let digest = Digest::of(&layer);
    mount(Some("tmpfs"), dir.path(), Some("tmpfs"), MsFlags::empty(), Some("size=1m")).unwrap();
    let seen = std::panic::catch_unwind(|| {
        let cache = LayerCache::open(dir.path()).unwrap();
        let full = cache.layer(digest.as_str(), || boxed(&layer)).unwrap_err();
        let left = std::fs::read_dir(dir.path().join("layers")).unwrap().count();
        drop(cache);
        mount(Some(""), dir.path(), Some(""), MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY, Some("")).unwrap();
        (format!("{full:#}"), left, format!("{:#}", LayerCache::open(dir.path()).unwrap_err()))
    });
    umount2(dir.path(), MntFlags::empty()).unwrap();
    let (full, left, read_only) = seen.unwrap();
    assert!(full.contains("No space left") || full.contains("ENOSPC"), "{full}");
    assert!(full.contains("SLIM_CACHE_DIR") && read_only.contains("SLIM_CACHE_DIR"), "{full} {read_only}");
    assert_eq!(left, 0);
}
