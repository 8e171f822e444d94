//! Files: what an engine writes for a container: /etc/hosts, /etc/hostname and /etc/resolv.conf.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::engine::RunOptions;
use crate::engine::options::limits;

/// As Docker begins it (moby, libnetwork `etchosts`).
const HOSTS: &str = "127.0.0.1\tlocalhost\n\
    ::1\tlocalhost ip6-localhost ip6-loopback\n\
    fe00::0\tip6-localnet\n\
    ff00::0\tip6-mcastprefix\n\
    ff02::1\tip6-allnodes\n\
    ff02::2\tip6-allrouters\n";

/// Writes the three of them.
///
/// # Errors
/// When the directory cannot be written.
pub(super) fn write(dir: &Path, run: &RunOptions, hostname: &str) -> Result<()> {
    let servers = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    for (name, text) in
        [("hosts", hosts(run, hostname)), ("hostname", format!("{hostname}\n")), ("resolv.conf", resolv(run, &servers))]
    {
        let path = dir.join(name);
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
    }
    Ok(())
}

fn hosts(run: &RunOptions, hostname: &str) -> String {
    let mut text = HOSTS.to_owned();
    for host in run.add_hosts.iter().filter_map(|text| limits::add_host(text).ok()) {
        if let Some((name, address)) = host.split_once(':') {
            // This machine is reached by no other way than the shared network.
            let address = if address == "host-gateway" { "127.0.0.1" } else { address };
            text.push_str(&format!("{address}\t{name}\n"));
        }
    }
    // Programs look their own name up; it has no other address here.
    text.push_str(&format!("127.0.0.1\t{hostname}\n"));
    text
}

/// The machine's own, or the servers that were asked for. A server on the loopback interface of this machine is none
/// in a container, unless it shares the network.
fn resolv(run: &RunOptions, here: &str) -> String {
    let shared = run.network.as_deref() == Some("host");
    let is_local = |line: &str| {
        let server = line.trim().strip_prefix("nameserver").map(str::trim);
        server.is_some_and(|server| server.starts_with("127.") || server == "::1")
    };
    let is_server = |line: &str| line.trim().starts_with("nameserver");
    if run.dns.is_empty() {
        return here.lines().filter(|line| shared || !is_local(line)).map(|line| format!("{line}\n")).collect();
    }
    let rest = here.lines().filter(|line| !is_server(line)).map(|line| format!("{line}\n"));
    run.dns.iter().map(|server| format!("nameserver {server}\n")).chain(rest).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_that_only_this_machine_reaches_are_left_out() {
        let here = "search a\nnameserver 127.0.0.53\nnameserver 9.9.9.9\n";
        let run = |network: Option<&str>, dns: &[&str]| RunOptions {
            network: network.map(str::to_owned),
            dns: dns.iter().map(|server| (*server).to_owned()).collect(),
            ..RunOptions::default()
        };
        assert_eq!(resolv(&run(None, &[]), here), "search a\nnameserver 9.9.9.9\n");
        assert_eq!(resolv(&run(Some("host"), &[]), here), here);
        assert_eq!(resolv(&run(None, &["1.1.1.1"]), here), "nameserver 1.1.1.1\nsearch a\n");
    }

    #[test]
    fn added_hosts_and_the_containers_own_name_are_known() {
        let run = RunOptions { add_hosts: vec!["db:10.0.0.1".into()], ..RunOptions::default() };
        let text = hosts(&run, "me");
        assert!(text.starts_with("127.0.0.1\tlocalhost\n") && text.ends_with("10.0.0.1\tdb\n127.0.0.1\tme\n"), "{text}");
    }
}
