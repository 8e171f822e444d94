//! Probes put to real servers on this machine: readiness, HTTP, crawls, conversations, commands, replays.

#![allow(clippy::unwrap_used)] // helpers of tests too

mod choose;
mod recipes;
mod servers;

use std::time::{Duration, Instant};

use servers::{Collect, Local, Speaks, page, redirect, reply, serve, streamed};
use slim::engine::{Health, RunOptions};
use slim::image::config::ImageConfig;
use slim::probe::{
    self, Action, Content, Expect, HttpRequest, Outcome, Ports, Probe, ProbePlan, ProbeRequest, Readiness, Ready,
    Recording, Speech, TcpStep, Until, Verdict,
};
use slim::progress::Void;

fn plan(readiness: Readiness, probes: Vec<Probe>) -> ProbePlan {
    ProbePlan {
        readiness,
        ready_timeout: Duration::from_secs(20),
        probes,
        until: Until::Probes,
        exit_on_failure: false,
        optional_ports: Vec::new(),
        notes: Vec::new(),
        warnings: Vec::new(),
    }
}

fn probe(action: Action) -> Probe {
    let timeout = Duration::from_secs(10);
    Probe { name: action.title(), action, stated: true, expect: Expect::default(), timeout }
}

fn discovered(action: Action) -> Probe {
    Probe { stated: false, ..probe(action) }
}

fn crawl(max_depth: u32, max_pages: u32, exclude: &[&str]) -> Action {
    let exclude = exclude.iter().map(|glob| (*glob).to_owned()).collect();
    Action::Crawl { start: HttpRequest::get(80, "/"), max_depth, max_pages, exclude }
}

fn get(path: &str) -> Action {
    Action::Http(HttpRequest::get(80, path))
}

async fn run(plan: &ProbePlan, target: &Local) -> Recording {
    probe::run(plan, &Ports::new(), target, &Void).await.unwrap()
}

async fn run_one(probe: Probe, target: &Local) -> Recording {
    run(&plan(Readiness::Started, vec![probe]), target).await
}

fn names(recording: &Recording) -> Vec<&str> {
    recording.answers.iter().map(|answer| answer.request.name.as_str()).collect()
}

fn status(recording: &Recording) -> u16 {
    match recording.answers[0].content {
        Content::Http { status, .. } => status,
        ref other => panic!("no status in {other:?}"),
    }
}

fn why(recording: &Recording) -> &str {
    match &recording.answers[0].outcome {
        Outcome::Failed(why) => why,
        Outcome::Passed => "",
    }
}

fn site(path: &str) -> servers::Reply {
    match path {
        "/" => page(
            "<link rel=stylesheet href=/style.css><a href=/about.html>a</a><a href='docs/?page=1#x'>d</a><a href=/logout>out</a>
             <img srcset='/small.png 1x, /big.png 2x'><a href=http://elsewhere.invalid/>e</a><a href=/private/x>p</a><a href=/old>o</a>",
        ),
        "/style.css" => reply(200, "text/css", "@import 'more.css'; body { background: url(bg.png) }"),
        "/more.css" => reply(200, "text/css", "a { b: url(font.woff2) }"),
        "/about.html" => page("<a href=/>home</a><a href=/deep.html>deep</a><a href=/user/delete?id=1>del</a>"),
        "/deep.html" => page("<a href=/deeper.html>deeper</a><img src=deep.png>"),
        "/old" => redirect("/new"),
        "/new" | "/docs/?page=1" | "/deeper.html" => page("end"),
        _ => reply(404, "text/plain", "no such file"),
    }
}

#[tokio::test]
async fn a_crawl_asks_for_exactly_these_pages_in_this_order() {
    let (port, asked) = serve(Speaks::Http1, |request| site(request.uri().path_and_query().unwrap().as_str())).await;
    let target = Local::new(&[(80, port)]);
    let monitor = Collect::default();
    let plan = plan(Readiness::Ports(vec![80]), vec![discovered(crawl(2, 100, &["/private/**"]))]);
    let Ready::Yes(ports) = probe::ready(&plan, &target, &monitor).await.unwrap() else { panic!("not ready") };
    assert_eq!(ports, Ports::from([(80, Speech::Http)]));
    let recording = probe::run(&plan, &ports, &target, &monitor).await.unwrap();
    let expected = [
        "GET /",
        "GET /style.css",
        "GET /about.html",
        "GET /docs/?page=1",
        "GET /small.png",
        "GET /big.png",
        "GET /old",
        "GET /more.css",
        "GET /bg.png",
        "GET /deep.html",
        "GET /new",
        "GET /font.woff2",
        "GET /deep.png",
    ];
    assert_eq!(names(&recording), expected);
    assert_eq!(asked.lock().unwrap()[1..], expected, "after the one request of readiness");
    assert_eq!(target.marks.lock().unwrap()[1..], expected);
    assert_eq!(recording.verdict(), Verdict::Passed);
    assert_eq!(monitor.warnings().len(), 1, "one line about all pages that answer 404");
}

#[tokio::test]
async fn a_crawl_stops_at_its_limits_and_says_so() {
    let (port, asked) = serve(Speaks::Http1, |request| {
        let n: u32 = request.uri().path()[1..].parse().unwrap_or(0);
        page(&format!("<a href=/{}>next</a>", n + 1))
    })
    .await;
    let target = Local::new(&[(80, port)]);
    let monitor = Collect::default();
    let shallow = plan(Readiness::Started, vec![discovered(crawl(3, 100, &[]))]);
    let recording = probe::run(&shallow, &Ports::from([(80, Speech::Http)]), &target, &monitor).await.unwrap();
    assert_eq!(names(&recording), ["GET /", "GET /1", "GET /2", "GET /3"]);
    let short = plan(Readiness::Started, vec![discovered(crawl(100, 2, &[]))]);
    probe::run(&short, &Ports::from([(80, Speech::Http)]), &target, &monitor).await.unwrap();
    assert_eq!(asked.lock().unwrap().len(), 6);
    assert!(monitor.warnings()[0].contains("--http-crawl-max-page-count"), "{:?}", monitor.warnings());
}

#[tokio::test]
async fn a_self_signed_https_port_is_found_out_without_being_told() {
    let (port, _) = serve(Speaks::Https, |request| page(&format!("{:?}", request.version()))).await;
    let target = Local::new(&[(8080, port)]);
    let action = Action::Http(HttpRequest::get(8080, "/"));
    let plan = plan(Readiness::Ports(vec![8080]), vec![probe(action)]);
    let ready = probe::ready(&plan, &target, &Void).await.unwrap();
    assert_eq!(ready, Ready::Yes(Ports::from([(8080, Speech::Https)])));
    let Ready::Yes(ports) = ready else { unreachable!() };
    let recording = probe::run(&plan, &ports, &target, &Void).await.unwrap();
    assert_eq!((status(&recording), recording.verdict()), (200, Verdict::Passed));
    let again = probe::replay(&recording.requests(), &target, &Void).await.unwrap();
    assert_eq!(again[0].content, recording.answers[0].content);
}

#[tokio::test]
async fn a_server_that_answers_to_its_name_only_is_asked_for_it() {
    let (port, _) = serve(Speaks::HttpsFor("shop.test"), |_| page("the shop")).await;
    let target = Local::new(&[(8080, port)]);
    let mut ask = HttpRequest::get(8080, "/");
    ask.host = Some("shop.test:8080".into());
    let plan = plan(Readiness::Ports(vec![8080]), vec![probe(Action::Http(ask))]);
    let ready = probe::ready(&plan, &target, &Void).await.unwrap();
    let Ready::Yes(ports) = ready else { panic!("{ready:?}") };
    assert_eq!(ports[&8080], Speech::Https);
    let recording = probe::run(&plan, &ports, &target, &Void).await.unwrap();
    assert_eq!((recording.verdict(), status(&recording)), (Verdict::Passed, 200));
}

#[tokio::test]
async fn http2_is_spoken_over_tls_and_in_clear() {
    for (speaks, tls, speech) in [
        (Speaks::Https, Some(true), Speech::Https),
        (Speaks::HttpsOnlyHttp2, None, Speech::Https2),
        (Speaks::Http2, None, Speech::Http2),
    ] {
        let (port, _) = serve(speaks, |request| page(&format!("{:?} {}", request.version(), request.uri()))).await;
        let target = Local::new(&[(9000, port)]);
        let action = Action::Http(HttpRequest { tls, http2: speech == Speech::Https, ..HttpRequest::get(9000, "/x") });
        let plan = plan(Readiness::Ports(vec![9000]), vec![probe(action)]);
        let ready = probe::ready(&plan, &target, &Void).await.unwrap();
        assert_eq!(ready, Ready::Yes(Ports::from([(9000, speech)])));
        let recording = run(&plan, &target).await;
        let Content::Http { body, .. } = &recording.answers[0].content else { panic!("{recording:?}") };
        assert_eq!(body.contains("HTTP/2.0"), Some(true));
        assert_eq!(body.contains("://localhost:9000/x"), Some(true));
    }
}

#[tokio::test]
async fn a_port_that_opens_late_is_waited_for() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(400)).await;
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        servers::serve_on(listener, Speaks::Http1, |_| page("up"));
    });
    let target = Local::new(&[(80, port)]);
    let began = Instant::now();
    let ready = probe::ready(&plan(Readiness::Ports(vec![80]), vec![probe(get("/"))]), &target, &Void).await.unwrap();
    assert_eq!(ready, Ready::Yes(Ports::from([(80, Speech::Http)])));
    assert!((Duration::from_millis(300)..Duration::from_secs(3)).contains(&began.elapsed()), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_target_that_ends_while_it_is_waited_for_is_noticed_at_once() {
    let target = Local::new(&[]);
    let plan = plan(Readiness::Ports(vec![80]), vec![probe(get("/"))]);
    let (ready, ()) = tokio::join!(probe::ready(&plan, &target, &Void), async { target.end(3) });
    let Ready::Exited { status, why } = ready.unwrap() else { panic!("not noticed") };
    assert_eq!(status, 3);
    assert_eq!(why, "the target ended with exit status 3 while an answer on port 80 was waited for");
}

#[tokio::test]
async fn a_port_that_never_opens_times_out_with_a_reason() {
    let mut target = Local::new(&[]);
    let mut plan = plan(Readiness::Ports(vec![80]), vec![probe(get("/"))]);
    plan.ready_timeout = Duration::from_millis(300);
    for (sockets, hint) in [
        (None, "port 80: connection refused"),
        (Some(vec![]), "it listens on no tcp port"),
        (Some(vec!["127.0.0.1:80".parse().unwrap()]), "it listens on 127.0.0.1:80 only"),
        (Some(vec!["0.0.0.0:5000".parse().unwrap()]), "give --http-probe-ports 5000"),
    ] {
        target.listeners = sockets;
        let Ready::TimedOut { why } = probe::ready(&plan, &target, &Void).await.unwrap() else { panic!("ready") };
        assert!(why.starts_with("an answer on port 80 did not come within 0.3 s") && why.contains(hint), "{why}");
    }
}

#[tokio::test]
async fn exposed_ports_that_nobody_serves_are_left_out_with_a_warning() {
    let (port, _) = serve(Speaks::Http1, |_| page("here")).await;
    let mute = servers::lines(|_| Some("HELLO nice to meet you\r\n".to_owned())).await;
    let target = Local::new(&[(80, port), (9000, mute)]);
    let monitor = Collect::default();
    let actions = [80, 443, 9000].map(|port| discovered(Action::Http(HttpRequest::get(port, "/"))));
    let mut plan = plan(Readiness::Ports(vec![80, 443, 9000]), actions.to_vec());
    plan.optional_ports = vec![80, 443, 9000];
    let Ready::Yes(ports) = probe::ready(&plan, &target, &monitor).await.unwrap() else { panic!("not ready") };
    assert_eq!(ports, Ports::from([(80, Speech::Http), (9000, Speech::Other)]));
    assert_eq!(monitor.warnings().len(), 2, "{:?}", monitor.warnings());
    let recording = probe::run(&plan, &ports, &target, &monitor).await.unwrap();
    assert_eq!(names(&recording), ["GET :80/"]);
}

#[tokio::test]
async fn health_and_log_lines_make_ready() {
    let target = Local::new(&[]);
    *target.health.lock().unwrap() = Some(Health::Starting);
    let healthy = plan(Readiness::Health, vec![]);
    let (ready, ()) = tokio::join!(probe::ready(&healthy, &target, &Void), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        *target.health.lock().unwrap() = Some(Health::Healthy);
    });
    assert_eq!(ready.unwrap(), Ready::Yes(Ports::new()));
    let logged = plan(Readiness::Log("^ready in \\d+ ms$".to_owned()), vec![]);
    let (ready, ()) = tokio::join!(probe::ready(&logged, &target, &Void), async {
        target.log.lock().unwrap().extend_from_slice(b"starting\nready in 12 ms\n");
    });
    assert_eq!(ready.unwrap(), Ready::Yes(Ports::new()));
}

#[tokio::test]
async fn stated_probes_must_meet_what_they_state() {
    let (port, _) = serve(Speaks::Http1, |request| match request.uri().path() {
        "/" => page("Welcome"),
        "/moved" => redirect("/"),
        _ => reply(404, "text/plain", "gone"),
    })
    .await;
    let target = Local::new(&[(80, port)]);
    let expecting = |path: &str, status: Option<i32>, contains: Option<&str>| Probe {
        expect: Expect { status, contains: contains.map(str::to_owned) },
        ..probe(get(path))
    };
    for (probe, failure) in [
        (expecting("/", None, None), ""),
        (expecting("/", None, Some("Welcome")), ""),
        (expecting("/", None, Some("Goodbye")), "the answer does not contain `Goodbye`"),
        (expecting("/moved", None, None), ""),
        (expecting("/no", None, None), "status 404, expected 2xx or 3xx"),
        (expecting("/no", Some(404), Some("gone")), ""),
        (expecting("/", Some(201), None), "status 200, expected 201"),
    ] {
        let recording = run_one(probe, &target).await;
        assert_eq!(why(&recording), failure);
        let passed = recording.verdict() == Verdict::Passed;
        assert_eq!(passed, failure.is_empty(), "{:?}", recording.verdict());
    }
}

#[tokio::test]
async fn only_discovered_errors_are_nothing_to_go_by() {
    let (port, _) = serve(Speaks::Http1, |_| reply(500, "text/plain", "no database")).await;
    let recording = run_one(discovered(get("/")), &Local::new(&[(80, port)])).await;
    assert_eq!(recording.verdict(), Verdict::Nothing("nothing succeeded (GET /: 500 text/plain 11 B)".to_owned()));
}

#[tokio::test]
async fn a_redirect_is_the_answer_of_a_plain_probe() {
    let (port, asked) = serve(Speaks::Http1, |_| redirect("/elsewhere")).await;
    let recording = run_one(probe(get("/")), &Local::new(&[(80, port)])).await;
    assert_eq!(status(&recording), 302);
    assert_eq!(asked.lock().unwrap().iter().filter(|asked| asked.contains("elsewhere")).count(), 0);
}

#[tokio::test]
async fn headers_body_host_and_method_reach_the_server() {
    let (port, asked) = serve(Speaks::Http1, |request| {
        let header = |name: &str| request.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
        page(&format!("{:?} {:?} {:?}", header("host"), header("x-a"), header("content-length")))
    })
    .await;
    let mut ask =
        HttpRequest { method: "POST".into(), body: Some(b"12345".to_vec()), ..HttpRequest::get(80, "/p?q=a b") };
    ask.headers = vec![("X-A".into(), "b".into())];
    ask.host = Some("shop.example".into());
    let recording = run_one(probe(Action::Http(ask)), &Local::new(&[(80, port)])).await;
    let Content::Http { body, .. } = &recording.answers[0].content else { panic!("{recording:?}") };
    let text = String::from_utf8_lossy(body.bytes.as_deref().unwrap()).into_owned();
    assert_eq!(text, r#"Some("shop.example") Some("b") Some("5")"#);
    assert_eq!(asked.lock().unwrap().last().unwrap(), "POST /p?q=a%20b");
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_huge_body_is_hashed_and_not_held() {
    const LENGTH: usize = 100 << 20;
    let (port, _) = serve(Speaks::Http1, |_| streamed(LENGTH)).await;
    let target = Local::new(&[(80, port)]);
    let before = resident_kib();
    let mut huge = probe(get("/"));
    huge.timeout = Duration::from_secs(60);
    let recording = run_one(huge, &target).await;
    let Content::Http { body, .. } = &recording.answers[0].content else { panic!("{recording:?}") };
    assert_eq!((body.length, body.bytes.as_ref()), (LENGTH as u64, None));
    let grown = resident_kib().saturating_sub(before);
    assert!(grown < 30 << 10, "grew by {grown} KiB");
}

#[tokio::test]
async fn a_server_that_does_not_answer_times_out() {
    let silent = servers::lines(|_| Some(String::new())).await;
    let mut slow = probe(get("/"));
    slow.timeout = Duration::from_millis(200);
    let target = Local::new(&[(80, silent)]);
    let recording =
        probe::run(&plan(Readiness::Started, vec![slow]), &Ports::from([(80, Speech::Http)]), &target, &Void)
            .await
            .unwrap();
    assert_eq!(why(&recording), "timed out after 0.2 s");
}

#[tokio::test]
async fn a_redis_conversation_follows_its_recipe() {
    let port = servers::lines(|line| match line {
        "PING" => Some("+PONG\r\n".into()),
        "SET" | "DEL" | "EVAL" | "GET" => Some(String::new()),
        "42" => Some("+OK\r\n".into()),
        "slim-probe" => Some(String::new()),
        "QUIT" => None,
        _ => Some(String::new()),
    })
    .await;
    let config =
        ImageConfig::parse(br#"{"config":{"ExposedPorts":{"6379/tcp":{}},"Entrypoint":["redis-server"]}}"#).unwrap();
    let mut chosen = probe::choose(&config, &RunOptions::default(), &ProbeRequest::default()).unwrap();
    assert_eq!(chosen.notes, ["probe redis: it runs redis-server and exposes port 6379"]);
    chosen.probes.retain(|probe| probe.name == "redis ping" || probe.name == "redis quit");
    let target = Local::new(&[(6379, port)]);
    assert!(matches!(probe::ready(&chosen, &target, &Void).await.unwrap(), Ready::Yes(_)));
    let recording = run(&chosen, &target).await;
    assert_eq!(recording.verdict(), Verdict::Passed);
    let Content::Bytes { received } = &recording.answers[0].content else { panic!("{recording:?}") };
    assert_eq!(received.bytes.as_deref(), Some(&b"+PONG\r\n"[..]));
}

#[tokio::test]
async fn a_database_that_says_it_is_starting_is_waited_for() {
    let starting = b"E\0\0\0\x20SFATAL\0C57P03\0Mstarting up\0\0".to_vec();
    let ready = b"R\0\0\0\x17\0\0\0\x0aSCRAM-SHA-256\0\0".to_vec();
    let port = servers::greets(vec![starting.clone(), starting, ready], 41).await;
    let config = ImageConfig::parse(br#"{"config":{"ExposedPorts":{"5432/tcp":{}}}}"#).unwrap();
    let mut chosen = probe::choose(&config, &RunOptions::default(), &ProbeRequest::default()).unwrap();
    chosen.probes.truncate(1);
    let target = Local::new(&[(5432, port)]);
    assert!(matches!(probe::ready(&chosen, &target, &Void).await.unwrap(), Ready::Yes(_)));
    assert_eq!(run(&chosen, &target).await.verdict(), Verdict::Passed);
}

#[tokio::test]
async fn a_conversation_that_goes_wrong_says_at_which_step() {
    let port = servers::lines(|_| Some("-ERR what?\r\n".into())).await;
    let steps = vec![TcpStep::Send(b"HELLO\r\n".to_vec()), TcpStep::Expect("^\\+OK".to_owned())];
    let mut failing = probe(Action::Tcp { port: 7, steps });
    failing.timeout = Duration::from_millis(300);
    assert_eq!(why(&run_one(failing, &Local::new(&[(7, port)])).await), "timed out after 0.3 s");
    let hangs_up = servers::lines(|_| None).await;
    let steps = vec![TcpStep::Send(b"HELLO\r\n".to_vec()), TcpStep::Expect("OK".to_owned())];
    let recording = run_one(probe(Action::Tcp { port: 7, steps }), &Local::new(&[(7, hangs_up)])).await;
    assert_eq!(why(&recording), "step 2: closed before anything matched `OK` (0 bytes came)");
}

#[tokio::test]
async fn commands_on_this_machine_get_the_targets_address() {
    let script = "echo $SLIM_TARGET_HOST $SLIM_TARGET_PORT $SLIM_TARGET_PORTS; exit 4";
    let argv = ["sh", "-c", script].map(str::to_owned).to_vec();
    let mut command = probe(Action::HostExec { argv, ports: vec![8080, 9090] });
    command.expect.status = Some(4);
    let recording = run_one(command, &Local::new(&[])).await;
    assert_eq!(recording.verdict(), Verdict::Passed);
    let Content::Exit { stdout, .. } = &recording.answers[0].content else { panic!("{recording:?}") };
    assert_eq!(stdout.bytes.as_deref(), Some(&b"127.0.0.1 8080 8080,9090\n"[..]));
}

#[tokio::test]
async fn commands_on_this_machine_reach_a_target_that_has_no_address_here() {
    let (port, _) = serve(Speaks::Http1, |_| page("from afar")).await;
    let script = "test $SLIM_TARGET_PORT != 80 && test $SLIM_TARGET_PORTS = $SLIM_TARGET_PORT,${SLIM_TARGET_PORTS#*,} && \
                  for n in 1 2; do exec 3<>/dev/tcp/$SLIM_TARGET_HOST/$SLIM_TARGET_PORT && \
                  printf 'GET / HTTP/1.0\r\n\r\n' >&3 && cat <&3; done";
    let argv = ["bash", "-c", script].map(str::to_owned).to_vec();
    let mut command = probe(Action::HostExec { argv, ports: vec![80, 81] });
    command.expect.contains = Some("from afar".into());
    let mut target = Local::new(&[(80, port)]);
    target.far = true;
    let recording = run_one(command, &target).await;
    assert_eq!(recording.verdict(), Verdict::Passed, "{recording:?}");
}

#[tokio::test]
async fn a_command_that_takes_too_long_is_killed_with_what_it_started() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let script = format!("sleep 1000 & echo $! > {}; wait", file.path().display());
    let argv = ["sh", "-c", script.as_str()].map(str::to_owned).to_vec();
    let mut command = probe(Action::HostExec { argv, ports: vec![] });
    command.timeout = Duration::from_millis(500);
    let recording = run_one(command, &Local::new(&[])).await;
    assert_eq!(why(&recording), "timed out after 0.5 s");
    let pid = std::fs::read_to_string(file.path()).unwrap().trim().to_owned();
    let gone = || match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => stat.contains(") Z "),
        Err(_) => true,
    };
    let began = Instant::now();
    while !gone() && began.elapsed() < Duration::from_secs(5) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(gone(), "process {pid} is still there");
}

#[tokio::test]
async fn commands_in_the_target_must_succeed_when_stated() {
    for (script, failure) in [("exit 0", ""), ("exit 2", "status 2, expected 0")] {
        let argv = ["sh", "-c", script].map(str::to_owned).to_vec();
        let recording = run_one(probe(Action::Exec { argv }), &Local::new(&[])).await;
        assert_eq!(why(&recording), failure);
    }
    let argv = vec!["/no/such/program".to_owned()];
    let recording = run_one(probe(Action::Exec { argv }), &Local::new(&[])).await;
    assert!(why(&recording).contains("there is no such command"), "{}", why(&recording));
}

#[tokio::test]
async fn a_run_that_exits_is_its_own_answer() {
    let target = Local::new(&[]);
    target.log.lock().unwrap().extend_from_slice(b"done\n");
    let mut plan = plan(Readiness::Started, vec![probe(Action::Run)]);
    plan.until = Until::Exit;
    assert_eq!(probe::ready(&plan, &target, &Void).await.unwrap(), Ready::Yes(Ports::new()));
    let (recording, ()) = tokio::join!(run(&plan, &target), async { target.end(0) });
    assert_eq!((recording.ended, recording.verdict()), (Some(0), Verdict::Passed));
    let Content::Exit { status: 0, stdout, .. } = &recording.answers[0].content else { panic!("{recording:?}") };
    assert_eq!(stdout.length, 5);
}

#[tokio::test]
async fn a_target_that_ends_during_the_probes_fails_them() {
    let (port, _) = serve(Speaks::Http1, |_| page("fine")).await;
    let target = Local::new(&[(80, port)]);
    target.end(139);
    let plan = plan(Readiness::Started, vec![discovered(get("/")), probe(get("/2")), probe(get("/3"))]);
    let recording = run(&plan, &target).await;
    assert_eq!(recording.answers.len(), 1);
    let Verdict::Failed(lines) = recording.verdict() else { panic!("{recording:?}") };
    assert_eq!(lines, ["the target ended with exit status 139 during `http GET /`, 2 probes were not asked"]);
}

#[tokio::test]
async fn an_api_document_is_expanded_into_its_gets() {
    let (port, _) = serve(Speaks::Http1, |request| match request.uri().path() {
        "/openapi.json" => reply(
            200,
            "application/json",
            r#"{"openapi":"3.1.0","paths":{"/b":{"get":{}},"/a":{"get":{}},"/a/{id}":{"get":{}}}}"#,
        ),
        "/v1/a" | "/v1/b" => reply(200, "application/json", "{}"),
        _ => reply(404, "text/plain", ""),
    })
    .await;
    let start = HttpRequest::get(80, "/openapi.json");
    let api = Action::Api { start, prefix: "/v1".into(), max_pages: 10, exclude: vec![] };
    let recording = run_one(probe(api), &Local::new(&[(80, port)])).await;
    assert_eq!(names(&recording), ["GET /openapi.json", "GET /v1/b", "GET /v1/a"]);
    assert_eq!(recording.verdict(), Verdict::Passed);
    let not_one =
        Action::Api { start: HttpRequest::get(80, "/v1/a"), prefix: String::new(), max_pages: 10, exclude: vec![] };
    let recording = run_one(probe(not_one), &Local::new(&[(80, port)])).await;
    assert!(why(&recording).starts_with("not an OpenAPI document"), "{recording:?}");
}

#[tokio::test]
async fn a_replay_asks_the_same_and_a_changing_page_is_masked() {
    let count = std::sync::atomic::AtomicU32::new(100);
    let (port, asked) = serve(Speaks::Http1, move |request| match request.uri().path() {
        "/" => page("<a href=/clock>c</a>"),
        _ => page(&format!("visit number {}", count.fetch_add(1, std::sync::atomic::Ordering::SeqCst))),
    })
    .await;
    let target = Local::new(&[(80, port)]);
    let first = run_one(discovered(crawl(2, 10, &[])), &target).await;
    asked.lock().unwrap().clear();
    let second = probe::replay(&first.requests(), &target, &Void).await.unwrap();
    assert_eq!(asked.lock().unwrap()[..], ["GET /", "GET /clock"]);
    let slim = probe::replay(&first.requests(), &target, &Void).await.unwrap();
    let comparison = probe::compare(&first.answers, &[&second], &slim);
    assert!(comparison.passed());
    assert_eq!(comparison.summary(), "1 probe, 2 answers: 1 whole, 1 masked");
}

#[tokio::test]
async fn probing_goes_on_for_the_time_asked_for_or_until_the_target_ends() {
    let target = Local::new(&[]);
    let mut plan = plan(Readiness::Started, vec![]);
    plan.until = Until::Timeout(Duration::from_millis(200));
    let began = Instant::now();
    assert_eq!(run(&plan, &target).await.ended, None);
    assert!(began.elapsed() >= Duration::from_millis(200));
    plan.until = Until::Exit;
    let (recording, ()) = tokio::join!(run(&plan, &target), async { target.end(7) });
    assert_eq!(recording.ended, Some(7));
}
