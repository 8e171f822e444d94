//! Why: what a report says of a path, followed back to what happened.

use slim::report::load_removed;

use super::{golden, tell, verified, written};

#[test]
fn why_follows_each_reason_back_to_what_happened() {
    let mut finished = verified();
    let (_home, path) = written(&mut finished);
    let report = &finished.report;
    let removed = load_removed(&path, report).unwrap();
    let mut text = String::new();
    for query in [
        "/usr/lib/libc.so.6",
        "/lib/libssl.so.3",
        "/usr/bin/dash",
        "/bin/sh",
        "/usr/lib",
        "/var/www",
        "libssl*",
        "bash",
        "/usr/share/doc/pkg07/copyright",
        "/bin/curl",
        "/etc/hosts",
        "/no/such/file",
        "no-such-name",
    ] {
        text.push_str(&format!("$ slim why {query}\n{}\n", tell(report, removed.as_deref(), query)));
    }
    text.push_str("(without the list of removed paths)\n");
    for query in ["/usr/share/doc/pkg07/copyright", "bash"] {
        text.push_str(&format!("$ slim why {query}\n{}\n", tell(report, None, query)));
    }
    golden("why.txt", &text);
}
