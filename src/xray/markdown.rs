//! Markdown: an image's contents as a page (GitHub Flavored Markdown), the most important first.

use super::model::Xray;
use super::show::{largest, of_command, of_surface, of_systems, of_user, with_fate};
use crate::report::figures::{self, count};
use crate::report::views::markdown::{code, text};

/// The page; `top`: so many rows of each table.
pub fn markdown(xray: &Xray, top: usize) -> String {
    let image = &xray.image;
    let mut page = format!("### {}\n\n| | |\n|---|---|\n", code(&image.reference));
    let mut row = |name: &str, value: String| page.push_str(&format!("| {name} | {value} |\n"));
    row("digest", code(image.digest.as_ref().unwrap_or(&image.id)));
    row("platform", text(&image.platform));
    row("made", text(&image.created));
    row("size", figures::bytes(image.size_bytes));
    if let Some(bytes) = image.compressed_bytes {
        row("compressed", figures::bytes(bytes));
    }
    row("runs", code(&of_command(xray)));
    row("as", text(&of_user(xray)));
    row("HEALTHCHECK", if image.healthcheck { "yes" } else { "no" }.to_owned());
    row("ports", text(&image.ports.join(" ")));
    row("wasted by layers", figures::bytes(xray.wasted_bytes));
    row("spent on equal files", figures::bytes(xray.duplicate_bytes));
    for (name, found) in of_surface(xray) {
        row(name, count(found.count));
    }
    for note in &xray.notes {
        page.push_str(&format!("\nnote: {}\n", text(note)));
    }
    table(&mut page, "secrets", ["secret", "package"], xray.secrets.len(), top, |at| {
        let secret = &xray.secrets[at];
        [text(&with_fate(secret)), secret.package.as_deref().map(code).unwrap_or_default()]
    });
    let layers = largest(&xray.layers, top);
    table(&mut page, "layers", ["layer, size, wasted", "made by"], layers.len(), top, |at| {
        let layer = layers[at];
        [format!("{}, {}, {}", layer.number, figures::bytes(layer.bytes), figures::bytes(layer.wasted_bytes)), code(&layer.made_by)]
    });
    table(&mut page, &format!("packages: {}", text(&of_systems(xray))), ["package", "size"], xray.packages.len(), top, |at| {
        let package = &xray.packages[at];
        let name = format!("{}:{} {}", package.system, package.name, package.version);
        [code(name.trim_end()), figures::bytes(package.bytes)]
    });
    table(&mut page, "files that no package owns", ["directory", "size"], xray.unowned.directories.len(), top, |at| {
        let directory = &xray.unowned.directories[at];
        [code(&directory.path.to_string()), figures::bytes(directory.bytes)]
    });
    table(&mut page, "equal files", ["paths", "spent"], xray.duplicates.len(), top, |at| {
        let group = &xray.duplicates[at];
        let paths: Vec<String> = group.paths.iter().take(top).map(|path| code(&path.to_string())).collect();
        [paths.join(" "), figures::bytes(group.spent_bytes)]
    });
    table(&mut page, "certificates", ["certificate", "ends"], xray.certificates.len(), top, |at| {
        let certificate = &xray.certificates[at];
        [code(&format!("{} {}", certificate.path, certificate.subject)), text(&certificate.not_after)]
    });
    for warning in &xray.warnings {
        page.push_str(&format!("\nwarning: {}\n", text(warning)));
    }
    page
}

/// A table under its title, cut after `top` rows.
fn table(page: &mut String, title: &str, head: [&str; 2], rows: usize, top: usize, row: impl Fn(usize) -> [String; 2]) {
    if rows == 0 {
        return;
    }
    page.push_str(&format!("\n#### {title}\n\n| {} | {} |\n|---|---|\n", head[0], head[1]));
    for [left, right] in (0..rows.min(top)).map(row) {
        page.push_str(&format!("| {left} | {right} |\n"));
    }
    if rows > top {
        page.push_str(&format!("\nand {} more\n", count((rows - top) as u64)));
    }
}
