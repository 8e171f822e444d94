//! What is probed, by image and request.

use std::time::Duration;

use slim::engine::RunOptions;
use slim::image::config::ImageConfig;
use slim::probe::request::{ApiSpec, RecipeRef};
use slim::probe::{self, NothingToProbe, ProbePlan, ProbeRequest, Readiness, Until};

fn image(config: &str) -> ImageConfig {
    ImageConfig::parse(format!("{{\"config\":{config}}}").as_bytes()).unwrap()
}

fn choose(config: &str, request: &ProbeRequest) -> anyhow::Result<ProbePlan> {
    probe::choose(&image(config), &RunOptions::default(), request)
}

fn names(plan: &ProbePlan) -> Vec<&str> {
    plan.probes.iter().map(|probe| probe.name.as_str()).collect()
}

const WEB: [&str; 4] =
    ["crawl GET /", "http GET /favicon.ico", "http GET /robots.txt", "http GET /slim-probe-no-such-page"];

#[test]
fn an_image_with_a_port_is_crawled() {
    let plan =
        choose(r#"{"ExposedPorts":{"80/tcp":{},"53/udp":{}},"Cmd":["nginx"]}"#, &ProbeRequest::default()).unwrap();
    assert_eq!(names(&plan), WEB);
    assert!(plan.probes.iter().all(|probe| !probe.stated));
    assert_eq!((plan.readiness, plan.until), (Readiness::Ports(vec![80]), Until::Probes));
    assert_eq!(plan.notes, ["probe http: it exposes port 80"]);
}

#[test]
fn a_healthcheck_is_what_ready_means_and_its_start_period_counts() {
    let config = r#"{"ExposedPorts":{"80/tcp":{}},"Healthcheck":{"Test":["CMD","true"],"StartPeriod":120000000000}}"#;
    let plan = choose(config, &ProbeRequest::default()).unwrap();
    assert_eq!(plan.readiness, Readiness::Health);
    assert!(plan.ready_timeout >= Duration::from_secs(120));
}

#[test]
fn a_healthcheck_that_readiness_does_not_ask_is_a_probe() {
    let config = r#"{"ExposedPorts":{"80/tcp":{}},"Healthcheck":{"Test":["CMD","/ok"]},"Cmd":["x"]}"#;
    let log = ProbeRequest { readiness: Some(Readiness::Log("up".into())), ..ProbeRequest::default() };
    let plan = choose(config, &log).unwrap();
    assert_eq!(names(&plan).last(), Some(&"healthcheck"));
    assert!(plan.probes.iter().all(|probe| !probe.stated), "whatever it answers is the baseline");
    assert!(!names(&choose(config, &ProbeRequest::default()).unwrap()).contains(&"healthcheck"));
    let runs = ProbeRequest { until: Some(Until::Exit), ..log };
    assert!(!names(&choose(r#"{"Healthcheck":{"Test":["CMD","/ok"]},"Cmd":["x"]}"#, &runs).unwrap()).contains(&"healthcheck"));
}

#[test]
fn a_time_to_get_ready_is_at_least_the_start_period() {
    let config = r#"{"Cmd":["x"],"Healthcheck":{"Test":["CMD","/ok"],"StartPeriod":120000000000}}"#;
    let with = |seconds| {
        let ready_timeout = Some(Duration::from_secs(seconds));
        choose(config, &ProbeRequest { ready_timeout, ..ProbeRequest::default() }).unwrap()
    };
    let short = with(5);
    assert_eq!(short.ready_timeout, Duration::from_secs(120));
    assert!(short.notes.iter().any(|note| note.contains("--ready-timeout") && note.contains("120 s")), "{:?}", short.notes);
    assert_eq!(with(150).ready_timeout, Duration::from_secs(150));
}

#[test]
fn a_command_to_run_is_its_own_probe() {
    let run = RunOptions { cmd: Some(vec!["--flag".into(), "arg".into()]), ..RunOptions::default() };
    let plan = probe::choose(&image(r#"{"Entrypoint":["/cli"]}"#), &run, &ProbeRequest::default()).unwrap();
    assert_eq!(names(&plan), ["run"]);
    assert_eq!((plan.readiness, plan.until), (Readiness::Started, Until::Exit));
}

#[test]
fn commands_to_exec_are_stated_and_alone() {
    let exec = vec![vec!["convert".to_owned(), "/in.png".to_owned()]];
    let request = ProbeRequest { exec, exec_sh: vec!["ls | wc".into()], ..ProbeRequest::default() };
    let plan = choose(r#"{"Cmd":["sleep","9"]}"#, &request).unwrap();
    assert_eq!(names(&plan), ["exec convert /in.png", "exec /bin/sh -c 'ls | wc'"]);
    assert_eq!(plan.readiness, Readiness::Started);
    assert!(plan.probes.iter().all(|probe| probe.stated));
}

#[test]
fn a_recipe_takes_its_port_from_http() {
    let config = r#"{"ExposedPorts":{"6379/tcp":{},"8080/tcp":{}},"Cmd":["redis-server"]}"#;
    let plan = choose(config, &ProbeRequest::default()).unwrap();
    assert_eq!(plan.http_ports(), [8080]);
    assert!(names(&plan).contains(&"redis ping"));
}

#[test]
fn stated_commands_come_with_the_usual_first_page_unless_it_is_off() {
    let command = probe::http_command("POST:/api").unwrap();
    let mut request = ProbeRequest { http_commands: vec![command], ..ProbeRequest::default() };
    let config = r#"{"ExposedPorts":{"80/tcp":{}}}"#;
    let plan = choose(config, &request).unwrap();
    assert_eq!(names(&plan)[..2], ["http POST /api", "crawl GET /"]);
    assert!(plan.probes[0].stated);
    request.http = Some(false);
    assert_eq!(names(&choose(config, &request).unwrap()), ["http POST /api"]);
}

#[test]
fn headers_hosts_and_crawl_settings_reach_every_request() {
    let request = ProbeRequest {
        http: Some(true),
        crawl: Some(false),
        headers: vec![("X-A".into(), "b".into())],
        host: Some("shop.example".into()),
        ..ProbeRequest::default()
    };
    let plan = choose(r#"{"ExposedPorts":{"80/tcp":{}}}"#, &request).unwrap();
    assert_eq!(plan.probes.len(), WEB.len());
    for probe in &plan.probes {
        let probe::Action::Http(ask) = &probe.action else { panic!("{probe:?}") };
        assert_eq!((ask.headers.len(), ask.host.as_deref()), (1, Some("shop.example")));
    }
}

#[test]
fn an_image_to_go_by_nothing_is_told_what_to_give() {
    let http = ProbeRequest { http: Some(true), ..ProbeRequest::default() };
    for (config, request, says) in [
        ("{}", ProbeRequest::default(), "the image has no port, no entrypoint and no command"),
        (
            r#"{"Cmd":["/bin/bash"]}"#,
            ProbeRequest::default(),
            "runs `/bin/bash`, which ends at once without a terminal",
        ),
        (r#"{"Cmd":["app"]}"#, http, "give --http-probe-ports PORT or --expose PORT"),
    ] {
        let error = choose(config, &request).unwrap_err();
        assert!(error.downcast_ref::<NothingToProbe>().is_some() && error.to_string().contains(says), "{error:#}");
    }
}

#[test]
fn recipes_and_api_documents_come_from_files() {
    let dir = tempfile::tempdir().unwrap();
    let (recipe, spec) = (dir.path().join("mine.toml"), dir.path().join("api.json"));
    std::fs::write(&recipe, "format = 1\ndescription = 'd'\n[[step]]\nname = 'q'\nport = 9\ntcp = [{ send = 'a' }]\n")
        .unwrap();
    std::fs::write(&spec, r#"{"swagger":"2.0","basePath":"/v2","paths":{"/a":{"get":{}}}}"#).unwrap();
    let request = ProbeRequest {
        recipes: vec![RecipeRef::File(recipe.clone())],
        api_specs: vec![ApiSpec::File(spec)],
        http_ports: vec![80],
        http: Some(false),
        ..ProbeRequest::default()
    };
    assert_eq!(names(&choose("{}", &request).unwrap()), ["http GET /v2/a", "q"]);
    std::fs::write(&recipe, "format = 1\ndescription = 'd'\nsteps = []\n").unwrap();
    let error = format!("{:#}", choose("{}", &request).unwrap_err());
    assert!(error.contains("mine.toml:3:1: unknown field `steps`"), "{error}");
    let unknown = ProbeRequest { recipes: vec![RecipeRef::Named("mongo".into())], ..ProbeRequest::default() };
    let error = format!("{:#}", choose("{}", &unknown).unwrap_err());
    assert!(error.starts_with("there is no recipe `mongo`; there are exec, http, memcached"), "{error}");
}

#[test]
fn every_built_in_recipe_makes_a_plan() {
    for recipe in probe::recipes().unwrap() {
        let request = ProbeRequest { recipes: vec![RecipeRef::Named(recipe.name.clone())], ..ProbeRequest::default() };
        let plan = choose(r#"{"ExposedPorts":{"80/tcp":{}},"Cmd":["app"]}"#, &request).unwrap();
        assert!(!plan.probes.is_empty(), "{}", recipe.name);
    }
}
