//! Local servers to probe, and a target that dials them.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Result;
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use slim::engine::{ContainerState, ExecResult, Health};
use slim::probe::{Stream, Target};
use slim::progress::{Fact, Monitor};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

/// What a test's server answers with.
pub type Reply = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// A reply with a content type and a body.
pub fn reply(status: u16, kind: &str, body: impl Into<Bytes>) -> Reply {
    let body = Full::new(body.into()).boxed_unsync();
    Response::builder().status(status).header("content-type", kind).body(body).unwrap()
}

/// An HTML page.
pub fn page(body: &str) -> Reply {
    reply(200, "text/html", body.to_owned())
}

/// A reply that leads elsewhere.
pub fn redirect(to: &str) -> Reply {
    let mut reply = reply(302, "text/plain", "");
    reply.headers_mut().insert("location", to.parse().unwrap());
    reply
}

/// A body of this many bytes, made while it is sent.
pub fn streamed(length: usize) -> Reply {
    const CHUNK: Bytes = Bytes::from_static(&[b'x'; 65536]);
    let frames = (0..length / CHUNK.len()).map(|_| Ok(Frame::data(CHUNK)));
    Response::new(BodyExt::boxed_unsync(StreamBody::new(stream::iter(frames))))
}

/// How a server speaks.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Speaks {
    Http1,
    Http2,
    Https,
    HttpsOnlyHttp2,
    /// To who asks for this name only.
    HttpsFor(&'static str),
}

/// Requests that a server got, as `GET /path`.
pub type Asked = Arc<Mutex<Vec<String>>>;

/// Serves on a free port until the test's runtime ends.
pub async fn serve(
    speaks: Speaks,
    answer: impl Fn(&Request<Incoming>) -> Reply + Send + Sync + 'static,
) -> (u16, Asked) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (port, serve_on(listener, speaks, answer))
}

/// Serves on this socket.
pub fn serve_on(
    listener: TcpListener,
    speaks: Speaks,
    answer: impl Fn(&Request<Incoming>) -> Reply + Send + Sync + 'static,
) -> Asked {
    let asked = Asked::default();
    let (answer, log) = (Arc::new(answer), asked.clone());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (answer, log) = (answer.clone(), log.clone());
            tokio::spawn(async move {
                match speaks {
                    Speaks::Http1 | Speaks::Http2 => connection(stream, speaks == Speaks::Http2, answer, log).await,
                    Speaks::HttpsFor(name) => {
                        let Ok(stream) = acceptor_for(name).accept(stream).await else { return };
                        connection(stream, false, answer, log).await;
                    }
                    Speaks::Https | Speaks::HttpsOnlyHttp2 => {
                        let both: &[&[u8]] = if speaks == Speaks::Https { &[b"h2", b"http/1.1"] } else { &[b"h2"] };
                        let Ok(stream) = acceptor(both).accept(stream).await else { return };
                        let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                        connection(stream, http2, answer, log).await;
                    }
                }
            });
        }
    });
    asked
}

async fn connection<S, F>(stream: S, http2: bool, answer: Arc<F>, log: Asked)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Fn(&Request<Incoming>) -> Reply + Send + Sync + 'static,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let path = request.uri().path_and_query().map_or("", |path| path.as_str());
        log.lock().unwrap().push(format!("{} {path}", request.method()));
        let reply = answer(&request);
        async move { Ok::<_, Infallible>(reply) }
    });
    let io = TokioIo::new(stream);
    // A probe may go away at any time.
    if http2 {
        let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        let _ = server.serve_connection(io, service).await;
    } else {
        let _ = hyper::server::conn::http1::Builder::new().serve_connection(io, service).await;
    }
}

/// Has a certificate for one name, and shakes no hands with who asks for another.
#[derive(Debug)]
struct OnlyFor(&'static str, Arc<CertifiedKey>);

impl ResolvesServerCert for OnlyFor {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        (hello.server_name() == Some(self.0)).then(|| self.1.clone())
    }
}

fn acceptor_for(name: &'static str) -> TlsAcceptor {
    let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let key = provider.key_provider.load_private_key(key).unwrap();
    let certified = Arc::new(CertifiedKey::new(vec![made.cert.der().clone()], key));
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_no_client_auth().with_cert_resolver(Arc::new(OnlyFor(name, certified)));
    TlsAcceptor::from(Arc::new(config))
}

fn acceptor(alpn: &[&[u8]]) -> TlsAcceptor {
    let made = rcgen::generate_simple_self_signed(vec!["nobody.invalid".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    TlsAcceptor::from(Arc::new(config))
}

/// A server that holds a conversation: what it is told, line by line, and what it says to that.
pub async fn lines(answer: impl Fn(&str) -> Option<String> + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let answer = Arc::new(answer);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let answer = answer.clone();
            tokio::spawn(async move {
                let mut told = String::new();
                let mut chunk = [0; 1024];
                while let Ok(read @ 1..) = stream.read(&mut chunk).await {
                    told += &String::from_utf8_lossy(&chunk[..read]);
                    while let Some((line, rest)) = told.split_once("\r\n").map(|(a, b)| (a.to_owned(), b.to_owned())) {
                        told = rest;
                        match answer(&line) {
                            Some(text) => stream.write_all(text.as_bytes()).await.unwrap(),
                            None => return,
                        }
                    }
                }
            });
        }
    });
    port
}

/// A server that says one thing to whoever connects, a list of things in turn, the last one for ever.
pub async fn greets(greetings: Vec<Vec<u8>>, after: usize) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let mut count = 0;
        while let Ok((mut stream, _)) = listener.accept().await {
            let greeting = greetings[count.min(greetings.len() - 1)].clone();
            count += 1;
            tokio::spawn(async move {
                let mut told = vec![0; after];
                if stream.read_exact(&mut told).await.is_ok() {
                    let _ = stream.write_all(&greeting).await;
                    let _ = stream.read(&mut [0; 64]).await;
                }
            });
        }
    });
    port
}

/// A target on this machine.
pub struct Local {
    /// Container port to local port.
    ports: BTreeMap<u16, u16>,
    /// What was marked.
    pub marks: Mutex<Vec<String>>,
    /// Its log.
    pub log: Mutex<Vec<u8>>,
    /// Its health.
    pub health: Mutex<Option<Health>>,
    /// What it listens on.
    pub listeners: Option<Vec<SocketAddr>>,
    /// Programs of this machine do not reach it.
    pub far: bool,
    end: watch::Sender<Option<i32>>,
}

impl Local {
    /// With these container ports at these local ports.
    pub fn new(ports: &[(u16, u16)]) -> Self {
        Self {
            ports: ports.iter().copied().collect(),
            marks: Mutex::default(),
            log: Mutex::default(),
            health: Mutex::default(),
            listeners: None,
            far: false,
            end: watch::channel(None).0,
        }
    }

    /// Ends with this exit status.
    pub fn end(&self, status: i32) {
        self.end.send_replace(Some(status));
    }
}

#[async_trait]
impl Target for Local {
    async fn dial(&self, port: u16) -> io::Result<Box<dyn Stream>> {
        if self.end.borrow().is_some() {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let local = self.ports.get(&port).ok_or(io::ErrorKind::ConnectionRefused)?;
        Ok(Box::new(TcpStream::connect(("127.0.0.1", *local)).await?))
    }

    async fn exec(&self, _: &str, argv: &[String], timeout: Duration) -> Result<ExecResult> {
        anyhow::ensure!(self.end.borrow().is_none(), "the container is not running");
        let run = tokio::process::Command::new(&argv[0]).args(&argv[1..]).kill_on_drop(true).output();
        Ok(match tokio::time::timeout(timeout, run).await {
            Ok(Ok(out)) => {
                let status = out.status.code().unwrap_or(137);
                ExecResult { status, stdout: out.stdout, stderr: out.stderr, timed_out: false }
            }
            Ok(Err(_)) => ExecResult { status: 127, ..ExecResult::default() },
            Err(_) => ExecResult { status: 137, timed_out: true, ..ExecResult::default() },
        })
    }

    async fn mark(&self, name: &str) -> Result<()> {
        self.marks.lock().unwrap().push(name.to_owned());
        Ok(())
    }

    async fn state(&self) -> Result<ContainerState> {
        let exited = *self.end.borrow();
        Ok(ContainerState { exited, health: *self.health.lock().unwrap(), ..ContainerState::default() })
    }

    async fn ended(&self) -> Result<i32> {
        let mut end = self.end.subscribe();
        let status = *end.wait_for(Option::is_some).await?;
        Ok(status.unwrap_or_default())
    }

    fn log(&self) -> Vec<u8> {
        self.log.lock().unwrap().clone()
    }

    fn is_within_reach(&self) -> bool {
        !self.far
    }

    fn address(&self) -> String {
        "127.0.0.1".to_owned()
    }

    async fn listeners(&self) -> Option<Vec<SocketAddr>> {
        self.listeners.clone()
    }
}

/// Collects what is announced.
#[derive(Default)]
pub struct Collect(Mutex<Vec<Fact>>);

impl Collect {
    /// The warnings.
    pub fn warnings(&self) -> Vec<String> {
        let facts = self.0.lock().unwrap();
        let text = |fact: &Fact| match fact {
            Fact::Warning { text } => Some(text.clone()),
            _ => None,
        };
        facts.iter().filter_map(text).collect()
    }
}

impl Monitor for Collect {
    fn tell(&self, fact: Fact) {
        self.0.lock().unwrap().push(fact);
    }
}
