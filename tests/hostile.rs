//! Whatever is read from an image, from a target or from a file that somebody hands over is read without panic, hang or
//! harm: whole seeds, damaged in ways that a fixed sequence of numbers chooses, so that a failure comes back.

#![allow(clippy::unwrap_used)] // helpers of tests too

use std::io::{Cursor, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use slim::store::compress;
use slim::store::digest::Digest;
use slim::store::image::Image;
use slim::store::manifest::Document;
use slim::store::merge::Merge;
use slim::store::place::{Place, TarFile};
use slim::store::unpack::{Form, unpack};
use slim::store::{Access, Source, Transport};

/// A linear congruential generator (Knuth's MMIX numbers): the same numbers everywhere.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, most: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % most.max(1)
    }

    /// The seed with one to four of: a byte changed, a piece cut out, doubled, moved, zeroed, or the end cut off.
    fn damage(&mut self, seed: &[u8]) -> Vec<u8> {
        let mut bytes = seed.to_vec();
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len());
            let end = (at + 1 + self.below(64)).min(bytes.len());
            match self.below(8) {
                0..=2 if !bytes.is_empty() => bytes[at] ^= 1 << self.below(8),
                3 if !bytes.is_empty() => bytes[at] = b"0/.-9\"}]\0\xff"[self.below(10)],
                4 => drop(bytes.drain(at..end)),
                5 => {
                    let piece = bytes[at..end].to_vec();
                    let to = self.below(bytes.len());
                    bytes.splice(to..to, piece);
                }
                6 => bytes[at..end].fill(0),
                _ => bytes.truncate(at),
            }
        }
        bytes
    }
}

fn seed(name: &str) -> Vec<u8> {
    std::fs::read(Path::new("fixtures/hostile").join(name)).unwrap()
}

/// Reads a seed of fixtures/hostile and damaged ones.
fn smoke(name: &str, rounds: u64, read: impl Fn(&[u8]) -> anyhow::Result<()>) {
    damaged(name, &seed(name), rounds, read);
}

/// Reads the whole text, which has to work, and damaged ones, which may fail but not panic.
fn damaged(name: &str, whole: &[u8], rounds: u64, read: impl Fn(&[u8]) -> anyhow::Result<()>) {
    read(whole).unwrap_or_else(|error| panic!("{name}: {error:#}"));
    let mut refused = 0;
    for round in 0..rounds {
        let bytes = Numbers(round).damage(whole);
        match catch_unwind(AssertUnwindSafe(|| read(&bytes))) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                let text = format!("{error:#}");
                assert!(!text.contains('\u{1b}') && text.len() < 20_000, "{name} round {round}: {text}");
                refused += 1;
            }
            Err(_) => panic!("{name}: round {round} panics"),
        }
    }
    // A check that takes everything is none.
    assert!(refused > rounds / 10, "{name}: only {refused} of {rounds} were refused");
}

#[test]
fn damaged_manifests_and_configs_are_refused() {
    smoke("manifest.json", 3000, |bytes| Document::parse(bytes).map(drop));
    smoke("index.json", 3000, |bytes| Document::parse(bytes).map(drop));
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("layer"), seed("layer.tar")).unwrap();
    let place = Place::Dir(dir.path().to_owned());
    smoke("config.json", 3000, |bytes| Image::of_files(bytes.to_vec(), &["layer".into()], place.clone()).map(drop));
}

#[test]
fn damaged_layers_are_refused() {
    smoke("layer.tar", 3000, |bytes| Merge::new().layer(bytes));
    for name in ["layer.tar.gz", "layer.tar.zst"] {
        let plain = seed("layer.tar");
        smoke(name, 2000, |bytes| {
            let (_, mut reader) = compress::plain(Box::new(Cursor::new(bytes.to_vec())))?;
            let mut read = Vec::new();
            reader.by_ref().take(1 << 24).read_to_end(&mut read)?;
            anyhow::ensure!(read == plain, "another layer");
            Ok(())
        });
    }
}

#[test]
fn damaged_layers_are_unpacked_inside_of_their_directory() {
    let place = tempfile::tempdir().unwrap();
    std::fs::write(place.path().join("outside"), "untouched").unwrap();
    smoke("layer.tar", 400, |bytes| {
        let dir = tempfile::Builder::new().prefix("layer").tempdir_in(place.path())?;
        let result = unpack(bytes, dir.path(), Form::User);
        // What was made may be locked.
        let _ = std::process::Command::new("chmod").arg("-R").arg("u+rwx").arg(dir.path()).output();
        result
    });
    let names: Vec<_> = std::fs::read_dir(place.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["outside"]);
    assert_eq!(std::fs::read_to_string(place.path().join("outside")).unwrap(), "untouched");
}

#[test]
fn damaged_archives_are_refused() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let access = Access::anonymous(std::sync::Arc::new(slim::progress::Void));
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("image.tar");
    for transport in [Transport::OciArchive(file.clone(), None), Transport::DockerArchive(file.clone(), None)] {
        smoke("image.tar", 1000, |bytes| {
            std::fs::write(&file, bytes)?;
            let image = runtime.block_on(async { Source::open(&transport, &access).await?.image(None).await })?;
            let tree = image.tree()?;
            anyhow::ensure!(Digest::of(&image.config) == image.id() && tree.len() > 5);
            Ok(())
        });
    }
    assert!(TarFile::open_path(&dir.path().join("absent.tar")).is_err());
}

/// A recording as the sensor writes it.
const TRACE: &str = r#"{"t":"header","slim_trace":1,"arch":"amd64","kernel":"6","recorders":{"fanotify":"m","syscalls":null,"why":""}}
{"t":"process","id":1,"pid":1,"exe":"/bin/sh","comm":"sh","origin":"target"}
{"t":"access","kind":"open","path":"/a","process":1,"mark":0}
{"t":"mark","n":2,"name":"GET /"}
{"t":"access","kind":"stat","path":"/a/../b","call":"newfstatat","nofollow":true,"process":1,"mark":2}
{"t":"exit","status":0}
{"t":"end","accesses":2}
"#;

#[test]
fn damaged_recordings_and_reports_are_refused() {
    damaged("a trace", TRACE.as_bytes(), 3000, |bytes| slim::trace::Trace::read(bytes).map(drop).map_err(Into::into));
    let report = std::fs::read("fixtures/report/failed.report.json").unwrap();
    damaged("a report", &report, 2000, |bytes| slim::report::file::parse(bytes).map(drop));
}

#[test]
fn what_a_target_writes_between_the_sensors_frames_does_no_harm() {
    let reply = slim::sensor::control::Reply::Marked { n: 3 };
    let stream = [b"own ", &slim::sensor::control::frame("n0", &reply)[..], b"text", &slim::sensor::control::frame("n0", &reply)].concat();
    damaged("frames", &stream, 3000, |bytes| {
        let mut filter = slim::sensor::control::FrameFilter::new("n0");
        let (own, replies) = filter.push(bytes);
        // Nothing that it wrote is lost but the frames.
        anyhow::ensure!(replies.len() == 2 && [own, filter.finish()].concat() == b"own text", "other frames");
        Ok(())
    });
}

#[test]
fn damaged_names_are_refused_or_are_names() {
    let texts = "host.example:5000/team/app:1.2@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    damaged("a reference", texts.as_bytes(), 3000, |bytes| {
        let reference = slim::image::Reference::parse(&String::from_utf8_lossy(bytes))?;
        // What is one stays one however it is spelled.
        slim::image::Reference::parse(&reference.familiar()).map(drop).map_err(Into::into)
    });
    damaged("a transport", b"docker-archive:dir/app.tar:team/app:1", 3000, |bytes| {
        let text = String::from_utf8_lossy(bytes).into_owned();
        let transport = Transport::parse(&text)?;
        anyhow::ensure!(transport.is_some_and(|found| found.to_string() == text), "another one");
        Ok(())
    });
}

/// Files of package managers, small and whole.
const PACKAGES: &[(&str, &str)] = &[
    ("/var/lib/dpkg/status", "Package: a\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1:2-3\nDepends: b (>= 1) | c, d:any\n\nPackage: b\nStatus: install ok installed\nVersion: 1\nProvides: d\n"),
    ("/var/lib/dpkg/info/a.list", "/.\n/usr\n/usr/bin/a\n"),
    ("/lib/apk/db/installed", "P:a\nV:1-r0\nA:x86_64\nD:so:libc.so b>1 !c\np:cmd:a=1\nF:usr/bin\nR:a\na:0:0:755\nZ:Q1x\n\n"),
    ("/usr/lib/python3/dist-packages/a-1.dist-info/METADATA", "Metadata-Version: 2.1\nName: a\nVersion: 1\nRequires-Dist: b[x]>=1 ; python_version < '3.9' and (os_name == 'nt' or extra == 'y')\n"),
    ("/usr/lib/python3/dist-packages/a-1.dist-info/RECORD", "a/__init__.py,sha256=x,1\n\"a/with,comma.py\",,\n../../../bin/a,,\n"),
    ("/app/node_modules/a/package.json", "{\"name\": \"a\", \"version\": \"1\", \"main\": \"x.js\", \"dependencies\": {\"b\": \"^1\"}, \"bin\": {\"a\": \"x.js\"}}"),
    ("/app/x.deps.json", "{\"runtimeTarget\": {\"name\": \"t\"}, \"targets\": {\"t\": {\"a/1\": {\"runtime\": {\"lib/a.dll\": {}}, \"dependencies\": {\"b\": \"1\"}}}}, \"libraries\": {\"a/1\": {\"type\": \"package\"}}}"),
    ("/app/vendor/composer/installed.json", "{\"packages\": [{\"name\": \"x/a\", \"version\": \"1\", \"install-path\": \"../x/a\", \"require\": {\"php\": \">=7\"}}]}"),
    ("/usr/lib/ruby/gems/3.1.0/specifications/a-1.gemspec", "Gem::Specification.new do |s|\n  s.name = \"a\".freeze\n  s.version = \"1\"\n  s.add_runtime_dependency(%q<b>.freeze, [\">= 1\"])\nend\n"),
];

#[test]
fn damaged_package_databases_are_survived() {
    use slim::image::{Entry, ImagePath, Kind, Tree};
    use slim::packages::{Step, Texts, read};
    // The first time nothing is damaged.
    let rounds = PACKAGES.iter().flat_map(|(damaged, _)| (0..1500).map(move |round| (*damaged, round)));
    for (damaged, round) in [("", 0)].into_iter().chain(rounds) {
        let mut texts = Texts::new();
        let mut tree = Tree::new();
        for (path, text) in PACKAGES {
            let bytes = if *path == damaged { Numbers(round).damage(text.as_bytes()) } else { text.as_bytes().to_vec() };
            let path = ImagePath::new(path);
            for dir in path.ancestors() {
                tree.insert(dir, Entry::new(Kind::Directory));
            }
            tree.insert(path.clone(), Entry { size: bytes.len() as u64, ..Entry::new(Kind::File) });
            texts.insert(path, bytes);
        }
        match catch_unwind(AssertUnwindSafe(|| read(&tree, &texts))) {
            Ok(Step::Done(packages)) => {
                let found = packages.iter().count();
                packages.closure(0..found);
                assert!(!damaged.is_empty() || found >= 8, "{found} packages");
            }
            Ok(Step::Need(more)) => panic!("{damaged}: round {round} asks for what is there: {more:?}"),
            Err(_) => panic!("{damaged}: round {round} panics"),
        }
    }
}
