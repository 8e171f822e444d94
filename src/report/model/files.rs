//! Files: what stays, why, what goes, and what that means for an attacker.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::image::ImagePath;

/// Counts of programs by what they are good for; [`crate::report::surface`] has the definitions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Surface {
    /// Everything that can be executed, libraries not counted.
    pub programs: Change,
    /// Shells.
    pub shells: Change,
    /// Package managers of systems and languages.
    pub package_managers: Change,
    /// Programs that fetch or open connections.
    pub network_clients: Change,
    /// Regular files with setuid or setgid.
    pub setuid: Change,
    /// Shared libraries.
    pub libraries: Change,
    /// Compilers, assemblers, linkers and what drives them.
    pub compilers: Change,
    /// Interpreters of languages other than the shell's.
    pub interpreters: Change,
    /// Files with capabilities.
    pub capabilities: Change,
    /// Files, and directories without the sticky bit, that anybody may write.
    pub writable: Change,
}

/// Something that looks like a secret.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Secret {
    /// The package that brought the file, as `SYSTEM:NAME`: what packages bring is public.
    pub package: Option<String>,
    /// The rule that found it.
    pub rule: String,
    /// What that finds.
    pub description: String,
    /// Where it is.
    pub place: SecretPlace,
    /// The file; `None` elsewhere.
    pub path: Option<ImagePath>,
    /// Name of the variable or label; `None` elsewhere.
    pub name: Option<String>,
    /// The line of the file, from 1; `None` where the name of the file says it.
    pub line: Option<u64>,
    /// Whether the result has it.
    pub present: bool,
}

impl Secret {
    /// Whether it is in the result, and no package brought it.
    pub fn is_open(&self) -> bool {
        self.present && self.package.is_none()
    }
}

/// Where a secret is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SecretPlace {
    /// In a file.
    File,
    /// In the environment that the image sets.
    Environment,
    /// In an instruction of the history.
    History,
    /// In a label.
    Label,
    /// A place that this version does not know.
    #[default]
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

/// A package of the original, and what of it stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Package {
    /// `dpkg`, `python` ...
    pub system: String,
    /// Its name.
    pub name: String,
    /// Its version; empty when it says none.
    pub version: String,
    /// Files of it that the original has.
    pub files: u64,
    /// Those that stay.
    pub kept_files: u64,
    /// Content of them all, each inode once.
    pub bytes: u64,
    /// Content of those that stay.
    pub kept_bytes: u64,
    /// Its name for every tool (package URL); `None` for what has none, and in reports that do not know it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub purl: Option<String>,
    /// What it was built from, `NAME VERSION`, where that differs from its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The file that describes it alone, by which copies of one package are told apart; `None` for packages of the
    /// operating system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub described_by: Option<ImagePath>,
    /// The package of the operating system that brought that file, as `SYSTEM:NAME`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub within: Option<String>,
    /// Whether a file of it stays that is no documentation; `None` in reports that do not know it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub present: Option<bool>,
}

/// A package that is in a file, and that no package manager of the image knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Embedded {
    /// The file.
    pub path: ImagePath,
    /// `go`, `java`, `node`, `python`, `ruby`, `rust`.
    pub language: String,
    /// Its name.
    pub name: String,
    /// Its version; empty where the file does not say it.
    #[serde(default)]
    pub version: String,
    /// Its name for every tool (package URL); `None` where the file says too little for one.
    #[serde(default)]
    pub purl: Option<String>,
    /// The package that owns the file, as `SYSTEM:NAME`.
    #[serde(default)]
    pub within: Option<String>,
    /// Whether the file stays.
    #[serde(default)]
    pub kept: bool,
}

/// The distribution that an image is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Os {
    /// `debian`, `alpine`.
    pub id: String,
    /// Its version; empty where it says none.
    pub version: String,
}

/// A count before and after.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Change {
    /// In the original.
    pub before: u64,
    /// In the slim image.
    pub after: u64,
    /// The paths behind `after`, at most 20, in path order. Empty for programs and libraries.
    pub left: Vec<ImagePath>,
}

/// What kind of file a path is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FileKind {
    /// Regular file.
    File,
    /// Directory.
    Directory,
    /// Symbolic link.
    Symlink,
    /// Named pipe.
    Fifo,
    /// Unix socket.
    Socket,
    /// Character device.
    CharDevice,
    /// Block device.
    BlockDevice,
    /// A kind that this version does not know.
    #[default]
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

/// A kept path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Kept {
    /// Where.
    pub path: ImagePath,
    /// What.
    #[serde(default)]
    pub kind: FileKind,
    /// Content bytes.
    #[serde(default)]
    pub size: u64,
    /// Permission bits.
    #[serde(default)]
    pub mode: Mode,
    /// Indexes into [`super::Report::reasons`], strongest first.
    #[serde(default)]
    pub reasons: Vec<usize>,
    /// How many more reasons there were; they are of kinds that are listed already.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub more_reasons: u64,
    /// Where a symlink points; only for symlinks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<LinkTarget>,
    /// An earlier kept name of the same inode, whose bytes are counted there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub same_as: Option<ImagePath>,
    /// The package that owns it, as `SYSTEM:NAME`. `None` for one that no package owns.
    #[serde(default)]
    pub package: Option<String>,
    /// The diff_id of the layer it came from. `None` when layers were not told apart.
    #[serde(default)]
    pub layer: Option<String>,
    /// Its content was made from the image's package databases, not copied.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub written: bool,
}

/// A script, and what its text calls of what the image has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Script {
    /// Where it is.
    pub path: ImagePath,
    /// By name.
    #[serde(default)]
    pub calls: Vec<Call>,
    /// Why it could not be read; only then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unread: Option<String>,
}

/// A program that a script calls.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Call {
    /// As the script has it.
    pub name: String,
    /// Where that is in the original image, links followed.
    pub path: ImagePath,
    /// Whether it stays.
    #[serde(default)]
    pub kept: bool,
    /// Whether the recording executed it.
    #[serde(default)]
    pub ran: bool,
}

/// Permission bits with setuid, setgid and sticky (07777); in JSON as octal text: `"0755"`, `"4755"`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
pub struct Mode(pub u16);

impl std::fmt::Display for Mode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:04o}", self.0)
    }
}

impl From<Mode> for String {
    fn from(mode: Mode) -> Self {
        mode.to_string()
    }
}

impl TryFrom<String> for Mode {
    type Error = std::num::ParseIntError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        u16::from_str_radix(&text, 8).map(Self)
    }
}

/// A symlink's bytes in the lossless text form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct LinkTarget(
    #[serde(with = "crate::image::tree::text_bytes")]
    #[schemars(with = "String")]
    pub Vec<u8>,
);

fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// Why a path stays; [`crate::keep::Reason`] as a report holds it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Reason {
    /// A process touched it.
    Touched {
        /// What it did.
        how: String,
        /// Its executable.
        process: String,
        /// The probe that ran, or `start`, `stop`.
        probe: String,
    },
    /// A symlink or directory on the way to a kept path.
    OnTheWay {
        /// The kept path.
        to: ImagePath,
    },
    /// A symlink whose chain ends at something kept.
    LinkTo {
        /// What it ends at.
        target: ImagePath,
    },
    /// Interpreter of a kept program.
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
        #[serde(default)]
        needed_by: Option<String>,
    },
    /// An `--include...` flag.
    Include {
        /// The flag with its value.
        flag: String,
    },
    /// A rule.
    Rule {
        /// Its name.
        name: String,
        /// The path that set it off; `None` when it was no path.
        #[serde(default)]
        by: Option<ImagePath>,
    },
    /// A kind that this version does not know.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

/// What went.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Removed {
    /// Removed paths that are not directories.
    pub files: u64,
    /// Removed directories.
    pub directories: u64,
    /// Bytes that went, each inode once; an inode that keeps a name costs nothing.
    pub bytes: u64,
    /// The same files by directory, in path order. A file is in exactly one group: the deepest one above it.
    pub groups: Vec<Group>,
    /// Every removed path; only with `--report-full`.
    pub list: Option<Vec<RemovedPath>>,
    /// Name of the file beside the report that lists every removed path. `None` with `--report-full`, or
    /// when nothing was removed.
    pub list_file: Option<String>,
}

/// Removed files below one directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Group {
    /// The directory.
    pub directory: ImagePath,
    /// Removed files below it that no deeper group counts.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// A removed path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RemovedPath {
    /// Where it was.
    pub path: ImagePath,
    /// What it was.
    #[serde(default)]
    pub kind: FileKind,
    /// Content bytes.
    #[serde(default)]
    pub size: u64,
    /// As [`Kept::mode`].
    #[serde(default)]
    pub mode: Mode,
    /// As [`Kept::package`].
    #[serde(default)]
    pub package: Option<String>,
    /// As [`Kept::layer`].
    #[serde(default)]
    pub layer: Option<String>,
    /// An earlier name of the same inode, kept or removed, whose bytes are counted there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub same_as: Option<ImagePath>,
}

/// A touched path that is not kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LeftOut {
    /// Where.
    pub path: ImagePath,
    /// The rule that left it out.
    pub rule: String,
}

/// One of the application's directories, and what no package owns in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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

/// What a directory walker brought.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Walker {
    /// The process and what started it.
    pub process: String,
    /// Paths that are kept only because of it.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}
