//! Identity: who the target runs as: ids, supplementary groups and home, found from USER as container
//! runtimes find them (moby/sys user, `GetExecUser`): in the image's own /etc/passwd and /etc/group, read
//! here and not through libc, which would load the image's NSS modules.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail};

/// Ids of the target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Supplementary group ids.
    pub groups: Vec<u32>,
    /// Home directory for HOME.
    pub home: Vec<u8>,
}

/// The greatest id that engines accept.
const MAX_ID: u32 = i32::MAX as u32;

/// A line of /etc/passwd, see passwd(5).
struct User<'a> {
    name: &'a [u8],
    uid: u32,
    gid: u32,
    home: &'a [u8],
}

/// A line of /etc/group, see group(5).
struct Group<'a> {
    name: &'a [u8],
    gid: u32,
    members: Vec<&'a [u8]>,
}

/// Finds who `user` (`name`, `uid`, `name:group`, `uid:gid`, or empty for root) is, given the contents of
/// /etc/passwd and /etc/group. `extra` are names or ids of further groups.
pub fn find(user: &str, extra: &[String], passwd: &[u8], group: &[u8]) -> Result<Identity> {
    let users = users(passwd);
    let groups = groups(group);
    let (user, asked_group) = user.split_once(':').unwrap_or((user, ""));
    let (mut identity, name) = find_user(user, &users)?;
    if !asked_group.is_empty() {
        identity.gid = find_group(asked_group, &groups)?;
    } else if let Some(name) = name {
        let member = |group: &&Group| group.members.contains(&name);
        identity.groups = groups.iter().filter(member).map(|group| group.gid).collect();
    }
    // Engines put the group itself first among the supplementary ones.
    let mut all = vec![identity.gid];
    all.append(&mut identity.groups);
    for group in extra {
        all.push(find_group(group, &groups)?);
    }
    let mut seen = BTreeSet::new();
    all.retain(|gid| seen.insert(*gid));
    identity.groups = all;
    // HOME is that of the first line with this uid, whatever name was asked for.
    identity.home = users
        .iter()
        .find(|user| user.uid == identity.uid)
        .map_or_else(|| b"/".to_vec(), |user| user.home.to_vec());
    Ok(identity)
}

fn find_user<'a>(asked: &str, users: &[User<'a>]) -> Result<(Identity, Option<&'a [u8]>)> {
    let number = number(asked).with_context(|| format!("USER {asked}"))?;
    let found = users.iter().find(|user| match (asked, number) {
        ("", _) => user.uid == 0,
        (_, Some(uid)) => user.uid == uid,
        (name, None) => user.name == name.as_bytes(),
    });
    let uid = match (found, number) {
        (Some(user), _) => {
            let identity = Identity { uid: user.uid, gid: user.gid, ..Identity::default() };
            return Ok((identity, Some(user.name)));
        }
        (None, Some(uid)) => uid,
        (None, None) if asked.is_empty() => 0,
        (None, None) => {
            bail!("the image's /etc/passwd has no user {asked}; give --user a name it has, or a number")
        }
    };
    Ok((Identity { uid, ..Identity::default() }, None))
}

fn find_group(asked: &str, groups: &[Group<'_>]) -> Result<u32> {
    let number = number(asked).with_context(|| format!("group {asked}"))?;
    let found = groups.iter().find(|group| match number {
        Some(gid) => group.gid == gid,
        None => group.name == asked.as_bytes(),
    });
    match (found, number) {
        (Some(group), _) => Ok(group.gid),
        (None, Some(gid)) => Ok(gid),
        (None, None) => {
            bail!("the image's /etc/group has no group {asked}; give a name it has, or a number")
        }
    }
}

/// The id that a text is; `None` if it is a name.
fn number(text: &str) -> Result<Option<u32>> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(None);
    }
    match text.parse::<i64>() {
        Ok(id) if (0..=i64::from(MAX_ID)).contains(&id) => Ok(Some(id as u32)),
        _ => bail!("ids range from 0 to {MAX_ID}"),
    }
}

fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|b| *b == b'\n').map(|line| line.trim_ascii()).filter(|line| !line.is_empty())
}

/// A field as a number; what is none counts as 0, as engines have it.
fn id(field: &[u8]) -> u32 {
    std::str::from_utf8(field).ok().and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn users(passwd: &[u8]) -> Vec<User<'_>> {
    let user = |line| {
        let fields: Vec<&[u8]> = <[u8]>::split(line, |b| *b == b':').collect();
        let field = |n: usize| fields.get(n).copied().unwrap_or_default();
        User { name: field(0), uid: id(field(2)), gid: id(field(3)), home: field(5) }
    };
    lines(passwd).map(user).collect()
}

fn groups(group: &[u8]) -> Vec<Group<'_>> {
    let group_of = |line| {
        let fields: Vec<&[u8]> = <[u8]>::split(line, |b| *b == b':').collect();
        let field = |n: usize| fields.get(n).copied().unwrap_or_default();
        let members = field(3).split(|b| *b == b',').filter(|name| !name.is_empty()).collect();
        Group { name: field(0), gid: id(field(2)), members }
    };
    lines(group).filter(|line| line[0] != b'#').map(group_of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/sh\n\n  app:x:1000:1001::/home/app:/bin/sh\n\
        twin:x:1000:7::/twin:\nbad\n";
    const GROUP: &[u8] = b"root:x:0:\n#c:x:9:app\nwheel:x:10:app,root\nlog:x:4:app\napp:x:1001:\n7up:x:7:\n";

    #[test]
    fn each_spelling_of_user_gives_the_ids_that_engines_give() {
        for (user, extra, uid, gid, groups, home) in [
            ("", vec![], 0, 0, vec![0, 10], "/root"),
            ("root", vec![], 0, 0, vec![0, 10], "/root"),
            ("app", vec![], 1000, 1001, vec![1001, 10, 4], "/home/app"),
            ("1000", vec![], 1000, 1001, vec![1001, 10, 4], "/home/app"),
            ("twin", vec![], 1000, 7, vec![7], "/home/app"),
            ("4242", vec![], 4242, 0, vec![0], "/"),
            ("4242:77", vec![], 4242, 77, vec![77], "/"),
            ("app:log", vec![], 1000, 4, vec![4], "/home/app"),
            ("app", vec!["7up", "55"], 1000, 1001, vec![1001, 10, 4, 7, 55], "/home/app"),
        ] {
            let extra: Vec<String> = extra.into_iter().map(str::to_owned).collect();
            let expected = Identity { uid, gid, groups, home: home.into() };
            assert_eq!(find(user, &extra, PASSWD, GROUP).unwrap(), expected, "{user}");
        }
    }

    #[test]
    fn a_name_that_is_not_there_and_an_id_out_of_range_are_errors() {
        for user in ["nobody", "app:nogroup", "4294967295", "-1"] {
            assert!(find(user, &[], PASSWD, GROUP).is_err(), "{user}");
        }
    }
}
