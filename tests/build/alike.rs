//! What `slim build` runs is what `docker run` with the same flags runs: the recorded target says the same about
//! itself. The slim image does too, or it would not be verified.

use std::process::Command;

use crate::support::{Build, Image, Source, docker};

/// Refuses mkdir(2), allows the rest.
const PROFILE: &str = r#"{"defaultAction": "SCMP_ACT_ALLOW",
  "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}]}"#;

/// (Flags, what the target looks at besides, what it has to say.)
type Case<'a> = (&'a [&'a str], &'a [&'a str], &'a [&'a str]);

const CASES: &[Case] = &[
    (&[], &[], &["NoNewPrivs:\t0", "Seccomp:\t2", "process 1: yes", "chown: done", "mkdir: done"]),
    (
        &[
            "--dns", "9.9.9.9", "--add-host", "db:10.9.8.7", "--ulimit", "nofile=99:200", "--shm-size", "3m", "--sysctl",
            "net.ipv4.ip_unprivileged_port_start=77", "--tmpfs", "/scratch:size=1m", "--memory", "64m", "-u", "1234:77",
            "--group-add", "88", "-w", "/data", "-e", "SAYS=hello", "-l", "a=b",
        ],
        &[
            "/etc/resolv.conf", "/etc/hosts", "/proc/sys/net/ipv4/ip_unprivileged_port_start", "size:/scratch",
            "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        ],
        &[
            "nameserver 9.9.9.9", "10.9.8.7\tdb", "limit 7: 99 200", "/dev/shm: 3145728 bytes", "start: 77",
            "/scratch: 1048576 bytes", "limit_in_bytes: 67108864", "Uid:\t1234\t1234", "Gid:\t77\t77", "Groups:\t77 88",
            "in /data", "env SAYS=hello", "chown: Operation not permitted",
        ],
    ),
    (&["--init"], &[], &["process 1: no"]),
    (&["--read-only", "--cap-drop", "CHOWN"], &[], &["write to /: Read-only", "chown: Read-only", "CapEff:\t00000000a80425fa"]),
    (&["--cap-drop", "CHOWN"], &[], &["chown: Operation not permitted", "CapEff:\t00000000a80425fa"]),
    (&["--cap-drop", "ALL", "--cap-add", "CHOWN"], &[], &["chown: done", "CapEff:\t0000000000000001"]),
    (&["--cap-add", "SYS_ADMIN"], &[], &["sethostname: done"]),
    (&["--cap-add", "NET_ADMIN"], &[], &["CapEff:\t00000000a80435fb", "sethostname: Operation not permitted"]),
    (&["--security-opt", "no-new-privileges", "-u", "1234"], &[], &["NoNewPrivs:\t1", "Uid:\t1234"]),
    (&["--security-opt", "no-new-privileges"], &[], &["NoNewPrivs:\t1", "CapEff:\t00000000a80425fb"]),
    (&["--security-opt", "seccomp=PROFILE"], &[], &["mkdir: Operation not permitted", "Seccomp:\t2"]),
    (&["--security-opt", "seccomp=unconfined"], &[], &["mkdir: done", "unshare: done"]),
    (&["--pid", "host"], &[], &["process 1: no"]),
    (&["--ipc", "host"], &[], &[]),
];

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn the_target_is_what_docker_run_makes_of_the_same_flags() {
    let image = Source::default().cmd(&["look"]).load("alike");
    let dir = tempfile::tempdir().unwrap();
    let profile = dir.path().join("profile.json");
    std::fs::write(&profile, PROFILE).unwrap();
    let mut wrong = Vec::new();
    for (flags, paths, says) in CASES {
        let profile = format!("seccomp={}", profile.display());
        let flags = flags.iter().map(|flag| if *flag == "seccomp=PROFILE" { profile.as_str() } else { flag });
        let flags: Vec<&str> = flags.chain(["--network", "none", "--hostname", "here"]).collect();
        let words = [&["look"], *paths].concat();
        let plain = docker(&[&["run", "--rm"], flags.as_slice(), &[&image.name], &words].concat());
        for text in *says {
            assert!(plain.contains(text), "{flags:?}: docker run does not say {text:?}\n{plain}");
        }
        let done = Build::of(&image).args(&flags).args(&["--report-bodies", "--repair-rounds", "0", "--"]).args(&words).run();
        let done = done.ended(0);
        let report = done.report();
        let run = report["probes"].as_array().unwrap().iter().find(|probe| probe["name"] == "run").unwrap().clone();
        let recorded = run["baseline"]["body"]["excerpt"].as_str().unwrap().replace("\\n", "\n").replace("\\t", "\t");
        let differ = plain.lines().zip(recorded.lines()).filter(|(plain, recorded)| plain != recorded);
        // The recorder is a filter of its own: only that there is none cannot be imitated.
        let differ = differ.filter(|(plain, _)| *plain != "Seccomp:\t0");
        wrong.extend(differ.map(|(plain, recorded)| format!("{flags:?}: plain {plain:?}, recorded {recorded:?}")));
        let complete = run["baseline"]["body"]["length"] == plain.len() + 1;
        wrong.extend((!complete).then(|| format!("{flags:?}: plain\n{plain}\nrecorded {}", run["baseline"]["body"])));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// (USER of the image, the groups that it has.)
const USERS: &[(&str, &str)] = &[
    ("app", "Groups:\t4 44"),
    ("1000", "Groups:\t4 44"),
    ("app:log", "Gid:\t4"),
    ("1000:44", "Gid:\t44"),
    ("4242", "Gid:\t0"),
    ("4242:77", "Gid:\t77"),
];

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn a_user_of_the_image_has_the_same_ids_groups_and_home_in_the_slim_one() {
    for (user, says) in USERS {
        let accounts = "root:x:0:0::/root:/bin/sh\napp:x:1000:1000::/data:/bin/sh\n";
        let groups = "root:x:0:\napp:x:1000:\nlog:x:4:other,app\nmedia:x:44:app\n";
        let source = Source::default().cmd(&["look"]).set("User", serde_json::json!(user));
        let image = source.with("etc/", "").with("etc/passwd", accounts).with("etc/group", groups).load("user");
        Build::of(&image).run().ended(0);
        let look = |name: &str| docker(&["run", "--rm", "--network", "none", "--hostname", "here", name]);
        let before = look(&image.name);
        assert!(before.contains(says), "{user}: {before}");
        assert_eq!(look(&image.slim()), before, "{user}");
    }
}

/// A network with two containers in it, removed with them.
struct Neighbours {
    network: String,
    server: String,
    client: String,
}

impl Neighbours {
    fn start(image: &Image) -> Self {
        let network = format!("slim-test-net-{}", std::process::id());
        let (server, client) = (format!("{network}-server"), format!("{network}-client"));
        let neighbours = Self { network, server, client };
        docker(&["network", "create", &neighbours.network]);
        docker(&["run", "-d", "--network", &neighbours.network, "--name", &neighbours.server, &image.name]);
        let idle = ["slim-fixture/base:latest", "sleep", "600"];
        docker(&[&["run", "-d", "--network", &neighbours.network, "--name", &neighbours.client], &idle[..]].concat());
        neighbours
    }
}

impl Drop for Neighbours {
    fn drop(&mut self) {
        let containers = ["rm", "-f", &self.server, &self.client];
        for args in [&containers[..], &["network", "rm", &self.network]] {
            let _gone_already = Command::new("docker").args(args).output();
        }
    }
}

fn ask(host: &str) -> String {
    format!("exec 3<>/dev/tcp/{host}/8080 && printf 'GET /about.html HTTP/1.0\\r\\n\\r\\n' >&3 && cat <&3")
}

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn a_target_has_its_place_among_the_containers_of_its_network() {
    let image = Image::new("neighbours");
    let neighbours = Neighbours::start(&image);
    // It finds its neighbours, by their names and by the names that a link gives them.
    let (network, tag) = (neighbours.network.as_str(), image.beside(".slim:asks"));
    let link = format!("{}:other", neighbours.server);
    for host in [neighbours.server.as_str(), "other"] {
        let words = ["--network", network, "--link", &link, "-t", &tag, "--report-bodies", "--", "bash", "-c", &ask(host)];
        let done = Build::new(&["build", "slim-fixture/base:latest"]).args(&words).run().ended(0);
        let report = done.report();
        assert!(report["probes"].to_string().contains("<p>about</p>"), "{host}: {}", report["probes"]);
    }
    // They find it by its alias.
    let words = ["docker", "exec", &neighbours.client, "bash", "-c", &ask("web")];
    let host_exec = serde_json::to_string(&words).unwrap();
    let flags = ["--http-probe", "--network", network, "--network-alias", "web", "--host-exec", &host_exec, "--report-bodies"];
    let done = Build::of(&image).args(&flags).run().ended(0);
    let report = done.report();
    let probes = report["probes"].as_array().unwrap();
    let asked = probes.iter().find(|probe| probe["name"].as_str().unwrap().contains("docker exec")).unwrap();
    assert!(asked["baseline"].to_string().contains("<p>about</p>"), "{asked}");
}
