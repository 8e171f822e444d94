//! Ports: what the target's tcp ports speak, found out once and remembered.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::tls::{self, Alpn};
use super::{HttpRequest, Target};

/// What a port speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speech {
    /// HTTP in clear.
    Http,
    /// HTTP over TLS.
    Https,
    /// HTTP/2 only, in clear.
    Http2,
    /// HTTP/2 only, over TLS.
    Https2,
    /// It accepts connections; what it speaks is not HTTP, or was not asked.
    Other,
}

impl Speech {
    /// Whether requests go over TLS.
    pub fn tls(self) -> bool {
        matches!(self, Self::Https | Self::Https2)
    }

    /// Whether only HTTP/2 is understood.
    pub fn only_http2(self) -> bool {
        matches!(self, Self::Http2 | Self::Https2)
    }
}

/// What each port speaks.
pub type Ports = BTreeMap<u16, Speech>;

/// Words in a plain 400 that mean "speak TLS to me" (nginx, Apache, Go, Tomcat).
const WANTS_TLS: [&str; 3] = ["HTTPS", "SSL", "TLS"];

/// Finds out what a port speaks by asking `GET` for `path` once, in clear, and over TLS when the answer
/// looks like that is wanted (or first, on a port that is usually TLS).
///
/// # Errors
/// When the port does not answer at all (yet).
pub(super) async fn speech(target: &dyn Target, probe: &HttpRequest, timeout: Duration) -> io::Result<Speech> {
    let usually_tls = probe.tls.unwrap_or(matches!(probe.port, 443 | 8443 | 9443));
    if usually_tls && let Some(speech) = over_tls(target, probe).await? {
        return Ok(speech);
    }
    let first = match tokio::time::timeout(timeout, in_clear(target, probe)).await {
        Ok(first) => first?,
        Err(_) => return Err(io::Error::new(io::ErrorKind::TimedOut, "it accepts connections and does not answer")),
    };
    match first {
        Clear::Http => Ok(Speech::Http),
        Clear::Http2 => Ok(Speech::Http2),
        Clear::Other => Ok(Speech::Other),
        Clear::Refused400 => Ok(over_tls(target, probe).await?.unwrap_or(Speech::Http)),
        Clear::Closed => match over_tls(target, probe).await? {
            Some(speech) => Ok(speech),
            None => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it closes the connection without an answer")),
        },
        Clear::Alert => Ok(over_tls(target, probe).await?.unwrap_or(Speech::Other)),
    }
}

/// What a request in clear was answered with.
enum Clear {
    Http,
    Http2,
    /// A 400 that asks for TLS.
    Refused400,
    /// End of file.
    Closed,
    /// A TLS alert.
    Alert,
    /// Something else.
    Other,
}

async fn in_clear(target: &dyn Target, probe: &HttpRequest) -> io::Result<Clear> {
    let mut stream = target.dial(probe.port).await?;
    let path = if probe.method == "GET" { probe.path.as_str() } else { "/" };
    let host = super::http::authority(probe);
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: slim-probe\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    );
    if let Err(error) = stream.write_all(request.as_bytes()).await
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        return Err(error);
    }
    let mut answer = Vec::new();
    let mut chunk = [0; 4096];
    while answer.len() < chunk.len() {
        let read = match stream.read(&mut chunk).await {
            Ok(read) => read,
            Err(_) if !answer.is_empty() => 0,
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(Clear::Closed),
            Err(error) => return Err(error),
        };
        answer.extend_from_slice(&chunk[..read]);
        let undecided = answer.len() < 12 || answer.starts_with(b"HTTP/1.1 400") || answer.starts_with(b"HTTP/1.0 400");
        if read == 0 || !undecided {
            break;
        }
    }
    Ok(classify(&answer))
}

fn classify(answer: &[u8]) -> Clear {
    if answer.is_empty() {
        return Clear::Closed;
    }
    if answer.starts_with(b"HTTP/1") {
        let text = String::from_utf8_lossy(answer);
        let refused = text.get(9..12) == Some("400") && WANTS_TLS.iter().any(|word| text.contains(word));
        return if refused { Clear::Refused400 } else { Clear::Http };
    }
    // An HTTP/2 server opens with a SETTINGS frame on stream 0 (RFC 9113, 3.4).
    if answer.len() >= 9 && answer[0] == 0 && answer[3] == 4 && answer[5..9] == [0; 4] {
        return Clear::Http2;
    }
    // A TLS record of type alert (RFC 8446, 5.1).
    if answer.starts_with(&[0x15, 3]) { Clear::Alert } else { Clear::Other }
}

/// A TLS handshake takes no longer than this on the way to a container.
const HANDSHAKE: Duration = Duration::from_secs(3);

/// `None` when it does not speak TLS.
async fn over_tls(target: &dyn Target, probe: &HttpRequest) -> io::Result<Option<Speech>> {
    for (alpn, speech) in [(Alpn::Http1, Speech::Https), (Alpn::Http2, Speech::Https2)] {
        let stream = target.dial(probe.port).await?;
        match tokio::time::timeout(HANDSHAKE, tls::connect(stream, super::http::host_name(probe), alpn)).await {
            Ok(Ok(_)) => return Ok(Some(speech)),
            Ok(Err(_)) => {}
            Err(_) => return Ok(None),
        }
    }
    Ok(None)
}

impl HttpRequest {
    /// A plain `GET`.
    pub fn get(port: u16, path: &str) -> Self {
        Self {
            tls: None,
            http2: false,
            port,
            method: "GET".to_owned(),
            path: path.to_owned(),
            headers: Vec::new(),
            body: None,
            host: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_bytes_tell_what_a_port_speaks() {
        assert!(matches!(classify(b"HTTP/1.1 404 Not Found\r\n"), Clear::Http));
        assert!(matches!(
            classify(b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server."),
            Clear::Refused400
        ));
        assert!(matches!(classify(b"HTTP/1.1 400 Bad Request\r\n\r\nno Host"), Clear::Http));
        assert!(matches!(classify(&[0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 3]), Clear::Http2));
        assert!(matches!(classify(&[0x15, 3, 3, 0, 2, 2, 10]), Clear::Alert));
        assert!(matches!(classify(b"-ERR wrong number of arguments\r\n"), Clear::Other));
        assert!(matches!(classify(b""), Clear::Closed));
    }
}
