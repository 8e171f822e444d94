//! Python distributions, tested.

use super::super::{Packages, read_with, tree_of};
use super::*;

const SITE: &str = "/venv/lib/python3.11/site-packages";

/// A tree of files below [`SITE`] and others.
fn packages(below: &[&str], others: &[&str], texts: &[(&str, &str)]) -> Packages {
    let below: Vec<String> = below.iter().map(|path| format!("{SITE}/{path}")).collect();
    let lines: Vec<&str> = below.iter().map(String::as_str).chain(others.iter().copied()).collect();
    let texts: Vec<(String, &str)> = texts
        .iter()
        .map(|(path, text)| (if path.starts_with('/') { (*path).to_owned() } else { format!("{SITE}/{path}") }, *text))
        .collect();
    let texts: Vec<(&str, &str)> = texts.iter().map(|(path, text)| (path.as_str(), *text)).collect();
    read_with(&tree_of(&lines), &texts, read)
}

fn files(packages: &Packages, name: &str) -> Vec<String> {
    let package = packages.iter().find(|package| package.name == name).unwrap_or_else(|| panic!("no {name}"));
    package.files.iter().map(|path| path.encode().replace(&format!("{SITE}/"), "")).collect()
}

fn needed(packages: &Packages, name: &str) -> Vec<String> {
    let start = packages.iter().position(|package| package.name == name).unwrap();
    let all = packages.closure([start]).into_keys().filter(|index| *index != start);
    all.map(|index| packages.at(index).name.clone()).collect()
}

#[test]
fn a_record_names_files_also_beside_the_modules_and_compiled_ones_follow() {
    let packages = packages(
        &[
            "flask/__init__.py",
            "flask/__pycache__/__init__.cpython-311.pyc",
            "flask/stranger.py",
            "Flask-3.0.dist-info/METADATA",
            "Flask-3.0.dist-info/RECORD",
            "Flask-3.0.dist-info/licenses/LICENSE",
            "a,b.py",
        ],
        &["/venv/bin/flask", "/etc/passwd", "/venv/pyvenv.cfg"],
        &[
            ("Flask-3.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: Flask\nVersion: 3.0\n\nName: not this\n"),
            (
                "Flask-3.0.dist-info/RECORD",
                "flask/__init__.py,sha256=x,1\r\n../../../bin/flask,,\n../../../../etc/passwd,,\n../../../pyvenv.cfg,,\n\"a,b.py\",,\ngone.py,,\nflask,,\n",
            ),
        ],
    );
    assert_eq!(
        files(&packages, "Flask"),
        [
            "/venv/bin/flask",
            "Flask-3.0.dist-info/METADATA",
            "Flask-3.0.dist-info/RECORD",
            "Flask-3.0.dist-info/licenses/LICENSE",
            "a,b.py",
            "flask/__init__.py",
            "flask/__pycache__/__init__.cpython-311.pyc",
        ]
    );
    let flask = packages.iter().next().unwrap();
    assert_eq!((flask.version.as_str(), flask.description.len(), flask.in_place), ("3.0", 2, false));
    assert_eq!(packages.warnings.len(), 1);
}

#[test]
fn needs_are_met_in_the_same_environment_and_extras_only_when_asked_for() {
    let packages = packages(
        &[
            "a-1.dist-info/METADATA",
            "uvicorn-1.dist-info/METADATA",
            "uvloop-1.dist-info/METADATA",
            "Type_Ext-1.dist-info/METADATA",
            "colorama-1.dist-info/METADATA",
            "docs-1.dist-info/METADATA",
        ],
        &["/usr/lib/python3/dist-packages/Type.Ext-0.egg-info", "/usr/lib/python3/dist-packages/other-1.egg-info"],
        &[
            (
                "a-1.dist-info/METADATA",
                "Name: a\nLicense: all of\n        \n        it\nRequires-Dist: uvicorn[standard]>=0.1\nRequires-Dist: type.ext; python_version<'3.12'\nRequires-Dist: other\nRequires-Dist: colorama; sys_platform == 'win32'\nRequires-Dist: docs; extra == 'docs'\n",
            ),
            ("uvicorn-1.dist-info/METADATA", "Name: uvicorn\nRequires-Dist: uvloop; extra == 'standard'\nRequires-Dist: a[x]\n"),
            ("/usr/lib/python3/dist-packages/Type.Ext-0.egg-info", "Name: type-ext-of-the-system\n"),
        ],
    );
    assert_eq!(needed(&packages, "a"), ["Type_Ext", "other", "uvicorn", "uvloop"]);
    assert_eq!(needed(&packages, "uvloop"), [""; 0]);
}

#[test]
fn without_a_list_names_of_modules_tell_and_listed_files_stay_with_their_owner() {
    let packages = packages(
        &[
            "zope.interface-5.egg-info/PKG-INFO",
            "zope.interface-5.egg-info/namespace_packages.txt",
            "zope.interface-5.egg-info/top_level.txt",
            "zope.interface-5-nspkg.pth",
            "zope/interface/__init__.py",
            "zope/event/__init__.py",
            "zope_event-1.dist-info/RECORD",
            "cffi-1.egg-info/PKG-INFO",
            "cffi-1.egg-info/top_level.txt",
            "cffi/api.py",
            "_cffi_backend.cpython-311-x86_64-linux-gnu.so",
            "Old-1.egg-info",
            "old.py",
            "older.py",
            "egg-2-py3.11.egg/EGG-INFO/PKG-INFO",
            "egg-2-py3.11.egg/egg/x.py",
        ],
        &[],
        &[
            ("zope.interface-5.egg-info/PKG-INFO", "Name: zope.interface"),
            ("zope.interface-5.egg-info/top_level.txt", "zope\n"),
            ("zope.interface-5.egg-info/namespace_packages.txt", "zope\n"),
            ("zope_event-1.dist-info/RECORD", "zope/event/__init__.py,,"),
            ("cffi-1.egg-info/top_level.txt", "_cffi_backend\ncffi\n../../../../etc\n"),
        ],
    );
    let owner = |path: &str| packages.owner(&format!("{SITE}/{path}").as_str().into()).map(|package| package.name.clone());
    assert_eq!(owner("zope/interface/__init__.py").as_deref(), Some("zope.interface"));
    assert_eq!(owner("zope.interface-5-nspkg.pth").as_deref(), Some("zope.interface"));
    assert_eq!(owner("zope/event/__init__.py").as_deref(), Some("zope_event"));
    assert_eq!(owner("_cffi_backend.cpython-311-x86_64-linux-gnu.so").as_deref(), Some("cffi"));
    assert_eq!(owner("cffi/api.py").as_deref(), Some("cffi"));
    assert_eq!(owner("old.py").as_deref(), Some("Old"));
    assert_eq!(owner("older.py"), None);
    assert_eq!(owner("egg-2-py3.11.egg/egg/x.py").as_deref(), Some("egg"));
}

#[test]
fn sources_installed_in_place_belong_to_their_distribution() {
    let packages = packages(
        &["mine-1.dist-info/direct_url.json", "mine-1.dist-info/RECORD", "__editable__.mine-1.pth", "evil-1.dist-info/direct_url.json", "dev.egg-link", "easy-install.pth"],
        &[
            "/app/src/mine/__init__.py",
            "/app/.git/HEAD",
            "/app/env/pyvenv.cfg",
            "/dev-src/dev.egg-info/PKG-INFO",
            "/dev-src/dev/x.py",
            "/usr/lib/x",
        ],
        &[
            ("mine-1.dist-info/direct_url.json", r#"{"url":"file:///app","dir_info":{"editable":true}}"#),
            ("mine-1.dist-info/RECORD", "__editable__.mine-1.pth,,"),
            ("__editable__.mine-1.pth", "/app/src\nimport os\n"),
            ("evil-1.dist-info/direct_url.json", r#"{"url":"file:///us%72","dir_info":{"editable":true}}"#),
            ("dev.egg-link", "/dev-src\n."),
            ("/dev-src/dev.egg-info/PKG-INFO", "Name: dev"),
        ],
    );
    assert_eq!(
        files(&packages, "mine"),
        ["/app/src/mine/__init__.py", "__editable__.mine-1.pth", "mine-1.dist-info/RECORD", "mine-1.dist-info/direct_url.json"]
    );
    assert_eq!(files(&packages, "evil"), ["evil-1.dist-info/direct_url.json"]);
    assert_eq!(files(&packages, "dev"), ["/dev-src/dev/x.py", "/dev-src/dev.egg-info/PKG-INFO", "dev.egg-link", "easy-install.pth"]);
    assert!(packages.iter().find(|package| package.name == "mine").unwrap().in_place);
}

#[test]
fn many_that_claim_the_same_modules_are_stopped() {
    let names: Vec<String> = (0..30).map(|n| format!("d{n}-1.egg-info/top_level.txt")).collect();
    let modules: Vec<String> = (0..100).map(|n| format!("shared/m{n}.py")).collect();
    let below: Vec<&str> = names.iter().chain(&modules).map(String::as_str).collect();
    let texts: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "shared\n")).collect();
    let packages = packages(&below, &[], &texts);
    let claims: usize = packages.iter().map(|package| package.files.len()).sum();
    assert!(claims < 30 * 100 && files(&packages, "d0").len() > 100, "{claims}");
    assert_eq!(packages.warnings.len(), 1);
}

#[test]
fn what_a_distribution_brings_along_is_its_own() {
    let packages = packages(
        &["setuptools/_vendor/wheel-1.dist-info/METADATA", "setuptools-1.dist-info/RECORD"],
        &[],
        &[("setuptools-1.dist-info/RECORD", "setuptools/_vendor/wheel-1.dist-info/METADATA,,")],
    );
    assert_eq!(packages.iter().count(), 1);
    assert_eq!(files(&packages, "setuptools").len(), 2);
}

#[test]
fn sections_of_requires_txt_are_conditions() {
    let found = egg_requires("a>=1\n\n[:python_version < '3']\nb\n\n[x:os_name == 'nt']\nc\n[y]\nd\n");
    let markers: Vec<(&str, &str)> = found.iter().map(|one| (one.name.as_str(), one.marker.as_str())).collect();
    assert_eq!(markers, [("a", ""), ("b", "(python_version < '3')"), ("c", "extra == 'x' and (os_name == 'nt')"), ("d", "extra == 'y'")]);
}
