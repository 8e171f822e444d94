//! Provenance: what a result says of its making, in labels, annotations and a statement; and that it is known again.

use std::process::Command;

use serde_json::{Value, json};

use crate::support::{Build, Done, Image, Source, docker, has_image, id_of};

const NAME: &str = "org.opencontainers.image.base.name";
const DIGEST: &str = "org.opencontainers.image.base.digest";

fn labels(name: &str) -> Value {
    serde_json::from_str(&docker(&["image", "inspect", "--format", "{{json .Config.Labels}}", name])).unwrap()
}

/// The one manifest of a layout in the directory of a build.
fn manifest(done: &Done, dir: &str) -> Value {
    let read = |path: &str| -> Value { serde_json::from_slice(&std::fs::read(done.work().join(dir).join(path)).unwrap()).unwrap() };
    let digest = read("index.json")["manifests"][0]["digest"].as_str().unwrap().replace(':', "/");
    read(&format!("blobs/{digest}"))
}

fn statement(done: &Done, file: &str) -> Value {
    serde_json::from_slice(&std::fs::read(done.work().join(file)).unwrap()).unwrap()
}

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn a_result_names_its_base_and_how_it_was_kept() {
    let theirs = json!({NAME: "docker.io/library/debian:12", DIGEST: format!("sha256:{}", "d".repeat(64)), "kept": "yes"});
    let image = Source::default().set("Labels", theirs).load("base");
    let done = Build::of(&image).args(&["--http-probe", "--keep", "app", "-o", "oci:layout", "-o", "both.tar"]).run().ended(0);
    let said = labels(&image.slim());
    assert_eq!(said[NAME], format!("docker.io/{}", image.name));
    assert_eq!((&said["slim.level"], &said["kept"], said.get(DIGEST)), (&"app".into(), &"yes".into(), None));
    // What its builder wrote of another base is told as changed.
    let report = done.report();
    let changed = |field: &str| report["config"]["changed"].as_array().unwrap().iter().find(|change| change["field"] == field).cloned();
    assert_eq!(changed(&format!("Labels.{NAME}")).unwrap()["from"], "\"docker.io/library/debian:12\"");
    assert_eq!(changed(&format!("Labels.{DIGEST}")).unwrap()["to"], Value::Null);
    let annotations = &manifest(&done, "layout")["annotations"];
    assert_eq!((&annotations[NAME], &annotations["slim.keep-set"]), (&said[NAME], &said["slim.keep-set"]));
    assert!(annotations["org.opencontainers.image.created"].is_string(), "{annotations}");
    // This engine built the image itself: it has no manifest of it.
    assert_eq!(annotations.get(DIGEST), None);

    // An ID is no name.
    let tag = image.beside(":id");
    Build::new(&["build", &image.id, "--http-probe", "-t", &tag]).run().ended(0);
    assert_eq!(labels(&tag).get(NAME), None);
    // An archive has the name that is in it, and gives the same image.
    let other = image.beside(":archive");
    let build = Build::new(&["build", "docker-archive:fat.tar", "--http-probe", "--keep", "app", "-t", &other]);
    docker(&["save", "-o", build.work().join("fat.tar").to_str().unwrap(), &image.name]);
    build.run().ended(0);
    assert_eq!(id_of(&other), id_of(&image.slim()));

    // From a layout the digest of the manifest is known.
    let (code, _, said) = done.then(&["copy", &format!("docker-daemon:{}", image.name), "oci:fat:1"]);
    assert_eq!(code, 0, "{said}");
    let fat = std::fs::read(done.work().join("fat/index.json")).unwrap();
    let fat: Value = serde_json::from_slice(&fat).unwrap();
    let layout = format!("oci:{}:1", done.work().join("fat").display());
    let done = Build::new(&["build", &layout, "--http-probe", "-o", "oci-archive:out.tar", "-o", "oci:out", "--provenance", "made.json"]).run().ended(0);
    let digest = &fat["manifests"][0]["digest"];
    assert_eq!(&manifest(&done, "out")["annotations"][DIGEST], digest);
    let source = &statement(&done, "made.json")["predicate"]["buildDefinition"]["resolvedDependencies"][0];
    assert_eq!(format!("sha256:{}", source["digest"]["sha256"].as_str().unwrap()), *digest);
}

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn a_statement_says_what_was_published_of_what() {
    let image = Image::new("statement");
    let words = ["--http-probe", "-e", "API_TOKEN=kanarienvogel-one", "-o", "oci:layout", "--provenance", "made.json"];
    let build = || Build::of(&image).args(&words).env("SLIM_SENSOR", "auto").run().ended(0);
    let done = build();
    let text = std::fs::read_to_string(done.work().join("made.json")).unwrap();
    assert!(!text.contains("kanarienvogel"), "{text}");
    assert_eq!(text, std::fs::read_to_string(build().work().join("made.json")).unwrap(), "the same build, another statement");
    let made = statement(&done, "made.json");
    assert_eq!((&made["_type"], &made["predicateType"]), (&"https://in-toto.io/Statement/v1".into(), &"https://slsa.dev/provenance/v1".into()));
    let index: Value = serde_json::from_slice(&std::fs::read(done.work().join("layout/index.json")).unwrap()).unwrap();
    let hex = |digest: &str| digest.trim_start_matches("sha256:").to_owned();
    let subjects: Vec<(String, String)> = made["subject"].as_array().unwrap().iter()
        .map(|subject| (subject["name"].as_str().unwrap().into(), subject["digest"]["sha256"].as_str().unwrap().into()))
        .collect();
    let written = hex(index["manifests"][0]["digest"].as_str().unwrap());
    assert_eq!(subjects, [(image.slim(), hex(&id_of(&image.slim()))), ("oci:layout".into(), written)]);
    let definition = &made["predicate"]["buildDefinition"];
    assert_eq!(definition["resolvedDependencies"][0]["digest"]["sha256"], hex(&image.id));
    let flags: Vec<&str> = definition["externalParameters"]["flags"].as_array().unwrap().iter().map(|flag| flag.as_str().unwrap()).collect();
    assert_eq!(flags, ["--env", "--http-probe", "--output", "--provenance", "--rebuild", "--sensor", "--settle"]);
    let internal = &definition["internalParameters"]["images"][0];
    assert_eq!((&internal["keepSet"], &internal["inputs"]), (&labels(&image.slim())["slim.keep-set"], &labels(&image.slim())["slim.inputs"]));
    assert_eq!((&internal["level"], &internal["verdict"]), (&"touched".into(), &"verified".into()));

    // What is not published has none, and where none can be written nothing is begun.
    let done = Build::of(&image).args(&["--http-probe", "--fail-on", "files>1", "--provenance", "made.json"]).run().ended(6);
    assert!(!done.work().join("made.json").exists());
    let done = Build::of(&image).args(&["--http-probe", "--provenance", "no/such/made.json"]).run().ended(2);
    assert_eq!(done.run, None);
}

#[test]
#[ignore = "needs a container engine and in-toto's reader: tests/run has both"]
fn the_reader_of_in_toto_takes_a_statement() {
    let image = Image::new("reader");
    let done = Build::of(&image).args(&["--http-probe", "-o", "oci:layout", "--provenance", "made.json"]).run().ended(0);
    let readers = std::env::var("SLIM_TEST_READERS").expect("SLIM_TEST_READERS is where tests/run installed readers");
    let code = "import json, sys\n\
        from google.protobuf import json_format\n\
        from in_toto_attestation.v1 import statement_pb2, statement\n\
        from in_toto_attestation.predicates.provenance.v1 import provenance_pb2\n\
        text = open(sys.argv[1], encoding='utf-8').read()\n\
        read = statement.Statement.copy_from_pb(json_format.Parse(text, statement_pb2.Statement()))\n\
        read.validate()\n\
        made = json_format.ParseDict(json.loads(text)['predicate'], provenance_pb2.Provenance())\n\
        print(len(read.pb.subject), made.run_details.builder.id, made.build_definition.build_type, len(made.build_definition.resolved_dependencies))";
    let read = Command::new("python3").args(["-c", code]).arg(done.work().join("made.json")).env("PYTHONPATH", readers).output().unwrap();
    assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
    assert_eq!(String::from_utf8_lossy(&read.stdout), "2 urn:x-slim:builder urn:x-slim:build:1 1\n");
}

#[test]
#[ignore = "needs a container engine: tests/run starts one"]
fn what_is_slim_already_is_made_slim_again_only_when_asked() {
    let image = Image::new("again");
    Build::of(&image).args(&["--http-probe"]).run().ended(0);
    let (slim, twice) = (image.slim(), image.beside(":twice"));
    let words = ["build", slim.as_str(), "--http-probe", "-t", &twice];
    let done = Build::new(&words).run().ended(2);
    let made_from = format!("is slim already: slim {} made it from docker.io/{}", env!("CARGO_PKG_VERSION"), image.name);
    done.says(&[&made_from, "what no probe touched is gone from it", "or give --again"]);
    assert!(!has_image(&twice));
    // The other commands do not mind.
    Build::new(&["verify", &image.name, &slim, "--http-probe"]).run().ended(0);
    Build::new(&["trace", &slim, "--http-probe", "-o", "again.trace"]).run().ended(0);
    let done = Build::new(&words).args(&["--again"]).run().ended(0);
    done.says(&["VERIFIED"]);
    // What somebody made from a result is an image of its own.
    let build = Build::new(&["build", "--dockerfile", "context", "--http-probe", "--tag", &image.beside(":more")]);
    build.file("context/Dockerfile", &format!("FROM {slim}\nENV MORE=1\n")).run().ended(0);
    // Of several images, it is the one that is refused.
    let toml = format!("[image.\"{slim}\"]\nhttp-probe = true\n\n[image.\"{}\"]\nhttp-probe = true\n", image.name);
    let done = Build::new(&["build", "--all"]).file("slim.toml", &toml).run().ended(2);
    done.says(&["is slim already", "VERIFIED"]);
}
