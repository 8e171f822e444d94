//! Ask: one concrete request put to the target, and its answer with the verdict on it.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::{Action, Answer, Body, Content, Expect, Outcome, Request, Speech, Target, host, http, shown, tcp};

/// Puts the request. Crawls are expanded before: of them and of API documents only the start is asked.
///
/// # Errors
/// When the way to the target itself fails (the engine does not answer); whatever the target does or does
/// not do is an answer.
pub(super) async fn ask(target: &dyn Target, request: &Request) -> Result<Answer> {
    let began = Instant::now();
    let (content, failed) = put(target, request).await?;
    let outcome = match failed.or_else(|| judge(request, &content)) {
        None => Outcome::Passed,
        Some(why) => Outcome::Failed(why),
    };
    Ok(Answer { request: request.clone(), content, outcome, took: began.elapsed() })
}

async fn put(target: &dyn Target, request: &Request) -> Result<(Content, Option<String>)> {
    match &request.action {
        Action::Http(ask) | Action::Crawl { start: ask, .. } | Action::Api { start: ask, .. } => {
            let reply = http::fetch(target, ask, ask.tls.unwrap_or(false), request.timeout).await;
            Ok(content_or_none(reply.map(|r| Content::Http { status: r.status, headers: r.headers, body: r.body })))
        }
        Action::Exec { argv } => exec(target, request, argv).await,
        Action::HostExec { argv, ports } => {
            Ok(content_or_none(host::command(argv, target, ports, request.timeout).await))
        }
        Action::Tcp { port, steps } => {
            let talk = tokio::time::timeout(request.timeout, tcp::converse(target, *port, steps)).await;
            Ok(match talk {
                Ok(Ok(talk)) => (Content::Bytes { received: talk.received }, talk.failed),
                Ok(Err(error)) => none(http::explain(&error)),
                Err(_) => none(timed_out(request.timeout)),
            })
        }
        Action::Run => {
            let Ok(status) = tokio::time::timeout(request.timeout, target.ended()).await else {
                let why = timed_out(request.timeout);
                return Ok(none(format!(
                    "{why}: a program that goes on needs a port or a command to be probed by; one that takes longer \
                     needs --http-probe-timeout"
                )));
            };
            let status = status.context("wait for the target's end")?;
            let (stdout, stderr) = target.streams();
            Ok((Content::Exit { status, stdout, stderr }, None))
        }
    }
}

async fn exec(target: &dyn Target, request: &Request, argv: &[String]) -> Result<(Content, Option<String>)> {
    match target.exec(&request.name, argv, request.timeout).await {
        Ok(result) => {
            let late = result.timed_out.then(|| timed_out(request.timeout));
            let (stdout, stderr) = (Body::of(&result.stdout), Body::of(&result.stderr));
            Ok((Content::Exit { status: result.status, stdout, stderr }, late))
        }
        // A command cannot be run in a container that has ended: that is an answer, not an error of ours.
        Err(error) => match target.state().await {
            Ok(state) if state.exited.is_some() => {
                let status = state.exited.unwrap_or_default();
                Ok(none(format!("the target had ended before, with exit status {status}")))
            }
            _ => Err(error.context(format!("run `{}` in the target", shown::command(argv)))),
        },
    }
}

fn content_or_none(result: Result<Content, String>) -> (Content, Option<String>) {
    match result {
        Ok(content) => (content, None),
        Err(error) => none(error),
    }
}

fn none(error: String) -> (Content, Option<String>) {
    (Content::None { error: error.clone() }, Some(error))
}

fn timed_out(timeout: Duration) -> String {
    format!("timed out after {} s", timeout.as_secs_f64())
}

/// Why an answer is not what was stated. `None`: it is, or nothing was stated.
fn judge(request: &Request, content: &Content) -> Option<String> {
    if !request.stated {
        return None;
    }
    let Expect { status: stated, contains } = &request.expect;
    let (status, body) = match content {
        Content::Http { status, body, .. } => (Some(i32::from(*status)), body),
        Content::Exit { status, stdout, .. } => (Some(*status), stdout),
        Content::Bytes { received } => (None, received),
        Content::None { error } => return Some(error.clone()),
    };
    if let Some(status) = status {
        let (good, wanted) = match (stated, content) {
            (Some(stated), _) => (status == *stated, stated.to_string()),
            (None, Content::Http { .. }) => ((200..400).contains(&status), "2xx or 3xx".to_owned()),
            (None, _) => (status == 0, "0".to_owned()),
        };
        if !good {
            return Some(format!("status {status}, expected {wanted}{}", hint(status, content)));
        }
    }
    let text = contains.as_ref()?;
    match body.contains(text) {
        Some(true) => None,
        Some(false) => Some(format!("the answer does not contain `{}`", shown::shorten(text))),
        None => Some(format!(
            "the answer is too long ({}) to look for `{}`",
            shown::size(body.length),
            shown::shorten(text)
        )),
    }
}

fn hint(status: i32, content: &Content) -> &'static str {
    match (status, content) {
        (126, Content::Exit { .. }) => " (126: it could not be executed)",
        (127, Content::Exit { .. }) => " (127: there is no such command in the image)",
        (137, Content::Exit { .. }) => " (137: it was killed)",
        _ => "",
    }
}

/// `200 text/html 1.2 kB`: an answer in a few words, without its content.
pub(super) fn brief(answer: &Answer) -> Result<String, String> {
    if let Outcome::Failed(why) = &answer.outcome {
        return Err(why.clone());
    }
    Ok(match &answer.content {
        Content::Http { status, headers, body } => {
            let kind = headers.get("content-type").map_or("", |kind| kind.split(';').next().unwrap_or_default());
            let words = [status.to_string(), kind.trim().to_owned(), shown::size(body.length)];
            words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
        }
        Content::Exit { status, stdout, .. } => format!("exit {status}, {}", shown::size(stdout.length)),
        Content::Bytes { received } => shown::size(received.length),
        Content::None { error } => error.clone(),
    })
}

/// Fills in what only the running target can tell: whether a port speaks TLS, or HTTP/2 only.
pub(super) fn settle(action: &mut Action, speech: Speech) {
    if let Action::Http(ask) | Action::Crawl { start: ask, .. } | Action::Api { start: ask, .. } = action {
        ask.tls = Some(ask.tls.unwrap_or(speech.tls()));
        ask.http2 |= speech.only_http2();
    }
}
