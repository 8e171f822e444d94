//! The command line: what can be typed or set, what it means, and how what is wrong is said.

#![allow(clippy::unwrap_used)]

#[path = "cli/batch.rs"]
mod batch;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use slim::cli::{self, Command, Invocation, Progress, Stop, Vars, manual, settings};
use slim::plan::{BuildPlan, Here, Pull, Source};
use slim::probe::request::RecipeRef;
use slim::probe::{Readiness, Until};

/// Words as typed after `slim`, split as a shell would. `--config off` keeps files of this directory out.
fn words(line: &str) -> Vec<OsString> {
    let typed = shell_words::split(line).unwrap();
    ["slim", "--config=off"].into_iter().map(OsString::from).chain(typed.into_iter().map(OsString::from)).collect()
}

fn vars(pairs: &[(&str, &str)]) -> Vars {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn try_parse(line: &str, env: &[(&str, &str)]) -> Result<Invocation, String> {
    cli::parse(words(line), &vars(env)).map_err(text_of)
}

fn text_of(stop: Stop) -> String {
    match stop {
        Stop::Show(text) => format!("shown: {text}"),
        Stop::Wrong(error) => error.to_string(),
    }
}

fn plan_of(invocation: &Invocation, env: &[(&str, &str)], mut stdin: &[u8]) -> Result<BuildPlan, String> {
    let Command::Build(build) = &invocation.command else { panic!("not a build") };
    let vars = vars(env);
    let here = Here { vars: &vars, origins: &invocation.origins };
    BuildPlan::new(&invocation.common, build, here, &mut stdin).map_err(|error| error.to_string())
}

fn try_plan(line: &str, env: &[(&str, &str)]) -> Result<BuildPlan, String> {
    plan_of(&try_parse(line, env)?, env, b"")
}

fn plan(line: &str) -> BuildPlan {
    try_plan(line, &[]).unwrap_or_else(|error| panic!("{line}: {error}"))
}

fn wrong(line: &str) -> String {
    match try_plan(line, &[]) {
        Ok(plan) => panic!("{line} was accepted: {plan:?}"),
        Err(text) => text,
    }
}

/// A directory with these files, and a slim.toml when `settings` is given.
fn dir(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    dir
}

fn with_settings(toml: &str, line: &str, env: &[(&str, &str)]) -> Result<BuildPlan, String> {
    let dir = dir(&[("slim.toml", toml)]);
    let file = dir.path().join("slim.toml");
    let mut all = words(line);
    all[1] = format!("--config={}", file.display()).into();
    let shorten = |text: String| text.replace(&format!("{}/", dir.path().display()), "");
    let invocation = cli::parse(all, &vars(env)).map_err(text_of).map_err(shorten)?;
    plan_of(&invocation, env, b"").map_err(shorten)
}

#[test]
fn a_bare_build_probes_by_itself() {
    let plan = plan("build myimg");
    assert_eq!(plan.source, Source::Image("myimg".into()));
    assert_eq!(plan.probes, slim::probe::ProbeRequest::default());
    assert_eq!(plan.outputs.report.as_deref(), Some(Path::new("slim.report.json")));
    assert_eq!((plan.pull, plan.repeat, plan.verify), (Pull::Unsaid, 1, true));
    assert_eq!(plan.settle, Duration::from_secs(1));
}

#[test]
fn switches_take_true_and_false_in_every_spelling() {
    for (word, on) in [("", true), ("=true", true), ("=1", true), ("=yes", true), ("=false", false), ("=0", false), ("=No", false)] {
        assert_eq!(plan(&format!("build x --http-probe{word}")).probes.http, Some(on), "{word}");
        assert_eq!(plan(&format!("build x --no-verify{word}")).verify, !on, "{word}");
    }
    assert!(wrong("build x --http-probe=maybe").contains("use true or false"));
    assert_eq!(plan("build x --http-probe --http-probe=false").probes.http, Some(false));
}

#[test]
fn every_switch_takes_false_and_every_flag_can_be_repeated() {
    let mut grammar = cli::command();
    grammar.build();
    for flag in settings::flags(grammar.find_subcommand("build").unwrap()).iter().filter(|flag| flag.switch) {
        let line = format!("build x --{}=false --{}=true --{0}=false", flag.name, flag.name);
        assert!(try_parse(&line, &[]).is_ok(), "{line}");
    }
}

#[test]
fn the_command_lines_of_other_minimizers_are_understood() {
    let dir = dir(&[("Dockerfile", "FROM x"), ("paths", "/p\n"), ("probes.json", r#"{"commands":[{"resource":"/"}]}"#)]);
    let here = dir.path().display();
    for line in [
        "build --target my/app:1 --http-probe=false --continue-after=1".to_owned(),
        "--report off build --show-clogs --tag app:slim --tag app:2 --http-probe-ports 80,443 app".to_owned(),
        "--host tcp://h:1 build --pull --expose 80,443/tcp --publish-port 8080:80 --publish-port 127.0.0.1::81 app".to_owned(),
        "build --http-probe-cmd crawl:/ --http-probe-cmd POST:/x --http-probe-cmd https:GET:/y app".to_owned(),
        "build --http-probe-crawl=false --http-crawl-max-depth 2 --http-crawl-max-page-count 9 app".to_owned(),
        "build --http-probe-exit-on-failure=true --http-probe-apispec /a --image-overrides all --cmd 'a b' app".to_owned(),
        format!("build --http-probe-cmd-file {here}/probes.json --include-path-file {here}/paths app"),
        format!("build --include-bin-file {here}/paths --preserve-path-file {here}/paths --preserve-path /x app"),
        "build --include-path /a --include-path /b,/c --include-bin /bin/x --include-exe curl,wget app".to_owned(),
        "build --include-shell --include-cert-all=false --include-zoneinfo --include-new=false app".to_owned(),
        "build --exclude-pattern '/tmp/**' --entrypoint '[\"a\",\"b c\"]' --env A=1 --env B=2 --user 1000 app".to_owned(),
        "build --workdir /w --mount /src:/dst:ro --volume data:/v --network host --hostname h --link db:db app".to_owned(),
        "build --etc-hosts-map a:10.0.0.1 --container-dns 10.0.0.2 --cro-shm-size 1g --cro-runtime runsc app".to_owned(),
        format!("build --dockerfile Dockerfile --tag-fat app:fat --tag app:slim {here}"),
        format!("build --dockerfile {here}/Dockerfile --dockerfile-context {here} --cbo-build-arg A=1 --cbo-target s"),
        "build --new-entrypoint '[\"x\"]' --new-cmd 'a b' --new-expose 80 --new-env A=1 --new-label a=b app".to_owned(),
        "build --new-volume /v --new-workdir /w --remove-env A --remove-expose 80/tcp --remove-label a,b app".to_owned(),
        "build --remove-volume /v --copy-meta-artifacts meta --registry-account a --registry-secret b app".to_owned(),
        "build --exec 'ls /' --host-exec 'curl x' --http-probe-off app".to_owned(),
    ] {
        plan(&line);
    }
}

#[test]
fn the_report_may_be_named_before_the_command() {
    assert_eq!(plan("--report off build x").outputs.report, None);
    assert_eq!(plan("--report a.json build x --report=b.json").outputs.report, Some("b.json".into()));
}

#[test]
fn flags_that_do_not_exist_say_what_to_do_instead() {
    for (line, remedy) in [
        ("build x --compose-file c.yml", "docker compose up"),
        ("build --target-compose-svc web", "docker compose up"),
        ("build x --http-probe-start-wait 5", "--ready-timeout"),
        ("build x --path-perms a", "drop it"),
        ("--log-level debug build x", "--progress=plain"),
        ("build x y", "go after --"),
        ("build x --http-prob", "--http-probe"),
        ("build x --bogus", "slim build --help"),
        ("biuld x", "build"),
        ("", "slim build IMAGE"),
    ] {
        let text = try_parse(line, &[]).unwrap_err();
        assert!(text.contains(remedy) && !text.contains('\n'), "{line}: {text}");
    }
}

#[test]
fn help_and_version_are_shown() {
    for line in ["--help", "build --help", "build -h", "help build", "report --help", "--version", "-V"] {
        let text = try_parse(line, &[]).unwrap_err();
        assert!(text.starts_with("shown: "), "{line}: {text}");
    }
}

#[test]
fn what_is_wrong_is_said_in_one_line_with_its_flag() {
    let dir = dir(&[("empty", "\n# nothing\n"), ("rel", "/ok\r\nrelative\r\n"), ("env", "A=1\nB C=1\n")]);
    let here = dir.path().display().to_string();
    let table = [
        ("build", "no image is named"),
        ("build .", "--dockerfile ."),
        ("build a --target b", "two images"),
        ("build UPPER", "UPPER"),
        ("build x --settle soon", "--settle: \"soon\" is no time"),
        ("build x --shm-size big", "--shm-size: \"big\" is no size"),
        ("build x --http-probe-ports 0", "--http-probe-ports: \"0\" is no port"),
        ("build x --http-probe --http-probe-off", "contradicts --http-probe"),
        ("build x --http-probe-off --http-probe-cmd /", "--http-probe-cmd: contradicts"),
        ("build x --http-probe-cmd nopath", "no path"),
        ("build x --http-probe-cmd FETCH:/", "neither a method"),
        ("build x --http-probe-cmd wss:GET:/", "neither a method"),
        ("build x --http-probe-header nocolon", "--http-probe-header: a header is not"),
        ("build x --http-probe-header 'A: env:NOT_SET_HERE'", "NOT_SET_HERE is not set"),
        ("build x --exec 'a && b'", "--exec-sh"),
        ("build x --exec 'a \"b'", "quote"),
        ("build x --exec ''", "empty"),
        ("build x --probe rediss", "there is no recipe `rediss`; there are"),
        ("build x --continue-after never", "probe, exec, exit"),
        ("build x --continue-after timeout:x", "no time"),
        ("build x --continue-after exec", "no command"),
        ("build x --ready-log '('", "no regular expression"),
        ("build x --ready-timeout 0", "no time at all"),
        ("build x --include-path relative", "does not begin with /"),
        ("build x --include-path '/a[b'", "/a[b"),
        ("build x --include-exe /bin/x", "--include-bin"),
        ("build x --include-path-file /no/such", "cannot read /no/such"),
        (&*format!("build x --include-path-file {here}/rel"), "rel:2: \"relative\" does not begin"),
        (&*format!("build x --env-file {here}/env"), "env:2: \"B C\" is no name"),
        (&*format!("build x --exec-file {here}/empty"), "no command in"),
        (&*format!("build x --report {here}"), "is a directory"),
        ("build x -o /no/such/dir/x.tar", "there is no directory /no/such/dir"),
        ("build x -o sif:out", "there are docker-daemon:NAME"),
        ("build x -o docker-daemon:out", "--tag NAME"),
        ("build sif:x", "there are docker-daemon:NAME"),
        ("build x -o out.tar --compress zstd", "is not compressed"),
        ("build x -t sha256:abc", "image ID"),
        ("build x -t 'a b'", "--tag"),
        ("build x -t a@sha256:0000000000000000000000000000000000000000000000000000000000000000", "digest"),
        ("build x --tag-fat y", "give --dockerfile too"),
        ("build x --dockerfile .", "--tag-fat"),
        ("build --dockerfile /no/such", "--dockerfile"),
        ("build x --registry-account me", "no secret"),
        ("build x --registry-secret s", "--registry-account"),
        ("build x --registry-account a --registry-secret-stdin", "secret is empty"),
        ("build x --cmd a -- b", "after -- are the command too"),
        ("build x -e =1", "no name of a variable"),
        ("build x -v a:b:c:d", "too many colons"),
        ("build x -v a:b", "does not begin with /"),
        ("build x -v /a:/b:rx", "no option \"rx\""),
        ("build x --mount /a", "no target"),
        ("build x --mount type=bind,dst=/x", "no src"),
        ("build x --mount type=bind,sorce=/x,dst=/y", "no key \"sorce\""),
        ("build x -p 1:2:3:4", "no published port"),
        ("build x --expose 70000", "no port"),
        ("build x --ulimit nofile", "NAME=SOFT"),
        ("build x --add-host a", "NAME:ADDRESS"),
        ("build x --workdir rel", "does not begin with /"),
        ("build x --image-overrides all,nothing", "\"nothing\" is unknown"),
        ("build x --new-env A", "no value"),
        ("build x --repeat 0", "1..=100"),
        ("build x --sensor dtrace", "fanotify"),
        ("build x --report=off --report-full", "no report"),
        ("build docker-daemon:x --engine embedded", "docker-daemon:x is in a container engine, and --engine embedded is none; leave"),
        ("build containers-storage:x --engine embedded", "--engine embedded is none"),
        ("build x --jobs 2", "give --all too, or leave --jobs away"),
        ("build x --platform linux", "--platform: \"linux\" is no platform"),
        ("build x --platform linux/amd64,linux/386 -o oci:y", "--platform: several are images of an index, and the source is one image; name"),
        ("build docker-archive:x --platform linux/amd64,linux/386 -o oci:y", "the source is one image"),
        ("build oci:x --platform linux/amd64,linux/386", "nothing says where the index goes; say it with -o"),
        ("build oci:x --platform linux/amd64,linux/386 -o oci:y -o y.tar", "docker-archive:y.tar holds one image, not an index"),
        ("build oci:x --platform linux/amd64,linux/386 -o oci:y -t y", "leave --tag away"),
        ("build oci:x --platform linux/amd64,linux/amd64 -o oci:y", "linux/amd64 is named twice"),
    ];
    for (line, expected) in table {
        let text = wrong(line);
        assert!(text.contains(expected) && !text.contains('\n'), "{line}\n  gave: {text}\n  not: {expected}");
    }
}

#[test]
fn run_flags_become_what_docker_would_make_of_them() {
    let cwd = std::env::current_dir().unwrap();
    let plan = try_plan(
        "build x -e A=1 -e HERE -e GONE -v ./src:/a:ro -v vol:/b -v /c --mount src:/d --mount ./e:/e:ro \
         --mount type=bind,src=./f,dst=/f,readonly --shm-size 64m -m 1g --expose 80-81/udp -p 8080:80 \
         --security-opt no-new-privileges --entrypoint '' -- --flag 'two words'",
        &[("HERE", "h")],
    );
    let run = plan.unwrap().run;
    assert_eq!(run.env, ["A=1", "HERE=h"]);
    let at = |name: &str| cwd.join(name).display().to_string();
    assert_eq!(run.volumes, [format!("{}:/a:ro", at("src")), "vol:/b".into(), "/c".into(), "src:/d".into(), format!("{}:/e:ro", at("e"))]);
    assert_eq!(run.mounts, [format!("type=bind,src={},dst=/f,readonly", at("f"))]);
    let quoted = try_plan("build x --mount '\"src=/a,b:c\",type=bind,dst=/f,rw'", &[]).unwrap().run;
    assert_eq!(quoted.mounts, ["\"src=/a,b:c\",type=bind,dst=/f,rw"]);
    assert_eq!((run.shm_size, run.memory), (Some(64 << 20), Some(1 << 30)));
    assert_eq!(run.expose, ["80/udp", "81/udp"]);
    assert_eq!(run.entrypoint, Some(vec![]));
    assert_eq!(run.cmd.unwrap(), ["--flag", "two words"]);
}

#[test]
fn a_seccomp_profile_is_read_here() {
    let dir = dir(&[("p.json", "{\n \"defaultAction\": \"SCMP_ACT_ALLOW\" }"), ("bad.json", "{\n x")]);
    let at = dir.path().display();
    let run = plan(&format!("build x --security-opt seccomp={at}/p.json --security-opt seccomp=unconfined")).run;
    assert_eq!(run.security_opt, [r#"seccomp={"defaultAction":"SCMP_ACT_ALLOW"}"#, "seccomp=unconfined"]);
    assert!(wrong(&format!("build x --security-opt seccomp={at}/bad.json")).contains("bad.json:2:2"));
}

#[test]
fn probe_flags_become_a_request() {
    let plan = try_plan(
        "build x --http-probe-cmd crawl:/a?ids=1,2,POST:/b --http-probe-cmd http2:GET:/c:d --http-probe-header 'X-T: env:T' \
         --http-probe-ports 80,443,80 --exec 'convert /in.png \"/out 1.jpg\"' --continue-after timeout:1m30s --ready-log 'up$' \
         --ready-timeout 90 --probe redis,./probes.toml",
        &[("T", "secret")],
    );
    assert!(plan.unwrap_err().contains("./probes.toml"));
    let plan = try_plan(
        "build x --http-probe-cmd crawl:/a?ids=1,2,POST:/b --http-probe-cmd http2:GET:/c:d --http-probe-header 'X-T: env:T' \
         --http-probe-ports 80,443,80 --exec 'convert /in.png \"/out 1.jpg\"' --continue-after timeout:1m30s --ready-log 'up$' \
         --ready-timeout 90 --probe redis",
        &[("T", "secret")],
    );
    let request = plan.unwrap().probes;
    let shown: Vec<String> = request
        .http_commands
        .iter()
        .map(|c| format!("{} {} {:?} {} {}", c.request.method, c.request.path, c.request.tls, c.request.http2, c.crawl))
        .collect();
    assert_eq!(shown, ["GET /a?ids=1,2 None false true", "POST /b None false false", "GET /c:d Some(true) true false"]);
    assert_eq!(request.headers, [("X-T".to_owned(), "secret".to_owned())]);
    assert_eq!(request.http_ports, [80, 443]);
    assert_eq!(request.exec, [["convert", "/in.png", "/out 1.jpg"]]);
    assert_eq!(request.until, Some(Until::Timeout(Duration::from_secs(90))));
    assert_eq!(request.readiness, Some(Readiness::Log("up$".into())));
    assert_eq!(request.ready_timeout, Some(Duration::from_secs(90)));
    assert_eq!(request.recipes, [RecipeRef::Named("redis".into())]);
}

#[test]
fn continue_after_takes_every_usual_spelling() {
    for (text, until) in [
        ("probe", Until::Probes),
        ("exit", Until::Exit),
        ("signal", Until::Signal),
        ("enter", Until::Enter),
        ("timeout:10", Until::Timeout(Duration::from_secs(10))),
        ("15", Until::Timeout(Duration::from_secs(15))),
        ("500ms", Until::Timeout(Duration::from_millis(500))),
    ] {
        assert_eq!(plan(&format!("build x --continue-after {text}")).probes.until, Some(until), "{text}");
    }
}

#[test]
fn command_files_of_other_minimizers_are_read() {
    let dir = dir(&[
        ("body", "from a file"),
        (
            "probes.json",
            "\u{feff}{\r\n\"commands\": [\r\n{\"protocol\": \"http\", \"method\": \"post\", \"port\": 8000, \"resource\": \"/stuff\", \
             \"headers\": [\"Accept: x\", \"X: env:T\"], \"body\": \"text\", \"crawl\": false},\r\n\
             {\"resource\": \"/b\", \"body_file\": \"body\", \"username\": \"u\", \"password\": \"env:T\", \"status\": 201, \"contains\": \"ok\"}]}",
        ),
        ("list.json", r#"[{"path": "/only"}]"#),
    ]);
    let at = dir.path().display();
    let line = format!("build x --http-probe-cmd-file {at}/probes.json --http-probe-cmd-file {at}/list.json");
    let commands = try_plan(&line, &[("T", "t")]).unwrap().probes.http_commands;
    assert_eq!(commands.len(), 3);
    let (first, second) = (&commands[0].request, &commands[1].request);
    assert_eq!((first.method.as_str(), first.port, first.tls), ("POST", 8000, Some(false)));
    assert_eq!(first.headers, [("Accept".to_owned(), "x".to_owned()), ("X".to_owned(), "t".to_owned())]);
    assert_eq!(first.body.as_deref(), Some(&b"text"[..]));
    assert_eq!(second.body.as_deref(), Some(&b"from a file"[..]));
    assert_eq!(second.headers, [("Authorization".to_owned(), "Basic dTp0".to_owned())]);
    assert_eq!((commands[1].status, commands[1].contains.as_deref()), (Some(201), Some("ok")));
}

#[test]
fn a_command_file_that_is_wrong_is_named_with_line_and_column() {
    for (text, place, why) in [
        ("{\n  \"commands\": [\n    {\"resource\": \"x\"}\n]}", ":3:", "does not begin with /"),
        ("{\"commands\": [\n{\"resource\": \"/\", \"method\": \"FETCH\"}]}", ":2:", "not an HTTP method"),
        ("{\"commands\": [\n{\"resource\": \"/\", \"port\": 70000}]}", ":2:", "70000"),
        ("{\"commands\": [\n{\"resource\": \"/\", \"methd\": \"GET\"}]}", ":2:", "unknown field `methd`"),
        ("{\"commands\": [\n{\"resource\": \"/\", \"headers\": [\"nocolon\"]}]}", ":2:", "a header is not"),
        ("{\"comands\": []}", ":1:", "unknown field `comands`"),
        ("{\n\n", ":3:", "EOF"),
        ("[{\"resource\": \"/\", \"protocol\": \"gopher\"}]", ":1:", "gopher"),
    ] {
        let dir = dir(&[("p.json", text)]);
        let error = wrong(&format!("build x --http-probe-cmd-file {}/p.json", dir.path().display()));
        assert!(error.contains(&format!("p.json{place}")) && error.contains(why), "{text}\n  gave: {error}");
        assert!(!error.contains('\n'), "{error}");
    }
}

#[test]
fn list_files_may_come_from_any_editor() {
    let dir = dir(&[("l", "\u{feff}/a\r\n\r\n# no\r\n/b c\r\n"), ("e", "curl\r\n"), ("s", "a | b\r\n#c\r\nd\r\n"), ("sh", "#!/bin/sh\nx\n")]);
    let at = dir.path().display();
    let line = format!(
        "build x --include-path /z --include-path-file {at}/l --include-bin-file {at}/l --include-exe-file {at}/e \
         --exec-file {at}/s --exec-file {at}/sh"
    );
    let plan = plan(&line);
    assert_eq!(plan.policy.include_paths, ["/z", "/a", "/b c"]);
    assert_eq!(plan.policy.include_bins, ["/a", "/b c"]);
    assert_eq!(plan.policy.include_exes, ["curl"]);
    assert_eq!(plan.probes.exec_sh, ["a | b", "d", "#!/bin/sh\nx\n"]);
}

#[test]
fn overrides_carry_flags_of_the_run_into_the_image() {
    let run = "-e A=1 -u 1000 -w /w --entrypoint 'a b' --expose 80 -v data:/v -v /own -l k=v";
    let plan_none = plan(&format!("build x {run} -- c d"));
    assert_eq!(plan_none.edits, slim::plan::ConfigEdits::default());
    let edits = plan(&format!("build x {run} --image-overrides all --new-env B=2 --new-user 7 -- c d")).edits;
    assert_eq!(edits.entrypoint.unwrap(), ["a", "b"]);
    assert_eq!(edits.cmd.unwrap(), ["c", "d"]);
    assert_eq!(edits.env, ["A=1", "B=2"]);
    assert_eq!(edits.user.as_deref(), Some("7"));
    assert_eq!(edits.workdir.as_deref(), Some("/w"));
    assert_eq!((edits.expose, edits.volumes, edits.labels), (vec!["80".into()], vec!["/v".into(), "/own".into()], vec!["k=v".into()]));
    let edits = plan(&format!("build x {run} --image-overrides env,cmd -- c")).edits;
    assert_eq!((edits.entrypoint, edits.user, edits.env.len()), (None, None, 1));
}

#[test]
fn the_secret_is_read_from_stdin_only_when_asked() {
    let invocation = try_parse("build x --registry-account me --registry-secret-stdin", &[]).unwrap();
    let auth = plan_of(&invocation, &[], b"s3cret\r\n").unwrap().auth.unwrap();
    assert_eq!((auth.username.as_str(), auth.secret.as_str()), ("me", "s3cret"));
    assert!(!format!("{auth:?}").contains("s3cret"));
    struct Untouched;
    impl std::io::Read for Untouched {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            panic!("stdin was read")
        }
    }
    let invocation = try_parse("build x", &[]).unwrap();
    let Command::Build(build) = &invocation.command else { panic!() };
    let (vars, origins) = (Vars::new(), BTreeMap::new());
    let here = Here { vars: &vars, origins: &origins };
    BuildPlan::new(&invocation.common, build, here, &mut Untouched).unwrap();
}

#[test]
fn dockerfiles_are_named_by_directory_file_or_context() {
    let dir = dir(&[("Dockerfile", ""), ("other.df", "")]);
    std::fs::create_dir(dir.path().join("sub")).unwrap();
    std::fs::write(dir.path().join("sub/Dockerfile"), "").unwrap();
    let at = dir.path().display();
    for (flags, file) in [
        (format!("--dockerfile {at}"), "Dockerfile"),
        (format!("--dockerfile {at}/other.df"), "other.df"),
        (format!("--dockerfile other.df {at}"), "other.df"),
        (format!("--dockerfile sub/Dockerfile --dockerfile-context {at}"), "sub/Dockerfile"),
        (format!("--dockerfile {at}/sub --dockerfile-context {at}"), "sub/Dockerfile"),
    ] {
        let Source::Dockerfile(spec) = plan(&format!("build {flags} --tag-fat a:b --build-arg A=1")).source else { panic!() };
        assert_eq!((spec.context.as_path(), spec.dockerfile.as_str()), (dir.path(), file), "{flags}");
        assert_eq!((spec.tag.as_deref(), spec.args), (Some("a:b"), vec!["A=1".to_owned()]));
    }
    assert!(wrong(&format!("build --dockerfile /etc/passwd --dockerfile-context {at}")).contains("not inside"));
}

#[test]
fn variables_set_flags() {
    let env = &[
        ("SLIM_TARGET", "img"),
        ("SLIM_HTTP_PROBE", "0"),
        ("SLIM_INCLUDE_PATH", "/a\n/b,c"),
        ("SLIM_EXCLUDE_PATTERN", r#"["/x/{a,b}", "/y"]"#),
        ("SLIM_QUIET", "yes"),
        ("SLIM_TAG", ""),
        ("DSLIM_TARGET_TAG", "a:1,b:2"),
        ("DSLIM_RC_ENV", "A=1,B=2"),
        ("DSLIM_RC_EXE", "echo a,b"),
        ("DSLIM_PUBLISH_PORT", "80"),
    ];
    let invocation = try_parse("build", env).unwrap();
    assert_eq!(invocation.common.progress(), Progress::Quiet);
    assert!(invocation.warnings.is_empty(), "{:?}", invocation.warnings);
    let plan = plan_of(&invocation, env, b"").unwrap();
    assert_eq!(plan.source, Source::Image("img".into()));
    assert_eq!(plan.probes.http, Some(false));
    assert_eq!(plan.policy.include_paths, ["/a", "/b,c"]);
    assert_eq!(plan.policy.excludes, ["/x/{a,b}", "/y"]);
    assert_eq!(plan.outputs.tags, ["a:1", "b:2"]);
    assert_eq!(plan.run.env, ["A=1", "B=2"]);
    assert_eq!(plan.probes.exec, [["echo", "a,b"]]);
    assert_eq!(plan.run.publish, ["80"]);
}

#[test]
fn a_variable_that_is_wrong_is_named() {
    assert!(try_plan("build x", &[("SLIM_HTTP_PROBE", "maybe")]).unwrap_err().starts_with("SLIM_HTTP_PROBE: "));
    assert!(try_plan("build x", &[("SLIM_SETTLE", "soon")]).unwrap_err().starts_with("SLIM_SETTLE: --settle: "));
    let warnings = |env| try_parse("build x", env).unwrap().warnings;
    assert_eq!(warnings(&[("SLIM_TEST_X", "1"), ("SLIM_TARGET_HOST", "1")]), [""; 0]);
    assert!(warnings(&[("DSLIM_COMPOSE_FILE", "1")])[0].contains("docker compose"));
    assert!(warnings(&[("SLIM_HTTP_PROB", "1")])[0].contains("SLIM_HTTP_PROB has no effect"));
    assert_eq!(try_parse("probes", &[("SLIM_HTTP_PROBE", "1")]).unwrap().warnings, [""; 0]);
}

#[test]
fn the_nearest_word_decides() {
    let toml = "[build]\ntag = \"build:1\"\nsettle = \"1s\"\nrepeat = 5\nhttp-probe = true\ninclude-path = [\"/build\"]\n\
                [image.\"docker.io/library/img:latest\"]\ntag = [\"image:1\"]\nsettle = \"2s\"\nrepeat = 4\n[image.other]\nrepeat = 99\n";
    let env = &[("SLIM_SETTLE", "4s"), ("DSLIM_SETTLE", "3s"), ("DSLIM_REPEAT", "3")];
    let get = |line: &str, env: &[(&str, &str)]| {
        let plan = with_settings(toml, line, env).unwrap();
        (plan.outputs.tags.join(","), plan.settle.as_secs(), plan.repeat)
    };
    assert_eq!(get("build nobody", &[]), ("build:1".into(), 1, 5));
    assert_eq!(get("build img", &[]), ("image:1".into(), 2, 4));
    assert_eq!(get("build --target img", &[]), ("image:1".into(), 2, 4));
    assert_eq!(get("build", &[("SLIM_TARGET", "img")]), ("image:1".into(), 2, 4));
    assert_eq!(get("build img", env), ("image:1".into(), 4, 3));
    assert_eq!(get("build img --settle 5s -t cmd:1 --repeat 2", env), ("cmd:1".into(), 5, 2));
    let plan = with_settings(toml, "build img --include-path /typed --http-probe-off", &[]).unwrap();
    assert_eq!(plan.policy.include_paths, ["/typed"]);
    assert_eq!(plan.probes.http, Some(false));
    let plan = with_settings("[build]\ncmd = \"a\"\n", "build img -- --typed", &[]).unwrap();
    assert_eq!(plan.run.cmd.unwrap(), ["--typed"]);
}

#[test]
fn what_is_typed_beats_what_is_set_without_contradiction() {
    let web = "[build]\nhttp-probe-cmd = \"/set\"\nreport-full = true\ndockerfile = \"/set\"\ntag-fat = \"a:b\"\n";
    let plan = with_settings(web, "build img --http-probe-off --report off", &[]).unwrap();
    assert_eq!((plan.probes.http, plan.probes.http_commands.len(), plan.outputs.report), (Some(false), 0, None));
    assert_eq!(plan.source, Source::Image("img".into()));
    let plan = with_settings("[build]\nhttp-probe = false\n", "build img --http-probe-cmd /typed", &[]).unwrap();
    assert_eq!((plan.probes.http, plan.probes.http_commands.len()), (None, 1));
    let both = with_settings("[build]\nhttp-probe = false\nhttp-probe-cmd = \"/\"\n", "build img", &[]);
    assert!(both.unwrap_err().starts_with("slim.toml:3:1: --http-probe-cmd: contradicts"));
    // A flag whose value may be `--` does not hide where the arguments begin.
    let plan = with_settings("[build]\nrepeat = 3\n", "build img --entrypoint -- -- --arg", &[]).unwrap();
    assert_eq!((plan.repeat, plan.run.cmd.unwrap(), plan.run.entrypoint.unwrap()), (3, vec!["--arg".to_owned()], vec!["--".to_owned()]));
}

#[test]
fn the_engine_of_the_settings_file_serves_why_too() {
    let dir = dir(&[("s.toml", "[build]\nhost = \"tcp://h:1\"\nrepeat = 2\n")]);
    let config = format!("--config={}", dir.path().join("s.toml").display());
    let invocation = cli::parse(["slim", &config, "why", "img", "/x"].map(OsString::from), &Vars::new()).unwrap();
    assert_eq!(invocation.common.engine().host.as_deref(), Some("tcp://h:1"));
}

#[test]
fn settings_have_the_forms_of_toml() {
    let toml = "[build]\ntarget = \"img\"\nenv = { A = \"1\", B = 2 }\nexec = [[\"a b\", \"c\"], \"d e\"]\nentrypoint = [\"x\", \"y z\"]\n\
                http_probe_header = { X-A = \"b\" }\nhttp-probe-ports = [80, 443]\nread-only = true\nno-verify = false\n\
                pull = true\nreport = \"off\"\nquiet = true\n[image.img]\nnew-label = { a = \"b\" }\n";
    let plan = with_settings(toml, "build", &[]).unwrap();
    assert_eq!(plan.run.env, ["A=1", "B=2"]);
    assert_eq!(plan.probes.exec, [vec!["a b", "c"], vec!["d", "e"]]);
    assert_eq!(plan.run.entrypoint.unwrap(), ["x", "y z"]);
    assert_eq!(plan.probes.headers, [("X-A".to_owned(), "b".to_owned())]);
    assert_eq!(plan.probes.http_ports, [80, 443]);
    assert_eq!((plan.run.read_only, plan.verify, plan.pull, plan.outputs.report), (true, true, Pull::Missing, None));
    assert_eq!(plan.edits.labels, ["a=b"]);
}

#[test]
fn a_settings_file_that_is_wrong_is_named_with_line_and_column() {
    for (toml, expected) in [
        ("[build]\nhttp-probe = \n", "slim.toml:2:14: not TOML"),
        ("\n[bild]\n", "slim.toml:2:2: there is no section `bild`; allowed are [build] and [image.\"NAME\"]"),
        ("http-probe = true\n", "slim.toml:1:1: there is no section `http-probe`"),
        ("[build]\nhttp-prob = true\n", "slim.toml:2:1: there is no setting `http-prob`; did you mean `http-probe`?"),
        ("[build]\n  zzzzzzzzz = 1\n", "slim.toml:2:3: there is no setting `zzzzzzzzz`; allowed are the flags"),
        ("[build]\ncompose-file = 1\n", "docker compose up"),
        ("[build]\nsettle = [1]\n", "slim.toml:2:10: `settle` needs texts in its array"),
        ("[build]\nhttp-probe = [true]\n", "slim.toml:2:14: `http-probe` takes true or false"),
        ("[build]\nhttp-probe = \"maybe\"\n", "slim.toml:2:1: "),
        ("[build]\ninclude-path = { a = 1 }\n", "slim.toml:2:16: `include-path` is a list of texts"),
        ("[build]\ninclude-path = [\"rel\"]\n", "slim.toml:2:1: --include-path: \"rel\" does not begin with /"),
        ("[build]\nrepeat = 1000\n", "slim.toml:2:1: "),
        ("[build]\nconfig = \"x\"\n", "slim.toml:2:1: there is no setting `config`"),
        // A byte order mark is no column, and half of one is no place to cut a text.
        ("\u{feff}\n[bild]\n", "slim.toml:2:2: there is no section `bild`"),
        ("\u{feff}bild = 1\n", "slim.toml:1:1: there is no section `bild`"),
        ("\u{feff}[build]\nhttp-probe = \n", "slim.toml:2:14: not TOML"),
        ("[image.x]\nnope = 1\n", "slim.toml:2:1: there is no setting `nope`"),
        ("[image]\nx = 1\n", "slim.toml:2:1: write [image.\"NAME\"]"),
    ] {
        let error = with_settings(toml, "build img", &[]).unwrap_err();
        assert!(error.contains(expected) && !error.contains('\n'), "{toml}\n  gave: {error}\n  not: {expected}");
    }
    let missing = cli::parse(["slim", "--config=/no/such", "build", "x"].map(OsString::from), &Vars::new());
    assert!(text_of(missing.unwrap_err()).contains("/no/such"));
}

#[test]
fn every_flag_is_helped_has_a_variable_and_a_key() {
    let mut grammar = cli::command();
    grammar.build();
    let build = grammar.find_subcommand_mut("build").unwrap();
    let help = build.render_long_help().to_string();
    let flags = settings::flags(build);
    assert!(flags.len() > 90, "only {}", flags.len());
    for arg in build.get_arguments().filter(|arg| !["help", "version"].contains(&arg.get_id().as_str())) {
        let id = arg.get_id();
        assert!(arg.get_help().is_some_and(|text| !text.to_string().contains('\n')), "{id} has no line of help");
        assert!(arg.get_help_heading().is_some(), "{id} is in no group");
        assert!(!arg.is_hide_set(), "{id} is hidden");
    }
    for flag in &flags {
        assert!(help.contains(&format!("--{}", flag.name)), "--{} is not in the help", flag.name);
        let variable = format!("SLIM_{}", flag.name.to_uppercase().replace('-', "_"));
        assert_eq!(flag.vars[0], variable);
        assert!(flag.vars.contains(&format!("D{variable}")), "{variable}");
        if flag.name == "config" {
            continue;
        }
        // A value that no text flag refuses: by variable and by key it arrives as a word of the grammar.
        let value = match (flag.switch, flag.name.as_str()) {
            (true, _) => "true",
            (_, "pull") => "always",
            (_, "progress") => "plain",
            (_, "sensor") => "split",
            (_, "keep") => "app",
            (_, "pid1") => "never",
            (_, "compress") => "zstd",
            (_, "engine") => "docker",
            (_, "package-metadata") => "full",
            _ => "1",
        };
        let origins = |result: Result<Invocation, String>| result.unwrap_or_else(|error| panic!("{}: {error}", flag.name)).origins;
        let by_var = origins(try_parse("build", &[(&variable, value)]));
        assert_eq!(by_var.get(&flag.name), Some(&variable));
        let dir = dir(&[("s.toml", &format!("[build]\n{} = \"{value}\"\n", flag.name))]);
        let config = format!("--config={}", dir.path().join("s.toml").display());
        let parsed = cli::parse(["slim", &config, "build"].map(OsString::from), &Vars::new()).map_err(text_of);
        assert!(origins(parsed)[&flag.name].ends_with("s.toml:2:1"));
    }
}

#[test]
fn no_two_flags_share_a_variable() {
    let mut grammar = cli::command();
    grammar.build();
    let flags = settings::flags(grammar.find_subcommand("build").unwrap());
    let mut owners: BTreeMap<&str, &str> = BTreeMap::new();
    for flag in &flags {
        for variable in &flag.vars {
            assert_eq!(owners.insert(variable, &flag.name), None, "{variable}");
        }
    }
}

#[test]
fn the_table_of_flags_is_up_to_date() {
    let path = PathBuf::from("docs/flags.md");
    let table = manual::table();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &table).unwrap();
    }
    let stored = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(stored == table, "docs/flags.md is old; UPDATE_GOLDEN=1 cargo test --test cli writes it anew");
}

#[test]
fn completions_and_manual_pages_are_generated() {
    use clap::ValueEnum as _;
    for shell in clap_complete::Shell::value_variants() {
        let script = String::from_utf8(manual::completions(*shell)).unwrap();
        assert!(script.contains("http-probe-cmd") && !script.contains("replay DIR"), "{shell}");
    }
    let pages = manual::pages().unwrap();
    let names: Vec<&str> = pages.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names[..2], ["slim.1", "slim-build.1"]);
    assert!(names.contains(&"slim-report-show.1") && !names.contains(&"slim-replay.1"), "{names:?}");
    let build = String::from_utf8(pages[1].1.clone()).unwrap();
    assert!(build.contains("http\\-probe\\-cmd"), "{build}");
}

/// Runs the program in a directory: (exit status, stdout, stderr).
fn run(dir: &Path, line: &str, env: &[(&str, &str)]) -> (i32, String, String) {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_slim"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("SLIM_") || name.starts_with("DSLIM_")) {
        command.env_remove(name);
    }
    command.args(shell_words::split(line).unwrap()).envs(env.iter().copied()).current_dir(dir);
    let output = command.stdin(std::process::Stdio::null()).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn usage_errors_exit_with_2_and_say_nothing_on_stdout() {
    let dir = dir(&[]);
    for line in ["", "nonsense", "build", "build .", "build UPPER", "build x --settle soon", "build x --bogus", "why", "completions"] {
        let (status, stdout, stderr) = run(dir.path(), line, &[]);
        assert_eq!((status, stdout.as_str()), (2, ""), "{line}: {stderr}");
        assert!(stderr.starts_with("slim: ") && stderr.lines().count() <= 2, "{line}: {stderr}");
    }
}

#[test]
fn what_to_read_about_a_wrong_command_line_is_the_help_of_its_command() {
    let dir = dir(&[]);
    for (line, hint) in [
        ("trace a", "hint: see `slim trace --help`"),
        ("verify a", "hint: see `slim verify --help`"),
        ("build a --bogus", "hint: see `slim build --help`"),
        ("why", "hint: see `slim why --help`"),
        ("report show --nope", "hint: see `slim report show --help`"),
        ("--nope", "hint: see `slim --help`"),
    ] {
        let (_, _, stderr) = run(dir.path(), line, &[]);
        assert_eq!(stderr.lines().nth(1), Some(hint), "{line}: {stderr}");
    }
    let (status, _, stderr) = run(dir.path(), "why nosuch:1 /x", &[]);
    assert!(status == 1 && stderr.contains("\nhint: give the report file that the build of nosuch:1 wrote (--report)"), "{stderr}");
}

#[test]
fn the_help_begins_with_the_image_and_has_its_flags_in_groups() {
    let (_, help, _) = run(dir(&[]).path(), "build --help", &[]);
    let groups: Vec<&str> = help.lines().filter(|line| line.ends_with(':') && !line.starts_with(' ')).collect();
    let expected = [
        "Options:", "Arguments:", "Image:", "Batch:", "Results:", "Probes:", "Files:", "Run:", "Recording:",
        "Config of the slim image:", "Output:", "Engine:", "Examples:",
    ];
    assert_eq!(groups, expected);
    let arguments = help.split("Arguments:").nth(1).unwrap();
    let arguments: Vec<&str> = arguments.split("Image:").next().unwrap().lines().map(str::trim).filter(|line| line.starts_with('[')).collect();
    assert_eq!(arguments, ["[IMAGE]", "[ARGS]..."]);
}

#[test]
fn help_completions_and_manual_are_data() {
    let dir = dir(&[]);
    for line in ["--help", "build --help", "--version", "completions bash", "man"] {
        let (status, stdout, stderr) = run(dir.path(), line, &[]);
        assert_eq!((status, stderr.as_str()), (0, ""), "{line}");
        assert!(!stdout.is_empty() && !stdout.contains('\u{1b}'), "{line}");
    }
    assert_eq!(run(dir.path(), "man --dir pages", &[]).0, 0);
    assert!(dir.path().join("pages/slim-build.1").is_file());
}

#[test]
fn the_settings_file_of_the_current_directory_is_found() {
    let dir = dir(&[("slim.toml", "[build]\nnope = 1\n"), ("other.toml", "[build]\nsettle = \"soon\"\n")]);
    let error = |line: &str, env: &[(&str, &str)]| run(dir.path(), line, env).2;
    assert!(error("build x", &[]).contains("slim.toml:2:1: there is no setting `nope`"));
    assert!(error("build x --config other.toml", &[]).contains("other.toml:2:1: --settle"));
    assert!(error("build x", &[("SLIM_CONFIG", "other.toml")]).contains("other.toml:2:1: --settle"));
    assert!(error("build --config off", &[]).contains("no image is named"));
    assert_eq!(run(dir.path(), "probes", &[]).0, 0);
}
