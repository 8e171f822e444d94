//! Trim: what of a package that is kept whole serves no running program, and which packages serve only the
//! installing of others, as data. What was touched stays all the same.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use globset::GlobSet;

use super::draft::Draft;
use super::own::{matches_any, set};
use super::whole;
use crate::image::ImagePath;
use crate::packages::{Package, System};

/// Files of all systems that are for people, for compilers, and for package managers.
const NOT_FOR_RUNNING: &[&str] = &[
    // Copies of all time zones, with other rules for leap seconds.
    "/usr/share/zoneinfo/{posix,right}/**",
    // Documentation.
    "/usr/share/{doc,doc-base,gtk-doc,help,info,man,devhelp,cups/doc-root}/**",
    "/usr/{,local/}{man,doc,info}/**",
    "/usr/local/share/{doc,info,man}/**",
    "/usr/share/common-licenses/**",
    "/usr/share/licenses/**",
    "/opt/**/{man,doc,docs}/**",
    // People at a terminal or a desktop.
    "/usr/share/{bash-completion,zsh,fish}/**",
    "/etc/bash_completion.d/**",
    "/usr/share/{applications,menu,metainfo,appdata,pixmaps}/**",
    // Compiling against it.
    "/**/*.a",
    // Elsewhere libtool's descriptions are read at run time: ImageMagick finds its coders by them.
    "/usr/{lib,lib64,local/lib}/{,*-linux-*/}*.la",
    "/usr/{,local/}include/**",
    "/**/{pkgconfig,pkg-config}/**",
    "/usr/{lib,lib64,share,local/lib,local/share}/{,*/}cmake/**",
    "/usr/share/{aclocal,gir-1.0,vala}/**",
    // Package managers and their checks.
    "/usr/share/{lintian,bug,dpkg,debhelper,debconf,apport,reportbug}/**",
    "/usr/src/**",
    "/var/lib/{apt,dpkg,apk,rpm,dnf,yum}/**",
    "/lib/apk/**",
    "/usr/lib/sysimage/**",
    "/var/cache/**",
    "/var/log/**",
    "/etc/{apt,dpkg,kernel,logrotate.d}/**",
    "/etc/cron.*/{apt*,dpkg,man-db}",
    // Other locales' sources.
    "/usr/share/i18n/{charmaps,locales}/**",
    "/usr/lib/locale/locale-archive*",
];

/// Below these lies one directory for each locale.
const LOCALES: &[&str] = &["/usr/lib/locale/", "/usr/share/locale/", "/usr/share/locale-langpack/", "/usr/share/X11/locale/"];

/// Tests of a language's packages, and bytecode: that of a module comes with it, by a rule.
const TESTS: &[(System, &[&str])] = &[
    (
        System::Python,
        &["/**/{site,dist}-packages/**/tests/**", "/**/{site,dist}-packages/tests/**", "/**/__pycache__/*.pyc"],
    ),
    (System::Node, &["/**/node_modules/{*,@*/*}/{test,tests,__tests__,docs,example,examples}/**"]),
    (System::Ruby, &["/**/gems/*/{test,spec,features}/**", "/**/{cache,doc}/*.gem"]),
    (
        System::Dpkg,
        &[
            "/usr/lib/python3*/{,*/}{test,tests,idle_test}/**",
            "/usr/lib/python3/dist-packages/**/tests/**",
            "/**/__pycache__/*.pyc",
        ],
    ),
    (
        System::Apk,
        &["/usr/lib/python3*/{,*/}{test,tests,idle_test}/**", "/usr/lib/python3*/site-packages/**/tests/**", "/**/__pycache__/*.pyc"],
    ),
    (
        System::Rpm,
        &[
            "/usr/lib{,64}/python3*/{,*/}{test,tests,idle_test}/**",
            "/usr/lib{,64}/python3*/site-packages/**/tests/**",
            "/**/__pycache__/*.pyc",
        ],
    ),
];

/// Files that every program's libraries look up: that one was read says nothing about its package.
const READ_BY_ALL: &[&str] = &[
    "/etc/{group,gshadow,passwd,shadow,subgid,subuid}",
    "/etc/{fstab,host.conf,hostname,hosts,issue,localtime,motd,mtab,netconfig,networks,nsswitch.conf,protocols,resolv.conf,services,shells,timezone}",
    "/etc/{ld.so.cache,ld.so.conf,ld.so.preload,ld-musl-*.path}",
    "/etc/ld.so.conf.d/*",
    "/etc/{profile,bash.bashrc,bashrc,environment,inputrc}",
    "/etc/profile.d/*",
    "/etc/{os-release,debian_version,alpine-release,redhat-release,system-release,lsb-release}",
    "/usr/lib/{os-release,os.release.d/*}",
];

/// Packages that others need only to be installed, or because a distribution always has them. They come only
/// where they were used, or where a flag names them.
const ONLY_FOR_INSTALLING: &[(System, &[&str])] = &[
    (
        System::Dpkg,
        &[
            "adduser",
            "apt",
            "apt-utils",
            "base-files",
            "base-passwd",
            "cdebconf",
            "debconf",
            "debconf-i18n",
            "debianutils",
            "dpkg",
            "gpgv",
            "init-system-helpers",
            "install-info",
            "libapt-pkg*",
            "libpam-runtime",
            "login",
            "login.defs",
            "lsb-base",
            "passwd",
            "sensible-utils",
            "sysvinit-utils",
            "ucf",
            "xfonts-utils",
        ],
    ),
    (System::Apk, &["alpine-base", "alpine-keys", "alpine-release", "apk-tools", "libapk*"]),
    (
        System::Rpm,
        &[
            "basesystem", "dnf*", "filesystem", "libdnf*", "microdnf", "rpm", "rpm-libs", "setup", "shadow-utils", "systemd",
            "yum*", "zypper", "libzypp",
        ],
    ),
    (System::Python, &["pip", "wheel"]),
    (System::Node, &["npm", "corepack", "yarn", "pnpm"]),
    (System::Ruby, &["rake", "rdoc", "ri"]),
];

/// Packages of data that programs ask for by a name which only a request brings, and that no package depends on:
/// where one was installed, it was for the application.
const DATA: &[(System, &[&str])] = &[
    (System::Dpkg, &["ca-certificates", "media-types", "mime-support", "netbase", "tzdata", "tzdata-legacy"]),
    (System::Apk, &["alpine-baselayout-data", "ca-certificates", "ca-certificates-bundle", "mailcap", "tzdata"]),
    (System::Rpm, &["ca-certificates", "mailcap", "tzdata"]),
];

/// What is left out of packages in one decision.
pub(super) struct Trim {
    locales: BTreeSet<String>,
}

impl Trim {
    /// As the run's environment asks for.
    pub fn new(draft: &Draft<'_>) -> Self {
        Self { locales: whole::locales(&draft.ask.policy.env) }
    }

    /// Whether a file of a package serves no running program.
    pub fn is_left_out(&self, package: &Package, path: &ImagePath) -> bool {
        let tests = TEST_SETS.iter().find(|(system, _)| *system == package.system);
        matches_any(&NOT_FOR_RUNNING_SET, path.as_bytes())
            || tests.is_some_and(|(_, set)| matches_any(set, path.as_bytes()))
            || self.is_of_another_locale(path)
    }

    fn is_of_another_locale(&self, path: &ImagePath) -> bool {
        let below = LOCALES.iter().find_map(|dir| path.as_bytes().strip_prefix(dir.as_bytes()));
        let Some((name, _)) = below.and_then(|below| below.iter().position(|b| *b == b'/').map(|at| below.split_at(at))) else {
            return false;
        };
        !self.locales.contains(&whole::normal_locale(&String::from_utf8_lossy(name)))
    }
}

/// Whether every program's libraries look this up.
pub(super) fn is_read_by_all(path: &ImagePath) -> bool {
    matches_any(&READ_BY_ALL_SET, path.as_bytes())
}

/// Whether others need this package only to be installed.
pub(super) fn is_only_for_installing(package: &Package) -> bool {
    let globs = INSTALLING_SETS.iter().find(|(system, _)| *system == package.system);
    globs.is_some_and(|(_, set)| matches_any(set, package.name.as_bytes()))
}

/// Whether a package is data that programs ask for by name.
pub(super) fn is_data(package: &Package) -> bool {
    let names = DATA.iter().find(|(system, _)| *system == package.system);
    names.is_some_and(|(_, names)| names.contains(&package.name.as_str()))
}

static NOT_FOR_RUNNING_SET: LazyLock<GlobSet> = LazyLock::new(|| set(NOT_FOR_RUNNING));
static READ_BY_ALL_SET: LazyLock<GlobSet> = LazyLock::new(|| set(READ_BY_ALL));
static TEST_SETS: LazyLock<Vec<(System, GlobSet)>> = LazyLock::new(|| by_system(TESTS));
static INSTALLING_SETS: LazyLock<Vec<(System, GlobSet)>> = LazyLock::new(|| by_system(ONLY_FOR_INSTALLING));

fn by_system(table: &[(System, &[&str])]) -> Vec<(System, GlobSet)> {
    table.iter().map(|(system, globs)| (*system, set(globs))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_glob_of_the_tables_compiles() {
        for globs in [NOT_FOR_RUNNING, READ_BY_ALL].into_iter().chain(TESTS.iter().chain(ONLY_FOR_INSTALLING).map(|row| row.1)) {
            assert_eq!(set(globs).len(), globs.len());
        }
    }

    #[test]
    fn what_serves_no_running_program_is_told_by_its_path() {
        let trim = Trim { locales: whole::locales(&["LANG=de_DE.UTF-8".to_owned()]) };
        for (system, path, out) in [
            (System::Dpkg, "/usr/share/doc/nginx/copyright", true),
            (System::Dpkg, "/usr/share/nginx/html/index.html", false),
            (System::Dpkg, "/usr/lib/x86_64-linux-gnu/libssl.so.3", false),
            (System::Dpkg, "/usr/lib/x86_64-linux-gnu/libssl.a", true),
            (System::Dpkg, "/usr/lib/x86_64-linux-gnu/libssl.la", true),
            (System::Dpkg, "/usr/lib/x86_64-linux-gnu/ImageMagick-6.9/modules-Q16/coders/tiff.la", false),
            (System::Dpkg, "/usr/lib/x86_64-linux-gnu/pkgconfig/openssl.pc", true),
            (System::Dpkg, "/usr/share/locale/de/LC_MESSAGES/bash.mo", false),
            (System::Dpkg, "/usr/share/locale/fr/LC_MESSAGES/bash.mo", true),
            (System::Dpkg, "/usr/share/locale/locale.alias", false),
            (System::Dpkg, "/usr/lib/locale/C.utf8/LC_CTYPE", false),
            (System::Dpkg, "/usr/lib/python3.11/test/regrtest.py", true),
            (System::Dpkg, "/usr/lib/python3.11/unittest/case.py", false),
            (System::Dpkg, "/usr/include/ssl.h", true),
            (System::Apk, "/lib/apk/db/installed", true),
            (System::Python, "/usr/lib/python3.11/site-packages/numpy/tests/a.py", true),
            (System::Python, "/usr/lib/python3.11/site-packages/django/test/client.py", false),
            (System::Python, "/v/lib/python3.11/site-packages/django/conf/locale/fr/LC_MESSAGES/django.mo", false),
            (System::Node, "/app/node_modules/@a/b/test/x.js", true),
            (System::Node, "/app/node_modules/a/lib/test/x.js", false),
        ] {
            assert_eq!(trim.is_left_out(&Package::new(system, "x", "1"), &path.into()), out, "{path}");
        }
    }

    #[test]
    fn what_only_installs_others_is_known() {
        for (system, name, only) in [
            (System::Dpkg, "apt", true),
            (System::Dpkg, "libapt-pkg6.0", true),
            (System::Dpkg, "libc6", false),
            (System::Python, "pip", true),
            (System::Dpkg, "pip", false),
        ] {
            assert_eq!(is_only_for_installing(&Package::new(system, name, "1")), only, "{name}");
        }
    }
}
