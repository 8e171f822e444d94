//! Ports: `--expose` and `--publish` in Docker's spelling.

use std::net::IpAddr;

/// A port of a container.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Port {
    /// 1 to 65535.
    pub number: u16,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: &'static str,
}

impl std::fmt::Display for Port {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.number, self.protocol)
    }
}

/// A port of a container made reachable through the engine's machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// The container's port.
    pub port: Port,
    /// Address on the engine's machine; empty: all.
    pub host_ip: String,
    /// Port there, or `FROM-TO` of which one is taken; empty: any.
    pub host_port: String,
}

/// `PORT[-PORT][/PROTOCOL]`.
///
/// # Errors
/// Says which part is wrong.
pub fn expose(text: &str) -> Result<Vec<Port>, String> {
    let (range, protocol) = protocol(text)?;
    let (from, to) = self::range(range)?;
    Ok((from..=to).map(|number| Port { number, protocol }).collect())
}

/// `[[ADDRESS:]HOSTPORT[-HOSTPORT]:]PORT[-PORT][/PROTOCOL]`.
///
/// # Errors
/// Says which part is wrong.
pub fn publish(text: &str) -> Result<Vec<Published>, String> {
    let (text, protocol) = protocol(text)?;
    let (host, container) = text.rsplit_once(':').unwrap_or(("", text));
    let (ip, host_range) = match host.rsplit_once(':') {
        Some((ip, range)) => (ip, range),
        None if host.contains(']') || host.contains('.') => (host, ""),
        None => ("", host),
    };
    let ip = ip.strip_prefix('[').and_then(|ip| ip.strip_suffix(']')).unwrap_or(ip);
    if !ip.is_empty() && ip.parse::<IpAddr>().is_err() {
        return Err(format!("{ip:?} is no address of the engine's machine"));
    }
    let (from, to) = range(container)?;
    let count = to - from;
    let host_port = |offset: u16| -> Result<String, String> {
        if host_range.is_empty() {
            return Ok(String::new());
        }
        let (first, last) = match host_range {
            // Port 0 means any, as an empty one does.
            "0" => return Ok(String::new()),
            other => range(other)?,
        };
        match (count, last - first) {
            (0, 0) => Ok(first.to_string()),
            (0, _) => Ok(format!("{first}-{last}")),
            (wanted, given) if wanted == given => Ok((first + offset).to_string()),
            _ => Err(format!("the ranges {host_range} and {container} are of different length")),
        }
    };
    let published = (from..=to).map(|number| {
        Ok(Published {
            port: Port { number, protocol },
            host_ip: ip.to_owned(),
            host_port: host_port(number - from)?,
        })
    });
    published.collect()
}

fn protocol(text: &str) -> Result<(&str, &'static str), String> {
    let (rest, protocol) = text.rsplit_once('/').unwrap_or((text, "tcp"));
    let known = ["tcp", "udp", "sctp"].into_iter().find(|known| known.eq_ignore_ascii_case(protocol));
    let protocol = known.ok_or_else(|| format!("{protocol:?} is no protocol: tcp, udp or sctp"))?;
    Ok((rest, protocol))
}

fn range(text: &str) -> Result<(u16, u16), String> {
    let number = |text: &str| match text.parse::<u16>() {
        Ok(number) if number > 0 && text.bytes().all(|byte| byte.is_ascii_digit()) => Ok(number),
        _ => Err(format!("{text:?} is no port: a number from 1 to 65535")),
    };
    let (from, to) = match text.split_once('-') {
        Some((from, to)) => (number(from)?, number(to)?),
        None => (number(text)?, number(text)?),
    };
    match from <= to {
        true => Ok((from, to)),
        false => Err(format!("the port range {text} runs backwards")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(text: &str) -> String {
        match publish(text) {
            Ok(list) => {
                let one = |p: Published| format!("{}|{}|{}", p.host_ip, p.host_port, p.port);
                list.into_iter().map(one).collect::<Vec<_>>().join(" ")
            }
            Err(error) => error,
        }
    }

    #[test]
    fn ports_are_published_in_dockers_spelling() {
        let table = [
            ("80", "||80/tcp"),
            ("8080:80", "|8080|80/tcp"),
            ("0:80", "||80/tcp"),
            (":80", "||80/tcp"),
            ("127.0.0.1::80", "127.0.0.1||80/tcp"),
            ("127.0.0.1:80", "127.0.0.1||80/tcp"),
            ("127.0.0.1:8080:80/udp", "127.0.0.1|8080|80/udp"),
            ("[::1]:8080:80", "::1|8080|80/tcp"),
            ("::1:8080:80", "::1|8080|80/tcp"),
            ("53:53/UDP", "|53|53/udp"),
            ("8000-8001:80-81", "|8000|80/tcp |8001|81/tcp"),
            ("8000-8009:80", "|8000-8009|80/tcp"),
            ("80-81", "||80/tcp ||81/tcp"),
            ("80/icmp", "\"icmp\" is no protocol: tcp, udp or sctp"),
            ("http", "\"http\" is no port: a number from 1 to 65535"),
            ("0", "\"0\" is no port: a number from 1 to 65535"),
            ("+80", "\"+80\" is no port: a number from 1 to 65535"),
            ("70000:80", "\"70000\" is no port: a number from 1 to 65535"),
            ("81-80", "the port range 81-80 runs backwards"),
            ("1-2:3-5", "the ranges 1-2 and 3-5 are of different length"),
            ("host:1:2", "\"host\" is no address of the engine's machine"),
        ];
        for (text, expected) in table {
            assert_eq!(show(text), expected, "{text}");
        }
    }

    #[test]
    fn exposed_ports_may_be_ranges() {
        let shown = |text| expose(text).map(|ports| ports.iter().map(Port::to_string).collect::<Vec<_>>());
        assert_eq!(shown("80").unwrap(), ["80/tcp"]);
        assert_eq!(shown("80-82/udp").unwrap(), ["80/udp", "81/udp", "82/udp"]);
        assert!(shown("8080:80").is_err());
    }
}
