//! Relay: our executable in the network namespace of a target whose address cannot be reached from here
//! (docker in docker, ssh, a desktop's virtual machine). It carries tcp connections over its own attached
//! stdin and stdout, so nothing is published and nothing listens.
//!
//! Frames go both ways: kind (1 byte), connection (4 bytes, big endian), length (4 bytes, big endian),
//! payload. The controller opens connections and numbers them; either side ends its half with `Eof`. There is
//! no flow control: what the target sends is held until the probe reads it.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures_util::StreamExt;
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;

use super::sockets;
use super::{Attached, Container, ContainerSpec, Engine, RunOptions};
use crate::sensor::control::{PROGRAM_FILE, SENSOR_DIR};

/// The role's name on the command line.
pub const ROLE: &str = "relay";

/// What is asked for instead of an address to get the namespace's listening tcp sockets.
const LISTENERS: &[u8] = b"listeners";
/// Bytes of a frame before its payload.
const HEAD: usize = 9;
/// The most payload that one frame has.
const LARGEST: usize = 64 << 10;
/// Time for one connection to be made.
const DIAL: Duration = Duration::from_secs(10);

/// What a frame says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Controller: connect to the address in the payload. Relay: connected.
    Open = 1,
    /// Bytes.
    Data = 2,
    /// This half is over.
    Eof = 3,
    /// Relay: it could not be connected; the payload is an errno in decimal, or nothing.
    Failed = 4,
    /// Relay: it runs.
    Ready = 5,
}

impl Kind {
    fn of(byte: u8) -> io::Result<Self> {
        let all = [Self::Open, Self::Data, Self::Eof, Self::Failed, Self::Ready];
        let kind = all.into_iter().find(|kind| *kind as u8 == byte);
        kind.ok_or_else(|| io::Error::other(format!("no kind of frame: {byte}")))
    }
}

fn frame(kind: Kind, connection: u32, payload: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(HEAD + payload.len());
    bytes.put_u8(kind as u8);
    bytes.put_u32(connection);
    bytes.put_u32(payload.len() as u32);
    bytes.put_slice(payload);
    bytes.freeze()
}

/// Takes one whole frame off the front of what came; `None` when there is none yet.
fn unframe(buffer: &mut BytesMut) -> io::Result<Option<(Kind, u32, Bytes)>> {
    let Some(head) = buffer.get(..HEAD) else {
        return Ok(None);
    };
    let mut fields = &head[1..];
    let (kind, connection, length) = (Kind::of(head[0])?, fields.get_u32(), fields.get_u32() as usize);
    if length > LARGEST {
        return Err(io::Error::other(format!("a frame of {length} bytes")));
    }
    if buffer.len() < HEAD + length {
        return Ok(None);
    }
    let mut whole = buffer.split_to(HEAD + length);
    whole.advance(HEAD);
    Ok(Some((kind, connection, whole.freeze())))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

// ---- in the target's network namespace: threads, no async runtime -------------------------------------------

/// The role `slim relay`: carries connections until its input ends.
///
/// # Errors
/// When its input is not what a controller sends.
pub fn serve(mut input: impl Read, output: impl Write + Send + 'static) -> Result<()> {
    let output = Arc::new(Mutex::new(output));
    say(&output, Kind::Ready, 0, &[]).context("tell the controller that the relay runs")?;
    let mut connections: HashMap<u32, mpsc::Sender<Bytes>> = HashMap::new();
    let (mut buffer, mut piece) = (BytesMut::new(), vec![0; LARGEST]);
    loop {
        let count = input.read(&mut piece).context("read from the controller")?;
        if count == 0 {
            return Ok(());
        }
        buffer.extend_from_slice(&piece[..count]);
        while let Some((kind, id, payload)) = unframe(&mut buffer)? {
            match kind {
                Kind::Open => {
                    let (send, receive) = mpsc::channel();
                    connections.insert(id, send);
                    let output = output.clone();
                    std::thread::spawn(move || carry(id, &payload, &receive, &output));
                }
                Kind::Data => {
                    // A connection that is gone has told so already.
                    let _ = connections.get(&id).map(|connection| connection.send(payload));
                }
                Kind::Eof => drop(connections.remove(&id)),
                Kind::Failed | Kind::Ready => bail!("the controller sent {kind:?}"),
            }
        }
    }
}

type Sink<W> = Arc<Mutex<W>>;

fn say<W: Write>(output: &Sink<W>, kind: Kind, id: u32, payload: &[u8]) -> io::Result<()> {
    let mut output = lock(output);
    output.write_all(&frame(kind, id, payload))?;
    output.flush()
}

/// One connection: this thread writes to the target, another reads from it.
fn carry<W: Write + Send + 'static>(id: u32, address: &[u8], from: &mpsc::Receiver<Bytes>, output: &Sink<W>) {
    if address == LISTENERS {
        // A controller that is gone needs no answer.
        let _ = tell_listeners(id, output);
        return;
    }
    let connected = parse_address(address).and_then(|address| TcpStream::connect_timeout(&address, DIAL));
    let both = connected.and_then(|stream| {
        stream.set_nodelay(true)?;
        Ok((stream.try_clone()?, stream))
    });
    let (reading, mut writing) = match both {
        Ok(both) => both,
        Err(error) => {
            let code = error.raw_os_error().map(|code| code.to_string()).unwrap_or_default();
            // Nobody listens any more when this fails, and the process ends with its input.
            let _ = say(output, Kind::Failed, id, code.as_bytes());
            return;
        }
    };
    if say(output, Kind::Open, id, &[]).is_err() {
        return;
    }
    let back = output.clone();
    std::thread::spawn(move || read_back(id, reading, &back));
    while let Ok(bytes) = from.recv() {
        if writing.write_all(&bytes).is_err() {
            return;
        }
    }
    let _ = writing.shutdown(Shutdown::Write);
}

/// Answers with the kernel's own tables of tcp sockets, see proc(5).
fn tell_listeners<W: Write>(id: u32, output: &Sink<W>) -> io::Result<()> {
    say(output, Kind::Open, id, &[])?;
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        // A kernel without IPv6 has no second table.
        let text = std::fs::read(table).unwrap_or_default();
        for piece in text.chunks(LARGEST) {
            say(output, Kind::Data, id, piece)?;
        }
    }
    say(output, Kind::Eof, id, &[])
}

fn parse_address(text: &[u8]) -> io::Result<SocketAddr> {
    let text = std::str::from_utf8(text).map_err(io::Error::other)?;
    text.parse().map_err(io::Error::other)
}

fn read_back<W: Write>(id: u32, mut reading: TcpStream, output: &Sink<W>) {
    let mut piece = vec![0; LARGEST];
    loop {
        let count = match reading.read(&mut piece) {
            Ok(0) | Err(_) => break,
            Ok(count) => count,
        };
        if say(output, Kind::Data, id, &piece[..count]).is_err() {
            return;
        }
    }
    let _ = say(output, Kind::Eof, id, &[]);
}

// ---- in the controller --------------------------------------------------------------------------------------

/// A relay that runs.
pub struct Relay {
    /// `None` over streams that no container belongs to.
    container: Option<Box<dyn Container>>,
    input: Input,
    connections: Connections,
    next: AtomicU32,
    reader: tokio::task::JoinHandle<()>,
}

type Input = Arc<tokio::sync::Mutex<Pin<Box<dyn AsyncWrite + Send>>>>;
type Connections = Arc<Mutex<HashMap<u32, Connection>>>;

/// A connection as the controller sees it.
struct Connection {
    opened: Option<oneshot::Sender<io::Result<()>>>,
    data: UnboundedSender<Bytes>,
}

impl Relay {
    /// Starts a relay in the network namespace of a running container. `image` is any image of the engine,
    /// `volume` the volume that holds this executable; `mount_points` are the image's VOLUMEs, which are
    /// covered so that the engine copies nothing.
    ///
    /// # Errors
    /// When the engine cannot run it.
    pub async fn start(
        engine: &dyn Engine,
        image: &str,
        volume: &str,
        mount_points: &[String],
        target: &dyn Container,
    ) -> Result<Self> {
        let options = RunOptions {
            user: Some("0:0".into()),
            entrypoint: Some(vec![format!("{SENSOR_DIR}/{PROGRAM_FILE}"), ROLE.into()]),
            cmd: Some(Vec::new()),
            workdir: Some("/".into()),
            network: Some(format!("container:{}", target.id())),
            cap_drop: vec!["ALL".into()],
            tmpfs: mount_points.to_vec(),
            ..RunOptions::default()
        };
        let spec = ContainerSpec::with_program(ROLE, image, volume, options);
        let container = engine.create(&spec).await.context("create the relay")?;
        let attached = container.attach().await.context("attach to the relay")?;
        container.start().await.context("start the relay")?;
        let mut relay = Self::over(attached).await?;
        relay.container = Some(container);
        Ok(relay)
    }

    /// A relay whose streams these are.
    ///
    /// # Errors
    /// When it does not say that it runs.
    pub async fn over(attached: Attached) -> Result<Self> {
        let input = attached.input.context("the relay has no stdin")?;
        let connections = Connections::default();
        let (ready, is_ready) = oneshot::channel();
        let reader = tokio::spawn(read(attached.output, connections.clone(), ready));
        let said = tokio::time::timeout(Duration::from_secs(30), is_ready).await;
        let said = said.context("the relay does not answer")?;
        said.context("the relay ended")?.map_err(|why| anyhow::anyhow!("the relay cannot run: {why}"))?;
        let input = Arc::new(tokio::sync::Mutex::new(input));
        Ok(Self { container: None, input, connections, next: AtomicU32::new(1), reader })
    }

    /// Connects to an address as the target's network namespace sees it.
    ///
    /// # Errors
    /// As a connect there; `ErrorKind::BrokenPipe` when the relay is gone.
    pub async fn dial(&self, address: SocketAddr) -> io::Result<DuplexStream> {
        self.open(address.to_string().as_bytes()).await
    }

    /// The tcp sockets that listen in the target's network namespace.
    ///
    /// # Errors
    /// `ErrorKind::BrokenPipe` when the relay is gone.
    pub async fn listeners(&self) -> io::Result<Vec<SocketAddr>> {
        let mut text = String::new();
        self.open(LISTENERS).await?.read_to_string(&mut text).await?;
        let listening = sockets::table(&text).into_iter().filter(|socket| socket.listens);
        Ok(listening.map(|socket| socket.local).collect())
    }

    async fn open(&self, what: &[u8]) -> io::Result<DuplexStream> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (opened, is_opened) = oneshot::channel();
        let (data, received) = unbounded_channel();
        lock(&self.connections).insert(id, Connection { opened: Some(opened), data });
        send(&self.input, frame(Kind::Open, id, what)).await?;
        let answer = tokio::time::timeout(DIAL + Duration::from_secs(5), is_opened).await;
        answer.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?.map_err(|_| gone())??;
        let (near, far) = tokio::io::duplex(LARGEST);
        let (from_near, to_near) = tokio::io::split(far);
        tokio::spawn(deliver(received, to_near));
        tokio::spawn(forward(id, from_near, self.input.clone()));
        Ok(near)
    }

    /// Ends it and removes its container.
    ///
    /// # Errors
    /// When the engine cannot remove it.
    pub async fn close(self) -> Result<()> {
        self.reader.abort();
        match self.container {
            Some(container) => container.remove().await,
            None => Ok(()),
        }
    }
}

fn gone() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the relay is gone")
}

async fn send(input: &Input, frame: Bytes) -> io::Result<()> {
    let mut input = input.lock().await;
    input.write_all(&frame).await?;
    input.flush().await
}

/// From the target to the probe.
async fn deliver(mut received: UnboundedReceiver<Bytes>, mut to_near: tokio::io::WriteHalf<DuplexStream>) {
    while let Some(bytes) = received.recv().await {
        if to_near.write_all(&bytes).await.is_err() {
            return;
        }
    }
    // The probe may have let go already.
    let _ = to_near.shutdown().await;
}

/// From the probe to the target.
async fn forward(id: u32, mut from_near: tokio::io::ReadHalf<DuplexStream>, input: Input) {
    let mut piece = vec![0; LARGEST];
    loop {
        let sent = match from_near.read(&mut piece).await {
            Ok(count) if count > 0 => send(&input, frame(Kind::Data, id, &piece[..count])).await,
            Ok(_) | Err(_) => break,
        };
        if sent.is_err() {
            return;
        }
    }
    let _ = send(&input, frame(Kind::Eof, id, &[])).await;
}

async fn read(
    mut output: futures_util::stream::BoxStream<'static, Result<super::Output>>,
    connections: Connections,
    ready: oneshot::Sender<Result<(), String>>,
) {
    let (mut ready, mut buffer, mut errors) = (Some(ready), BytesMut::new(), Vec::new());
    while let Some(Ok(piece)) = output.next().await {
        if piece.fd != 1 {
            errors.extend_from_slice(&piece.bytes);
            continue;
        }
        buffer.extend_from_slice(&piece.bytes);
        loop {
            match unframe(&mut buffer) {
                Ok(Some((Kind::Ready, ..))) => drop(ready.take().map(|ready| ready.send(Ok(())))),
                Ok(Some((kind, id, payload))) => take(&connections, kind, id, payload),
                Ok(None) => break,
                Err(error) => {
                    errors.extend_from_slice(error.to_string().as_bytes());
                    break;
                }
            }
        }
    }
    if let Some(ready) = ready {
        // The one who waits may have given up.
        let _ = ready.send(Err(String::from_utf8_lossy(&errors).trim().to_owned()));
    }
    lock(&connections).clear();
}

fn take(connections: &Connections, kind: Kind, id: u32, payload: Bytes) {
    let mut connections = lock(connections);
    let Some(connection) = connections.get_mut(&id) else {
        return;
    };
    match kind {
        Kind::Open => drop(connection.opened.take().map(|opened| opened.send(Ok(())))),
        // The probe that dropped its stream wants none of it.
        Kind::Data => drop(connection.data.send(payload)),
        Kind::Eof => drop(connections.remove(&id)),
        Kind::Failed => {
            let code = std::str::from_utf8(&payload).ok().and_then(|text| text.parse().ok());
            let error = code.map_or_else(|| io::Error::from(io::ErrorKind::TimedOut), io::Error::from_raw_os_error);
            drop(connections.remove(&id).and_then(|c| c.opened).map(|opened| opened.send(Err(error))));
        }
        Kind::Ready => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::os::unix::net::UnixStream;

    /// A relay in a thread of this process, over a pair of sockets.
    async fn relay() -> Relay {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let output = theirs.try_clone().unwrap();
        std::thread::spawn(move || serve(theirs, output));
        ours.set_nonblocking(true).unwrap();
        let (read, write) = tokio::net::UnixStream::from_std(ours).unwrap().into_split();
        let output = tokio_util::io::ReaderStream::new(read)
            .map(|bytes| Ok(super::super::Output { fd: 1, bytes: bytes? }));
        Relay::over(Attached { input: Some(Box::pin(write)), output: output.boxed() }).await.unwrap()
    }

    /// Answers each connection with what it sent, once it has sent all.
    fn echo() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                std::thread::spawn(move || {
                    let mut all = Vec::new();
                    stream.read_to_end(&mut all).unwrap();
                    stream.write_all(&all).unwrap();
                });
            }
        });
        address
    }

    #[tokio::test]
    async fn connections_are_carried_side_by_side_with_their_ends() {
        let (relay, address) = (relay().await, echo());
        let talk = async |text: Vec<u8>| {
            let mut stream = relay.dial(address).await.unwrap();
            stream.write_all(&text).await.unwrap();
            stream.shutdown().await.unwrap();
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await.unwrap();
            assert!(answer == text, "{} of {} bytes", answer.len(), text.len());
        };
        let large: Vec<u8> = (0..3_000_000u32).map(|n| n as u8).collect();
        tokio::join!(talk(b"small".to_vec()), talk(large), talk(Vec::new()));
    }

    #[tokio::test]
    async fn a_refused_connection_is_refused_here_too() {
        let relay = relay().await;
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let error = relay.dial(free).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[tokio::test]
    async fn a_relay_that_ends_at_once_says_why() {
        let said = super::super::Output { fd: 2, bytes: "no such file".into() };
        let output = futures_util::stream::iter([Ok(said)]).boxed();
        let attached = Attached { input: Some(Box::pin(tokio::io::sink())), output };
        let error = Relay::over(attached).await.err().unwrap();
        assert!(format!("{error:#}").contains("no such file"), "{error:#}");
    }
}
