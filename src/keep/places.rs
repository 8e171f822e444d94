//! Places: which directories and names are nobody's application, as data. Globs in which `*` stays within a
//! component and `**` does not.

/// Directories in which many things lie side by side: never an application as a whole.
pub(super) const SHARED: &[&str] = &[
    "/",
    "/etc",
    "/media",
    "/mnt",
    "/usr",
    "/usr/local",
    "/usr/local/etc",
    "/usr/local/lib",
    "/usr/local/libexec",
    "/usr/local/share",
    "/var",
    "/var/opt",
];

/// The same, but a file that lies directly in one makes it an application: somebody put it there.
pub(super) const COLLECTIONS: &[&str] = &["/home", "/opt", "/usr/local/src", "/usr/src", "/var/www"];

/// Data that any program may ask for by a name that only a request brings. Where a package installed it, a rule says
/// when it stays; where none did, somebody put it there for the application.
pub(super) const OWN_DATA: &[&str] = &["/usr/share/zoneinfo"];

/// Where an image's author puts programs beside those of the system's packages. With one of them in use, the
/// scripts among them are the user's; what else is there is mostly tools that built the image.
pub(super) const OWN_PROGRAMS: &[&str] = &["/usr/local/bin", "/usr/local/sbin"];

/// Directories of the system, of run-time state and of language run-times, with all that is in them.
pub(super) const SYSTEM: &[&str] = &[
    "/bin",
    "/boot",
    "/cnb",
    "/dev",
    "/etc/X11",
    "/etc/alternatives",
    "/etc/apk",
    "/etc/apt",
    "/etc/ca-certificates",
    "/etc/cron*",
    "/etc/default",
    "/etc/dnf",
    "/etc/dpkg",
    "/etc/fonts",
    "/etc/init*",
    "/etc/java*",
    "/etc/ld.so.conf.d",
    "/etc/logrotate.d",
    "/etc/pam.d",
    "/etc/perl",
    "/etc/pki",
    "/etc/profile.d",
    "/etc/python*",
    "/etc/rc*",
    "/etc/rpm",
    "/etc/security",
    "/etc/selinux",
    "/etc/skel",
    "/etc/ssh",
    "/etc/ssl",
    "/etc/systemd",
    "/etc/terminfo",
    "/etc/xdg",
    "/etc/yum*",
    "/gnu",
    "/lib*",
    "/lost+found",
    "/nix",
    "/opt/{conda,miniconda*,miniforge*,mambaforge}",
    "/opt/{java,jdk*,jre*,openjdk*}",
    "/opt/{nvidia,rocm*,intel}",
    "/proc",
    "/run",
    "/sbin",
    "/snap",
    "/sys",
    "/tmp",
    "/usr/bin",
    "/usr/games",
    "/usr/include",
    "/usr/lib*",
    "/usr/local/bin",
    "/usr/local/{cuda*,go,java,jdk*,jre*,openjdk*,nvm,rustup,cargo}",
    "/usr/local/games",
    "/usr/local/include",
    "/usr/local/lib{32,64}",
    "/usr/local/lib/{python*,pypy*,node_modules,ruby,perl*,php*,lua*,R,erlang,elixir,ocaml,ghc*,gcc*,julia,tcl*,tk*}",
    "/usr/local/lib/{*-linux-*,cmake,engines*,girepository*,gstreamer*,locale,ossl-modules,pkgconfig,security}",
    "/usr/local/man",
    "/usr/local/sbin",
    "/usr/local/share/{ca-certificates,doc,fonts,icons,info,locale,man,mime,xml}",
    "/usr/sbin",
    "/usr/share",
    "/var/backups",
    "/var/cache",
    "/var/lib",
    "/var/local",
    "/var/lock",
    "/var/log",
    "/var/mail",
    "/var/run",
    "/var/spool",
    "/var/tmp",
];

/// Directories of libraries, among which somebody may have put plug-ins of an application.
pub(super) const LIBRARIES: &[&str] = &["/usr/lib{,32,64}", "/usr/lib/*-linux-{gnu,musl}*"];

/// Directories among libraries that belong to a language or to the system, whoever unpacked them.
pub(super) const NOT_PLUGINS: &[&str] = &[
    "/**/{debug,firmware,locale,modules,systemd,udev}",
    "/**/{R,dotnet,erlang,gcc*,go*,jvm,llvm*,lua*,node_modules,ocaml,perl*,php*,pypy*,python*,ruby*,rustlib}",
];

/// Names of directories that hold one installed package beside the other, wherever they are.
pub(super) const INSTALLED: &[&str] = &["dist-packages", "gems", "node_modules", "site-packages"];

/// In an application's directory: what a run leaves there, caches, what version control, editors, tests and
/// builds make. They stay only where they were touched. Matched against the path below the application's
/// directory.
pub(super) const NOT_THE_APPLICATION: &[&str] = &[
    // Run-time state.
    "**/*.{log,pid,sock,socket}",
    "**/*.log.[0-9]*",
    "**/lost+found/**",
    // Caches.
    "**/.cache/**",
    "**/.npm/**",
    "**/.next/cache/**",
    "**/.nuget/**",
    "**/.parcel-cache/**",
    "**/.pnpm-store/**",
    "**/.sass-cache/**",
    "**/.turbo/**",
    "**/.yarn/cache/**",
    "**/pip/cache/**",
    "**/node_modules/.cache/**",
    // Version control.
    "**/.git/**",
    "**/.{git,gitattributes,gitignore,gitmodules}",
    "**/.{hg,svn,bzr,fslckout}/**",
    "**/CVS/{Entries,Repository,Root}",
    "**/.hgignore",
    // Builds and tests.
    "**/*.{o,obj,gcno,gcda,lo,rej,orig}",
    "**/.{eggs,gradle,m2,nox,tox,mypy_cache,pytest_cache,ruff_cache,hypothesis,ipynb_checkpoints}/**",
    "**/.coverage",
    "**/.dockerignore",
    "**/htmlcov/**",
    // Editors and desktops.
    "**/.{idea,vscode,vs}/**",
    "**/.DS_Store",
    "**/Thumbs.db",
    "**/*.{swp,swo}",
    "**/*~",
    // What a new home directory is filled with, and what a shell leaves in it.
    "**/.{bashrc,bash_logout,bash_history,profile,zshrc,lesshst,viminfo,python_history,node_repl_history,wget-hsts}",
];

/// Directories of builds: only where one of these files lies beside them, because the names are usual words.
pub(super) const BUILD_TREES: &[(&str, &[&str])] = &[
    ("target", &["Cargo.toml", "pom.xml", "build.sbt"]),
    ("build", &["build.gradle", "build.gradle.kts", "CMakeLists.txt", "setup.py"]),
    ("obj", &["*.csproj", "*.fsproj", "*.vbproj"]),
    ("_build", &["mix.exs", "dune-project"]),
];

/// Names of files that hold passwords, tokens and private keys. They stay only where they were touched.
pub(super) const SECRETS: &[&str] = &[
    "**/.env",
    "**/.env.*",
    "**/.{npmrc,yarnrc,pypirc,netrc,pgpass,my.cnf,git-credentials,dockercfg,s3cfg,boto,vault-token}",
    "**/_netrc",
    "**/.{aws,azure,ssh,kube,gnupg,password-store}/**",
    "**/.config/gcloud/**",
    "**/.docker/config.json",
    "**/kubeconfig",
    "**/*.kubeconfig",
    "**/id_{rsa,dsa,ecdsa,ed25519}",
    "**/*.{key,kdbx,ppk}",
    "**/{key,privkey,*-key,*_key}.pem",
    "**/{service-account,service_account,serviceaccount}*.json",
    "**/credentials.{json,yml,yaml}",
    "**/terraform.tfstate*",
];

/// Names like those of secrets that hold none.
pub(super) const NO_SECRETS: &[&str] = &["**/.env.{example,sample,template,dist,defaults}", "**/*.{pub,public}.key"];

/// Configuration of nginx, of which the document roots count.
pub(super) const NGINX_CONFIGURATION: &[&str] = &[
    "/etc/nginx/**/*.conf",
    "/etc/nginx/{sites,conf}{,-available,-enabled}/*",
    "/etc/nginx/snippets/*",
    "/**/nginx/conf/**/*.conf",
];

/// The same of Apache.
pub(super) const APACHE_CONFIGURATION: &[&str] =
    &["/etc/{apache2,httpd}/**", "/**/apache2/conf/**/*.conf", "/**/httpd/conf/**/*.conf"];
