//! What a run mounts: it is there in each run, it changes nothing of the image, and what the engine copies
//! into it out of the image is seen.

use crate::support::{Build, Done, Image, Source, docker};

/// Paths of an image with the first letter of `ls -l`, by the docker command.
fn paths_of(name: &str) -> Vec<String> {
    let container = docker(&["create", "--network", "none", name]);
    let script = format!("docker export {container} | tar -tf -");
    let output = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
    docker(&["rm", "-f", &container]);
    let made = ["dev/", "proc/", "sys/", "etc/hosts", "etc/hostname", "etc/resolv.conf", "etc/mtab", ".dockerenv"];
    let text = String::from_utf8(output.stdout).unwrap();
    let mut paths: Vec<String> = text.lines().map(str::to_owned).collect();
    paths.retain(|path| !made.iter().any(|made| path.starts_with(made)) && path != "etc/");
    paths.sort();
    paths
}

/// A build with a file of this machine, `ours`, and a directory of it.
fn with(image: &Image, words: &[&str]) -> Done {
    let build = Build::of(image).file("ours", "<p>ours</p>\n").file("dir/inner.html", "<p>inner</p>\n");
    let at = build.work().display().to_string();
    let words: Vec<String> = words.iter().map(|word| word.replace('@', &at)).collect();
    build.args(&words.iter().map(String::as_str).collect::<Vec<_>>()).run().ended(0)
}

#[track_caller]
fn length_of(done: &Done, name: &str) -> u64 {
    let report = done.report();
    let probes = report["probes"].as_array().unwrap();
    let probe = probes.iter().find(|probe| probe["name"] == name).unwrap_or_else(|| panic!("no {name} in {probes:?}"));
    assert_eq!(probe["baseline"]["status"], 200, "{name}");
    probe["baseline"]["body"]["length"].as_u64().unwrap()
}

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn mounts_of_the_run_work_and_leave_no_trace_in_the_image() {
    let image = Image::new("mounted");
    Build::of(&image).args(&["--http-probe"]).run().ended(0);
    let plain = paths_of(&image.slim());
    assert!(plain.contains(&"www/about.html".to_owned()), "{plain:?}");
    let (ours, inner) = ("<p>ours</p>\n".len() as u64, "<p>inner</p>\n".len() as u64);
    for (words, page, length) in [
        // Over a file that the image has.
        (&["-v", "@/ours:/www/about.html:ro"][..], "/about.html", ours),
        (&["--mount", "type=bind,src=@/ours,dst=/www/about.html,readonly"], "/about.html", ours),
        // Where the image has nothing.
        (&["-v", "@/ours:/www/added.html:ro"], "/added.html", ours),
        (&["-v", "@/ours:/new/deep/added.html:ro"], "/../new/deep/added.html", ours),
        (&["-v", "@/dir:/www/more:ro"], "/more/inner.html", inner),
        (&["--tmpfs", "/www/scratch"], "/about.html", 13),
        (&["--tmpfs", "/elsewhere:size=1m"], "/about.html", 13),
        (&["-v", "/nowhere"], "/about.html", 13),
    ] {
        let tag = image.beside(".slim:mounted");
        let done = with(&image, &[words, &["--http-probe", "--http-probe-cmd", page, "-t", &tag]].concat());
        assert_eq!(length_of(&done, &format!("GET {page}")), length, "{words:?}");
        assert_eq!(paths_of(&tag), plain, "{words:?}");
    }
}

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn what_the_engine_copies_into_a_volume_of_the_run_is_seen() {
    let image = Source::default().cmd(&["cat", "/data/a.txt"]).load("copied");
    let name = format!("slim-test-copied-{}", std::process::id());
    for words in [
        &["-v", "/data"][..],
        &["-v", &format!("{name}:/data")],
        &["--mount", "type=volume,dst=/data"],
        &["--mount", &format!("type=volume,src={name},dst=/data")],
    ] {
        for sensor in ["split", "fanotify"] {
            let words = [words, &["--repair-rounds", "0", "--sensor", sensor]].concat();
            let done = Build::of(&image).args(&words).run().ended(0);
            let kept = done.kept();
            assert!(kept.iter().any(|path| path == "/data/a.txt"), "{words:?}: {kept:?}");
            assert!(!kept.iter().any(|path| path == "/data/b.txt"), "{words:?}: {kept:?}");
        }
    }
}
