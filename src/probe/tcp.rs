//! Tcp: a conversation in bytes: send this, wait until that comes.

use regex::bytes::Regex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::body::Collector;
use super::{Body, Target, TcpStep};

/// An answer that does not come to an end is not waited for in memory past this.
const MAX_PENDING: usize = 1 << 20;

/// What came of a conversation.
pub(super) struct Talk {
    /// All that the peer said, up to what each step waited for: independent of how tcp cut it to pieces.
    pub(super) received: Body,
    /// Why it did not go as stated.
    pub(super) failed: Option<String>,
}

/// Holds the conversation. The error says that the port could not be talked to at all.
pub(super) async fn converse(target: &dyn Target, port: u16, steps: &[TcpStep]) -> std::io::Result<Talk> {
    let mut stream = target.dial(port).await?;
    let mut received = Collector::default();
    let mut pending = Vec::new();
    for (index, step) in steps.iter().enumerate() {
        let failed = match step {
            TcpStep::Send(bytes) => stream.write_all(bytes).await.err().map(|e| format!("cannot send: {e}")),
            TcpStep::Expect(pattern) => expect(&mut stream, pattern, &mut pending, &mut received).await,
            TcpStep::ExpectClose => {
                received.push(&std::mem::take(&mut pending));
                close(&mut stream, &mut received).await
            }
        };
        if let Some(why) = failed {
            received.push(&pending);
            return Ok(Talk { received: received.finish(), failed: Some(format!("step {}: {why}", index + 1)) });
        }
    }
    if steps.is_empty() && closes_at_once(&mut stream).await {
        return Ok(Talk {
            received: received.finish(),
            failed: Some("the port accepts connections and closes them at once".into()),
        });
    }
    Ok(Talk { received: received.finish(), failed: None })
}

async fn expect(
    stream: &mut (impl AsyncReadExt + Unpin),
    pattern: &str,
    pending: &mut Vec<u8>,
    received: &mut Collector,
) -> Option<String> {
    let regex = match Regex::new(pattern) {
        Ok(regex) => regex,
        Err(error) => return Some(format!("`{pattern}` is not a regular expression: {error}")),
    };
    let mut chunk = [0; 8192];
    loop {
        if let Some(found) = regex.find(pending) {
            received.push(&pending.drain(..found.end()).collect::<Vec<_>>());
            return None;
        }
        if pending.len() > MAX_PENDING {
            return Some(format!("nothing matches `{pattern}` in the first {MAX_PENDING} bytes"));
        }
        match stream.read(&mut chunk).await {
            Ok(0) => return Some(format!("closed before anything matched `{pattern}` ({} bytes came)", pending.len())),
            Ok(read) => pending.extend_from_slice(&chunk[..read]),
            Err(error) => return Some(format!("cannot read: {error}")),
        }
    }
}

async fn close(stream: &mut (impl AsyncReadExt + Unpin), received: &mut Collector) -> Option<String> {
    let mut chunk = [0; 8192];
    loop {
        match stream.read(&mut chunk).await {
            Ok(0) => return None,
            Ok(read) => received.push(&chunk[..read]),
            Err(error) => return Some(format!("cannot read: {error}")),
        }
    }
}

/// A published port accepts connections on behalf of a service that is not there yet, and closes them:
/// a service that is there either speaks or waits.
async fn closes_at_once(stream: &mut (impl AsyncReadExt + Unpin)) -> bool {
    let grace = std::time::Duration::from_millis(50);
    matches!(tokio::time::timeout(grace, stream.read(&mut [0; 1])).await, Ok(Ok(0) | Err(_)))
}
