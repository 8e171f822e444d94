//! Show: an image's contents on a terminal, the most important first; every line makes sense without colour.

use std::cmp::Reverse;

use unicode_width::UnicodeWidthStr;

use super::model::{Found, Layer, Place, Secret, Slimming, Xray};
use crate::image::path::printable;
use crate::report::figures::{self, count, counted};
use crate::report::show::{Paint, Style, wrap};

/// Columns of the labels.
const LABEL: usize = 11;
/// Paths that a line names.
const NAMED: usize = 4;

/// Lines of a text that is being written.
pub struct Lines {
    /// How they are set.
    pub style: Style,
    lines: Vec<String>,
}

/// The text, each line ended by a newline. `top`: so many entries of each list.
pub fn show(xray: &Xray, top: usize, style: Style) -> String {
    let mut lines = Lines::new(style);
    lines.image(xray);
    for note in &xray.notes {
        lines.painted(Paint::Caution, &format!("  {:<LABEL$}{note}", "note"));
    }
    lines.secrets(&xray.secrets, top);
    lines.layers(xray, top);
    lines.packages(xray, top);
    lines.surface(xray, top);
    lines.duplicates(xray, top);
    for warning in &xray.warnings {
        lines.painted(Paint::Caution, &format!("  warning: {warning}"));
    }
    lines.text()
}

/// A secret in one line: what, its first characters, where, and what became of it.
pub fn of_secret(secret: &Secret) -> String {
    let mut text = secret.description.clone();
    if !secret.shown.is_empty() {
        text.push_str(&format!(" {}", secret.shown));
    }
    let line = secret.line.map(|line| format!(":{line}")).unwrap_or_default();
    let path = secret.path.as_ref().map(ToString::to_string).unwrap_or_default();
    let name = secret.name.as_deref().unwrap_or_default();
    text.push_str(&match secret.place {
        Place::File => format!(" in {path}{line}"),
        Place::Environment => format!(" in the environment: {name}"),
        Place::Label => format!(" in the label {name}"),
        Place::History => format!(" in the history {name}").trim_end().to_owned(),
    });
    match (secret.layer, secret.gone_in) {
        (Some(layer), Some(gone)) => {
            let how = if secret.replaced { "replaced" } else { "deleted" };
            text.push_str(&format!(", {how} by layer {gone}, still in layer {layer}"));
        }
        (Some(layer), None) => text.push_str(&format!(", layer {layer}")),
        (None, _) => {}
    }
    text
}

/// The same, with what slimming does to it.
pub fn with_fate(secret: &Secret) -> String {
    let fate = match secret.slimming {
        Slimming::Removes => "gone",
        Slimming::RemovesUntouched => "gone unless used",
        Slimming::Keeps => "stays",
    };
    format!("{}; slimmed: {fate}", of_secret(secret))
}

/// The largest layers, in their order.
pub fn largest(layers: &[Layer], top: usize) -> Vec<&Layer> {
    let mut largest: Vec<&Layer> = layers.iter().collect();
    largest.sort_by_key(|layer| Reverse(layer.bytes));
    largest.truncate(top);
    largest.sort_by_key(|layer| layer.number);
    largest
}

/// Names and counts of the surface, those of which there is something, with their paths.
pub fn of_surface(xray: &Xray) -> Vec<(&'static str, &Found)> {
    let surface = &xray.surface;
    let all = [
        ("programs", &surface.programs),
        ("libraries", &surface.libraries),
        ("shells", &surface.shells),
        ("package managers", &surface.package_managers),
        ("network clients", &surface.network_clients),
        ("compilers", &surface.compilers),
        ("interpreters", &surface.interpreters),
        ("setuid", &surface.setuid),
        ("capabilities", &surface.capabilities),
        ("writable by anybody", &surface.writable),
    ];
    all.into_iter().filter(|(_, found)| found.count > 0).collect()
}

/// What the image runs as, and what is to be said of that.
pub fn of_user(xray: &Xray) -> String {
    match (xray.image.root, xray.image.user.as_str()) {
        (true, "") => "root: USER is not set".to_owned(),
        (true, user) => format!("root: USER {user}"),
        (false, user) => user.to_owned(),
    }
}

/// What the image runs.
pub fn of_command(xray: &Xray) -> String {
    let words = [xray.image.entrypoint.as_slice(), &xray.image.cmd].concat();
    if words.is_empty() { "nothing by itself".to_owned() } else { shell_words::join(words) }
}

impl Lines {
    /// None yet.
    pub fn new(style: Style) -> Self {
        Self { style, lines: Vec::new() }
    }

    /// All of them, each ended by a newline.
    pub fn text(&self) -> String {
        self.lines.iter().map(|line| format!("{line}\n")).collect()
    }

    /// A line.
    pub fn push(&mut self, text: &str) {
        self.lines.push(self.style.line(text));
    }

    /// A line in a colour.
    pub fn painted(&mut self, paint: Paint, text: &str) {
        let line = self.style.line(text);
        self.lines.push(self.style.paint(paint, &line));
    }

    /// `  label      text`.
    pub fn labelled(&mut self, label: &str, text: &str) {
        self.push(&format!("  {label:<LABEL$}{text}"));
    }

    /// Parts after a label, on as many lines as they need.
    pub fn listed(&mut self, label: &str, parts: &[String]) {
        let room = self.style.width.saturating_sub(LABEL + 3);
        let (mut label, mut line) = (label, String::new());
        for part in parts {
            let part = printable(part.as_bytes());
            if !line.is_empty() && line.width() + part.width() + 2 > room {
                self.labelled(std::mem::take(&mut label), &format!("{line},"));
                line.clear();
            }
            if !line.is_empty() {
                line.push_str(", ");
            }
            line.push_str(&part);
        }
        if !line.is_empty() {
            self.labelled(label, &line);
        }
    }

    fn image(&mut self, xray: &Xray) {
        let image = &xray.image;
        let digest = image.digest.as_ref().unwrap_or(&image.id);
        self.painted(Paint::Strong, &format!("{}  {digest}", image.reference));
        let created = image.created.split(['.', 'Z']).next().filter(|time| !time.is_empty()).map(|time| format!(", made {time}"));
        self.labelled("platform", &format!("{}{}", image.platform, created.unwrap_or_default()));
        let compressed = image.compressed_bytes.map(|bytes| format!(", {} compressed", figures::bytes(bytes)));
        let files = counted(image.files, "file", "files");
        let layers = counted(image.layers, "layer", "layers");
        self.labelled("size", &format!("{}{} in {layers}, {files}", figures::bytes(image.size_bytes), compressed.unwrap_or_default()));
        self.labelled("runs", &of_command(xray));
        let health = if image.healthcheck { "a HEALTHCHECK" } else { "no HEALTHCHECK" };
        let ports = if image.ports.is_empty() { "no ports".to_owned() } else { format!("ports {}", image.ports.join(" ")) };
        self.labelled("as", &format!("{}; {health}; {ports}", of_user(xray)));
    }

    fn secrets(&mut self, secrets: &[Secret], top: usize) {
        let (own, of_packages): (Vec<&Secret>, Vec<&Secret>) = secrets.iter().partition(|secret| secret.package.is_none());
        if own.is_empty() {
            self.labelled("secrets", "none found");
        } else {
            self.painted(Paint::Bad, &format!("  {:<LABEL$}{}", "secrets", count(own.len() as u64)));
        }
        for secret in own.iter().take(top) {
            let text = printable(with_fate(secret).as_bytes());
            self.lines.extend(wrap(&text, self.style.width, ("    ", "      ")));
        }
        self.more(own.len(), top);
        if !of_packages.is_empty() {
            self.push(&format!("    and {} in files that packages brought", count(of_packages.len() as u64)));
        }
    }

    fn layers(&mut self, xray: &Xray, top: usize) {
        let wasted = match xray.wasted_bytes {
            0 => "nothing is wasted".to_owned(),
            bytes => format!("{} wasted: replaced or deleted by later layers", figures::bytes(bytes)),
        };
        self.labelled("layers", &format!("{}; {wasted}", count(xray.image.layers)));
        for layer in largest(&xray.layers, top) {
            let wasted = match layer.wasted_bytes {
                0 => String::new(),
                bytes => format!("{} wasted", figures::bytes(bytes)),
            };
            let size = figures::bytes(layer.bytes);
            // A command of several lines is told by its first words.
            let made_by: Vec<&str> = layer.made_by.split_whitespace().collect();
            self.push(&format!("    {:>2} {size:>8} {wasted:>15}  {}", layer.number, made_by.join(" ")));
        }
        self.more(xray.layers.len(), top);
    }

    fn packages(&mut self, xray: &Xray, top: usize) {
        let part = |package: &super::model::Package| {
            format!("{} {} {}", package.name, package.version, figures::bytes(package.bytes)).replace("  ", " ")
        };
        self.listed("packages", &[of_systems(xray)]);
        self.listed("", &xray.packages.iter().take(top).map(part).collect::<Vec<_>>());
        let unowned = &xray.unowned;
        let files = counted(unowned.files, "file", "files");
        self.labelled("unowned", &format!("{} in {files} that no package owns", figures::bytes(unowned.bytes)));
        let part = |dir: &super::model::Weight| format!("{} {}", dir.path, figures::bytes(dir.bytes));
        self.listed("", &unowned.directories.iter().take(top).map(part).collect::<Vec<_>>());
    }

    fn surface(&mut self, xray: &Xray, top: usize) {
        let all = of_surface(xray);
        self.listed("surface", &all.iter().map(|(name, found)| format!("{name} {}", count(found.count))).collect::<Vec<_>>());
        for (name, found) in all.iter().filter(|(name, _)| ["setuid", "capabilities", "writable by anybody"].contains(name)) {
            let mut parts: Vec<String> = found.paths.iter().take(top.min(NAMED)).map(ToString::to_string).collect();
            let more = found.count - parts.len() as u64;
            parts.extend((more > 0).then(|| format!("and {} more", count(more))));
            self.listed(if *name == "writable by anybody" { "writable" } else { name }, &parts);
        }
    }

    fn duplicates(&mut self, xray: &Xray, top: usize) {
        if xray.duplicates.is_empty() {
            return;
        }
        let part = |group: &super::model::Duplicate| {
            format!("{} {} times: {}", figures::bytes(group.bytes), group.paths.len(), group.paths[0])
        };
        self.labelled("equal", &format!("{} spent on files that are there already", figures::bytes(xray.duplicate_bytes)));
        self.listed("", &xray.duplicates.iter().take(top.min(NAMED)).map(part).collect::<Vec<_>>());
    }

    /// How many entries of a list are left out.
    pub fn more(&mut self, all: usize, top: usize) {
        if all > top {
            self.push(&format!("    and {} more (--top, --json)", count((all - top) as u64)));
        }
    }
}

/// `dpkg 112, python 3`.
pub fn of_systems(xray: &Xray) -> String {
    let mut systems: Vec<(&str, u64)> = Vec::new();
    for package in &xray.packages {
        match systems.iter_mut().find(|(system, _)| *system == package.system) {
            Some((_, number)) => *number += 1,
            None => systems.push((&package.system, 1)),
        }
    }
    match systems.is_empty() {
        true => "none".to_owned(),
        false => systems.iter().map(|(system, number)| format!("{system} {}", count(*number))).collect::<Vec<_>>().join(", "),
    }
}
