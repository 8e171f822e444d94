//! slim makes a container image small: it runs the image once, keeps what the run touched, and proves that
//! the result answers the same.

pub mod batch;
pub mod build;
pub mod cli;
pub mod copy;
pub mod diff;
pub mod engine;
pub mod exit;
pub mod gate;
pub mod image;
pub mod keep;
pub mod pack;
pub mod packages;
pub mod plan;
pub mod probe;
pub mod progress;
pub mod report;
pub mod run;
pub mod sensor;
pub mod store;
pub mod sys;
pub mod trace;
pub mod ui;
pub mod verify;
pub mod xray;
