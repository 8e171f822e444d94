//! Named: files that a server's configuration names and that the server reads no earlier than a request needs
//! them: its own error pages, its passwords. What it reads at its start was touched.

use super::derive::Memory;
use super::draft::Draft;
use super::pattern::PathGlob;
use crate::image::{Entry, ImagePath};

/// nginx's directives whose arguments are files that are opened during a request.
const NGINX_FILES: &[&str] = &[
    "auth_basic_user_file",
    "auth_jwt_key_file",
    "grpc_ssl_certificate",
    "grpc_ssl_certificate_key",
    "proxy_ssl_certificate",
    "proxy_ssl_certificate_key",
    "ssl_certificate",
    "ssl_certificate_key",
];

/// Those whose arguments may be paths of the site, to be found below its root.
const NGINX_PAGES: &[&str] = &["error_page", "try_files"];

/// Those that name a directory of pages.
const NGINX_DIRECTORIES: &[&str] = &["root", "alias"];

/// The same of Apache's, with the place of the directory among their arguments.
const APACHE_DIRECTORIES: &[(&str, usize)] = &[("documentroot", 1), ("alias", 2), ("scriptalias", 2), ("wsgiscriptalias", 2)];

/// Apache's directives whose first argument is a file that is opened during a request.
const APACHE_FILES: &[&str] = &["authuserfile", "authgroupfile", "authdigestfile"];

/// Where a site is without a `DocumentRoot`.
const APACHE_ROOTS: &[&str] = &["/var/www/html", "/usr/local/apache2/htdocs", "/var/www/localhost/htdocs"];

/// Where a site is without a `root`, by the usual ways to compile nginx.
const NGINX_ROOTS: &[&str] = &["/usr/share/nginx/html", "/etc/nginx/html", "/usr/local/nginx/html"];

/// What an nginx configuration file names. A name with a variable in it is no name.
pub(super) fn by_nginx(draft: &mut Draft<'_>, _: &mut Memory, by: &ImagePath) -> Vec<ImagePath> {
    let Some(text) = draft.text(by.as_bytes()) else { return Vec::new() };
    let text = String::from_utf8_lossy(text);
    let directives = directives(&text);
    let arguments = |names: &'static [&'static str]| {
        let meant = directives.iter().filter(move |words| names.contains(&words[0].as_str()));
        let words = meant.flat_map(|words| &words[1..]);
        words.map(|word| word.split('?').next().unwrap_or_default()).filter(|word| !word.contains('$'))
    };
    // A relative file is relative to the directory of the main configuration, which is this one's or above.
    let mut found: Vec<ImagePath> = Vec::new();
    for name in arguments(NGINX_FILES) {
        let places: Vec<ImagePath> = by.ancestors().map(|dir| dir.join(name)).collect();
        found.extend(places.into_iter().find(|path| is_file(draft, path)));
    }
    let roots: Vec<ImagePath> = arguments(&["root"]).map(ImagePath::new).collect();
    let roots = if roots.is_empty() { NGINX_ROOTS.iter().map(ImagePath::new).collect() } else { roots };
    for page in arguments(NGINX_PAGES).filter_map(|word| word.strip_prefix('/')) {
        found.extend(roots.iter().map(|root| root.join(page)).filter(|path| is_file(draft, path)));
    }
    found.extend(arguments(&["include"]).flat_map(|name| included(draft, by, name)));
    found
}

/// What an nginx `include` means: a path or a glob, relative to the directory of the main configuration.
fn included(draft: &Draft<'_>, by: &ImagePath, name: &str) -> Vec<ImagePath> {
    let tree = draft.ask.tree;
    let files = |dir: ImagePath| {
        let place = dir.join(name).encode();
        let found = PathGlob::new(tree, &place).map(|glob| glob.find(tree).0).unwrap_or_default();
        found.into_iter().filter(|path| is_file(draft, path)).collect::<Vec<_>>()
    };
    by.ancestors().filter(|dir| !dir.is_root() || name.starts_with('/')).map(files).find(|found| !found.is_empty()).unwrap_or_default()
}

/// What a file of Apache's configuration names: error pages below the document roots, and password files.
pub(super) fn by_apache(draft: &mut Draft<'_>, _: &mut Memory, by: &ImagePath) -> Vec<ImagePath> {
    let Some(text) = draft.text(by.as_bytes()) else { return Vec::new() };
    let text = String::from_utf8_lossy(text);
    let lines: Vec<Vec<String>> = text.lines().filter_map(|line| shell_words::split(line.trim()).ok()).collect();
    let roots = apache_roots(draft, by);
    let roots = if roots.is_empty() { APACHE_ROOTS.iter().map(ImagePath::new).collect() } else { roots };
    let mut found = Vec::new();
    for words in lines.iter().filter(|words| words.len() > 1) {
        let directive = words[0].to_ascii_lowercase();
        if APACHE_FILES.contains(&directive.as_str()) && words[1].starts_with('/') {
            found.push(ImagePath::new(&words[1]));
        }
        if let Some(page) = words.get(2).filter(|_| directive == "errordocument").and_then(|word| word.strip_prefix('/')) {
            found.extend(roots.iter().map(|root| root.join(page)));
        }
    }
    found.retain(|path| is_file(draft, path));
    found
}

/// The directories of pages that an nginx configuration file names; the usual ones when it names none.
pub(super) fn nginx_roots(draft: &mut Draft<'_>, by: &ImagePath) -> Vec<ImagePath> {
    let Some(text) = draft.text(by.as_bytes()) else { return Vec::new() };
    let directives = directives(&String::from_utf8_lossy(text));
    let meant = directives.iter().filter(|words| NGINX_DIRECTORIES.contains(&words[0].as_str()));
    let names: Vec<&String> = meant.filter_map(|words| words.get(1)).filter(|word| !word.contains('$')).collect();
    let serves = directives.iter().any(|words| words[0] == "server");
    let usual: Vec<String> = NGINX_ROOTS.iter().map(|root| (*root).to_owned()).collect();
    let names = if names.is_empty() && serves { usual.iter().collect() } else { names };
    names.iter().filter_map(|name| directory(draft, name)).collect()
}

/// The same for a file of Apache's configuration.
pub(super) fn apache_roots(draft: &mut Draft<'_>, by: &ImagePath) -> Vec<ImagePath> {
    let Some(text) = draft.text(by.as_bytes()) else { return Vec::new() };
    let text = String::from_utf8_lossy(text);
    let named = |line: &str| {
        let words = shell_words::split(line.trim()).ok()?;
        let name = words.first()?.to_ascii_lowercase();
        let (_, at) = APACHE_DIRECTORIES.iter().find(|(directive, _)| *directive == name)?;
        words.get(*at).filter(|word| !word.contains(['$', '%'])).cloned()
    };
    text.lines().filter_map(named).filter_map(|name| directory(draft, &name)).collect()
}

/// An absolute path's directory, links followed; that of a file is the one it lies in.
fn directory(draft: &Draft<'_>, name: &str) -> Option<ImagePath> {
    let found = draft.ask.tree.find(name).filter(|_| name.starts_with('/'))?;
    if is_file(draft, &found) { found.parent() } else { Some(found) }
}

fn is_file(draft: &Draft<'_>, path: &ImagePath) -> bool {
    let end = draft.ask.tree.find(path.as_bytes());
    end.and_then(|end| draft.ask.tree.get(&end)).is_some_and(Entry::is_file)
}

/// The words of each simple directive and of each block's head, comments and quotes removed.
fn directives(text: &str) -> Vec<Vec<String>> {
    let mut all = Vec::new();
    let mut words: Vec<String> = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    let mut comment = false;
    for c in text.chars() {
        match (c, quote) {
            ('\n', _) if comment => comment = false,
            _ if comment => {}
            (c, Some(open)) if c == open => {
                quote = None;
                words.push(std::mem::take(&mut word));
            }
            (c, Some(_)) => word.push(c),
            ('\'' | '"', None) if word.is_empty() => quote = Some(c),
            ('#', None) if word.is_empty() => comment = true,
            (';' | '{' | '}', None) => {
                words.extend((!word.is_empty()).then(|| std::mem::take(&mut word)));
                all.extend((!words.is_empty()).then(|| std::mem::take(&mut words)));
            }
            (c, None) if c.is_whitespace() => words.extend((!word.is_empty()).then(|| std::mem::take(&mut word))),
            (c, None) => word.push(c),
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_is_split_into_directives() {
        let text = "# a comment; with { signs\nuser nginx; http{\n  root '/srv/my site';\n log \"a;b\" c#d;\n}\nlast";
        let words: Vec<String> = directives(text).iter().map(|words| words.join("|")).collect();
        assert_eq!(words, ["user|nginx", "http", "root|/srv/my site", "log|a;b|c#d"]);
    }
}
