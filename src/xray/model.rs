//! Model: what an image holds, as one document. The views show it.

use serde::{Deserialize, Serialize};

use crate::image::ImagePath;
use crate::report::bom::Bom;

/// The format's name and version.
pub const SCHEMA: &str = "slim.xray/1";

/// One image's contents.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Xray {
    /// [`SCHEMA`].
    pub schema: String,
    /// The image itself.
    pub image: About,
    /// What to think about, besides the secrets.
    #[serde(default)]
    pub notes: Vec<String>,
    /// What looks like a secret, the worst first.
    pub secrets: Vec<Secret>,
    /// The layers, the lowest first.
    pub layers: Vec<Layer>,
    /// Bytes of all layers that no file of the image needs.
    pub wasted_bytes: u64,
    /// The instructions that made it, as far as its history says.
    pub dockerfile: Vec<Instruction>,
    /// Packages, the largest first.
    pub packages: Vec<Package>,
    /// What no package owns.
    pub unowned: Unowned,
    /// What an attacker would look for.
    pub surface: Surface,
    /// Certificates that no package brought and that are none of a trust store, the first to end first.
    #[serde(default)]
    pub certificates: Vec<Certificate>,
    /// Equal files, the most bytes first.
    pub duplicates: Vec<Duplicate>,
    /// Bytes that equal files take beyond the first of each.
    pub duplicate_bytes: u64,
    /// What could not be read or told.
    pub warnings: Vec<String>,
    /// The same packages and files, for bills of materials.
    #[serde(skip)]
    pub bom: Bom,
}

/// The image itself.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct About {
    /// What the user called it.
    #[serde(rename = "ref")]
    pub reference: String,
    /// Digest of the config: the image ID.
    pub id: String,
    /// Digest of the manifest; `None` where it has none.
    pub digest: Option<String>,
    /// `linux/amd64`.
    pub platform: String,
    /// RFC 3339; empty when it is not said.
    pub created: String,
    /// When packages of the system were changed last, by the time of their manager's database, RFC 3339; `None`
    /// where there is none.
    pub packages_changed: Option<String>,
    /// Sum of the layers, as engines count.
    pub size_bytes: u64,
    /// What a registry transfers; `None` where the layers are not compressed.
    pub compressed_bytes: Option<u64>,
    /// Content of the files that are left when all layers are merged, each inode once.
    pub content_bytes: u64,
    /// What is there and no directory.
    pub files: u64,
    /// How many layers.
    pub layers: u64,
    /// USER, as written; empty for root.
    pub user: String,
    /// Whether USER is root.
    pub root: bool,
    /// Whether there is a HEALTHCHECK.
    pub healthcheck: bool,
    /// EXPOSE.
    pub ports: Vec<String>,
    /// VOLUME.
    pub volumes: Vec<String>,
    /// ENTRYPOINT, secrets masked.
    pub entrypoint: Vec<String>,
    /// CMD, secrets masked.
    pub cmd: Vec<String>,
    /// Names of the environment variables.
    pub env_names: Vec<String>,
}

/// Something that looks like a secret.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Secret {
    /// The package that brought the file, `SYSTEM:NAME`; `None` for what no package owns. What packages bring is
    /// public, and stands last.
    pub package: Option<String>,
    /// Name of the rule.
    pub rule: String,
    /// What the rule finds.
    pub description: String,
    /// `file`, `environment`, `history` or `label`.
    pub place: Place,
    /// The file; `None` elsewhere.
    pub path: Option<ImagePath>,
    /// Name of the variable or label; `None` elsewhere.
    pub name: Option<String>,
    /// The line of the file, from 1; `None` where the name of the file says it.
    pub line: Option<u64>,
    /// The layer it is in, from 1; `None` where it is in none.
    pub layer: Option<u64>,
    /// The layer that deleted the file or put another in its place; `None` while it is there.
    pub gone_in: Option<u64>,
    /// Whether that layer put another in its place.
    pub replaced: bool,
    /// The first characters, at most four; empty where there is no value.
    pub shown: String,
    /// What `slim build` does to it; see [`Secret::fate`].
    #[serde(default)]
    pub slimming: Slimming,
}

impl Secret {
    /// What `slim build` does to it, by where it is and whether it is still there.
    pub fn fate(&self) -> Slimming {
        match (self.place, self.gone_in) {
            (Place::File, Some(_)) => Slimming::Removes,
            (Place::File, None) => Slimming::RemovesUntouched,
            (Place::Environment | Place::Label | Place::History, _) => Slimming::Keeps,
        }
    }
}

/// What slimming does to a secret.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Slimming {
    /// Removes it: the result is one layer, and has nothing that a lower one hides.
    Removes,
    /// Removes the file unless the run touches it.
    RemovesUntouched,
    /// Keeps the config that it is in.
    #[default]
    Keeps,
}

/// A certificate (RFC 5280).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// The file.
    pub path: ImagePath,
    /// Whose it is.
    pub subject: String,
    /// The last day, `2027-03-04`, UTC.
    pub not_after: String,
    /// The end in seconds since 1970.
    #[serde(skip)]
    pub ends: i64,
    /// Whole days from now to then; negative when it has ended.
    pub days_left: i64,
}

/// Where a secret is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// In a file of a layer.
    File,
    /// In the environment that the image sets.
    Environment,
    /// In an instruction of the history.
    History,
    /// In a label.
    Label,
}

/// One layer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Layer {
    /// From 1, the lowest first.
    pub number: u64,
    /// Digest of its tar.
    pub diff_id: String,
    /// Content of its files and targets of its symlinks, as engines count.
    pub bytes: u64,
    /// As it travels; `None` where nobody says.
    pub compressed_bytes: Option<u64>,
    /// The instruction that made it, secrets masked; empty where the history does not say.
    pub made_by: String,
    /// Paths that were not there.
    pub added: Changes,
    /// Paths that were another file below.
    pub changed: Changes,
    /// Paths of the layers below that it takes away.
    pub removed: Changes,
    /// Content of it that is not in the merged image.
    pub wasted_bytes: u64,
}

/// Paths that a layer changed, directories not counted.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Changes {
    /// How many.
    pub files: u64,
    /// Their content; of removed ones what it was.
    pub bytes: u64,
    /// The largest of them.
    pub largest: Vec<Weight>,
}

/// A path and how much is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Weight {
    /// The path.
    pub path: ImagePath,
    /// Its bytes.
    pub bytes: u64,
}

/// One instruction of the reconstructed Dockerfile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instruction {
    /// As a Dockerfile has it, secrets masked.
    pub text: String,
    /// The layer that it made, from 1; `None` for those that make none.
    pub layer: Option<u64>,
}

/// One package.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Package {
    /// `dpkg`, `python` ...
    pub system: String,
    /// Its name.
    pub name: String,
    /// Its version; empty when it says none.
    pub version: String,
    /// Files of it that are there.
    pub files: u64,
    /// Their content, each inode once.
    pub bytes: u64,
}

/// What no package owns.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Unowned {
    /// How many files.
    pub files: u64,
    /// Their content, each inode once.
    pub bytes: u64,
    /// By directory of the root, the most bytes first.
    pub directories: Vec<Weight>,
}

/// What an attacker would look for.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Surface {
    /// Files that can be executed and are no libraries. Their paths are not listed.
    pub programs: Found,
    /// Shells.
    pub shells: Found,
    /// Package managers of systems and languages.
    pub package_managers: Found,
    /// Programs that fetch or open connections.
    pub network_clients: Found,
    /// Compilers, assemblers, linkers and what drives them.
    pub compilers: Found,
    /// Interpreters of languages other than the shell's.
    pub interpreters: Found,
    /// Shared libraries. Their paths are not listed.
    pub libraries: Found,
    /// Regular files with setuid or setgid.
    pub setuid: Found,
    /// Files with capabilities.
    pub capabilities: Found,
    /// Files, and directories without the sticky bit, that anybody may write.
    pub writable: Found,
}

/// Paths of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// How many.
    pub count: u64,
    /// In path order, at most a hundred.
    pub paths: Vec<ImagePath>,
}

/// Equal files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Duplicate {
    /// Content of one of them.
    pub bytes: u64,
    /// Of their content.
    pub sha256: String,
    /// Content of all but the first.
    pub spent_bytes: u64,
    /// One path of each inode, in path order.
    pub paths: Vec<ImagePath>,
}
