//! Links: what a document refers to, in document order: pages that a reader may go to, and what the
//! document itself needs to be shown.

use std::sync::LazyLock;

use html5gum::emitters::default::DefaultEmitter;
use html5gum::{StartTag, Token, Tokenizer};
use regex::Regex;
use serde_json::Value;
use url::Url;

/// A reference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Link {
    /// Where to, absolute.
    pub(super) url: Url,
    /// The document needs it (script, style, image); otherwise it is another page.
    pub(super) needed: bool,
}

/// The links of a document, by its content type. `url` is the document's own address.
pub(super) fn of(content_type: &str, url: &Url, body: &[u8]) -> Vec<Link> {
    let kind = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let path = url.path();
    match kind.as_str() {
        "text/html" | "application/xhtml+xml" | "image/svg+xml" => html(body, url),
        "text/css" => css(&String::from_utf8_lossy(body), url),
        "text/javascript" | "application/javascript" | "application/x-javascript" => {
            imports(&String::from_utf8_lossy(body), url)
        }
        "application/manifest+json" => manifest(body, url),
        _ if path.ends_with(".webmanifest") || path.ends_with("/manifest.json") => manifest(body, url),
        _ => Vec::new(),
    }
}

/// Where a redirect leads.
pub(super) fn location(url: &Url, value: &str) -> Option<Url> {
    resolve(url, value)
}

fn resolve(base: &Url, reference: &str) -> Option<Url> {
    let reference = reference.trim();
    if reference.is_empty() || reference.starts_with('#') {
        return None;
    }
    let mut url = base.join(reference).ok()?;
    url.set_fragment(None);
    matches!(url.scheme(), "http" | "https").then_some(url)
}

fn html(body: &[u8], url: &Url) -> Vec<Link> {
    let mut emitter = DefaultEmitter::<()>::default();
    emitter.naively_switch_states(true);
    let mut page = Page { base: url.clone(), links: Vec::new() };
    let (mut in_style, mut in_module) = (false, false);
    for Ok(token) in Tokenizer::new_with_emitter(body, emitter) {
        match token {
            Token::StartTag(tag) => {
                in_style = tag.name.as_slice() == b"style" && !tag.self_closing;
                in_module = tag.name.as_slice() == b"script" && text(&tag, "type").as_deref() == Some("module");
                page.tag(&tag);
            }
            Token::EndTag(_) => (in_style, in_module) = (false, false),
            Token::String(text) if in_style => {
                page.links.extend(css(&String::from_utf8_lossy(&text.value), &page.base))
            }
            Token::String(text) if in_module => {
                page.links.extend(imports(&String::from_utf8_lossy(&text.value), &page.base))
            }
            Token::String(_) | Token::Comment(_) | Token::Doctype(_) | Token::Error(_) => {}
        }
    }
    page.links
}

struct Page {
    base: Url,
    links: Vec<Link>,
}

impl Page {
    fn tag(&mut self, tag: &StartTag<()>) {
        match tag.name.as_slice() {
            b"base" => {
                if let Some(base) = text(tag, "href").and_then(|href| self.base.join(&href).ok()) {
                    self.base = base;
                }
            }
            b"a" | b"area" => self.page(text(tag, "href")),
            b"iframe" | b"frame" => self.page(text(tag, "src")),
            b"link" => self.link_tag(tag),
            b"meta" => self.refresh(tag),
            b"script" | b"audio" | b"track" | b"embed" => self.needed(text(tag, "src")),
            b"img" | b"source" | b"input" => {
                self.needed(text(tag, "src"));
                self.set(text(tag, "srcset"));
            }
            b"video" => {
                self.needed(text(tag, "src"));
                self.needed(text(tag, "poster"));
            }
            b"object" => self.needed(text(tag, "data")),
            b"use" | b"image" => self.needed(text(tag, "href").or_else(|| text(tag, "xlink:href"))),
            b"body" | b"table" | b"td" => self.needed(text(tag, "background")),
            _ => {}
        }
        if let Some(style) = text(tag, "style") {
            self.links.extend(css(&style, &self.base));
        }
    }

    fn link_tag(&mut self, tag: &StartTag<()>) {
        let rel = text(tag, "rel").unwrap_or_default().to_ascii_lowercase();
        let has = |word: &str| rel.split_ascii_whitespace().any(|r| r == word);
        if has("preconnect") || has("dns-prefetch") {
            return;
        }
        match ["alternate", "next", "prev", "canonical", "search", "help", "author", "license"]
            .iter()
            .any(|word| has(word))
            && !has("stylesheet")
        {
            true => self.page(text(tag, "href")),
            false => self.needed(text(tag, "href")),
        }
        self.set(text(tag, "imagesrcset"));
    }

    /// `<meta http-equiv=refresh content="5; url=/next">`.
    fn refresh(&mut self, tag: &StartTag<()>) {
        if text(tag, "http-equiv").is_some_and(|name| name.eq_ignore_ascii_case("refresh")) {
            let content = text(tag, "content").unwrap_or_default();
            let target = content.split_once(['=']).map(|(_, url)| url.trim().trim_matches(['"', '\'']).to_owned());
            self.page(target);
        }
    }

    fn page(&mut self, reference: Option<String>) {
        self.add(reference, false);
    }

    fn needed(&mut self, reference: Option<String>) {
        self.add(reference, true);
    }

    fn add(&mut self, reference: Option<String>, needed: bool) {
        let url = reference.and_then(|reference| resolve(&self.base, &reference));
        self.links.extend(url.map(|url| Link { url, needed }));
    }

    /// `srcset`: `a.png 1x, b.png 2x`. A comma ends a candidate when white space follows it or a descriptor
    /// came before it; commas inside an address stay.
    fn set(&mut self, value: Option<String>) {
        let value = value.unwrap_or_default();
        let mut rest = value.as_str();
        loop {
            rest = rest.trim_start_matches(|c: char| c.is_ascii_whitespace() || c == ',');
            if rest.is_empty() {
                return;
            }
            let end = rest.find(|c: char| c.is_ascii_whitespace()).unwrap_or(rest.len());
            let (address, after) = rest.split_at(end);
            self.needed(Some(address.trim_end_matches(',').to_owned()));
            rest = match address.ends_with(',') {
                true => after,
                false => after.find(',').map_or("", |comma| &after[comma..]),
            };
        }
    }
}

fn text(tag: &StartTag<()>, name: &str) -> Option<String> {
    tag.attributes.get(name.as_bytes()).map(|value| String::from_utf8_lossy(&value.value).into_owned())
}

/// `url(...)` and `@import "..."` outside of comments.
fn css(text: &str, base: &Url) -> Vec<Link> {
    static COMMENT: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"(?s)/\*.*?\*/").ok());
    static REFERENCE: LazyLock<Option<Regex>> = LazyLock::new(|| {
        Regex::new(r#"(?i)(?:url\(\s*(?:"([^"]*)"|'([^']*)'|([^\s"')]+))\s*\)|@import\s+(?:"([^"]*)"|'([^']*)'))"#).ok()
    });
    let text = COMMENT.as_ref().map_or(text.into(), |comment| comment.replace_all(text, " "));
    found(REFERENCE.as_ref(), &text, base)
}

/// Relative module specifiers: `from "./a.js"`, `import "./a.js"`, `import("./a.js")`.
fn imports(text: &str, base: &Url) -> Vec<Link> {
    static IMPORT: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new(r#"\b(?:from|import)\s*\(?\s*(?:"(\.{0,2}/[^"\s]+)"|'(\.{0,2}/[^'\s]+)')"#).ok());
    found(IMPORT.as_ref(), text, base)
}

fn found(pattern: Option<&Regex>, text: &str, base: &Url) -> Vec<Link> {
    let captures = pattern.into_iter().flat_map(|pattern| pattern.captures_iter(text));
    let references = captures.filter_map(|found| found.iter().skip(1).flatten().next().map(|group| group.as_str()));
    references.filter_map(|reference| resolve(base, reference)).map(|url| Link { url, needed: true }).collect()
}

/// A web app manifest: icons, screenshots, start page, shortcuts.
fn manifest(body: &[u8], base: &Url) -> Vec<Link> {
    let Ok(manifest) = serde_json::from_slice::<Value>(body) else {
        return Vec::new();
    };
    let items = |list: &str, key: &str| {
        let list = manifest[list].as_array().cloned().unwrap_or_default();
        list.iter().filter_map(|item| item[key].as_str().map(str::to_owned)).collect::<Vec<_>>()
    };
    let needed =
        items("icons", "src").into_iter().chain(items("screenshots", "src")).map(|reference| (reference, true));
    let start = manifest["start_url"].as_str().map(str::to_owned);
    let pages = start.into_iter().chain(items("shortcuts", "url")).map(|reference| (reference, false));
    let links =
        needed.chain(pages).filter_map(|(reference, needed)| Some(Link { url: resolve(base, &reference)?, needed }));
    links.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found_in(kind: &str, body: &str) -> Vec<String> {
        let url = Url::parse("http://localhost:8080/docs/index.html").unwrap();
        let show = |link: Link| format!("{}{}", if link.needed { "" } else { "> " }, link.url);
        of(kind, &url, body.as_bytes()).into_iter().map(show).collect()
    }

    #[test]
    fn html_gives_pages_and_what_it_needs_in_order() {
        let page = r##"<!doctype html><head><link rel=stylesheet href=/a.css><link rel="preconnect" href="https://cdn">
            <script src="app.js"></script><style>body{background:url(bg.png)}</style></head>
            <a href="../about.html#team">about</a><a href="#top">top</a><a href="mailto:x@y">mail</a><a href="?page=2&amp;x=1">2</a>
            <!-- <a href="/commented"> --><script>var s = '<a href="/not-a-link">';</script>
            <img src="i.png" srcset="i.png 1x, i2.png 2x,  i,3.png 3x"><div style="background: url('d.png')"></div>
            <form action="/search"></form><iframe src="/frame"></iframe><textarea><a href="/text"></a></textarea>"##;
        assert_eq!(
            found_in("text/html; charset=utf-8", page),
            [
                "http://localhost:8080/a.css",
                "http://localhost:8080/docs/app.js",
                "http://localhost:8080/docs/bg.png",
                "> http://localhost:8080/about.html",
                "> http://localhost:8080/docs/index.html?page=2&x=1",
                "http://localhost:8080/docs/i.png",
                "http://localhost:8080/docs/i.png",
                "http://localhost:8080/docs/i2.png",
                "http://localhost:8080/docs/i,3.png",
                "http://localhost:8080/docs/d.png",
                "> http://localhost:8080/frame",
            ]
        );
    }

    #[test]
    fn a_base_changes_what_links_mean() {
        assert_eq!(found_in("text/html", "<base href='/app/'><a href='x'>"), ["> http://localhost:8080/app/x"]);
    }

    #[test]
    fn css_gives_imports_and_urls() {
        let sheet = "/* url(no.png) */ @import 'base.css'; @font-face{src:url( \"f.woff2\" ) format('woff2'), url(f.woff)} a{b:url(data:image/png;base64,xx)}";
        let base = "http://localhost:8080/docs/";
        assert_eq!(
            found_in("text/css", sheet),
            [format!("{base}base.css"), format!("{base}f.woff2"), format!("{base}f.woff")]
        );
    }

    #[test]
    fn scripts_give_relative_imports_only() {
        let script = "import a from './a.js'; import('../b.js'); import x from 'react'; export * from \"/c.js\";";
        assert_eq!(
            found_in("text/javascript", script),
            ["http://localhost:8080/docs/a.js", "http://localhost:8080/b.js", "http://localhost:8080/c.js"]
        );
    }

    #[test]
    fn a_manifest_gives_icons_and_its_start_page() {
        let text = r#"{"icons":[{"src":"/i.png"}],"start_url":"/?app"}"#;
        assert_eq!(
            found_in("application/manifest+json", text),
            ["http://localhost:8080/i.png", "> http://localhost:8080/?app"]
        );
    }
}
