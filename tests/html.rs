//! The HTML report in a real browser: opened, searched, walked through by keys and clicks.

#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

#[path = "html/browser.rs"]
mod browser;

use std::path::PathBuf;

use browser::{Browser, Scheme};
use serde_json::json;
use slim::report::model::{FileKind, Group, Kept, Mode, Probe, Reason, RemovedPath, VerdictKind};
use slim::report::views::{Beside, View};
use slim::report::{Report, load};

const HOSTILE: [&str; 4] = [
    "</script><img src=x onerror=alert(1)><script>alert(2)<!--",
    "line\none\r\u{2028}two",
    "\u{202e}gpj.exe \u{5e9}\u{5dc}\u{5d5}\u{5dd}",
    "\"'`&amp;{{data}}${alert(3)}",
];

fn kept(path: &str, size: u64, reason: usize) -> Kept {
    let (kind, mode, reasons) = (FileKind::File, Mode(0o644), vec![reason]);
    let (more_reasons, target, same_as, package, layer, written) = (0, None, None, None, None, false);
    Kept { path: path.into(), kind, size, mode, reasons, more_reasons, target, same_as, package, layer, written }
}

fn gone(path: &str, size: u64, package: &str) -> RemovedPath {
    RemovedPath { path: path.into(), kind: FileKind::File, size, mode: Mode(0o644), package: Some(package.to_owned()), layer: None, same_as: None }
}

/// A server with a library, and what went.
fn server() -> (Report, Vec<RemovedPath>) {
    let reasons = vec![
        Reason::Touched { how: "executed".into(), process: "/usr/sbin/server".into(), probe: "start".into() },
        Reason::NeededBy { object: "/usr/sbin/server".into() },
    ];
    let files = vec![kept("/usr/lib/libserve.so", 4000, 1), kept("/usr/sbin/server", 3000, 0)];
    let removed = vec![gone("/usr/bin/perl", 9000, "dpkg:perl"), gone("/usr/share/doc/perl/copyright", 500, "dpkg:perl")];
    let mut report = Report { kept: files, reasons, ..Report::default() };
    report.verdict.kind = VerdictKind::Verified;
    report.verdict.line = "VERIFIED: 1 probe, 1 answer: 1 whole".into();
    report.source.reference = "shop/web:1".into();
    (report.source.size_bytes, report.source.files) = (16_500, 4);
    (report, removed)
}

/// The page of a report in a directory of its own.
fn page(report: &Report, removed: Option<&[RemovedPath]>) -> (tempfile::TempDir, PathBuf) {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("report.html");
    std::fs::write(&file, View::Html.of(report, Beside { removed, findings: &[] }).unwrap()).unwrap();
    (home, file)
}

fn assert_quiet(browser: &Browser) {
    assert!(browser.complaints().is_empty(), "{:?}", browser.complaints());
    let elsewhere: Vec<_> = browser.requests().into_iter().filter(|url| !url.ends_with("/report.html")).collect();
    assert!(elsewhere.is_empty(), "{elsewhere:?}");
    assert!(!browser.requests().is_empty(), "requests are seen");
}

const FOUND: &str = "document.getElementById('found').textContent";
const WHY: &str = "document.getElementById('why').textContent";
const PLACE: &str = "[...document.querySelectorAll('#map-path button')].map(b => b.textContent).join(' ')";

const IN_SIGHT: &str = "(() => {
  const row = document.querySelector('.row[aria-selected=true]').getBoundingClientRect();
  const list = document.getElementById('rows').getBoundingClientRect();
  return row.top >= list.top && row.bottom <= list.bottom + 1;
})()";

fn cell(name: &str) -> String {
    format!("[...document.querySelectorAll('.cell')].find(c => c.title.startsWith({name:?}))")
}

#[test]
#[ignore = "needs chromium: tests/run installs it"]
fn a_hundred_thousand_files_open_and_are_searched_in_a_moment() {
    let path = |n: u64| format!("/usr/lib/node_modules/m{}/dist/d{}/f{n}.js", n % 900, n % 13);
    let (mut report, _) = server();
    report.kept = (0..60_000).map(|n| kept(&path(n), n % 5000, 0)).collect();
    let removed: Vec<_> = (60_000..100_000).map(|n| gone(&path(n), n % 7000, &format!("node:m{}", n % 900))).collect();
    let (_home, file) = page(&report, Some(&removed));
    let size = std::fs::metadata(&file).unwrap().len();
    assert!(size < 6_000_000, "{size} bytes, 60 a file");
    let mut browser = Browser::start();
    browser.open(&file, 1280, Scheme::Light);
    assert_eq!(browser.text(FOUND), "100,000 paths");
    // Of a machine that has other things to do; on an idle one it is half a second.
    let opened = browser.eval("performance.now()").as_f64().unwrap();
    assert!(opened < 20_000.0, "{opened} ms");
    assert!(browser.eval("document.querySelectorAll('*').length").as_u64().unwrap() < 5000, "only what is in sight is drawn");
    browser.write("#query", "/m77/");
    let want = (0..100_000).filter(|n| n % 900 == 77).count();
    browser.until(&format!("{FOUND} === '{want} of 100,000 paths match'"));
    let spent = browser.eval("(() => { const began = performance.now(); search(); return performance.now() - began; })()");
    assert!(spent.as_f64().unwrap() < 5000.0, "{spent} ms for a search");
    assert_eq!(browser.eval("[...document.querySelectorAll('.row')].every(r => r.querySelector('mark').textContent === '/m77/')"), true);
    // On a phone the list is so long that it is scrolled faster than its rows move.
    for width in [1280, 320] {
        browser.open(&file, width, Scheme::Light);
        browser.eval("document.getElementById('rows').focus()");
        browser.key("End");
        browser.until("document.querySelector('.row[aria-selected=true]')?.getAttribute('aria-rowindex') === '100000'");
        browser.until(IN_SIGHT);
        browser.eval("document.getElementById('rows').scrollTop /= 2");
        browser.until("Math.abs(document.querySelector('.row').getAttribute('aria-rowindex') - 50000) < 50");
        browser.key("Home");
        browser.until("document.querySelector('.row[aria-selected=true]')?.getAttribute('aria-rowindex') === '1'");
        browser.until(IN_SIGHT);
    }
    assert_quiet(&browser);
}

#[test]
#[ignore = "needs chromium: tests/run installs it"]
fn the_map_is_walked_by_keys_and_clicks_by_directory_and_by_package() {
    let (report, removed) = server();
    let (_home, file) = page(&report, Some(&removed));
    let mut browser = Browser::start();
    browser.open(&file, 1280, Scheme::Light);
    assert_eq!(browser.text(PLACE), "/");
    browser.eval("document.querySelector('.cell').focus()");
    assert_eq!(browser.text("document.activeElement.title"), "/usr: 7.00 kB stay, 9.50 kB go");
    browser.key("Enter");
    assert_eq!(browser.text(PLACE), "/ usr");
    assert_eq!(browser.text("document.getElementById('map-said').textContent"), "/usr: 7.00 kB stay, 9.50 kB go");
    browser.key("ArrowRight");
    assert_eq!(browser.eval("document.activeElement === document.querySelectorAll('.cell')[1]"), true, "keys move");
    browser.key("Backspace");
    assert_eq!(browser.text(PLACE), "/");
    // The frame has the focus and does not hide what lies in it.
    browser.click(&cell("/usr/bin/perl"));
    assert!(browser.text(WHY).contains("never touched"));
    browser.click("document.querySelector('[value=package]')");
    browser.eval(&format!("{}.focus()", cell("dpkg:perl")));
    browser.key("Enter");
    assert_eq!(browser.text(PLACE), "all packages dpkg:perl");
    browser.click("document.getElementById('map-back')");
    assert_eq!(browser.text(PLACE), "all packages");
    browser.write("#query", "perl");
    browser.until("document.querySelector('#map-cells').classList.contains('searching')");
    let hits = "[...document.querySelectorAll('.cell.hit')].map(c => c.title.split(':')[0]).sort().join()";
    assert_eq!(browser.text(hits), "/usr/bin/perl,/usr/share/doc/perl/copyright,dpkg");
    browser.click("document.querySelector('[value=directory]')");
    assert_eq!(browser.text(hits), "/usr,/usr/bin,/usr/bin/perl,/usr/share", "directories of what was found are marked too");
    assert_quiet(&browser);
}

#[test]
#[ignore = "needs chromium: tests/run installs it"]
fn why_a_file_stays_is_followed_back_to_what_happened() {
    let (report, removed) = server();
    let (_home, file) = page(&report, Some(&removed));
    let mut browser = Browser::start();
    browser.open(&file, 1280, Scheme::Dark);
    browser.write("#query", "needed by");
    browser.until(&format!("{FOUND} === '1 of 4 paths match'"));
    browser.click("document.querySelector('.row')");
    browser.until(&format!("{WHY}.includes('needed by /usr/sbin/server')"));
    assert!(browser.text(WHY).contains("executed by /usr/sbin/server at the start"), "the chain goes on");
    // The server is not among what was searched for: the search ends.
    browser.click("document.querySelector('#why button')");
    assert_eq!(browser.text("document.querySelector('.row[aria-selected=true] .path').textContent"), "/usr/sbin/server");
    assert_eq!(browser.text(FOUND), "4 paths");
    browser.eval("document.getElementById('rows').focus()");
    browser.key("Home");
    browser.until(&format!("{WHY}.includes('/usr/bin/perl')"));
    browser.key("ArrowDown");
    browser.until(&format!("{WHY}.includes('/usr/lib/libserve.so')"));
    let selected = "document.getElementById(document.getElementById('rows').getAttribute('aria-activedescendant')).textContent";
    assert!(browser.text(selected).contains("libserve.so"), "assistive programs hear which row it is");
    assert_quiet(&browser);
}

#[test]
#[ignore = "needs chromium: tests/run installs it"]
fn hostile_names_are_shown_and_nothing_of_them_runs() {
    let (mut report, mut removed) = server();
    for (n, name) in HOSTILE.iter().enumerate() {
        report.kept.push(kept(&format!("/srv/{name}/{name}"), 1000, 2 + n));
        report.reasons.push(Reason::Include { flag: (*name).to_owned() });
        removed.push(gone(&format!("/opt/{name}"), 1000, name));
        report.warnings.push((*name).to_owned());
        report.probes.push(Probe { name: (*name).to_owned(), failure: Some((*name).to_owned()), ..Probe::default() });
        report.source.reference.push_str(name);
        report.verdict.line.push_str(name);
    }
    let (_home, file) = page(&report, Some(&removed));
    let mut browser = Browser::start();
    for scheme in [Scheme::Light, Scheme::Dark] {
        browser.open(&file, 320, scheme);
        browser.eval("document.querySelectorAll('details').forEach(d => { d.open = true; })");
        browser.until("document.querySelectorAll('td').length > 20");
        for name in ["img", "onerror", "alert", "gpj"] {
            browser.write("#query", name);
            browser.until(&format!("document.getElementById('query').value === {name:?} && {FOUND}.includes('match')"));
            browser.eval("document.querySelector('.row')?.click()");
        }
        browser.click("document.querySelector('[value=package]')");
        assert_eq!(browser.eval("document.querySelectorAll('img, body script:not([type])').length"), 1, "the page's own script");
        assert_eq!(browser.eval("/[\\u202e\\u2028]/.test(document.body.textContent)"), false);
        assert!(browser.text("document.querySelector('h1').textContent").contains("</script><img src=x"), "shown as it is");
        assert_eq!(browser.eval("document.documentElement.scrollWidth <= innerWidth"), true);
    }
    assert_quiet(&browser);
}

#[test]
#[ignore = "needs chromium: tests/run installs it"]
fn the_policy_lets_nothing_in() {
    let (report, removed) = server();
    let (_home, file) = page(&report, Some(&removed));
    let mut browser = Browser::start();
    browser.open(&file, 1280, Scheme::Light);
    assert_quiet(&browser);
    browser.eval("document.body.append(Object.assign(document.createElement('script'), { textContent: 'window.ran = 1' }))");
    assert_eq!(browser.eval("typeof window.ran"), "undefined", "a script that is not the page's own does not run");
    browser.eval("document.body.append(Object.assign(document.createElement('img'), { src: 'x.png' }))");
    browser.until("fetch('y').then(() => false, () => true)");
    let complaints = browser.complaints().concat();
    for directive in ["script-src", "img-src", "connect-src"] {
        assert!(complaints.contains(directive), "{directive}: {complaints}");
    }
}

#[test]
#[ignore = "needs chromium: tests/run installs it"]
fn it_is_read_on_a_phone_in_the_dark_and_by_keyboard_and_screen_reader() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("report.html");
    let report = load("fixtures/report/failed.report.json".as_ref()).unwrap();
    std::fs::write(&file, View::Html.of(&report, Beside::default()).unwrap()).unwrap();
    let mut browser = Browser::start();
    let mut backs = Vec::new();
    for (width, scheme) in [(320, Scheme::Light), (320, Scheme::Dark), (1280, Scheme::Light), (1280, Scheme::Dark)] {
        browser.open(&file, width, scheme);
        browser.eval("document.querySelectorAll('details').forEach(d => { d.open = true; })");
        assert_eq!(browser.eval("document.documentElement.scrollWidth <= innerWidth"), true, "{width} {scheme:?}");
        backs.push(browser.text("getComputedStyle(document.body).backgroundColor"));
        let faint = browser.eval(CONTRAST);
        assert_eq!(faint, json!([]), "{scheme:?}");
    }
    assert_ne!(backs[2], backs[3]);
    let titles = browser.text("[...document.querySelectorAll('h1, h2')].map(h => h.textContent).join('; ')");
    let wanted = "FAILED: 1 of 2 answers differs: GET /about.html; last run: no new path; Answers that differ; \
        Last lines of the slim image's log; Secrets that are still present; Before and after; 1 warning; Attack surface; Why files stay; What stays and what goes; Files; \
        Probes: 1 of 2 answers; What looks like a secret: 2, 1 gone; Changes of the config; How it ran; Files of your own; Walked directories; Touched and left out; Time";
    assert_eq!(titles, wanted, "the verdict comes first");
    let cells = browser.text("[...document.querySelectorAll('td, .figures')].map(c => c.textContent).join('; ')");
    for wanted in ["GET /about.html; 200 text/html, 5 bytes; 500 text/html, 4 bytes", "188 MB → 5.46 MB (-97.1 %)", "programs; 6; 2"] {
        assert!(cells.contains(wanted), "{wanted} in {cells}");
    }
    // Once around by Tab: everything that acts is on the way, and one sees where one is.
    browser.open(&file, 1280, Scheme::Light);
    let mut way = Vec::new();
    for _ in 0..30 {
        browser.key("Tab");
        let here = "(() => { const e = document.activeElement, s = getComputedStyle(e); \
                    return [e.id || e.name || e.className || e.textContent, s.outlineStyle]; })()";
        let here = browser.eval(here);
        let (name, outline) = (here[0].as_str().unwrap().to_owned(), here[1].as_str().unwrap());
        assert!(outline != "none" || name.contains("document") || name.is_empty(), "{name} has no visible focus");
        way.push(name);
    }
    for wanted in ["skip", "by", "query", "state", "order", "rows", "Time"] {
        assert!(way.iter().any(|name| name == wanted), "{wanted} in {way:?}");
    }
    assert!(way.iter().any(|name| name.starts_with("cell")), "{way:?}");
    let told = browser.told();
    for (role, name) in &told {
        let acts = ["button", "radio", "searchbox", "combobox", "grid", "region"].contains(&role.as_str());
        assert!(!acts || !name.is_empty(), "a {role} without a name");
    }
    for role in ["main", "banner", "contentinfo", "navigation", "search", "complementary", "heading", "grid", "gridcell"] {
        assert!(told.iter().any(|(is, _)| is == role), "no {role}");
    }
    assert_quiet(&browser);
}

/// Pairs of text and background whose contrast is below 4.5 (WCAG 2.2, 1.4.3).
const CONTRAST: &str = "(() => {
  const style = getComputedStyle(document.documentElement);
  const light = (name) => {
    const hex = style.getPropertyValue('--' + name).trim().replace(/^#(.)(.)(.)$/, '#$1$1$2$2$3$3');
    const parts = [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16) / 255);
    const [r, g, b] = parts.map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ratio = (a, b) => (Math.max(light(a), light(b)) + 0.05) / (Math.min(light(a), light(b)) + 0.05);
  const backs = ['back', 'panel', 'kept', 'gone', 'stripe', 'chosen', 'mark'].map((back) => ['ink', back]);
  const inks = ['faint', 'good', 'caution', 'bad'].map((ink) => [ink, 'back']);
  return [...backs, ...inks, ['faint', 'panel'], ['faint', 'chosen']].filter(([a, b]) => !(ratio(a, b) >= 4.5)).map((pair) => pair.join(' on '));
})()";

#[test]
#[ignore = "needs chromium: tests/run installs it"]
fn without_the_list_directories_stand_for_what_went() {
    let (mut report, _) = server();
    report.removed.groups = vec![Group { directory: "/usr/share".into(), files: 40, bytes: 5000 }];
    let (_home, file) = page(&report, None);
    let mut browser = Browser::start();
    browser.open(&file, 1280, Scheme::Light);
    browser.click(&cell("/usr/share/(40 files)"));
    browser.until(&format!("{WHY}.includes('was not beside the report')"));
    assert_quiet(&browser);
}
