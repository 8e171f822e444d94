//! Keep: which files of an image stay, and why. Deciding is pure: a tree, a trace, facts about file contents
//! and a policy go in; a keep set comes out. No file is read here.

mod account;
mod apply;
mod closure;
mod decide;
mod derive;
mod draft;
pub mod elf;
mod implied;
pub mod imports;
mod include;
mod links;
mod loader;
mod metadata;
mod misses;
mod named;
mod own;
mod pattern;
mod places;
mod projects;
mod reason;
pub mod replay;
mod rules;
mod runtimes;
pub mod scripts;
mod touched;
mod trim;
mod walkers;
mod whole;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub use decide::decide;
pub use misses::{Miss, retain_misses};
use decide::Question;
pub use whole::{check_pattern as check_package_pattern, label as package_label};
pub use include::SHELL_PROGRAMS;
pub use rules::describe_rules;
use scripts::{Calls, Dialect, Script};
pub use scripts::{program_of, programs_of};

use crate::image::ImagePath;
use crate::packages::metadata::{Mode, Written};

/// What is known of a file's content, as far as deciding needs it. Made by [`crate::pack`]'s agent from the
/// untouched image; only for files that [`Step::Need`] asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileFacts {
    /// For an ELF object.
    pub elf: Option<Elf>,
    /// For a script: the words after `#!`, split as the kernel does (interpreter, at most one argument).
    pub shebang: Option<Vec<String>>,
    /// The whole content of a file that a rule asked to read. `Some` whenever [`Want::Text`] was asked: empty
    /// for a file of more than 1 MiB. `None` when only [`Want::Head`] was.
    pub text: Option<Vec<u8>>,
    /// The modules that a program's text names, see [`imports`]. `Some` whenever [`Want::Imports`] was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub imports: Option<Vec<String>>,
    /// What the text calls. `Some` whenever [`Want::Calls`] was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub script: Option<Script>,
}

/// What matters of an ELF object (elf(5), ld.so(8)).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Elf {
    /// 32 or 64.
    pub class: u8,
    /// e_machine.
    pub machine: u16,
    /// PT_INTERP.
    pub interpreter: Option<String>,
    /// DT_SONAME.
    pub soname: Option<String>,
    /// DT_NEEDED in order.
    pub needed: Vec<String>,
    /// DT_RPATH, split at `:`.
    pub rpath: Vec<String>,
    /// DT_RUNPATH, split at `:`.
    pub runpath: Vec<String>,
    /// Libraries that `.note.dlopen` names (the dlopen metadata specification of systemd).
    pub dlopen: Vec<String>,
}

/// Facts that deciding asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Want {
    /// ELF and shebang.
    Head,
    /// The text as well.
    Text,
    /// ELF and shebang, and what the text imports.
    Imports,
    /// What the text calls as well; it is found out by [`scripts::read`].
    Calls(Dialect),
}

/// The result of one round of deciding.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// These files' facts are needed first (they exist in the tree and are regular files).
    Need(BTreeMap<ImagePath, Want>),
    /// Decided.
    Done(KeepSet),
}

/// What stays, and why.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct KeepSet {
    /// Every kept path (directories on the way included) with its reasons, strongest first; never empty.
    pub kept: BTreeMap<ImagePath, Vec<Reason>>,
    /// Paths that exist in the image, were touched, and are left out on purpose, with the rule's name
    /// (`engine-provided`, `exclude`).
    pub left_out: BTreeMap<ImagePath, String>,
    /// Files that are written rather than copied, all of them kept; see [`crate::packages::metadata`].
    pub written: BTreeMap<ImagePath, Written>,
    /// Things to tell: an include pattern that matched nothing, a library that was not found.
    pub warnings: Vec<String>,
    /// What directory walkers (find, du, chown -R) touched: process and what only it brought.
    pub walkers: Vec<Walker>,
    /// How much was to stay.
    pub level: Level,
    /// The application's directories, in path order; none of them lies in another.
    pub app: Vec<AppRoot>,
    /// Scripts that matter and what they call, in path order.
    pub scripts: Vec<Calls>,
}

impl KeepSet {
    /// A digest of what stays: SHA-256, in hex, over the kept paths in order, each followed by a NUL. It does
    /// not depend on who touched what, nor when.
    pub fn digest(&self) -> String {
        let mut sha = Sha256::new();
        for path in self.kept.keys() {
            sha.update(path.as_bytes());
            sha.update([0]);
        }
        sha.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// How much stays besides what is asked for by name: `--keep`. Each level keeps all that the one before it keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// What the run touched, and what that implies.
    #[default]
    Touched,
    /// Also the user's own files: what no package owns, in the application's directories; and the modules that they,
    /// and modules in use, import by name.
    App,
    /// Also every package of which a file was touched, whole, with the packages that it needs to run.
    Package,
}

impl Level {
    /// Its word on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Level::Touched => "touched",
            Level::App => "app",
            Level::Package => "package",
        }
    }
}

/// A directory of the application: what is below it and no package owns is the user's own. Run-time state,
/// caches, what version control and builds leave, and what looks like a secret do not count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppRoot {
    /// The directory. Of `/` only what lies directly in it counts, of `/usr/local/bin` the scripts.
    pub root: ImagePath,
    /// Files and links of the user's own.
    pub files: u64,
    /// How many of them stay.
    pub kept: u64,
    /// Bytes of those that go, each inode once.
    pub bytes: u64,
}

/// A process that stat()ed or chown()ed whole directories.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Walker {
    /// The executable, for people.
    pub process: String,
    /// Files and links that are kept only because of it.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Why a path stays. Kinds of evidence stay distinguishable.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// A process touched it.
    Touched {
        /// How: `executed`, `opened`, `opened directory`, `stat()ed`, `read link`, `walked` ...
        how: String,
        /// The process's executable.
        process: String,
        /// The probe that ran, or `start`, `stop`.
        probe: String,
    },
    /// A symlink or directory on the way to a kept path.
    OnTheWay {
        /// The kept path.
        to: ImagePath,
    },
    /// A symlink of the image whose chain ends at something kept.
    LinkTo {
        /// What it ends at.
        target: ImagePath,
    },
    /// The interpreter (ELF PT_INTERP or shebang) of a kept program.
    InterpreterOf {
        /// The program.
        program: ImagePath,
    },
    /// A library that a kept object needs.
    NeededBy {
        /// The object.
        object: ImagePath,
    },
    /// Another name of a kept inode.
    HardlinkOf {
        /// The kept name.
        name: ImagePath,
    },
    /// The user's own, in one of the application's directories.
    App {
        /// The directory.
        root: ImagePath,
    },
    /// Part of a package that is kept whole.
    Package {
        /// The package, as `SYSTEM:NAME`.
        name: String,
        /// The package that needs it to run; `None` for one that was used, or asked for.
        needed_by: Option<String>,
    },
    /// An `--include...` flag.
    Include {
        /// The flag and its value.
        flag: String,
    },
    /// A rule of `keep/rules.rs`.
    Rule {
        /// The rule's name.
        name: String,
        /// What set it off, when it was a path.
        by: Option<ImagePath>,
    },
}

/// What the user asked to keep or leave out, checked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Policy {
    /// `--keep`.
    pub level: Level,
    /// `--keep-package`: globs of names, of one system when `SYSTEM:` stands before.
    pub keep_packages: Vec<String>,
    /// `--package-metadata`: what scanners find of the packages.
    pub metadata: Mode,
    /// `--include-path`: globs, files or directories, with the closure of what they bring.
    pub include_paths: Vec<String>,
    /// `--include-bin`: paths of programs, with their libraries.
    pub include_bins: Vec<String>,
    /// `--include-exe`: program names looked up in PATH, with their libraries.
    pub include_exes: Vec<String>,
    /// `--include-shell`: a shell and the usual few tools.
    pub include_shell: bool,
    /// `--include-zoneinfo`.
    pub include_zoneinfo: bool,
    /// `--include-cert-all`.
    pub include_certs: bool,
    /// `--include-script-commands`; `None`: from level `app` on.
    pub include_script_commands: Option<bool>,
    /// `--uses`: what else runs in containers of this image.
    pub uses: Vec<Used>,
    /// What the command lines of [`scripts::lines`] call.
    pub lines: BTreeMap<Vec<String>, Script>,
    /// `--exclude-pattern`: globs of paths that go, whatever touched them.
    pub excludes: Vec<String>,
    /// The command line that ran (entrypoint and cmd after overrides).
    pub argv: Vec<String>,
    /// The user that ran, as written (image's USER or `--user`).
    pub user: String,
    /// The working directory that ran.
    pub workdir: String,
    /// Environment that ran, `NAME=value`: PATH, TZ, LD_LIBRARY_PATH matter here.
    pub env: Vec<String>,
    /// Mount points of the run (VOLUMEs, binds, tmpfs): their directories have to exist.
    pub mount_points: Vec<String>,
}

/// A command line with which a file of `--uses` runs this image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Used {
    /// Where it stands: the file, and the place in it.
    pub place: String,
    /// The command line.
    pub argv: Vec<String>,
}

impl Used {
    /// As a reason has it.
    pub fn flag(&self) -> String {
        format!("--uses {}", self.place)
    }
}

/// Facts gathered so far.
pub type Facts = BTreeMap<ImagePath, FileFacts>;

/// Adds what was found out about files that [`Step::Need`] asked for. A file about which nothing could be found
/// out (unreadable, larger than a text may be) is noted as such, so that it is not asked for again.
pub fn answer(facts: &mut Facts, asked: BTreeMap<ImagePath, Want>, mut found: Facts) {
    for (path, want) in asked {
        let mut known = found.remove(&path).unwrap_or_default();
        match want {
            Want::Head => {}
            Want::Text => drop(known.text.get_or_insert_default()),
            Want::Imports => drop(known.imports.get_or_insert_default()),
            Want::Calls(_) => {
                known.text.get_or_insert_default();
                known.script.get_or_insert_default();
            }
        }
        // What was asked for earlier stays known.
        if let Some(before) = facts.remove(&path) {
            known.text = known.text.or(before.text);
            known.imports = known.imports.or(before.imports);
            known.script = known.script.or(before.script);
        }
        facts.insert(path, known);
    }
}

/// Paths that engines make or mount over in every container. They do not stay, and whether the image's layers have
/// something there is not known: Docker puts its own over it (in what it calls the init layer) before anything can
/// look.
pub const ENGINE_PATHS: &[&str] = &[
    "/.dockerenv",
    "/dev/console",
    "/etc/hostname",
    "/etc/hosts",
    "/etc/mtab",
    "/etc/resolv.conf",
    "/run/.containerenv",
];
