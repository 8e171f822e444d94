//! Rootfs: a container's root file system: the image's layers one upon the other, read-only, and a directory on top
//! that takes what the container writes and goes with it (Documentation/filesystems/overlayfs.rst of Linux).

use std::fs::{File, Permissions};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use pathrs::flags::OpenFlags;

use super::super::copy;
use super::super::plan::{Message, Plan};
use crate::store::unpack::{Form, unpack};

/// A container's files, as they are seen from outside.
pub(super) struct Root {
    path: PathBuf,
    root: pathrs::Root,
    shared: Vec<(String, PathBuf)>,
}

/// What Docker's init layer has in every container.
const FILES: &[&str] = &[".dockerenv", "etc/hosts", "etc/hostname", "etc/resolv.conf"];
const DIRS: &[&str] = &["dev/pts", "dev/shm", "proc", "sys", "etc"];

impl Root {
    /// Mounts the layers and adds what every container has.
    pub(super) fn make(dir: &Path, plan: &Plan) -> Result<Self> {
        let path = dir.join("rootfs");
        for name in ["rootfs", "upper", "work", "l"] {
            std::fs::create_dir_all(dir.join(name)).with_context(|| format!("make {}", dir.join(name).display()))?;
        }
        for name in ["rootfs", "upper"] {
            std::fs::set_permissions(dir.join(name), Permissions::from_mode(0o755))?;
        }
        overlay(dir, plan)?;
        let root = pathrs::Root::open(&path).context("open the root file system")?;
        let made = Self { path, root, shared: plan.shared.clone() };
        made.furnish(plan)?;
        for (point, volume) in &plan.filled {
            made.fill(point, volume)?;
        }
        Ok(made)
    }

    fn furnish(&self, plan: &Plan) -> Result<()> {
        let mode = Permissions::from_mode(0o755);
        let dirs = DIRS.iter().copied().chain(plan.dirs.iter().map(String::as_str));
        for dir in dirs.chain(plan.volumes.iter().map(String::as_str)) {
            if self.root.resolve(dir).is_err() {
                self.root.mkdir_all(dir, &mode).with_context(|| format!("make {dir} in the container"))?;
            }
        }
        for file in FILES {
            let flags = OpenFlags::O_EXCL | OpenFlags::O_CREAT | OpenFlags::O_NOFOLLOW | OpenFlags::O_CLOEXEC;
            if self.root.resolve_nofollow(file).is_err() {
                self.root.create_file(file, flags, &mode).with_context(|| format!("make /{file}"))?;
            }
        }
        if self.root.resolve_nofollow("etc/mtab").is_err() {
            let link = pathrs::InodeType::Symlink("/proc/mounts".into());
            self.root.create("etc/mtab", &link).context("make /etc/mtab")?;
        }
        Ok(())
    }

    /// An empty named volume gets what the image has in its place, as Docker does it.
    fn fill(&self, point: &str, volume: &Path) -> Result<()> {
        let is_empty = std::fs::read_dir(volume).with_context(|| format!("read {}", volume.display()))?.next().is_none();
        let Ok(handle) = self.root.resolve(point) else { return Ok(()) };
        if is_empty {
            let source = PathBuf::from(format!("/proc/self/fd/{}", std::os::fd::OwnedFd::from(handle).as_raw_fd()));
            let source = std::fs::canonicalize(source).unwrap_or_else(|_| self.path.join(point.trim_start_matches('/')));
            copy::directory(&source, volume).with_context(|| format!("fill the volume at {point}"))?;
        }
        Ok(())
    }

    /// Unpacks an archive in a directory.
    pub(super) fn put(&self, dir: &str, tar: File) -> Result<()> {
        let handle = match self.redirected(dir) {
            Some(path) => File::open(&path).with_context(|| format!("open {}", path.display()))?,
            None => {
                let flags = OpenFlags::O_RDONLY | OpenFlags::O_DIRECTORY;
                self.root.open_subpath(dir, flags).with_context(|| format!("open {dir}"))?
            }
        };
        let into = PathBuf::from(format!("/proc/self/fd/{}", handle.as_raw_fd()));
        unpack(tar, &into, Form::User).with_context(|| format!("put files into {dir}"))
    }

    /// Opens a file.
    pub(super) fn get(&self, path: &str) -> Result<File> {
        if let Some(path) = self.redirected(path) {
            return File::open(&path).with_context(|| format!("open {}", path.display()));
        }
        let opened = self.root.open_subpath(path, OpenFlags::O_RDONLY | OpenFlags::O_NONBLOCK);
        let file = match opened {
            Ok(file) => file,
            Err(error) => {
                let errno = if self.root.resolve(path).is_ok() { libc::EACCES } else { libc::ENOENT };
                let cause = anyhow::Error::new(std::io::Error::from_raw_os_error(errno));
                return Err(cause.context(format!("read {path}: {error}")));
            }
        };
        if !file.metadata()?.is_file() {
            bail!("{path} is not a file");
        }
        Ok(file)
    }

    /// The place here of a path that lies in something that is mounted from here.
    fn redirected(&self, path: &str) -> Option<PathBuf> {
        let path = Path::new(path);
        let below = |(point, source): &(String, PathBuf)| {
            let rest = path.strip_prefix(point).ok()?;
            let plain = rest.components().all(|part| matches!(part, Component::Normal(_)));
            plain.then(|| (point.len(), if rest.as_os_str().is_empty() { source.clone() } else { source.join(rest) }))
        };
        self.shared.iter().filter_map(below).max().map(|(_, path)| path)
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        // The mount namespace takes it along in any case.
        let _ = umount2(&self.path, MntFlags::MNT_DETACH);
    }
}

/// Mounts the layers over `rootfs`. Where the disk cannot take the upper directory (it is an overlay itself), memory
/// does; where no overlay can be had, the layers are copied.
fn overlay(dir: &Path, plan: &Plan) -> Result<()> {
    for (number, layer) in plan.layers.iter().enumerate() {
        symlink(layer, dir.join("l").join(number.to_string())).context("link a layer")?;
    }
    // Short names, from within the directory: all options of a mount together have a page at most.
    std::env::set_current_dir(dir).context("go to the container's directory")?;
    let lowers: Vec<String> = (0..plan.layers.len()).rev().map(|number| format!("l/{number}")).collect();
    let userxattr = if plan.user_namespace.is_some() { ",userxattr" } else { "" };
    let lowers = lowers.join(":");
    let mut options = format!("lowerdir={lowers},upperdir=upper,workdir=work{userxattr}");
    let try_mount = |options: &str| mount(Some("overlay"), "rootfs", Some("overlay"), MsFlags::empty(), Some(options));
    let mut mounted = try_mount(&options);
    if mounted.is_err() {
        let memory = mount(Some("tmpfs"), "work", Some("tmpfs"), MsFlags::empty(), Some("mode=755"));
        if memory.is_ok() {
            for name in ["work/upper", "work/work"] {
                std::fs::create_dir(name).context("make a directory in memory")?;
            }
            options = format!("lowerdir={lowers},upperdir=work/upper,workdir=work/work{userxattr}");
            mounted = try_mount(&options);
        }
    }
    if let Err(error) = mounted {
        let text = format!("the layers of the image are copied, which is slow: mount(overlay) = {error}");
        super::tell(&Message::Warning(text), None);
        copied(dir, plan)?;
    }
    std::env::set_current_dir("/").context("leave the container's directory")
}

/// The layers, one copied over the other.
fn copied(dir: &Path, plan: &Plan) -> Result<()> {
    for layer in &plan.layers {
        copy::layer(layer, &dir.join("rootfs")).with_context(|| format!("copy the layer {}", layer.display()))?;
    }
    // pivot_root wants a mount.
    let none = None::<&str>;
    mount(Some("rootfs"), "rootfs", none, MsFlags::MS_BIND, none).context("bind the root file system")
}

/// Where control groups cannot be used, the runtime is shown that there are none.
pub(super) fn settle_cgroups(plan: &mut Plan) -> Result<()> {
    let Err(why) = usable_cgroups(plan) else { return Ok(()) };
    if plan.limited {
        bail!("--memory needs control groups: {why}");
    }
    let spec = &mut plan.spec;
    if let Some(linux) = spec["linux"].as_object_mut() {
        linux.remove("resources");
    }
    if let Some(mounts) = spec["mounts"].as_array_mut() {
        mounts.retain(|mount| mount["type"] != "cgroup");
    }
    let none = None::<&str>;
    let place = Path::new("/sys/fs/cgroup");
    if plan.user_namespace.is_none() {
        // An empty directory in memory is a hierarchy without controllers.
        let _ = umount2(place, MntFlags::MNT_DETACH);
        return mount(Some("tmpfs"), place, Some("tmpfs"), MsFlags::empty(), none).context("hide the control groups");
    }
    // Mounts that came along into a user namespace stay; on a second hierarchy the runtime takes no for an answer.
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWCGROUP).context("unshare(NEWCGROUP)")?;
    mount(Some("cgroup2"), place, Some("cgroup2"), MsFlags::empty(), none)
        .context("mount(cgroup2): the kernel has no control groups of version 2, which a container of an ordinary user needs")
}

/// Mounts the /sys of a network namespace in a user namespace here, for the runtime to bind: it says that the mount is
/// to be read-only only once it is there, and where this /sys is read-only, as in a container, the kernel lets no user
/// namespace have another one for a moment. One that cannot be had here the runtime cannot have either, and says why.
pub(super) fn settle_sys(dir: &Path, plan: &mut Plan) -> Result<()> {
    let mounts = plan.spec["mounts"].as_array_mut().into_iter().flatten();
    let Some(sys) = mounts.filter(|mount| plan.user_namespace.is_some() && mount["type"] == "sysfs").last() else { return Ok(()) };
    let place = dir.join("sys");
    std::fs::create_dir_all(&place).with_context(|| format!("make {}", place.display()))?;
    let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    if mount(Some("sysfs"), &place, Some("sysfs"), flags, None::<&str>).is_ok() {
        let options = ["rbind", "nosuid", "noexec", "nodev", "ro"];
        *sys = serde_json::json!({"destination": "/sys", "type": "bind", "source": place, "options": options});
    }
    Ok(())
}

/// Whether groups for the container can be made; why not.
fn usable_cgroups(plan: &Plan) -> Result<(), String> {
    if plan.user_namespace.is_some() {
        return Err("an ordinary user has none; run slim as root".into());
    }
    let place = Path::new("/sys/fs/cgroup");
    let version2 = place.join("cgroup.controllers").exists();
    let groups = if version2 { vec![place.to_owned()] } else { vec![place.join("memory"), place.join("devices")] };
    for group in groups {
        let probe = group.join(format!("slim-probe-{}", std::process::id()));
        std::fs::create_dir(&probe).map_err(|error| format!("{}: {error}", group.display()))?;
        let _ = std::fs::remove_dir(&probe);
    }
    Ok(())
}

/// The file that says whether the kernel killed for memory; `None` without control groups.
pub(super) fn memory_events(plan: &Plan) -> Option<PathBuf> {
    let group = plan.spec["linux"]["cgroupsPath"].as_str()?.trim_start_matches('/').to_owned();
    let files = [
        format!("/sys/fs/cgroup/memory/{group}/memory.oom_control"),
        format!("/sys/fs/cgroup/{group}/memory.events"),
    ];
    files.into_iter().map(PathBuf::from).find(|file| file.exists())
}

/// Whether that file counts a kill.
pub(super) fn killed(file: &Path) -> bool {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
    count.is_some_and(|count| count.trim() != "0")
}

/// Writes a file of the container's directory.
pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = File::create(path).with_context(|| format!("make {}", path.display()))?;
    file.write_all(bytes).with_context(|| format!("write {}", path.display()))
}
