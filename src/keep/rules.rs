//! Rules: what touching one thing implies for another, as data. A rule is a line in a table: its name, why it
//! exists, what sets it off, and what it keeps. Its name is the reason that users see.
//!
//! "Kept" in a trigger means: kept for a reason of its own, not as a directory or link on the way and not
//! because a directory walker passed by. Patterns are those of [`super::pattern::Template`]; triggers are
//! globs in which `*` stays within a component and `**` does not.

use std::sync::LazyLock;

use super::draft::Draft;
use super::{derive, named, runtimes};
use crate::image::ImagePath;

/// One rule.
pub(super) struct Rule {
    /// Short and unique; users see it.
    pub name: &'static str,
    /// Why, in a sentence.
    pub doc: &'static str,
    /// Any of these sets it off.
    pub when: &'static [When],
    /// What stays then.
    pub keep: Keep,
}

/// What sets a rule off.
pub(super) enum When {
    /// Every image.
    Always,
    /// A kept path matches.
    Kept(&'static str),
    /// A kept ELF object needs a library whose name matches.
    Needs(&'static str),
    /// The run's environment has this variable.
    Env(&'static str),
}

/// What a rule keeps.
pub(super) enum Keep {
    /// What the patterns mean, those that the image has, with what links lead to.
    Paths(&'static [&'static str]),
    /// What this finds out from file contents, given the path that set the rule off.
    Derived(fn(&mut Draft<'_>, &mut derive::Memory, &ImagePath) -> Vec<ImagePath>),
}

/// Every rule's name and why it exists, for people.
pub fn describe_rules() -> impl Iterator<Item = (&'static str, &'static str)> {
    RULES.iter().map(|rule| (rule.name, rule.doc)).chain(super::imports::DESCRIBED.iter().copied())
}

/// Trees in which an empty or writable directory is no place that a service expects.
pub(super) const NO_EMPTY_DIRECTORIES: &[&str] = &[
    "/boot",
    "/dev",
    "/etc/apt",
    "/etc/kernel",
    "/etc/rc0.d",
    "/etc/rc1.d",
    "/etc/rc2.d",
    "/etc/rc3.d",
    "/etc/rc4.d",
    "/etc/rc5.d",
    "/etc/rc6.d",
    "/etc/rcS.d",
    "/media",
    "/proc",
    "/sys",
    "/usr/games",
    "/usr/include",
    "/usr/local/games",
    "/usr/local/include",
    "/usr/local/man",
    "/usr/local/share/man",
    "/usr/local/src",
    "/usr/share/bash-completion",
    "/usr/share/bug",
    "/usr/share/dict",
    "/usr/share/doc",
    "/usr/share/doc-base",
    "/usr/share/info",
    "/usr/share/lintian",
    "/usr/share/locale",
    "/usr/share/man",
    "/usr/src",
    "/var/backups",
    "/var/cache/apt",
    "/var/cache/debconf",
    "/var/cache/man",
    "/var/lib/apt",
    "/var/lib/dpkg",
];

/// Places that are filled at run time: a link that leads there is no dangling one.
pub(super) const FILLED_AT_RUN_TIME: &[&str] = &["/dev", "/proc", "/run", "/sys", "/tmp", "/var/run", "/var/tmp"];

/// The rules, in the order in which they are tried.
pub(super) static RULES: LazyLock<Vec<&Rule>> = LazyLock::new(|| SYSTEM.iter().chain(runtimes::RULES).collect());

/// Rules of C libraries, tools and servers; those of languages are in [`runtimes`].
const SYSTEM: &[Rule] = &[
    Rule {
        name: "base-files",
        doc: "C libraries, tools and scanners look these up in every container",
        when: &[When::Always],
        keep: Keep::Paths(&[
            "/etc/passwd",
            "/etc/group",
            "/etc/nsswitch.conf",
            "/etc/protocols",
            "/etc/services",
            "/etc/os-release",
            "/usr/lib/os-release",
        ]),
    },
    Rule {
        name: "scratch-directories",
        doc: "programs write temporary and run-time files there and expect the modes",
        when: &[When::Always],
        keep: Keep::Paths(&["/tmp", "/var/tmp", "/run", "/var/run", "/run/lock", "/var/lock"]),
    },
    Rule {
        name: "glibc-cache",
        doc: "the dynamic loader finds libraries outside its default directories through its cache",
        when: &[When::Needs("libc.so.6")],
        keep: Keep::Paths(&["/etc/ld.so.cache"]),
    },
    Rule {
        name: "tar-compressors",
        doc: "tar runs a compressor when an option, or the archive itself, asks for it",
        when: &[When::Kept("/{usr/,}bin/tar")],
        keep: Keep::Paths(&[
            "/usr/bin/bzip2",
            "/usr/bin/gzip",
            "/usr/bin/xz",
            "/usr/bin/zstd",
            "/bin/bzip2",
            "/bin/gzip",
            "/bin/xz",
            "/bin/zstd",
        ]),
    },
    Rule {
        name: "musl-path",
        doc: "musl's loader reads its library path from a file",
        when: &[When::Kept("/{lib,usr/lib}/ld-musl-*.so.1")],
        keep: Keep::Paths(&["/etc/ld-musl-*.path"]),
    },
    Rule {
        name: "name-service",
        doc: "glibc opens the libraries of the services in nsswitch.conf when a name is first looked up",
        when: &[When::Needs("libc.so.6")],
        keep: Keep::Derived(derive::name_services),
    },
    Rule {
        name: "thread-exit",
        doc: "glibc opens libgcc_s when a thread is cancelled or a stack is unwound, and aborts without it",
        when: &[When::Needs("libc.so.6")],
        keep: Keep::Paths(&[
            "/usr/lib/x86_64-linux-gnu/libgcc_s.so.1",
            "/lib/x86_64-linux-gnu/libgcc_s.so.1",
            "/usr/lib/aarch64-linux-gnu/libgcc_s.so.1",
            "/lib/aarch64-linux-gnu/libgcc_s.so.1",
            "/usr/lib64/libgcc_s.so.1",
            "/usr/lib/libgcc_s.so.1",
        ]),
    },
    Rule {
        name: "locale",
        doc: "the categories of a locale belong together",
        when: &[When::Kept("/usr/lib/locale/*/LC_*")],
        keep: Keep::Paths(&["{dir}/LC_*", "{dir}/LC_MESSAGES/*"]),
    },
    Rule {
        name: "locale-named",
        doc: "setlocale opens the locale that the environment names, in programs that the run did not start too",
        // Every category of locale(7) may name another one.
        when: &[
            When::Env("LANG"),
            When::Env("LC_ADDRESS"),
            When::Env("LC_ALL"),
            When::Env("LC_COLLATE"),
            When::Env("LC_CTYPE"),
            When::Env("LC_IDENTIFICATION"),
            When::Env("LC_MEASUREMENT"),
            When::Env("LC_MESSAGES"),
            When::Env("LC_MONETARY"),
            When::Env("LC_NAME"),
            When::Env("LC_NUMERIC"),
            When::Env("LC_PAPER"),
            When::Env("LC_TELEPHONE"),
            When::Env("LC_TIME"),
        ],
        keep: Keep::Derived(derive::locales_in_use),
    },
    Rule {
        name: "ca-certificates",
        doc: "a TLS client reads the trusted certificates at its first connection",
        when: &[
            // Not the bundle, which always stays and with which a program is content that reads it.
            When::Kept("/etc/ssl/certs/*.{[0-9],pem}"),
            When::Kept("/etc/ssl/certs/*/**"),
            When::Kept("/etc/pki/ca-trust/source/**"),
            When::Kept("/etc/pki/ca-trust/extracted/{edk2,java,openssl}/**"),
            When::Kept("/etc/pki/{java,nssdb}/**"),
            When::Kept("/usr/share/ca-certificates/**"),
            When::Needs("libssl.so.*"),
            When::Needs("libgnutls.so.*"),
            When::Needs("libmbedtls.so.*"),
        ],
        keep: Keep::Paths(&[
            "/etc/ssl/certs/**",
            "/etc/ssl/cert.pem",
            "/etc/ssl/openssl.cnf",
            "/etc/pki/tls/cert.pem",
            "/etc/pki/tls/openssl.cnf",
            "/etc/pki/tls/certs/*",
            "/etc/pki/ca-trust/extracted/pem/*.pem",
        ]),
    },
    Rule {
        name: "ca-bundle",
        doc: "a program that holds its TLS in itself (Go, rustls) reads the bundle at its first connection, and nothing that it is linked with tells of it",
        when: &[When::Always],
        // The list of Go's crypto/x509, root_linux.go.
        keep: Keep::Paths(&[
            "/etc/ssl/certs/ca-certificates.crt",
            "/etc/ssl/ca-bundle.pem",
            "/etc/ssl/cert.pem",
            "/etc/pki/tls/cacert.pem",
            "/etc/pki/tls/cert.pem",
            "/etc/pki/tls/certs/ca-bundle.crt",
            "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
        ]),
    },
    Rule {
        name: "ca-named",
        doc: "TLS clients read the certificates that these variables name at their first connection",
        when: &[
            When::Env("SSL_CERT_FILE"),
            When::Env("CURL_CA_BUNDLE"),
            When::Env("REQUESTS_CA_BUNDLE"),
            When::Env("NODE_EXTRA_CA_CERTS"),
            When::Env("GIT_SSL_CAINFO"),
        ],
        keep: Keep::Derived(derive::named_certificates),
    },
    Rule {
        name: "zoneinfo",
        doc: "a zone named in TZ, in a request or in a database row is read when it is first asked for",
        when: &[When::Env("TZ"), When::Kept("/etc/localtime"), When::Kept("/usr/share/zoneinfo/**")],
        keep: Keep::Derived(derive::zones),
    },
    Rule {
        name: "gconv",
        doc: "iconv finds a character set's module through the list beside it",
        when: &[When::Kept("/**/gconv/*.so")],
        keep: Keep::Paths(&["{dir}/gconv-modules", "{dir}/gconv-modules.cache", "{dir}/gconv-modules.d/*"]),
    },
    Rule {
        name: "pam",
        doc: "a service's PAM file names modules that are opened at the first login",
        when: &[When::Kept("/etc/pam.d/*"), When::Kept("/usr/lib/pam.d/*"), When::Kept("/etc/pam.conf")],
        keep: Keep::Derived(derive::pam_modules),
    },
    Rule {
        name: "pam-settings",
        doc: "PAM modules read their settings, and start a helper that may read passwords, when they are used",
        when: &[When::Kept("/**/security/pam_*.so")],
        keep: Keep::Paths(&[
            "/etc/environment",
            "/etc/login.defs",
            "/etc/security/*.conf",
            "/etc/security/*.d/*",
            "/sbin/unix_chkpwd",
            "/usr/sbin/unix_chkpwd",
        ]),
    },
    Rule {
        name: "terminfo",
        doc: "an interactive shell describes the terminal by these",
        when: &[When::Kept("/{,usr/,usr/local/}bin/{bash,fish,tcsh,zsh}"), When::Needs("libncurses*.so.*")],
        keep: Keep::Paths(&[
            // Alpine's.
            "/etc/terminfo/*/*",
            "/lib/terminfo/d/dumb",
            "/lib/terminfo/l/linux",
            "/lib/terminfo/s/screen*",
            "/lib/terminfo/t/tmux*",
            "/lib/terminfo/v/vt100",
            "/lib/terminfo/v/vt220",
            "/lib/terminfo/x/xterm",
            "/lib/terminfo/x/xterm-256color",
            "/lib/terminfo/x/xterm-color",
            "/usr/share/terminfo/d/dumb",
            "/usr/share/terminfo/l/linux",
            "/usr/share/terminfo/s/screen*",
            "/usr/share/terminfo/t/tmux*",
            "/usr/share/terminfo/v/vt100",
            "/usr/share/terminfo/v/vt220",
            "/usr/share/terminfo/x/xterm",
            "/usr/share/terminfo/x/xterm-256color",
            "/usr/share/terminfo/x/xterm-color",
        ]),
    },
    Rule {
        name: "openssl-providers",
        doc: "libcrypto opens its providers when an algorithm of theirs is first asked for",
        when: &[When::Kept("/**/libcrypto.so.3")],
        keep: Keep::Paths(&["{dir}/ossl-modules/*.so"]),
    },
    Rule {
        name: "nginx-named",
        doc: "nginx opens its error pages and password files when a request first needs them, and what it includes at a reload",
        when: &[
            When::Kept("/etc/nginx/**/*.conf"),
            When::Kept("/etc/nginx/{sites,conf}{,-available,-enabled}/*"),
            When::Kept("/etc/nginx/snippets/*"),
            When::Kept("/**/nginx/conf/**/*.conf"),
        ],
        keep: Keep::Derived(named::by_nginx),
    },
    Rule {
        name: "apache-enabled",
        doc: "what is enabled is a link to what is available, and the table of types is read at a reload",
        when: &[When::Kept("/etc/apache2/apache2.conf"), When::Kept("/etc/httpd/conf/httpd.conf")],
        keep: Keep::Paths(&[
            "/etc/apache2/*-enabled/*",
            "/etc/apache2/envvars",
            "/etc/apache2/magic",
            "/etc/apache2/ports.conf",
            "/etc/httpd/conf.d/*.conf",
            "/etc/httpd/conf.modules.d/*.conf",
            "/etc/httpd/conf/magic",
            "/etc/mime.types",
        ]),
    },
    Rule {
        name: "apache-named",
        doc: "Apache opens its error pages and password files when a request first needs them",
        when: &[
            When::Kept("/etc/apache2/**"),
            When::Kept("/etc/httpd/**"),
            When::Kept("/**/{apache2,httpd}/conf/**/*.conf"),
        ],
        keep: Keep::Derived(named::by_apache),
    },
    Rule {
        name: "postgresql-parts",
        doc: "a server opens the parts of itself that are modules (conversions, stemming, replication) at first use",
        when: &[When::Kept("/**/bin/postgres")],
        keep: Keep::Paths(&[
            "{parent}/lib/*_and_*.so",
            "{parent}/lib/dict_snowball.so",
            "{parent}/lib/euc2004_sjis2004.so",
            "{parent}/lib/libpqwalreceiver.so",
            "{parent}/lib/pgoutput.so",
            "{parent}/lib/plpgsql.so",
            "{parent}/lib/postgresql/*_and_*.so",
            "{parent}/lib/postgresql/dict_snowball.so",
            "{parent}/lib/postgresql/euc2004_sjis2004.so",
            "{parent}/lib/postgresql/libpqwalreceiver.so",
            "{parent}/lib/postgresql/pgoutput.so",
            "{parent}/lib/postgresql/plpgsql.so",
            "{parent}/share/postgresql/timezonesets/*",
            "{parent}/share/postgresql/tsearch_data/*.stop",
            "/usr/share/postgresql/*/timezonesets/*",
            "/usr/share/postgresql/*/tsearch_data/*.stop",
        ]),
    },
    Rule {
        name: "fontconfig",
        doc: "a program that draws text looks its fonts up by these settings when it first does so",
        when: &[When::Needs("libfontconfig.so.*"), When::Kept("/**/libfontconfig.so.*"), When::Kept("/**/lib/{,*/}libfontmanager.so")],
        keep: Keep::Paths(&[
            "/etc/fonts/*.conf",
            "/etc/fonts/conf.d/*",
            "/usr/share/fontconfig/conf.avail/*",
            "/usr/lib/*/libfontconfig.so.1",
            "/usr/lib/libfontconfig.so.1",
            "/usr/lib64/libfontconfig.so.1",
        ]),
    },
    Rule {
        name: "gdk-pixbuf-loaders",
        doc: "a picture's loader is found through a list and opened when the first picture of its kind comes",
        when: &[When::Needs("libgdk_pixbuf-2.0.so.*"), When::Kept("/**/gdk-pixbuf-2.0/*/loaders.cache")],
        keep: Keep::Paths(&[
            "/usr/lib/*/gdk-pixbuf-2.0/*/loaders.cache",
            "/usr/lib/*/gdk-pixbuf-2.0/*/loaders/*.so",
            "/usr/lib/gdk-pixbuf-2.0/*/loaders.cache",
            "/usr/lib/gdk-pixbuf-2.0/*/loaders/*.so",
            "/usr/lib64/gdk-pixbuf-2.0/*/loaders.cache",
            "/usr/lib64/gdk-pixbuf-2.0/*/loaders/*.so",
            "/usr/share/mime/mime.cache",
        ]),
    },
    Rule {
        name: "gio-modules",
        doc: "GLib's modules are listed in a file and opened when TLS, proxies or settings are first asked for",
        when: &[When::Kept("/**/gio/modules/giomodule.cache")],
        keep: Keep::Paths(&["{dir}/*.so"]),
    },
    Rule {
        name: "gstreamer-core",
        doc: "every pipeline is made of the core elements; the scanner starts when the registry is out of date",
        when: &[When::Kept("/**/gstreamer-1.0/*.so")],
        keep: Keep::Paths(&[
            "{dir}/libgstcoreelements.so",
            "{dir}/libgstplayback.so",
            "{dir}/libgsttypefindfunctions.so",
            "{dir}/gst-plugin-scanner",
            "{parent}/gstreamer1.0/gstreamer-1.0/gst-plugin-scanner",
            "/usr/libexec/gstreamer-1.0/gst-plugin-scanner",
        ]),
    },
    Rule {
        name: "gstreamer-registry",
        doc: "a registry that the image brings names plugins, which are opened when an element of theirs is made",
        when: &[When::Kept("/**/gstreamer-1.0/registry.*.bin")],
        keep: Keep::Paths(&[
            "/usr/lib/*/gstreamer-1.0/*.so",
            "/usr/lib/gstreamer-1.0/*.so",
            "/usr/lib64/gstreamer-1.0/*.so",
        ]),
    },
    Rule {
        name: "magic",
        doc: "libmagic reads its table when a file's kind is first asked for",
        when: &[When::Needs("libmagic.so.1")],
        keep: Keep::Paths(&[
            "/etc/magic",
            "/usr/lib/file/magic.mgc",
            "/usr/share/file/magic.mgc",
            "/usr/share/misc/magic.mgc",
        ]),
    },
    Rule {
        name: "imagemagick-settings",
        doc: "ImageMagick looks messages, colours, fonts and limits up in its tables when they are first needed",
        when: &[When::Needs("libMagickCore-*.so.*")],
        keep: Keep::Paths(&[
            "/etc/ImageMagick-*/*.xml",
            "/usr/share/ImageMagick-*/*.xml",
            "/usr/lib/ImageMagick-*/config-*/*.xml",
            "/usr/lib/*/ImageMagick-*/config-*/*.xml",
            "/usr/lib64/ImageMagick-*/config-*/*.xml",
        ]),
    },
    Rule {
        name: "imagemagick-own-formats",
        doc: "ImageMagick's options are made of formats that are modules; those that need no library are small",
        when: &[When::Kept("/**/ImageMagick-*/**/coders/*.so")],
        keep: Keep::Paths(&[
            "{dir}/bmp.*", "{dir}/caption.*", "{dir}/cip.*", "{dir}/clip.*", "{dir}/cmyk.*", "{dir}/dib.*",
            "{dir}/gif.*", "{dir}/gradient.*", "{dir}/gray.*", "{dir}/hald.*", "{dir}/histogram.*",
            "{dir}/icon.*", "{dir}/info.*", "{dir}/inline.*", "{dir}/json.*", "{dir}/label.*", "{dir}/map.*",
            "{dir}/mask.*", "{dir}/mat.*", "{dir}/matte.*", "{dir}/miff.*", "{dir}/mono.*", "{dir}/mpc.*",
            "{dir}/mpr.*", "{dir}/mtv.*", "{dir}/mvg.*", "{dir}/null.*", "{dir}/pattern.*", "{dir}/pcx.*",
            "{dir}/pix.*", "{dir}/plasma.*", "{dir}/pnm.*", "{dir}/preview.*", "{dir}/ps.*", "{dir}/psd.*",
            "{dir}/raw.*", "{dir}/rgb.*", "{dir}/rgba.*", "{dir}/sgi.*", "{dir}/stegano.*", "{dir}/sun.*",
            "{dir}/tga.*", "{dir}/thumbnail.*", "{dir}/tile.*", "{dir}/tim.*", "{dir}/txt.*", "{dir}/uil.*",
            "{dir}/uyvy.*", "{dir}/vid.*", "{dir}/viff.*", "{dir}/wbmp.*", "{dir}/xbm.*", "{dir}/xc.*",
            "{dir}/xpm.*", "{dir}/yaml.*", "{dir}/ycbcr.*", "{dir}/yuv.*",
        ]),
    },
];
