//! Reading scripts apart: what the parser does to itself on hostile text costs that text, and nothing else.

#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use slim::build::apart::Reader;
use slim::keep::scripts::{Dialect, Script};

fn read(texts: &[&str]) -> Vec<Script> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut reader = Reader::of(env!("CARGO_BIN_EXE_slim").into());
        let mut scripts = Vec::new();
        for text in texts {
            scripts.push(reader.read(Dialect::Shell, text.as_bytes()).await);
        }
        scripts
    })
}

#[test]
fn a_hostile_script_costs_itself_only() {
    let deep = |open: &str| format!("{}x", open.repeat(20_000));
    let texts = [
        // Hangs the tokenizer, which allocates for ever.
        "<<E$[\t\t".to_owned(),
        deep("$("),
        deep("("),
        deep("((((("),
        deep("if x; then "),
        deep("{ "),
        deep("${x:-"),
        "x".repeat(1 << 20),
    ];
    for text in &texts {
        let began = Instant::now();
        let scripts = read(&["sed", text, "awk"]);
        assert_eq!(scripts.iter().map(|script| script.calls.len()).collect::<Vec<_>>(), [1, 0, 1], "{:.20}", text);
        assert!(scripts[1].unread.is_some(), "{text:.20}");
        // Five seconds are its patience; the machine may be busy.
        assert!(began.elapsed() < Duration::from_secs(60), "{:.20} took {:?}", text, began.elapsed());
    }
}

#[test]
fn noise_is_survived() {
    // A linear congruential generator (Knuth's MMIX) picks pieces that shells care about.
    let pieces = ["$(", ")", "`", "'", "\"", "<<E\n", "E\n", "case x in ", "esac", ";;", "${a", "}", "[[ ", " ]]", "$((", "))", "\\", "\n", " ", "x", "|", "&", "a=(", "function f { ", "\u{e9}", "!"];
    let mut state = 1u64;
    let mut text = || {
        let mut pick = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            pieces[(state >> 33) as usize % pieces.len()]
        };
        (0..12).map(|_| pick()).collect::<String>()
    };
    let texts: Vec<String> = (0..200).map(|_| text()).collect();
    let all: Vec<&str> = texts.iter().map(String::as_str).chain(["sed"]).collect();
    assert_eq!(read(&all).last().unwrap().calls[0].name, "sed");
}
