//! Purl: a package's name that every tool understands ("Package URL specification", and its `types` for what each
//! part means). Only written here, never read.

use super::embedded::Language;
use super::{Os, Package, System};

/// Names that the readers of languages give to what no registry has.
const UNREGISTERED: &[&str] = &["composer-autoload"];

/// The name of an installed package; `None` for what has none: files that stand together, extensions of PHP.
pub fn of_package(package: &Package, os: Option<&Os>) -> Option<String> {
    let Package { system, name, version, architecture, .. } = package;
    let distro = os.filter(|os| !os.version.is_empty());
    let long = distro.map(|os| format!("{}-{}", os.id, os.version));
    let arch = Some(architecture.clone()).filter(|text| !text.is_empty());
    let id = os.map_or("", |os| os.id.as_str());
    match system {
        System::Dpkg => Some(write(["deb", id, name, version], &[("arch", arch), ("distro", long)])),
        System::Apk => {
            let distro = distro.map(|os| os.version.clone());
            Some(write(["apk", id, &name.to_lowercase(), version], &[("arch", arch), ("distro", distro)]))
        }
        System::Rpm => {
            let (epoch, version) = version.split_once(':').map_or((None, version.as_str()), |(epoch, rest)| (Some(epoch), rest));
            let epoch = epoch.map(str::to_owned).filter(|epoch| epoch != "0");
            Some(write(["rpm", vendor(id), name, version], &[("arch", arch), ("distro", long), ("epoch", epoch)]))
        }
        // What is described by nothing was built or unpacked in its place: an interpreter, a run-time.
        System::Python | System::Ruby if package.description.is_empty() => Some(generic(name, version)),
        System::Python => Some(in_language(Language::Python, name, version)?),
        System::Node => in_language(Language::Node, name, version),
        System::Ruby => in_language(Language::Ruby, name, version),
        System::Java => (!name.starts_with('/')).then(|| generic(name, version)),
        System::Php if UNREGISTERED.contains(&name.as_str()) => None,
        System::Php => name.split_once('/').map(|(vendor, name)| write(["composer", vendor, name, version], &[])),
        System::DotNet => (!version.is_empty()).then(|| write(["nuget", "", name, version], &[])),
    }
}

/// The name of a package of a language's registry; `None` where its name lacks a part.
pub fn in_language(language: Language, name: &str, version: &str) -> Option<String> {
    let (namespace, last) = name.rsplit_once('/').unwrap_or(("", name));
    if last.is_empty() {
        return None;
    }
    match language {
        // A path of this machine names nothing.
        Language::Go if name.starts_with('.') || name.starts_with('/') => None,
        Language::Go => Some(write(["golang", &namespace.to_lowercase(), &last.to_lowercase(), version], &[])),
        Language::Rust => Some(write(["cargo", "", name, version], &[])),
        Language::Java => name.split_once(':').map(|(group, name)| write(["maven", group, name, version], &[])),
        Language::Node => Some(write(["npm", &namespace.to_lowercase(), &last.to_lowercase(), version], &[])),
        Language::Python => Some(write(["pypi", "", &name.to_lowercase().replace('_', "-"), version], &[])),
        Language::Ruby => Some(write(["gem", "", name, version], &[])),
    }
}

fn generic(name: &str, version: &str) -> String {
    write(["generic", "", name, version], &[])
}

/// The namespace of rpm packages, where it is not the distribution's ID (`types/rpm`).
fn vendor(id: &str) -> &str {
    match id {
        "rhel" => "redhat",
        "almalinux" => "alma",
        "ol" => "oracle",
        "amzn" => "amazon",
        id if id.starts_with("opensuse") => "opensuse",
        id => id,
    }
}

/// Type, namespace, name and version; qualifiers in the order of their names.
pub fn write([kind, namespace, name, version]: [&str; 4], qualifiers: &[(&str, Option<String>)]) -> String {
    let mut text = format!("pkg:{kind}/");
    for part in namespace.split('/').filter(|part| !part.is_empty()) {
        text += &encoded(part);
        text.push('/');
    }
    text += &encoded(name);
    if !version.is_empty() {
        text.push('@');
        text += &encoded(version);
    }
    let known = qualifiers.iter().filter_map(|(key, value)| Some(format!("{key}={}", encoded(value.as_deref()?))));
    let known: Vec<String> = known.collect();
    if !known.is_empty() {
        text.push('?');
        text += &known.join("&");
    }
    text
}

/// What the specification lets stand stands, everything else is `%XX`.
fn encoded(text: &str) -> String {
    let stands = |b: u8| b.is_ascii_alphanumeric() || b".-_~:".contains(&b);
    text.bytes().map(|b| if stands(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn package(system: System, name: &str, version: &str, arch: &str) -> Package {
        let description = BTreeSet::from(["/d".into()]);
        Package { architecture: arch.to_owned(), description, ..Package::new(system, name, version) }
    }

    #[test]
    fn every_system_names_its_packages_as_the_specification_says() {
        let os = |id: &str, version: &str| Os { id: id.to_owned(), version: version.to_owned() };
        let (debian, fedora, alpine) = (os("debian", "12.5"), os("rhel", "9.3"), os("alpine", "3.19.1"));
        for (os, package, purl) in [
            (&debian, package(System::Dpkg, "libstdc++6", "1:12.2.0-14+b1", "amd64"), Some("pkg:deb/debian/libstdc%2B%2B6@1:12.2.0-14%2Bb1?arch=amd64&distro=debian-12.5")),
            (&fedora, package(System::Rpm, "curl", "2:8.2-1.el9", "x86_64"), Some("pkg:rpm/redhat/curl@8.2-1.el9?arch=x86_64&distro=rhel-9.3&epoch=2")),
            (&alpine, package(System::Apk, "musl", "1.2.4-r2", "x86_64"), Some("pkg:apk/alpine/musl@1.2.4-r2?arch=x86_64&distro=3.19.1")),
            (&debian, package(System::Python, "Foo_Bar", "1.0", ""), Some("pkg:pypi/foo-bar@1.0")),
            (&debian, package(System::Node, "@Scope/Name", "1.0", ""), Some("pkg:npm/%40scope/name@1.0")),
            (&debian, package(System::Php, "monolog/monolog", "2.0", ""), Some("pkg:composer/monolog/monolog@2.0")),
            (&debian, package(System::Php, "opcache", "", ""), None),
            (&debian, package(System::Java, "/app/lib", "", ""), None),
            (&debian, package(System::Node, "a\"\n?#", "", ""), Some("pkg:npm/a%22%0A%3F%23")),
        ] {
            assert_eq!(of_package(&package, Some(os)).as_deref(), purl);
        }
        assert_eq!(of_package(&package(System::Dpkg, "a", "1", ""), None).as_deref(), Some("pkg:deb/a@1"));
    }

    #[test]
    fn languages_name_what_is_in_their_registries() {
        for (language, name, purl) in [
            (Language::Go, "github.com/A/b", Some("pkg:golang/github.com/a/b@1")),
            (Language::Go, "./here", None),
            (Language::Java, "org.x:y", Some("pkg:maven/org.x/y@1")),
            (Language::Java, "y", None),
            (Language::Rust, "serde", Some("pkg:cargo/serde@1")),
        ] {
            assert_eq!(in_language(language, name, "1").as_deref(), purl, "{name}");
        }
    }
}
