//! Registry: one repository of a server that speaks the OCI distribution API, through `oci-client`.
//!
//! Blobs that are fetched lie in a temporary directory, laid out as OCI layouts are, until the [`Remote`] goes. A
//! transfer that breaks goes on where it was (downloads) or starts again (uploads), a bounded number of times.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use futures_util::{StreamExt, TryStreamExt};
use oci_client::client::{BlobResponse, Certificate, CertificateEncoding, ClientConfig, ClientProtocol};
use oci_client::errors::OciDistributionError as Trouble;
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference};
use tokio::io::AsyncWriteExt;

use super::digest::{Digest, Hash};
use super::manifest::{Descriptor, media};
use super::place::Place;
use super::trouble::{explain, is_absent, passes};
use crate::exit::Hint;
use crate::image::reference::Name;
use crate::progress::{Fact, Monitor};

/// How many blobs are on their way at once.
pub const AT_ONCE: usize = 4;
/// How often a transfer is tried.
const ATTEMPTS: u32 = 4;
/// A registry that says nothing for so long has stalled.
pub const STALL: Duration = Duration::from_secs(60);
const CONNECT: Duration = Duration::from_secs(15);

/// An account and its password or token. `Debug` shows no secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Account {
    /// Its name.
    pub name: String,
    /// The password or token.
    pub secret: String,
}

impl std::fmt::Debug for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Account").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Finds the account for a registry (`host[:port]`).
pub type Logins = Arc<dyn Fn(&str) -> Result<Option<Account>> + Send + Sync>;

/// How registries are reached.
#[derive(Clone)]
pub struct Access {
    /// Who asks.
    pub logins: Logins,
    /// Registries that may be asked without TLS, as `host[:port]`. Those on this machine always may.
    pub insecure: Vec<String>,
    /// Certificates (PEM) of authorities that are trusted besides the system's.
    pub ca: Option<PathBuf>,
    /// Who hears of progress.
    pub monitor: Arc<dyn Monitor>,
    /// [`STALL`], shorter in tests.
    pub stall: Duration,
}

impl Access {
    /// Without an account, by TLS only.
    pub fn anonymous(monitor: Arc<dyn Monitor>) -> Self {
        Self { logins: Arc::new(|_| Ok(None)), insecure: Vec::new(), ca: None, monitor, stall: STALL }
    }
}

/// A repository.
pub struct Remote {
    pub(super) client: Client,
    /// For uploads: the time in which an answer has to come counts from the beginning of a request, so they are
    /// watched in another way.
    pub(super) sender: Client,
    pub(super) reference: Reference,
    pub(super) auth: RegistryAuth,
    pub(super) access: Access,
    name: Name,
    spool: tempfile::TempDir,
}

impl Remote {
    /// Prepares to talk to the registry of a name; says nothing to it yet, but for asking whether it speaks TLS
    /// where that may be otherwise.
    ///
    /// # Errors
    /// When credentials or certificates cannot be read.
    pub fn new(name: &Name, access: &Access) -> Result<Self> {
        let registry = name.registry.clone();
        let login = (access.logins)(&registry).with_context(|| format!("find credentials for {registry}"))?;
        let auth = match login {
            Some(account) => RegistryAuth::Basic(account.name, account.secret),
            None => RegistryAuth::Anonymous,
        };
        let may_be_plain = access.insecure.contains(&registry) || is_loopback(&registry);
        let protocol = match may_be_plain && speaks_plainly(&registry) {
            true => ClientProtocol::HttpsExcept(vec![registry]),
            false => ClientProtocol::Https,
        };
        let tag = name.tag_or_latest().unwrap_or("latest").to_owned();
        let reference = match &name.digest {
            Some(digest) => Reference::with_digest(name.registry.clone(), name.repository.clone(), digest.clone()),
            None => Reference::with_tag(name.registry.clone(), name.repository.clone(), tag),
        };
        Ok(Self {
            client: client(protocol.clone(), access, Some(access.stall))?,
            sender: client(protocol, access, None)?,
            reference,
            auth,
            access: access.clone(),
            name: name.clone(),
            spool: tempfile::Builder::new().prefix("slim-blobs-").tempdir().context("make a directory for downloads")?,
        })
    }

    /// The name, for people.
    pub fn shown(&self) -> String {
        self.name.familiar()
    }

    /// `host[:port]` and repository.
    pub fn home(&self) -> (&str, &str) {
        (&self.name.registry, &self.name.repository)
    }

    /// Where fetched blobs are.
    pub fn place(&self) -> Place {
        Place::Dir(self.spool.path().to_owned())
    }

    /// The manifest or index of the name, or that with a digest; `None` when the registry has none.
    ///
    /// # Errors
    /// When the registry cannot be asked or answers with something else.
    pub async fn manifest(&self, digest: Option<&Digest>) -> Result<Option<Vec<u8>>> {
        let reference = match digest {
            Some(digest) => self.reference.clone_with_digest(digest.as_str().to_owned()),
            None => self.reference.clone(),
        };
        let ask = || self.client.pull_manifest_raw(&reference, &self.auth, media::ANY);
        let bytes = match self.patiently(ask).await {
            Ok((bytes, _)) => bytes.to_vec(),
            Err(error) if is_absent(&error) => return Ok(None),
            Err(error) => return Err(self.explain(error)),
        };
        let expected = reference.digest().map(Digest::parse).transpose()?;
        match expected {
            Some(expected) if !expected.fits(&bytes) => bail!("the registry answered with another manifest than {expected}"),
            _ => Ok(Some(bytes)),
        }
    }

    /// A small blob, checked.
    ///
    /// # Errors
    /// When it cannot be fetched.
    pub async fn small(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        self.one(descriptor, &Meter::new(self.access.monitor.clone(), None)).await?;
        let bytes = self.place().read(&descriptor.digest()?.blob_path(), descriptor.size)?;
        bytes.with_context(|| format!("{} was fetched and is gone", descriptor.digest))
    }

    /// Fetches blobs, several at once. Those that are here already are not fetched again.
    ///
    /// # Errors
    /// When one of them cannot be had, or is not what it should be.
    pub async fn fetch(&self, blobs: Vec<Descriptor>) -> Result<()> {
        let total = blobs.iter().map(|blob| blob.size).sum();
        let meter = Meter::new(self.access.monitor.clone(), Some(total));
        let meter = &meter;
        let fetches = blobs.iter().map(|blob| async move { self.one(blob, meter).await });
        futures_util::stream::iter(fetches.collect::<Vec<_>>()).buffer_unordered(AT_ONCE).try_collect::<Vec<()>>().await?;
        Ok(())
    }

    async fn one(&self, blob: &Descriptor, meter: &Meter) -> Result<()> {
        let digest = blob.digest()?;
        let place = self.spool.path().join(digest.blob_path());
        if place.is_file() {
            return Ok(());
        }
        let dir = place.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(dir).context("make a directory for downloads")?;
        let part = place.with_extension(format!("part-{}", meter.ticket()));
        let mut download = Download { file: tokio::fs::File::create(&part).await?, at: 0, hash: Hash::like(&digest) };
        self.client.store_auth_if_needed(self.reference.resolve_registry(), &self.auth).await;
        let mut attempt = 1;
        loop {
            let error = match self.stretch(blob, &mut download, meter).await {
                Ok(()) => break,
                Err(error) => error,
            };
            if attempt == ATTEMPTS || !passes(&error) {
                return Err(self.explain(error).context(format!("fetch {digest}")));
            }
            pause(attempt).await;
            attempt += 1;
        }
        download.file.flush().await.context("write a download")?;
        let actual = download.hash.finish();
        if actual != digest || download.at != blob.size {
            let _ = std::fs::remove_file(&part);
            bail!("the registry sent {} bytes that are {actual} where {digest} of {} bytes was asked for", download.at, blob.size);
        }
        std::fs::rename(&part, &place).context("name a download")
    }

    /// One request: from where the last one broke to the end, or to where this one breaks.
    async fn stretch(&self, blob: &Descriptor, download: &mut Download, meter: &Meter) -> Result<(), Trouble> {
        let answer = match download.at {
            0 => BlobResponse::Full(self.client.pull_blob_stream(&self.reference, blob.digest.as_str()).await?),
            at if at == blob.size => return Ok(()),
            at => self.client.pull_blob_stream_partial(&self.reference, blob.digest.as_str(), at, None).await?,
        };
        let mut stream = match answer {
            BlobResponse::Partial(stream) => stream,
            BlobResponse::Full(stream) => {
                download.again(blob).await?;
                stream
            }
        };
        while let Some(bytes) = stream.try_next().await? {
            download.at += bytes.len() as u64;
            if download.at > blob.size {
                return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, "it is longer than the manifest says").into());
            }
            download.hash.update(&bytes);
            download.file.write_all(&bytes).await?;
            meter.add(bytes.len() as u64);
        }
        match download.at < blob.size {
            true => Err(std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "it ended early").into()),
            false => Ok(()),
        }
    }

    /// Asks again where that may help.
    pub(super) async fn patiently<T, F: Future<Output = Result<T, Trouble>>>(&self, ask: impl Fn() -> F) -> Result<T, Trouble> {
        let mut attempt = 1;
        loop {
            match ask().await {
                Err(error) if attempt < ATTEMPTS && passes(&error) => pause(attempt).await,
                answer => return answer,
            }
            attempt += 1;
        }
    }

    pub(super) fn explain(&self, error: Trouble) -> anyhow::Error {
        let named = matches!(self.auth, RegistryAuth::Basic(..));
        explain(error, &self.name.registry, named)
    }
}

struct Download {
    file: tokio::fs::File,
    at: u64,
    hash: Hash,
}

impl Download {
    async fn again(&mut self, blob: &Descriptor) -> Result<(), Trouble> {
        use tokio::io::AsyncSeekExt;
        if self.at > 0 {
            self.file.rewind().await?;
            self.file.set_len(0).await?;
            self.at = 0;
        }
        if let Ok(digest) = blob.digest() {
            self.hash = Hash::like(&digest);
        }
        Ok(())
    }
}

/// Before the second attempt half a second, then twice as long each time.
pub(super) async fn pause(attempt: u32) {
    tokio::time::sleep(Duration::from_millis(250 << attempt)).await;
}

/// Bytes of several transfers, announced now and then.
pub(super) struct Meter {
    monitor: Arc<dyn Monitor>,
    total: Option<u64>,
    done: AtomicU64,
    tickets: AtomicU64,
}

impl Meter {
    pub(super) fn new(monitor: Arc<dyn Monitor>, total: Option<u64>) -> Self {
        Self { monitor, total, done: AtomicU64::new(0), tickets: AtomicU64::new(0) }
    }

    fn ticket(&self) -> u64 {
        self.tickets.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn add(&self, count: u64) {
        const STEP: u64 = 1 << 20;
        let before = self.done.fetch_add(count, Ordering::Relaxed);
        if self.total.is_some() && (before / STEP != (before + count) / STEP || Some(before + count) == self.total) {
            self.monitor.tell(Fact::Bytes { done: before + count, total: self.total });
        }
    }
}

fn client(protocol: ClientProtocol, access: &Access, stall: Option<Duration>) -> Result<Client> {
    // The first one wins; another part of the program may have chosen the same.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut roots = Vec::new();
    if let Some(file) = &access.ca {
        let pem = std::fs::read(file).with_context(|| format!("read the certificates {}", file.display()))?;
        let text = String::from_utf8_lossy(&pem);
        for part in text.split_inclusive("-----END CERTIFICATE-----").filter(|part| part.contains("-----BEGIN CERTIFICATE-----")) {
            roots.push(Certificate { encoding: CertificateEncoding::Pem, data: part.as_bytes().to_vec() });
        }
        if roots.is_empty() {
            return Err(anyhow!("{} holds no certificate", file.display())).context(Hint::new("give a file in PEM form"));
        }
    }
    let config = ClientConfig {
        protocol,
        use_monolithic_push: true,
        extra_root_certificates: roots,
        platform_resolver: None,
        connect_timeout: Some(CONNECT),
        read_timeout: stall,
        user_agent: concat!("slim/", env!("CARGO_PKG_VERSION")),
        ..ClientConfig::default()
    };
    Client::try_from(config).context("prepare to talk to the registry").context(Hint::new(
        "the system's certificates are in /etc/ssl/certs (package ca-certificates); SSL_CERT_FILE names others",
    ))
}

fn is_loopback(registry: &str) -> bool {
    let host = registry.rsplit_once(':').filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit())).map_or(registry, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Whether a server answers without TLS. It gets a request that says nothing about us; a server with TLS answers
/// that with an alert, or says that it was meant to be HTTPS.
fn speaks_plainly(registry: &str) -> bool {
    use std::io::{Read, Write};
    use std::net::{TcpStream, ToSocketAddrs};
    let address = if registry.rsplit(':').next().is_some_and(|port| port.parse::<u16>().is_ok()) { registry.to_owned() } else { format!("{registry}:80") };
    let wait = Duration::from_secs(3);
    let ask = || -> std::io::Result<Vec<u8>> {
        let address = address.to_socket_addrs()?.next().ok_or(std::io::ErrorKind::NotFound)?;
        let mut stream = TcpStream::connect_timeout(&address, wait)?;
        stream.set_read_timeout(Some(wait))?;
        stream.write_all(format!("GET /v2/ HTTP/1.0\r\nHost: {registry}\r\n\r\n").as_bytes())?;
        let mut answer = Vec::new();
        stream.take(1024).read_to_end(&mut answer)?;
        Ok(answer)
    };
    let answer = ask().unwrap_or_default();
    let status = answer.get(9..12).unwrap_or_default();
    answer.starts_with(b"HTTP/1.") && [&b"200"[..], b"401"].contains(&status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_asked_without_tls_unbidden() {
        for (registry, expected) in [
            ("localhost:5000", true),
            ("127.0.0.1:5000", true),
            ("127.9.0.1", true),
            ("[::1]:5000", true),
            ("localhost.example", false),
            ("10.0.0.1:5000", false),
            ("registry.example:5000", false),
        ] {
            assert_eq!(is_loopback(registry), expected, "{registry}");
        }
    }
}
