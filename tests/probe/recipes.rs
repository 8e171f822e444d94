//! Built-in recipes put to servers that answer as the real ones do.

use std::time::Duration;

use super::servers::{self, Local, Speaks, page, reply, serve};
use slim::engine::RunOptions;
use slim::image::config::ImageConfig;
use slim::probe::request::RecipeRef;
use slim::probe::{self, Content, ProbePlan, ProbeRequest, Ready, Recording, Verdict};
use slim::progress::Void;

fn chosen(config: &str, recipe: &str) -> ProbePlan {
    let config = ImageConfig::parse(format!(r#"{{"config":{config}}}"#).as_bytes()).unwrap();
    let recipes = vec![RecipeRef::Named(recipe.to_owned())];
    probe::choose(&config, &RunOptions::default(), &ProbeRequest { recipes, ..ProbeRequest::default() }).unwrap()
}

async fn probed(plan: &ProbePlan, target: &Local) -> Recording {
    let Ready::Yes(ports) = probe::ready(plan, target, &Void).await.unwrap() else { panic!("not ready") };
    probe::run(plan, &ports, target, &Void).await.unwrap()
}

/// A packet of MySQL's protocol.
fn packet(payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_le_bytes();
    [&length[..3], &[0], payload].concat()
}

#[tokio::test]
async fn mysql_is_ready_when_it_greets_and_not_when_it_complains() {
    let greeting = packet(b"\x0a10.11.6-MariaDB\0\x07\0\0\0saltsalt\0");
    let complaint = packet(b"\xff\x10\x04#08004Too many connections");
    let stranger = packet(b"\xff\x6a\x04Host '172.17.0.1' is not allowed to connect to this MariaDB server");
    for works in [greeting, stranger] {
        let port = servers::greets(vec![complaint.clone(), works.clone()], 0).await;
        let plan = chosen(r#"{"ExposedPorts":{"3306/tcp":{}},"Entrypoint":["mariadbd"]}"#, "mysql");
        assert!(plan.ready_timeout >= Duration::from_secs(180));
        let recording = probed(&plan, &Local::new(&[(3306, port)])).await;
        assert_eq!(recording.verdict(), Verdict::Passed, "{recording:?}");
        let Content::Bytes { received } = &recording.answers[0].content else { panic!("{recording:?}") };
        assert!(works.starts_with(received.bytes.as_deref().unwrap()), "{received:?}");
        assert_eq!(recording.answers[1].request.name, "mysql client");
    }
    let port = servers::greets(vec![complaint], 0).await;
    let mut plan = chosen(r#"{"ExposedPorts":{"3306/tcp":{}}}"#, "mysql");
    plan.ready_timeout = Duration::from_secs(3);
    let ready = probe::ready(&plan, &Local::new(&[(3306, port)]), &Void).await.unwrap();
    assert!(matches!(ready, Ready::TimedOut { .. }), "{ready:?}");
}

#[tokio::test]
async fn tcp_asks_each_exposed_port_to_keep_a_connection() {
    let (one, two) = (servers::lines(|_| None).await, servers::lines(|_| None).await);
    let plan = chosen(r#"{"ExposedPorts":{"7000/tcp":{},"7001/tcp":{},"53/udp":{}},"Cmd":["x"]}"#, "tcp");
    let recording = probed(&plan, &Local::new(&[(7000, one), (7001, two)])).await;
    let names: Vec<_> = recording.answers.iter().map(|answer| answer.request.name.as_str()).collect();
    assert_eq!((names, recording.verdict()), (vec!["connect 7000", "connect 7001"], Verdict::Passed));

    let hangs_up = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = hangs_up.local_addr().unwrap().port();
    tokio::spawn(async move { while hangs_up.accept().await.is_ok() {} });
    let mut plan = chosen(r#"{"ExposedPorts":{"7000/tcp":{}},"Cmd":["x"]}"#, "tcp");
    plan.ready_timeout = Duration::from_secs(1);
    let ready = probe::ready(&plan, &Local::new(&[(7000, port)]), &Void).await.unwrap();
    let Ready::TimedOut { why } = ready else { panic!("{ready:?}") };
    assert!(why.contains("closes them at once"), "{why}");
}

#[tokio::test]
async fn exec_asks_the_images_program_what_it_is() {
    let plan = chosen(r#"{"Entrypoint":["/bin/ls","/tmp"]}"#, "exec");
    let recording = probed(&plan, &Local::new(&[])).await;
    assert_eq!(recording.verdict(), Verdict::Passed);
    for (answer, words) in recording.answers.iter().zip(["coreutils", "Usage: /bin/ls"]) {
        let Content::Exit { status: 0, stdout, .. } = &answer.content else { panic!("{answer:?}") };
        assert_eq!(stdout.contains(words), Some(true), "{answer:?}");
    }
    let nothing = probed(&chosen(r#"{"Entrypoint":["/no/such"]}"#, "exec"), &Local::new(&[])).await;
    assert!(matches!(nothing.verdict(), Verdict::Nothing(_)), "{nothing:?}");
}

#[tokio::test]
async fn static_site_asks_for_what_depends_on_the_file_too() {
    let (port, asked) = serve(Speaks::Http1, |request| {
        let has = |name: &str| request.headers().contains_key(name);
        match request.uri().path() {
            "/" if has("range") => reply(206, "text/html", "<a href=/about"),
            "/" if has("accept-encoding") => reply(200, "text/html", "squeezed"),
            "/" => page("<a href=/about.html>about</a>"),
            "/about.html" => page("about"),
            _ => reply(404, "text/html", "no such page"),
        }
    })
    .await;
    let plan = chosen(r#"{"ExposedPorts":{"80/tcp":{}},"Cmd":["nginx"]}"#, "static-site");
    let recording = probed(&plan, &Local::new(&[(80, port)])).await;
    assert_eq!(recording.verdict(), Verdict::Passed, "{recording:?}");
    let statuses: Vec<(String, u16)> = recording
        .answers
        .iter()
        .map(|answer| match &answer.content {
            Content::Http { status, .. } => (answer.request.name.clone(), *status),
            other => panic!("{other:?}"),
        })
        .collect();
    let expected = [
        ("GET /", 200), ("GET /about.html", 200), ("HEAD /", 200), ("GET / #2", 206), ("GET / #3", 200),
        ("GET /favicon.ico", 404), ("GET /robots.txt", 404), ("GET /sitemap.xml", 404), ("GET /slim-probe-no-such-page", 404),
    ];
    let statuses: Vec<_> = statuses.iter().map(|(name, status)| (name.as_str(), *status)).collect();
    assert_eq!(statuses, expected);
    assert!(asked.lock().unwrap().contains(&"HEAD /".to_owned()));
}
