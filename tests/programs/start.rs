//! Start: how long a container takes from its creation, and from its start, to the first statement of its program: in
//! Docker's engine and in the one in this program, in alternation. `tests/bench` runs it.
//!
//! `start SLIM IMAGE ARCHIVE ROUNDS`: IMAGE, which has bash, is in the engine of DOCKER_HOST, and in ARCHIVE. Prints a
//! line for each round and engine: `docker 0.412 0.395`.

#![allow(clippy::print_stdout)] // a program of its own, not slim

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use futures_util::StreamExt;
use slim::engine::{ContainerSpec, DockerEngine, EmbeddedEngine, Engine, EngineChoice, RunOptions, embedded};
use slim::progress::Void;

#[tokio::main]
async fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [slim, name, archive, rounds] = words.as_slice() else { anyhow::bail!("usage: start SLIM IMAGE ARCHIVE ROUNDS") };
    embedded::use_program(Path::new(slim));
    let cache = tempfile::tempdir()?;
    let own = EmbeddedEngine::open_at(cache.path(), Arc::new(Void))?;
    let (image, file) = embedded::image_of(Path::new(archive))?;
    let bytes = tokio_util::io::ReaderStream::new(tokio::fs::File::from_std(file));
    own.load(bytes.map(|bytes| bytes.unwrap_or_default()).boxed(), &image.id()).await?;
    let docker = DockerEngine::connect(&EngineChoice::default(), Arc::new(Void)).await?;
    let engines: [(&str, &dyn Engine, &str); 2] = [("docker", &docker, name), ("embedded", &own, &image.id())];
    for _ in 0..rounds.parse().context("understand ROUNDS")? {
        for (kind, engine, image) in engines {
            let (whole, start) = once(engine, image).await.with_context(|| format!("run a container: {kind}"))?;
            println!("{kind} {:.4} {:.4}", whole.as_secs_f64(), start.as_secs_f64());
        }
    }
    docker.sweep().await.and(own.sweep().await)
}

/// One container, from its creation and from its start to what its program says of the time.
async fn once(engine: &dyn Engine, image: &str) -> Result<(Duration, Duration)> {
    let cmd = ["bash", "-c", "printf %s $EPOCHREALTIME"].map(str::to_owned).to_vec();
    let options = RunOptions { entrypoint: Some(Vec::new()), cmd: Some(cmd), ..RunOptions::default() };
    let spec = ContainerSpec { purpose: "bench".into(), image: image.into(), options, ..ContainerSpec::default() };
    let created = SystemTime::now();
    let container = engine.create(&spec).await?;
    let mut output = container.attach().await?.output;
    let started = SystemTime::now();
    container.start().await?;
    let mut said = Vec::new();
    while let Some(piece) = output.next().await {
        said.extend_from_slice(&piece?.bytes);
    }
    container.wait().await?;
    container.remove().await?;
    let said = String::from_utf8(said)?;
    let seconds: f64 = said.trim().replace(',', ".").parse().with_context(|| format!("read the time: {said:?}"))?;
    let there = SystemTime::UNIX_EPOCH + Duration::from_secs_f64(seconds);
    Ok((there.duration_since(created)?, there.duration_since(started)?))
}
