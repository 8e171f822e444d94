//! Compare: whether a slim image answers as the untouched one did.
//!
//! Volatile is what differed between two answers of the untouched image; only that is left out, and how much
//! was left out is said per answer. Texts hold statuses, lengths and positions, never content.

use std::collections::{BTreeMap, BTreeSet};

use super::shown;
use super::text::{self, Same};
use super::{Answer, Body, Content, Outcome};

/// Headers that change with a file's time or with every start; compared where the untouched image was seen
/// to give them the same twice.
const WHERE_STABLE: [&str; 2] = ["etag", "last-modified"];

/// The comparison of one answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compared {
    /// The probe.
    pub probe: String,
    /// The request.
    pub name: String,
    /// How it went.
    pub how: How,
}

/// How much of an answer could be compared, or what was different.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum How {
    /// All of it is equal.
    Whole,
    /// Equal but for what the untouched image itself changes.
    Masked,
    /// Only the status (and content type) could be compared; the rest changes beyond recognition.
    StatusOnly,
    /// Another status, where the untouched image itself gave more than one: it cannot be a measure.
    Unstable {
        /// What it gave first.
        first: String,
        /// What it gave later.
        later: String,
    },
    /// Different.
    Differs {
        /// What the untouched image gave.
        expected: String,
        /// What the slim image gave.
        got: String,
    },
}

/// All answers compared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// In the order of the untouched image's answers.
    pub answers: Vec<Compared>,
}

impl Comparison {
    /// Nothing differs and nothing was unstable.
    pub fn passed(&self) -> bool {
        self.answers.iter().all(|answer| matches!(answer.how, How::Whole | How::Masked | How::StatusOnly))
    }

    /// Answers that differ.
    pub fn differences(&self) -> impl Iterator<Item = &Compared> {
        self.answers.iter().filter(|answer| matches!(answer.how, How::Differs { .. }))
    }

    /// Answers of which the untouched image is not sure itself.
    pub fn unstable(&self) -> impl Iterator<Item = &Compared> {
        self.answers.iter().filter(|answer| matches!(answer.how, How::Unstable { .. }))
    }

    /// `3 probes, 41 answers: 38 whole, 2 masked, 1 status only`.
    pub fn summary(&self) -> String {
        let probes: BTreeSet<&str> = self.answers.iter().map(|answer| answer.probe.as_str()).collect();
        let count = |wanted: &str| self.answers.iter().filter(|answer| answer.how.word() == wanted).count();
        let kinds = ["whole", "masked", "status only", "unstable", "different"].map(|word| (count(word), word));
        let parts: Vec<_> =
            kinds.iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}")).collect();
        let parts = if parts.is_empty() { "nothing to compare".to_owned() } else { parts.join(", ") };
        format!("{}, {}: {parts}", plural(probes.len(), "probe"), plural(self.answers.len(), "answer"))
    }
}

impl How {
    /// The word for it in summaries: `whole`, `masked`, `status only`, `unstable`, `different`.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Masked => "masked",
            Self::StatusOnly => "status only",
            Self::Unstable { .. } => "unstable",
            Self::Differs { .. } => "different",
        }
    }
}

fn plural(count: usize, word: &str) -> String {
    if count == 1 { format!("1 {word}") } else { format!("{count} {word}s") }
}

/// Compares the slim image's answers with those of the untouched image: its `first` answers, which are the
/// measure, and what it answered the `others` times, from which is known what is volatile. Answers belong
/// together by their request's name; one that the slim image did not give differs.
///
/// What looks different may be volatile at a slower pace than two answers show (a clock's minutes, a host's
/// name): asking the untouched image once more, in another run, and comparing again tells.
pub fn compare(first: &[Answer], others: &[&[Answer]], slim: &[Answer]) -> Comparison {
    let slim = by_name(slim);
    let others: Vec<_> = others.iter().map(|answers| by_name(answers)).collect();
    let answers = first.iter().map(|answer| {
        let name = answer.request.name.as_str();
        let others: Vec<&Answer> = others.iter().filter_map(|answers| answers.get(name).copied()).collect();
        Compared {
            probe: answer.request.probe.clone(),
            name: name.to_owned(),
            how: one(answer, &others, slim.get(name).copied()),
        }
    });
    Comparison { answers: answers.collect() }
}

fn by_name(answers: &[Answer]) -> BTreeMap<&str, &Answer> {
    answers.iter().map(|answer| (answer.request.name.as_str(), answer)).collect()
}

fn one(first: &Answer, others: &[&Answer], slim: Option<&Answer>) -> How {
    let measure = headline(&first.content);
    let Some(slim) = slim else {
        return How::Differs { expected: measure, got: "it was not asked".to_owned() };
    };
    let got = headline(&slim.content);
    if got != measure {
        let later = others.iter().map(|other| headline(&other.content)).find(|later| *later != measure);
        return match later {
            Some(later) => How::Unstable { first: measure, later },
            None => How::Differs { expected: measure, got },
        };
    }
    // A request that changes something may be answered otherwise the second time (409 after 201): such an
    // answer says nothing about what is volatile in the first.
    let others: Vec<&Answer> = others.iter().copied().filter(|other| headline(&other.content) == measure).collect();
    if let (Outcome::Passed, Outcome::Failed(why)) = (&first.outcome, &slim.outcome) {
        return How::Differs { expected: "as stated".to_owned(), got: why.clone() };
    }
    let mut worst = How::Whole;
    for part in parts(first, &others, slim) {
        match part {
            How::Differs { .. } | How::Unstable { .. } => return part,
            How::StatusOnly => worst = How::StatusOnly,
            How::Masked if worst == How::Whole => worst = How::Masked,
            How::Masked | How::Whole => {}
        }
    }
    worst
}

/// What must never differ: the kind of answer and its status.
fn headline(content: &Content) -> String {
    match content {
        Content::Http { status, .. } => format!("status {status}"),
        Content::Exit { status, .. } => format!("exit status {status}"),
        Content::Bytes { .. } => "an answer in bytes".to_owned(),
        // The error's wording may hold times and counts.
        Content::None { .. } => "no answer".to_owned(),
    }
}

fn parts(first: &Answer, others: &[&Answer], slim: &Answer) -> Vec<How> {
    let mut found = headers(first, others, slim);
    for (index, (name, body)) in bodies(&first.content).into_iter().enumerate() {
        let others: Vec<&Body> =
            others.iter().filter_map(|other| bodies(&other.content).get(index).map(|(_, body)| *body)).collect();
        if let Some((_, got)) = bodies(&slim.content).get(index) {
            found.push(one_body(name, body, &others, got));
        }
    }
    found
}

fn bodies(content: &Content) -> Vec<(&'static str, &Body)> {
    match content {
        Content::Http { body, .. } => vec![("body", body)],
        Content::Exit { stdout, stderr, .. } => vec![("stdout", stdout), ("stderr", stderr)],
        Content::Bytes { received } => vec![("answer", received)],
        Content::None { .. } => Vec::new(),
    }
}

fn one_body(name: &str, first: &Body, others: &[&Body], got: &Body) -> How {
    if first.sha256 == got.sha256 {
        return How::Whole;
    }
    let stable = others.iter().all(|other| other.sha256 == first.sha256);
    let bytes: Option<Vec<&[u8]>> = others.iter().map(|other| other.bytes.as_deref()).collect();
    let (Some(a), Some(bytes), Some(b)) = (first.bytes.as_deref(), bytes, got.bytes.as_deref()) else {
        return if stable {
            How::Differs { expected: described(name, first), got: described(name, got) }
        } else {
            How::StatusOnly
        };
    };
    match text::same(a, &bytes, b) {
        Same::Whole => How::Whole,
        Same::Masked(_) => How::Masked,
        Same::Incomparable => How::StatusOnly,
        Same::Differs { token, byte } => {
            let got = format!("{}, first different at token {token}, byte {byte}", described(name, got));
            How::Differs { expected: described(name, first), got }
        }
    }
}

fn described(name: &str, body: &Body) -> String {
    let hash = body.sha256.get(..12).unwrap_or(&body.sha256);
    format!("{name} of {} bytes, sha256 {hash}", body.length)
}

fn headers(first: &Answer, others: &[&Answer], slim: &Answer) -> Vec<How> {
    let empty = BTreeMap::new();
    let of = |answer: &Answer| match &answer.content {
        Content::Http { headers, .. } => headers.clone(),
        Content::Exit { .. } | Content::Bytes { .. } | Content::None { .. } => empty.clone(),
    };
    let (expected, got) = (of(first), of(slim));
    let others: Vec<_> = others.iter().map(|other| of(other)).collect();
    let names: BTreeSet<&String> = expected.keys().chain(got.keys()).collect();
    let unknown = |name: &str| others.is_empty() && WHERE_STABLE.contains(&name);
    names.into_iter().filter(|name| !unknown(name)).map(|name| one_header(name, &expected, &others, &got)).collect()
}

type Headers = BTreeMap<String, String>;

fn one_header(name: &str, expected: &Headers, others: &[Headers], got: &Headers) -> How {
    let value = |headers: &Headers| headers.get(name).cloned();
    let comes_and_goes = others.iter().any(|other| other.contains_key(name) != expected.contains_key(name));
    if comes_and_goes {
        return How::Masked;
    }
    match (value(expected), value(got)) {
        (None, None) => How::Whole,
        (Some(_), None) => How::Differs { expected: format!("a header {name}"), got: "none".to_owned() },
        (None, Some(_)) => How::Differs { expected: format!("no header {name}"), got: "one".to_owned() },
        (Some(a), Some(b)) => {
            let others: Vec<String> = others.iter().filter_map(value).collect();
            let others: Vec<&[u8]> = others.iter().map(String::as_bytes).collect();
            match text::same(a.as_bytes(), &others, b.as_bytes()) {
                Same::Whole => How::Whole,
                // A masked value that changes as a whole says nothing; that the header is there was compared.
                Same::Masked(_) | Same::Incomparable => How::Masked,
                Same::Differs { .. } => How::Differs { expected: header(name, &a), got: header(name, &b) },
            }
        }
    }
}

/// Values of headers that hold no secret are shown.
fn header(name: &str, value: &str) -> String {
    match name {
        "location" => format!("header {name}: {}", shown::path(value.split('#').next().unwrap_or_default())),
        "content-type" | "content-encoding" | "cache-control" | "content-language" | "allow" | "vary" => {
            format!("header {name}: {}", shown::shorten(value))
        }
        _ => format!("header {name} of {} bytes", value.len()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::probe::{Action, Expect, HttpRequest, Request};

    fn http(name: &str, status: u16, headers: &[(&str, &str)], body: &str) -> Answer {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        answer(name, Content::Http { status, headers, body: Body::of(body.as_bytes()) })
    }

    fn answer(name: &str, content: Content) -> Answer {
        let action = Action::Http(HttpRequest::get(80, "/"));
        let timeout = Duration::from_secs(1);
        let request = Request {
            probe: "crawl GET /".into(),
            name: name.into(),
            action,
            stated: false,
            expect: Expect::default(),
            timeout,
        };
        Answer { request, content, outcome: Outcome::Passed, took: Duration::ZERO }
    }

    fn how(first: Answer, second: Answer, slim: Answer) -> How {
        compare(&[first], &[&[second]], &[slim]).answers[0].how.clone()
    }

    fn page(status: u16, body: &str) -> Answer {
        http("GET /", status, &[("content-type", "text/html")], body)
    }

    #[test]
    fn equal_answers_are_whole() {
        assert_eq!(how(page(200, "hello"), page(200, "hello"), page(200, "hello")), How::Whole);
    }

    #[test]
    fn a_changing_time_is_masked() {
        assert_eq!(how(page(200, "at 12:00:01"), page(200, "at 12:00:02"), page(200, "at 12:00:59")), How::Masked);
    }

    #[test]
    fn an_answer_beyond_recognition_is_compared_by_status_only() {
        assert_eq!(how(page(200, "one"), page(200, "one two three"), page(200, "four")), How::StatusOnly);
        assert!(matches!(how(page(200, "one"), page(200, "one two three"), page(500, "four")), How::Differs { .. }));
    }

    #[test]
    fn a_status_that_the_untouched_image_changes_is_unstable() {
        let unstable = How::Unstable { first: "status 200".into(), later: "status 503".into() };
        assert_eq!(how(page(200, "a"), page(503, "b"), page(500, "c")), unstable);
        assert_eq!(how(page(201, "made"), page(409, "there is one"), page(201, "made")), How::Whole);
    }

    #[test]
    fn a_difference_says_what_without_content() {
        let how = how(
            page(200, "the secret is hunter2"),
            page(200, "the secret is hunter2"),
            page(200, "the secret is hunter3"),
        );
        let How::Differs { expected, got } = how else { panic!("{how:?}") };
        assert!(expected.starts_with("body of 21 bytes, sha256 "), "{expected}");
        assert!(got.ends_with("first different at token 7, byte 14"), "{got}");
        assert!(!format!("{expected}{got}").contains("hunter"));
    }

    #[test]
    fn headers_count_and_etags_count_only_when_stable() {
        let with = |etag: &str, kind: &str| http("GET /", 200, &[("etag", etag), ("content-type", kind)], "x");
        assert_eq!(how(with("1", "text/html"), with("2", "text/html"), with("3", "text/html")), How::Masked);
        assert!(matches!(
            how(with("1", "text/html"), with("1", "text/html"), with("3", "text/html")),
            How::Differs { .. }
        ));
        assert!(matches!(
            how(with("1", "text/html"), with("1", "text/html"), with("1", "text/plain")),
            How::Differs { .. }
        ));
        let alone = compare(&[with("1", "text/html")], &[], &[with("2", "text/html")]);
        assert!(alone.passed());
    }

    #[test]
    fn outputs_of_commands_are_compared_with_their_status() {
        let exit = |status, out: &str| {
            answer("exec date", Content::Exit { status, stdout: Body::of(out.as_bytes()), stderr: Body::of(b"") })
        };
        assert_eq!(how(exit(0, "pid 12 ok"), exit(0, "pid 19 ok"), exit(0, "pid 7 ok")), How::Masked);
        assert!(matches!(how(exit(0, "ok"), exit(0, "ok"), exit(1, "ok")), How::Differs { .. }));
    }

    #[test]
    fn an_answer_that_is_missing_differs() {
        let comparison = compare(&[page(200, "a")], &[], &[]);
        assert_eq!(comparison.differences().count(), 1);
    }

    #[test]
    fn the_summary_counts_what_was_compared() {
        let (first, second) = (
            [http("a", 200, &[], "x"), http("b", 200, &[], "t 1")],
            [http("a", 200, &[], "x"), http("b", 200, &[], "t 2")],
        );
        let slim = [http("a", 200, &[], "x"), http("b", 200, &[], "t 3")];
        assert_eq!(compare(&first, &[&second], &slim).summary(), "1 probe, 2 answers: 1 whole, 1 masked");
        assert_eq!(Comparison::default().summary(), "0 probes, 0 answers: nothing to compare");
    }
}
