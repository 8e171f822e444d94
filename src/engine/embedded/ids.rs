//! Ids: those that an ordinary user may give to files and processes of containers, see subuid(5).

use std::path::Path;

use anyhow::{Context, Result};

use super::plan::IdMaps;

/// The ids of this user; `None` for root, who needs none.
///
/// # Errors
/// When the user cannot be found out.
pub(super) fn maps() -> Result<Option<IdMaps>> {
    let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
    if uid.is_root() {
        return Ok(None);
    }
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let passwd = std::fs::read("/etc/passwd").context("read /etc/passwd")?;
    let name = name_of(uid.as_raw(), &String::from_utf8_lossy(&passwd));
    let ranges = |text: &str| ranges(text, name.as_deref(), uid.as_raw());
    let (uids, gids) = (ranges(&read("/etc/subuid")), ranges(&read("/etc/subgid")));
    // The helpers refuse to serve a user without a name.
    let by_helpers =
        name.is_some() && !uids.is_empty() && !gids.is_empty() && found("newuidmap") && found("newgidmap");
    let one = |id: u32| vec![(0, id, 1)];
    let (mut uid_map, mut gid_map) = (one(uid.as_raw()), one(gid.as_raw()));
    if by_helpers {
        extend(&mut uid_map, &uids);
        extend(&mut gid_map, &gids);
    }
    Ok(Some(IdMaps { uids: uid_map, gids: gid_map, by_helpers }))
}

fn extend(map: &mut Vec<(u32, u32, u32)>, ranges: &[(u32, u32)]) {
    let mut inside = 1;
    for (first, count) in ranges {
        map.push((inside, *first, *count));
        inside += count;
    }
}

fn name_of(uid: u32, passwd: &str) -> Option<String> {
    let mut lines = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let line = lines.find(|fields| fields.get(2).and_then(|field| field.parse().ok()) == Some(uid))?;
    Some(line[0].to_owned())
}

/// The ranges of a user, by name or number: (first, count).
fn ranges(text: &str, name: Option<&str>, uid: u32) -> Vec<(u32, u32)> {
    let of = |line: &str| {
        let mut fields = line.split(':');
        let owner = fields.next()?;
        let (first, count) = (fields.next()?.parse().ok()?, fields.next()?.trim().parse().ok()?);
        (Some(owner) == name || owner.parse() == Ok(uid)).then_some((first, count))
    };
    text.lines().filter_map(of).collect()
}

fn found(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| Path::new(&dir).join(program).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_belong_to_a_name_or_a_number() {
        let text = "root:1:1\nme:100000:65536\n1000:300000:10\nother:5:5\n";
        assert_eq!(ranges(text, Some("me"), 1000), [(100_000, 65_536), (300_000, 10)]);
        assert_eq!(ranges(text, None, 7), []);
        let mut map = vec![(0, 1000, 1)];
        extend(&mut map, &ranges(text, Some("me"), 1000));
        assert_eq!(map, [(0, 1000, 1), (1, 100_000, 65_536), (65_537, 300_000, 10)]);
        assert_eq!(name_of(7, "a:x:1:\nb:x:7:7:::\n").as_deref(), Some("b"));
    }
}
