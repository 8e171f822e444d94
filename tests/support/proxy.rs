//! Proxy: a socket in front of the engine's. It passes bytes on as they are, remembers what was asked, and
//! can be cut, refuse a request, or hold it back.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

/// What happens to a request.
#[derive(Clone, Copy)]
pub enum Act {
    /// The engine is gone as soon as it is sent.
    Cut,
    /// The engine never hears of it; the answer has this status and these words.
    Refuse(u16, &'static str),
    /// It waits until [`Proxy::release`].
    Hold,
}

/// What is asked when something is to happen.
type Trigger = Option<(Act, String)>;

/// A proxy; it ends with the test's process.
pub struct Proxy {
    socket: PathBuf,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Default)]
struct Shared {
    asked: Vec<u8>,
    trigger: Trigger,
    cut: bool,
    held: bool,
    released: bool,
    open: Vec<Weak<UnixStream>>,
}

impl Shared {
    /// Remembers the two ends of a connection, for as long as it is carried.
    fn opened(&mut self, ends: [&Arc<UnixStream>; 2]) {
        self.open.retain(|end| end.strong_count() > 0);
        self.open.extend(ends.map(Arc::downgrade));
    }
}

impl Proxy {
    /// Listens in `dir`; with a trigger, something happens to requests with that text.
    pub fn start(dir: &Path, trigger: Trigger) -> Self {
        let host = std::env::var("DOCKER_HOST").expect("DOCKER_HOST is needed: tests/run sets it");
        let upstream = host.strip_prefix("unix://").expect("DOCKER_HOST has to be a unix socket").to_owned();
        let socket = dir.join("engine.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let shared = Arc::new(Mutex::new(Shared { trigger, ..Shared::default() }));
        let passes = shared.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if passes.lock().unwrap().cut {
                    continue;
                }
                let (client, engine) = (Arc::new(client), Arc::new(UnixStream::connect(&upstream).unwrap()));
                passes.lock().unwrap().opened([&client, &engine]);
                let (to, from) = (engine.clone(), client.clone());
                let shared = passes.clone();
                std::thread::spawn(move || pass(&client, &to, Some(&shared)));
                std::thread::spawn(move || pass(&engine, &from, None));
            }
        });
        Self { socket, shared }
    }

    /// DOCKER_HOST for it.
    pub fn host(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    /// Takes the engine away now.
    pub fn cut(&self) {
        cut(&mut self.shared.lock().unwrap());
    }

    /// Whether a request is held back.
    pub fn holds(&self) -> bool {
        self.shared.lock().unwrap().held
    }

    /// Lets it go on.
    pub fn release(&self) {
        self.shared.lock().unwrap().released = true;
    }

    /// The run that talks through it, from the names that it chose; `None` before it made something.
    pub fn run(&self) -> Option<String> {
        self.runs().into_iter().next()
    }

    /// All runs that talk through it, the first first.
    pub fn runs(&self) -> Vec<String> {
        let shared = self.shared.lock().unwrap();
        let text = String::from_utf8_lossy(&shared.asked);
        let mut runs = Vec::new();
        for rest in text.split("slim-").skip(1) {
            let run: String = rest.chars().take_while(char::is_ascii_hexdigit).collect();
            let named = rest[run.len()..].starts_with("-sensor") || rest[run.len()..].starts_with("-record");
            if named && !run.is_empty() && !runs.contains(&run) {
                runs.push(run);
            }
        }
        runs
    }
}

fn pass(mut from: &UnixStream, mut to: &UnixStream, asked: Option<&Mutex<Shared>>) {
    let mut block = vec![0u8; 64 << 10];
    while let Ok(n @ 1..) = from.read(&mut block) {
        if let Some(shared) = asked {
            let act = remember(&mut shared.lock().unwrap(), &block[..n]);
            match act {
                Some(Act::Cut) => cut(&mut shared.lock().unwrap()),
                Some(Act::Refuse(status, words)) => return refuse(from, to, status, words),
                Some(Act::Hold) => hold(shared),
                None => {}
            }
        }
        if to.write_all(&block[..n]).is_err() {
            break;
        }
    }
    let _closed_already = to.shutdown(Shutdown::Write);
}

/// Heads of requests are in their first bytes; of the rest a little is enough.
fn remember(shared: &mut Shared, bytes: &[u8]) -> Option<Act> {
    let head = &bytes[..bytes.len().min(2048)];
    shared.asked.extend_from_slice(head);
    let asked = request_line(head)?;
    shared.trigger.as_ref().filter(|(_, trigger)| asked.contains(trigger)).map(|(act, _)| *act)
}

/// The line that a request begins with; `None` for bytes of its body, where the same words may stand (this program
/// itself is sent through here).
fn request_line(bytes: &[u8]) -> Option<String> {
    let line = bytes.split(|byte| *byte == b'\r').next()?;
    let line = std::str::from_utf8(line).ok()?;
    let (method, rest) = line.split_once(' ')?;
    let is_method = matches!(method, "GET" | "HEAD" | "POST" | "PUT" | "DELETE");
    (is_method && rest.ends_with(" HTTP/1.1")).then(|| line.to_owned())
}

/// Answers in the engine's place, and reads whatever else is sent, so that the answer is not lost with it.
fn refuse(mut from: &UnixStream, to: &UnixStream, status: u16, words: &str) {
    let body = format!("{{\"message\":\"{words}\"}}");
    let head = format!("HTTP/1.1 {status} No\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    let _gone = from.write_all(format!("{head}{body}").as_bytes());
    let _gone = from.shutdown(Shutdown::Write);
    let mut rest = vec![0u8; 64 << 10];
    while let Ok(1..) = from.read(&mut rest) {}
    let _closed_already = to.shutdown(Shutdown::Both);
}

/// Waits for the release, half a minute at most.
fn hold(shared: &Mutex<Shared>) {
    shared.lock().unwrap().held = true;
    for _ in 0..3000 {
        if shared.lock().unwrap().released {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn cut(shared: &mut Shared) {
    shared.cut = true;
    for stream in shared.open.drain(..).filter_map(|end| end.upgrade()) {
        let _closed_already = stream.shutdown(Shutdown::Both);
    }
}
