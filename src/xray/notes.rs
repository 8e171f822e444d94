//! Notes: what of an image is worth a thought, in a line each.

use super::model::{About, Certificate};
use crate::image::{ImagePath, Tree};
use crate::pack::source::seconds_of_rfc3339;
use crate::report::figures::counted;

/// Databases of the systems' package managers: they change when a package does.
const DATABASES: &[&str] = &[
    "/var/lib/dpkg/status",
    "/lib/apk/db/installed",
    "/usr/lib/apk/db/installed",
    "/var/lib/rpm/rpmdb.sqlite",
    "/var/lib/rpm/Packages.db",
    "/usr/lib/sysimage/rpm/rpmdb.sqlite",
    "/usr/lib/sysimage/rpm/Packages.db",
];

/// A certificate that ends sooner is worth a line, in days.
const SOON: i64 = 30;
/// Packages that are older than the image by more than this are, in days.
const STALE: i64 = 30;
const DAY: i64 = 86_400;

/// When a package of the system was installed, upgraded or removed last.
pub fn packages_changed(tree: &Tree) -> Option<String> {
    let times = DATABASES.iter().filter_map(|path| tree.get(&ImagePath::from(*path))).map(|entry| entry.mtime.0);
    let time = times.max().and_then(|seconds| x509_parser::time::ASN1Time::from_timestamp(seconds).ok())?;
    let time = time.to_datetime();
    let (hour, minute, second) = time.to_hms();
    Some(format!("{}T{hour:02}:{minute:02}:{second:02}Z", time.date()))
}

/// The lines, what weighs most first.
pub fn notes(image: &About, certificates: &[Certificate]) -> Vec<String> {
    let mut notes = Vec::new();
    for certificate in certificates.iter().filter(|certificate| certificate.days_left < SOON) {
        let Certificate { path, subject, not_after, days_left, .. } = certificate;
        notes.push(match days_left {
            ..0 => format!("the certificate {path} ({subject}) ended on {not_after}"),
            _ => format!("the certificate {path} ({subject}) ends on {not_after}, in {}", counted(*days_left as u64, "day", "days")),
        });
    }
    if image.root {
        notes.push("it runs as root: give it a USER".to_owned());
    }
    if let Some(days) = age_of_packages(image).filter(|days| *days > STALE) {
        notes.push(format!(
            "no package was installed or upgraded in the {days} days before the image was made: its base, or a cached layer, is older"
        ));
    }
    if !image.healthcheck {
        notes.push("no HEALTHCHECK says whether it works".to_owned());
    }
    if is_latest(&image.reference) {
        notes.push("its name says `latest` or no version: which one it is cannot be told later".to_owned());
    }
    notes
}

/// Days from the last change of a package to when the image was made.
fn age_of_packages(image: &About) -> Option<i64> {
    let changed = seconds_of_rfc3339(image.packages_changed.as_deref()?)?;
    Some((seconds_of_rfc3339(&image.created)? - changed).div_euclid(DAY))
}

/// Whether a name of an image ends with no tag, or with `latest`. What is no such name says nothing.
fn is_latest(reference: &str) -> bool {
    match crate::image::Reference::parse(reference) {
        Ok(crate::image::Reference::Name(name)) => name.digest.is_none() && name.tag_or_latest() == Some("latest"),
        Ok(crate::image::Reference::Id(_)) | Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_says_what_and_for_how_long() {
        let image = About {
            reference: "app".into(),
            created: "2026-06-01T00:00:00Z".into(),
            packages_changed: Some("2026-01-01T12:00:00Z".into()),
            root: true,
            ..About::default()
        };
        let certificate = |days_left| Certificate {
            path: "/srv/a.pem".into(),
            subject: "CN=a".into(),
            not_after: "2026-06-02".into(),
            ends: 0,
            days_left,
        };
        let notes = notes(&image, &[certificate(-1), certificate(1), certificate(30)]);
        let starts = ["the certificate /srv/a.pem (CN=a) ended on 2026-06-02", "the certificate /srv/a.pem (CN=a) ends on 2026-06-02, in 1 day", "it runs as root", "no package was installed or upgraded in the 150 days", "no HEALTHCHECK", "its name says"];
        assert!(notes.len() == starts.len() && notes.iter().zip(starts).all(|(note, start)| note.starts_with(start)), "{notes:?}");
        let good = About { reference: "app:1.2".into(), healthcheck: true, created: image.created.clone(), packages_changed: Some(image.created.clone()), ..About::default() };
        assert_eq!(super::notes(&good, &[]), Vec::<String>::new());
    }

    #[test]
    fn only_a_name_without_a_version_is_latest() {
        for (reference, is) in [("app", true), ("host:5000/app:latest", true), ("app:1", false), ("oci:dir", false), (&format!("app@sha256:{}", "0".repeat(64)), false)] {
            assert_eq!(is_latest(reference), is, "{reference}");
        }
    }
}
