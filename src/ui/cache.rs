//! Cache: what `slim cache` shows: a table of what is there, a line of what went.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use crate::engine::embedded::cache::{Held, Item, Listing};
use crate::image::path::printable;
use crate::report::figures;

/// The table, with a line of sums.
pub fn table(listing: &Listing, now: SystemTime) -> String {
    let head = ["KIND", "SIZE", "LAST USE", "IN USE", "NAME"].map(str::to_owned);
    let rows: Vec<[String; 5]> = std::iter::once(head).chain(listing.items.iter().map(|item| cells(item, now))).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths = [0, 1, 2, 3].map(width);
    let mut text = String::new();
    for row in rows.iter().filter(|_| !listing.items.is_empty()) {
        let cells: String = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}  ")).collect();
        text.push_str(&format!("{cells}{}\n", row[4]));
    }
    let dir = printable(listing.dir.display().to_string().as_bytes());
    format!("{text}{} in {dir}\n", sum(&listing.items))
}

/// What went, and what stays.
pub fn pruned(gone: &Listing, left: &Listing) -> String {
    let busy = left.items.iter().filter(|item| item.held == Some(Held::Running)).count();
    let named = left.items.iter().any(|item| matches!(item.held, Some(Held::Named(_))));
    let why = match (busy > 0, named) {
        (true, true) => "; running builds use some of it, images with a name (--all) some",
        (true, false) => "; running builds use it",
        (false, true) => "; images with a name are made of it (--all removes them too)",
        (false, false) => "",
    };
    let why = if left.items.is_empty() { "" } else { why };
    format!("removed {}; left {}{why}\n", sum(&gone.items), sum(&left.items))
}

/// `2 layers, 1 image (74.1 MB)`.
fn sum(items: &[Item]) -> String {
    let mut counts = BTreeMap::new();
    items.iter().for_each(|item| *counts.entry(item.kind).or_insert(0) += 1);
    let words = |(kind, n): (_, u64)| {
        let kind: crate::engine::embedded::cache::Kind = kind;
        figures::counted(n, kind.words().0, kind.words().1)
    };
    match counts.is_empty() {
        true => "nothing".to_owned(),
        false => {
            let words: Vec<String> = counts.into_iter().rev().map(words).collect();
            format!("{} ({})", words.join(", "), figures::bytes(items.iter().map(|item| item.bytes).sum()))
        }
    }
}

fn cells(item: &Item, now: SystemTime) -> [String; 5] {
    let (held, name) = match &item.held {
        None => ("-", item.name.clone()),
        Some(Held::Running) => ("running", item.name.clone()),
        Some(Held::Named(name)) => ("named", format!("{} {}", item.name, printable(name.as_bytes()))),
    };
    let age = now.duration_since(item.used).unwrap_or_default();
    [item.kind.words().0.to_owned(), figures::bytes(item.bytes), ago(age), held.to_owned(), name]
}

/// `5 s`, `3 min`, `7 h`, `12 d`: whole units, rounded down.
fn ago(age: Duration) -> String {
    match age.as_secs() {
        s @ 0..60 => format!("{s} s ago"),
        s @ 60..3600 => format!("{} min ago", s / 60),
        s @ 3600..86_400 => format!("{} h ago", s / 3600),
        s => format!("{} d ago", s / 86_400),
    }
}
