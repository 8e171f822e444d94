//! `slim build` from end to end, through the binary, on a real engine (DOCKER_HOST; `tests/run` starts one).
//!
//! The images are made here (support/image.rs) and hold one program (support/subject.c). Every run goes
//! through a proxy in front of the engine, which tells what it made there, so that each test can look for
//! what is left behind.

#![allow(clippy::unwrap_used)]

mod support;

#[path = "build/alike.rs"]
mod alike;
#[path = "build/batch.rs"]
mod batch;
#[path = "build/applets.rs"]
mod applets;
#[path = "build/config.rs"]
mod config;
#[path = "build/current.rs"]
mod current;
#[path = "build/flags.rs"]
mod flags;
#[path = "build/gate.rs"]
mod gate;
#[path = "build/health.rs"]
mod health;
#[path = "build/init.rs"]
mod init;
#[path = "build/lost.rs"]
mod lost;
#[path = "build/mounts.rs"]
mod mounts;
#[path = "build/outputs.rs"]
mod outputs;
#[path = "build/platforms.rs"]
mod platforms;
#[path = "build/provenance.rs"]
mod provenance;
#[path = "build/pull.rs"]
mod pull;
#[path = "build/remote.rs"]
mod remote;
#[path = "build/repair.rs"]
mod repair;
#[path = "build/scripts.rs"]
mod scripts;
#[path = "build/secrets.rs"]
mod secrets;
#[path = "build/signals.rs"]
mod signals;
#[path = "build/traces.rs"]
mod traces;
#[path = "build/trust.rs"]
mod trust;
#[path = "build/verdicts.rs"]
mod verdicts;
#[path = "build/wrong.rs"]
mod wrong;
