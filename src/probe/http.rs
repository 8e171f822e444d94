//! HTTP: one request over one fresh connection to the target, and all of its answer.
//!
//! A connection is made per request so that what the server does for a probe falls under that probe's
//! mark. Redirects are not followed: a 3xx is the answer.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::task::JoinSet;

use super::body::Collector;
use super::tls::{self, Alpn};
use super::{Body, HttpRequest, Stream, Target};

/// Headers that are held for comparison. Of `set-cookie` only the names are.
const COMPARED: [HeaderName; 11] = [
    header::CONTENT_TYPE,
    header::CONTENT_ENCODING,
    header::CONTENT_LANGUAGE,
    header::CONTENT_DISPOSITION,
    header::LOCATION,
    header::WWW_AUTHENTICATE,
    header::CACHE_CONTROL,
    header::ALLOW,
    header::VARY,
    header::ETAG,
    header::LAST_MODIFIED,
];

/// Bodies that do not end; only their head is an answer.
const ENDLESS: [&str; 2] = ["text/event-stream", "multipart/x-mixed-replace"];

/// An HTTP answer.
#[derive(Debug)]
pub(super) struct Reply {
    /// Status code.
    pub(super) status: u16,
    /// See [`super::Content::Http`].
    pub(super) headers: BTreeMap<String, String>,
    /// The body.
    pub(super) body: Body,
}

/// Asks and reads the whole answer. `tls` says whether the port speaks TLS. The error is for people.
pub(super) async fn fetch(
    target: &dyn Target,
    request: &HttpRequest,
    tls: bool,
    timeout: Duration,
) -> Result<Reply, String> {
    let mut body = Collector::default();
    let answer = tokio::time::timeout(timeout, exchange(target, request, tls, &mut body)).await;
    match answer {
        Ok(Ok((status, headers))) => Ok(Reply { status, headers, body: body.finish() }),
        Ok(Err(error)) => Err(explain(error.as_ref())),
        Err(_) => Err(timed_out(timeout, body.length())),
    }
}

fn timed_out(timeout: Duration, length: u64) -> String {
    let seconds = timeout.as_secs_f64();
    match length {
        0 => format!("timed out after {seconds} s"),
        _ => format!("timed out after {seconds} s with {length} bytes of the body read"),
    }
}

type Error = Box<dyn std::error::Error + Send + Sync>;

async fn exchange(
    target: &dyn Target,
    request: &HttpRequest,
    tls: bool,
    body: &mut Collector,
) -> Result<(u16, BTreeMap<String, String>), Error> {
    let stream = target.dial(request.port).await?;
    let stream: Box<dyn Stream> = match tls {
        false => stream,
        true => {
            let alpn = if request.http2 { Alpn::Http2 } else { Alpn::Http1 };
            let stream = tls::connect(stream, host_name(request), alpn).await;
            Box::new(stream.map_err(|e| io::Error::other(format!("TLS handshake failed: {e}")))?)
        }
    };
    // The connection's own task ends with this set, also when the caller gives up.
    let mut connection = JoinSet::new();
    let mut response = send(request, tls, stream, &mut connection).await?;
    let headers = compared_headers(response.headers());
    let endless = headers.get("content-type").is_some_and(|kind| ENDLESS.iter().any(|e| kind.starts_with(e)));
    if !endless {
        while let Some(frame) = response.body_mut().frame().await {
            if let Some(data) = frame?.data_ref() {
                body.push(data);
            }
        }
    }
    Ok((response.status().as_u16(), headers))
}

async fn send(
    request: &HttpRequest,
    tls: bool,
    stream: Box<dyn Stream>,
    connection: &mut JoinSet<()>,
) -> Result<Response<Incoming>, Error> {
    let message = message(request, tls)?;
    let io = TokioIo::new(stream);
    if request.http2 {
        let (mut sender, driver) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await?;
        drive(connection, driver);
        Ok(sender.send_request(message).await?)
    } else {
        let (mut sender, driver) = hyper::client::conn::http1::handshake(io).await?;
        drive(connection, driver);
        Ok(sender.send_request(message).await?)
    }
}

fn drive<E>(connection: &mut JoinSet<()>, driver: impl Future<Output = Result<(), E>> + Send + 'static) {
    // Its errors come out of the request too.
    connection.spawn(async move {
        let _ = driver.await;
    });
}

fn message(request: &HttpRequest, tls: bool) -> Result<Request<Full<Bytes>>, Error> {
    let path = encoded_path(&request.path);
    let uri = match request.http2 {
        true => format!("{}://{}{path}", if tls { "https" } else { "http" }, authority(request)),
        false => path,
    };
    let mut message = Request::builder().method(request.method.as_str()).uri(uri);
    let mut headers = HeaderMap::new();
    if !request.http2 {
        headers.insert(header::HOST, HeaderValue::try_from(authority(request))?);
    }
    headers.insert(header::USER_AGENT, HeaderValue::from_static("slim-probe"));
    headers.insert(header::ACCEPT, HeaderValue::from_static("*/*"));
    let mut stated = HeaderMap::new();
    for (name, value) in &request.headers {
        stated.append(HeaderName::try_from(name.as_str())?, HeaderValue::try_from(value.as_str())?);
    }
    if request.http2 {
        stated.remove(header::HOST);
    }
    for name in stated.keys() {
        headers.remove(name);
    }
    headers.extend(stated);
    if let Some(all) = message.headers_mut() {
        *all = headers;
    }
    let body = request.body.clone().unwrap_or_default();
    Ok(message.body(Full::new(Bytes::from(body)))?)
}

/// What the Host header says.
pub(super) fn authority(request: &HttpRequest) -> String {
    match (&request.host, request.port) {
        (Some(host), _) => host.clone(),
        (None, 80 | 443) => "localhost".to_owned(),
        (None, port) => format!("localhost:{port}"),
    }
}

/// The name that a TLS server is asked for.
pub(super) fn host_name(request: &HttpRequest) -> &str {
    let host = request.host.as_deref().unwrap_or("localhost");
    match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((v6, _)) => v6,
        None => host.split(':').next().unwrap_or(host),
    }
}

/// A path as a request line can carry it: bytes that it may not hold are percent-encoded, a fragment is
/// dropped.
fn encoded_path(path: &str) -> String {
    let path = path.split('#').next().unwrap_or_default();
    let mut encoded = String::with_capacity(path.len() + 1);
    if !path.starts_with('/') && path != "*" {
        encoded.push('/');
    }
    for byte in path.bytes() {
        match byte {
            b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' => encoded += &format!("%{byte:02X}"),
            0x21..=0x7e => encoded.push(byte as char),
            _ => encoded += &format!("%{byte:02X}"),
        }
    }
    encoded
}

fn compared_headers(headers: &HeaderMap) -> BTreeMap<String, String> {
    let mut compared = BTreeMap::new();
    for name in COMPARED {
        let values: Vec<_> =
            headers.get_all(&name).iter().map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
        if !values.is_empty() {
            compared.insert(name.as_str().to_owned(), values.join(", "));
        }
    }
    let cookies = headers.get_all(header::SET_COOKIE).iter();
    let mut names: Vec<String> = cookies
        .filter_map(|value| Some(String::from_utf8_lossy(value.as_bytes()).split_once('=')?.0.trim().to_owned()))
        .collect();
    names.sort();
    if !names.is_empty() {
        compared.insert("set-cookie".to_owned(), names.join(", "));
    }
    compared
}

/// The first cause that says something, in few words.
pub(super) fn explain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = Some(error);
    let mut last = error.to_string();
    while let Some(this) = cause {
        if let Some(io) = this.downcast_ref::<io::Error>()
            && let Some(text) = explain_io(io)
        {
            return text.to_owned();
        }
        if this.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_incomplete_message) {
            return "the connection was closed before an answer came".to_owned();
        }
        last = this.to_string();
        cause = this.source();
    }
    last
}

fn explain_io(error: &io::Error) -> Option<&'static str> {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Some("connection refused"),
        io::ErrorKind::ConnectionReset => Some("connection reset"),
        io::ErrorKind::BrokenPipe => Some("the connection was closed"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_encoded_once_and_loses_its_fragment() {
        for (path, encoded) in [
            ("/a b", "/a%20b"),
            ("/a%20b?q=ü#top", "/a%20b?q=%C3%BC"),
            ("index.html", "/index.html"),
            ("/{id}", "/%7Bid%7D"),
            ("", "/"),
        ] {
            assert_eq!(encoded_path(path), encoded, "{path}");
        }
    }

    #[test]
    fn the_host_header_does_not_depend_on_the_run() {
        let mut request = HttpRequest::get(8080, "/");
        assert_eq!(authority(&request), "localhost:8080");
        request.host = Some("[::1]:80".into());
        assert_eq!(host_name(&request), "::1");
        request.host = Some("example.org:8443".into());
        assert_eq!((authority(&request).as_str(), host_name(&request)), ("example.org:8443", "example.org"));
    }
}
