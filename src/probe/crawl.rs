//! Crawl: pages found by following a page's links, breadth first and in document order, within its own
//! origin. What looks like it would log out or delete something is not asked for.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use anyhow::{Context, Result};
use globset::{Glob, GlobSet, GlobSetBuilder};
use url::Url;

use super::links::{self, Link};
use super::{Answer, Content, HttpRequest, http, openapi};

/// A calendar or a sort order could have any number of queries: of one path only so many are asked.
const MAX_QUERIES: u32 = 10;
const MAX_PATH: usize = 2048;

/// Words, separators removed, of requests that change something although they are a GET.
const DANGEROUS: [&str; 8] = ["logout", "logoff", "signout", "signoff", "delete", "remove", "destroy", "unsubscribe"];

/// Endings of files that a page needs; asking for one does nothing, whatever it is called.
const ASSETS: [&str; 20] = [
    "css", "js", "mjs", "map", "png", "jpg", "jpeg", "gif", "svg", "webp", "avif", "ico", "woff", "woff2", "ttf",
    "otf", "eot", "mp3", "mp4", "webm",
];

/// A crawl that goes on: ask what [`Crawl::next`] gives, then let it [`Crawl::learn`] from the answer.
pub(super) struct Crawl {
    start: HttpRequest,
    /// The origin, as the target is addressed.
    origin: Url,
    max_depth: u32,
    max_pages: u32,
    exclude: GlobSet,
    /// `Some`: the start answers with an API document, whose paths get this prefix.
    api: Option<String>,
    queue: VecDeque<Item>,
    current: Option<Item>,
    seen: BTreeSet<String>,
    queries: BTreeMap<String, u32>,
    asked: u32,
    /// Links left alone because of what they look like.
    dangerous: BTreeSet<String>,
}

#[derive(Clone)]
struct Item {
    path: String,
    depth: u32,
    needed: bool,
}

/// What to ask next.
pub(super) struct Next {
    pub(super) request: HttpRequest,
    /// It is the start.
    pub(super) first: bool,
}

impl Crawl {
    /// From a page. `exclude` are globs of paths, with or without query.
    pub(super) fn new(start: HttpRequest, max_depth: u32, max_pages: u32, exclude: &[String]) -> Result<Self> {
        let scheme = if start.tls == Some(true) { "https" } else { "http" };
        let origin = format!("{scheme}://{}/", http::authority(&start));
        let origin = Url::parse(&origin).with_context(|| format!("cannot crawl {origin}"))?;
        let mut globs = GlobSetBuilder::new();
        for pattern in exclude {
            globs.add(Glob::new(pattern).with_context(|| format!("--http-crawl-exclude `{pattern}`"))?);
        }
        let first = Item { path: start.path.clone(), depth: 0, needed: false };
        let seen = [normal(&origin, &start.path)].into();
        Ok(Self {
            start,
            origin,
            max_depth,
            max_pages,
            exclude: globs.build().context("--http-crawl-exclude")?,
            api: None,
            queue: [first].into(),
            current: None,
            seen,
            queries: BTreeMap::new(),
            asked: 0,
            dangerous: BTreeSet::new(),
        })
    }

    /// From an API document.
    pub(super) fn api(start: HttpRequest, prefix: &str, max_pages: u32, exclude: &[String]) -> Result<Self> {
        Ok(Self { api: Some(prefix.to_owned()), ..Self::new(start, 1, max_pages, exclude)? })
    }

    /// The next request; `None` at the end or at the limit.
    pub(super) fn next(&mut self) -> Option<Next> {
        if self.asked >= self.max_pages {
            return None;
        }
        let item = self.queue.pop_front()?;
        let first = self.current.is_none();
        let request = match first {
            true => self.start.clone(),
            false => {
                HttpRequest { method: "GET".to_owned(), path: item.path.clone(), body: None, ..self.start.clone() }
            }
        };
        self.current = Some(item);
        Some(Next { request, first })
    }

    /// Takes the links of the answer to what [`Crawl::next`] gave last.
    ///
    /// # Errors
    /// When an API document was expected and another thing came, for people.
    pub(super) fn learn(&mut self, answer: &Answer) -> Result<()> {
        self.asked += 1;
        let (Some(item), Content::Http { status, headers, body }) = (self.current.clone(), &answer.content) else {
            return Ok(());
        };
        let bytes = body.bytes.as_deref().unwrap_or_default();
        if let Some(prefix) = &self.api {
            if item.depth == 0 && (200..300).contains(status) {
                let paths = openapi::paths(bytes, prefix)?;
                let items = paths.into_iter().map(|path| Item { path, depth: 1, needed: false });
                items.for_each(|item| self.take(item));
            }
            return Ok(());
        }
        let Ok(url) = self.origin.join(&item.path) else {
            return Ok(());
        };
        if let Some(to) = headers.get("location").and_then(|value| links::location(&url, value)) {
            self.follow(Link { url: to, needed: item.needed }, item.depth);
        }
        let kind = headers.get("content-type").map_or("", String::as_str);
        for link in links::of(kind, &url, bytes) {
            let depth = if link.needed { item.depth } else { item.depth + 1 };
            self.follow(link, depth);
        }
        Ok(())
    }

    /// Why not everything found was asked. `None`: it was.
    pub(super) fn limit_reached(&self) -> Option<String> {
        let left = self.queue.len();
        (self.asked >= self.max_pages && left > 0).then(|| {
            format!("stopped after {} requests with {left} links left; raise --http-crawl-max-page-count", self.asked)
        })
    }

    /// Links that were left alone because they look like they change something.
    pub(super) fn left_alone(&self) -> Option<String> {
        let first = self.dangerous.first()?;
        let others = self.dangerous.len() - 1;
        let rest = if others == 0 { String::new() } else { format!(" and {others} more") };
        Some(format!("not followed, as it looks like it would log out or delete: {first}{rest}"))
    }

    fn follow(&mut self, link: Link, depth: u32) {
        if !self.same_origin(&link.url) {
            return;
        }
        let path = match link.url.query() {
            Some(query) => format!("{}?{query}", link.url.path()),
            None => link.url.path().to_owned(),
        };
        self.take(Item { path, depth, needed: link.needed });
    }

    fn take(&mut self, item: Item) {
        let bare = item.path.split('?').next().unwrap_or_default().to_owned();
        if item.depth > self.max_depth || item.path.len() > MAX_PATH || self.seen.contains(&item.path) {
            return;
        }
        if self.exclude.is_match(&item.path) || self.exclude.is_match(&bare) {
            return;
        }
        if is_dangerous(&item.path) && !(item.needed && is_asset(&bare)) {
            self.dangerous.insert(super::shown::path(&item.path));
            return;
        }
        if bare != item.path {
            let count = self.queries.entry(bare).or_default();
            *count += 1;
            if *count > MAX_QUERIES {
                return;
            }
        }
        self.seen.insert(item.path.clone());
        self.queue.push_back(item);
    }

    /// Same host and port as the target is addressed by; whether by http or https does not matter when the
    /// port is the same or is left out on both sides.
    fn same_origin(&self, url: &Url) -> bool {
        let (own, other) = (&self.origin, url);
        let same_port = own.port_or_known_default() == other.port_or_known_default()
            || (own.port().is_none() && other.port().is_none());
        own.host_str() == other.host_str() && same_port
    }
}

/// A path as [`Crawl`] writes it.
fn normal(origin: &Url, path: &str) -> String {
    match origin.join(path) {
        Ok(url) => url[url::Position::BeforePath..url::Position::AfterQuery].to_owned(),
        Err(_) => path.to_owned(),
    }
}

fn is_dangerous(path: &str) -> bool {
    let decoded = percent_decoded(path).to_ascii_lowercase();
    let letters: String = decoded.chars().filter(|c| !matches!(c, '-' | '_' | '.' | ' ' | '+')).collect();
    DANGEROUS.iter().any(|word| letters.contains(word))
}

fn is_asset(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default().to_ascii_lowercase();
    name.rsplit_once('.').is_some_and(|(_, ending)| ASSETS.contains(&ending))
}

fn percent_decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escape = bytes.get(at + 1..at + 3).filter(|_| bytes[at] == b'%');
        let byte = escape.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        decoded.push(byte.unwrap_or(bytes[at]));
        at += if byte.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crawl() -> Crawl {
        Crawl::new(HttpRequest::get(8080, "/"), 2, 100, &["/private/**".to_owned()]).unwrap()
    }

    fn taken(crawl: &mut Crawl, url: &str, needed: bool) -> bool {
        let before = crawl.queue.len();
        let url = Url::parse("http://localhost:8080/").unwrap().join(url).unwrap();
        crawl.follow(Link { url, needed }, 1);
        crawl.queue.len() > before
    }

    #[test]
    fn what_looks_like_logout_or_delete_is_left_alone() {
        for path in [
            "/logout",
            "/users/sign_out",
            "/Log-Out",
            "/item?action=delete",
            "/log%6Fut",
            "/api/removeUser",
            "/remove-me.html",
        ] {
            assert!(!taken(&mut crawl(), path, false), "{path}");
            assert!(crawl().left_alone().is_none());
        }
        assert!(taken(&mut crawl(), "/icons/delete.svg", true));
        assert!(!taken(&mut crawl(), "/logout", true));
    }

    #[test]
    fn only_the_same_origin_is_followed() {
        for (url, same) in [
            ("https://localhost:8080/x", true),
            ("http://localhost/x", false),
            ("http://localhost:9090/x", false),
            ("http://example.org:8080/x", false),
            ("/private/x", false),
            ("/private/deep/x?y", false),
        ] {
            assert_eq!(taken(&mut crawl(), url, false), same, "{url}");
        }
    }

    #[test]
    fn queries_of_one_path_are_bounded() {
        let mut crawl = crawl();
        let taken = (0..50).filter(|n| taken(&mut crawl, &format!("/calendar?month={n}"), false)).count();
        assert_eq!(taken, MAX_QUERIES as usize);
    }

    #[test]
    fn the_start_is_not_found_again() {
        assert!(!taken(&mut crawl(), "/", false));
        assert!(!taken(&mut crawl(), "/#top", false));
    }
}
