//! Account: who the target runs as, read from the image's own passwd and group, as the engine reads them.

/// Numeric identity and home directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Account {
    pub uid: u32,
    pub gids: Vec<u32>,
    pub home: String,
}

impl Account {
    /// Who `user` (`NAME|UID[:GROUP|GID]`, empty for root) is. `None` for a name that passwd does not have.
    pub fn find(user: &str, passwd: &[u8], group: &[u8]) -> Option<Self> {
        let (name, wanted) = user.split_once(':').map_or((user, None), |(name, group)| (name, Some(group)));
        let name = if name.is_empty() { "0" } else { name };
        let number: Option<u32> = name.parse().ok();
        let passwd = String::from_utf8_lossy(passwd);
        let group = String::from_utf8_lossy(group);
        let line = fields(&passwd, 7).find(|f| f[0] == name || (number.is_some() && f[2].parse().ok() == number));
        let uid = line.as_ref().and_then(|f| f[2].parse().ok()).or(number)?;
        let groups: Vec<Vec<&str>> = fields(&group, 4).collect();
        let gids = match wanted {
            Some(wanted) => {
                let named = groups.iter().find(|f| f[0] == wanted).and_then(|f| f[2].parse().ok());
                named.or(wanted.parse().ok()).into_iter().collect()
            }
            None => {
                let login = line.as_ref().map_or("", |f| f[0]);
                let member = |f: &&Vec<&str>| f[3].split(',').any(|name| !login.is_empty() && name == login);
                let own = line.as_ref().and_then(|f| f[3].parse().ok()).unwrap_or(0);
                let more = groups.iter().filter(member).filter_map(|f| f[2].parse().ok());
                std::iter::once(own).chain(more).collect()
            }
        };
        let home = line.as_ref().map(|f| f[5]).filter(|home| !home.is_empty()).unwrap_or("/");
        Some(Self { uid, gids, home: home.into() })
    }
}

/// Lines of at least `count` fields.
fn fields(text: &str, count: usize) -> impl Iterator<Item = Vec<&str>> {
    text.lines().map(|line| line.split(':').collect::<Vec<_>>()).filter(move |fields| fields.len() >= count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_as_the_engine_finds_them() {
        let passwd = b"root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\nbad\n";
        let group = b"root:x:0:\napp:x:1000:\nssl:x:50:app,other\n";
        for (user, uid, gids, home) in [
            ("", 0, vec![0], "/root"),
            ("app", 1000, vec![1000, 50], "/home/app"),
            ("1000", 1000, vec![1000, 50], "/home/app"),
            ("1234", 1234, vec![0], "/"),
            ("app:ssl", 1000, vec![50], "/home/app"),
            ("7:8", 7, vec![8], "/"),
        ] {
            let account = Account::find(user, passwd, group);
            assert_eq!(account, Some(Account { uid, gids, home: home.into() }), "{user}");
        }
        assert_eq!(Account::find("nobody", passwd, group), None);
    }
}
