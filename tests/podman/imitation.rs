//! Imitation: a socket that answers as podman does in a moment that is hard to meet: a container has just ended.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Answers for ever; the first `stopped` looks at a container find it not yet cleaned up.
pub fn serve(socket: &Path, stopped: u32) {
    let listener = UnixListener::bind(socket).unwrap();
    let looks = Arc::new(AtomicU32::new(0));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let looks = looks.clone();
            std::thread::spawn(move || talk(stream, &looks, stopped));
        }
    });
}

fn talk(mut stream: UnixStream, looks: &AtomicU32, stopped: u32) {
    let mut requests = BufReader::new(stream.try_clone().unwrap());
    loop {
        let (mut first, mut line, mut length) = (String::new(), String::new(), 0);
        if requests.read_line(&mut first).unwrap_or_default() == 0 {
            return;
        }
        while requests.read_line(&mut line).unwrap_or_default() > 2 {
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            line.clear();
        }
        std::io::Read::read_exact(&mut requests, &mut vec![0; length]).unwrap();
        let body = answer(&first, looks, stopped);
        let head = format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n", body.len());
        if stream.write_all((head + &body).as_bytes()).is_err() {
            return;
        }
    }
}

fn answer(request: &str, looks: &AtomicU32, stopped: u32) -> String {
    let arch = std::env::consts::ARCH;
    match request {
        _ if request.contains("/version") => {
            format!(r#"{{"Version":"4.3.1","ApiVersion":"1.41","MinAPIVersion":"1.24","Os":"linux","Arch":"{arch}","Components":[{{"Name":"Podman Engine","Version":"4.3.1"}}]}}"#)
        }
        _ if request.contains("/create") => r#"{"Id":"0123","Warnings":[]}"#.to_owned(),
        _ if request.contains("/0123/json") => {
            let status = if looks.fetch_add(1, Ordering::Relaxed) < stopped { "stopped" } else { "exited" };
            format!(r#"{{"Id":"0123","State":{{"Status":"{status}","ExitCode":3}}}}"#)
        }
        _ => "{}".to_owned(),
    }
}
