//! PHP: extensions, each a shared object with the ini files that load it; and what Composer installed.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::gather::{at_place, files_below, is_foreign, is_shared, json, keys, name_of, string, text};
use super::{Package, Reading, System};
use crate::image::{ImagePath, Tree};

/// Directories in which PHP looks for ini files: Debian, the official image, Alpine, Fedora.
const INI: &[&str] = &["/etc/php", "/usr/local/etc/php", "/etc/php.d", "/etc/php.ini", "/etc/opt", "/opt"];

/// Extensions whose code needs another's that is loaded before (their `zend_module_dep` tables). `pdo_NAME`
/// needs `pdo` besides.
const NEEDS: &[(&str, &str)] = &[("mysqli", "mysqlnd"), ("pdo_mysql", "mysqlnd"), ("xmlreader", "dom"), ("xsl", "dom"), ("phar", "zlib")];

/// Reads the extensions and Composer's packages of an image.
pub(super) fn read(reading: &mut Reading<'_>) {
    extensions(reading);
    let tree = reading.tree;
    let lists = tree.iter().filter(|(path, _)| path.as_bytes().ends_with(b"/vendor/composer/installed.json"));
    for (path, _) in lists {
        composer(reading, path);
    }
}

/// Directories of extensions, as `configure` and packagers make them: named for the API
/// (`no-debug-non-zts-20220829`, `20220829`), or `modules` of a PHP.
fn is_extension_dir(dir: &ImagePath) -> bool {
    let mut parts = dir.components().collect::<Vec<_>>().into_iter().rev();
    let (last, above) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let api = last.rsplit(|b| *b == b'-').next().unwrap_or_default();
    let is_api = api.len() == 8 && api.starts_with(b"20") && api.iter().all(u8::is_ascii_digit);
    let mut is_php = above.starts_with(b"php") || above == b"extensions";
    is_php |= parts.any(|part| part.starts_with(b"php"));
    is_php && (is_api || (last == b"modules" && above.starts_with(b"php")))
}

fn extensions(reading: &mut Reading<'_>) {
    let tree = reading.tree;
    let is_object = |path: &ImagePath| path.as_bytes().ends_with(b".so") && path.parent().is_some_and(|dir| is_extension_dir(&dir));
    let objects: Vec<&ImagePath> = tree.iter().filter(|(path, entry)| !entry.is_dir() && is_object(path)).map(|(path, _)| path).collect();
    if objects.is_empty() {
        return;
    }
    let loading = loading(reading);
    for path in objects {
        let name = name_of(path).trim_end_matches(".so").to_owned();
        let mut package = Package::new(System::Php, &name, "");
        package.files = loading.get(&name).cloned().unwrap_or_default();
        package.files.insert(path.clone());
        package.provides = vec![format!("ext-{name}")];
        package.requires = NEEDS.iter().filter(|(of, _)| *of == name).map(|(_, need)| vec![(*need).to_owned()]).collect();
        if name.starts_with("pdo_") {
            package.requires.push(vec!["pdo".to_owned()]);
        }
        reading.packages.push(package);
    }
}

/// The ini files that load an extension, and the links to them (`conf.d/20-xml.ini`), by its name.
fn loading(reading: &mut Reading<'_>) -> BTreeMap<String, BTreeSet<ImagePath>> {
    let tree = reading.tree;
    let mut found: BTreeMap<String, BTreeSet<ImagePath>> = BTreeMap::new();
    let files = INI.iter().flat_map(|dir| tree.with_prefix(dir.as_bytes())).filter(|(path, entry)| !entry.is_dir() && is_ini(path));
    for path in files.map(|(path, _)| path) {
        let Some(target) = tree.find(path.as_bytes()) else { continue };
        let Some(text) = text(reading, &target) else { continue };
        for name in text.lines().filter_map(loaded) {
            found.entry(name).or_default().extend([path.clone(), target.clone()]);
        }
    }
    found
}

/// Files of `conf.d`, `mods-available`, `php.d`: the main `php.ini` is nobody's.
fn is_ini(path: &ImagePath) -> bool {
    path.as_bytes().ends_with(b".ini") && path.components().any(|part| part.starts_with(b"php")) && path.file_name() != Some(b"php.ini")
}

/// The extension that a line `extension=NAME` or `zend_extension=/path/NAME.so` loads.
fn loaded(line: &str) -> Option<String> {
    let (key, value) = line.split_once('=')?;
    let value = value.split(';').next()?.trim().trim_matches(['"', '\'']);
    let name = value.rsplit('/').next()?.trim_end_matches(".so");
    (["extension", "zend_extension"].contains(&key.trim()) && !name.is_empty()).then(|| name.to_owned())
}

/// The packages of one `vendor` directory ("installed.json" of Composer 1 and 2).
fn composer(reading: &mut Reading<'_>, list: &ImagePath) {
    let tree = reading.tree;
    let Some(value) = json(reading, list) else { return };
    let Some(dir) = list.parent() else { return };
    let Some(vendor) = dir.parent() else { return };
    let loader = at_place("composer-autoload", &vendor);
    reading.packages.push(autoload(tree, &vendor, &dir));
    let entries = value.get("packages").unwrap_or(&value).as_array();
    let mut taken: BTreeSet<ImagePath> = BTreeSet::new();
    for entry in entries.into_iter().flatten() {
        let Some(name) = string(entry, "name") else { continue };
        let home = string(entry, "install-path").map_or_else(|| vendor.join(name), |path| dir.join(path));
        let home = tree.find(home.as_bytes()).filter(|home| !is_shared(home) && *home != vendor && taken.insert(home.clone()));
        let mut package = Package::new(System::Php, name, string(entry, "version").unwrap_or_default());
        package.provides = vec![at_place(name, &vendor)];
        let replaced = keys(entry, "replace").chain(keys(entry, "provide"));
        package.provides.extend(replaced.flat_map(|name| [name.to_owned(), at_place(name, &vendor)]));
        package.requires = vec![vec![loader.clone()]];
        package.requires.extend(keys(entry, "require").filter_map(|name| need(name, &vendor)));
        if let Some(home) = home {
            package.in_place = !home.starts_with(&vendor);
            let leave_out = |below: &ImagePath| is_vendor(below) || *below == vendor || (package.in_place && is_foreign(below));
            package.files = files_below(tree, &home, leave_out);
            package.description = Some(home.child(b"composer.json")).filter(|path| package.files.contains(path)).into_iter().collect();
        }
        let programs = entry.get("bin").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
        let programs = programs.map(|path| vendor.child(b"bin").join(path.rsplit('/').next().unwrap_or_default()));
        package.files.extend(programs.filter(|path| tree.get(path).is_some_and(|entry| !entry.is_dir())));
        reading.packages.push(package);
    }
}

fn is_vendor(dir: &ImagePath) -> bool {
    dir.file_name() == Some(b"vendor")
}

/// What finds the classes of all packages.
fn autoload(tree: &Tree, vendor: &ImagePath, dir: &ImagePath) -> Package {
    let mut package = Package::new(System::Php, "composer-autoload", "");
    let own = tree.children(dir).filter(|(_, entry)| !entry.is_dir()).map(|(path, _)| path.clone());
    package.files = own.chain(Some(vendor.child(b"autoload.php")).filter(|path| tree.contains(path))).collect();
    package.provides = vec![at_place("composer-autoload", vendor)];
    package
}

/// A need as the packages of this `vendor`, or the extensions, are named. `None` for PHP itself, its libraries
/// and Composer's interfaces.
fn need(name: &str, vendor: &ImagePath) -> Option<Vec<String>> {
    if name.contains('/') {
        return Some(vec![at_place(name, vendor), name.to_owned()]);
    }
    name.starts_with("ext-").then(|| vec![name.to_owned()])
}

#[cfg(test)]
mod tests {
    use super::super::{Packages, read_with, tree_of};
    use super::*;

    fn files(packages: &Packages, name: &str) -> Vec<String> {
        let package = packages.iter().find(|package| package.name == name).unwrap_or_else(|| panic!("no {name}"));
        package.files.iter().map(ImagePath::encode).collect()
    }

    fn needed(packages: &Packages, name: &str) -> Vec<String> {
        let start = packages.iter().position(|package| package.name == name).unwrap();
        let all = packages.closure([start]).into_keys().filter(|index| *index != start);
        all.map(|index| packages.at(index).name.clone()).collect()
    }

    #[test]
    fn an_extension_goes_with_the_files_that_load_it() {
        let tree = tree_of(&[
            "/usr/lib/php/20220829/xsl.so",
            "/usr/lib/php/20220829/dom.so",
            "/etc/php/8.2/mods-available/xsl.ini",
            "/etc/php/8.2/cli/conf.d/20-xsl.ini -> /etc/php/8.2/mods-available/xsl.ini",
            "/etc/php/8.2/cli/php.ini",
            "/usr/local/lib/php/extensions/no-debug-non-zts-20220829/opcache.so",
            "/usr/local/etc/php/conf.d/docker-php-ext-opcache.ini",
            "/usr/lib/php82/modules/pdo_pgsql.so",
            "/usr/lib/apache2/modules/libphp8.2.so",
        ]);
        let packages = read_with(
            &tree,
            &[
                ("/etc/php/8.2/mods-available/xsl.ini", "; configuration\nextension = xsl.so\n"),
                ("/usr/local/etc/php/conf.d/docker-php-ext-opcache.ini", "zend_extension=\"/x/opcache\" ; loads\n"),
            ],
            read,
        );
        assert_eq!(
            files(&packages, "xsl"),
            ["/etc/php/8.2/cli/conf.d/20-xsl.ini", "/etc/php/8.2/mods-available/xsl.ini", "/usr/lib/php/20220829/xsl.so"]
        );
        assert_eq!(files(&packages, "opcache").len(), 2);
        assert_eq!(needed(&packages, "xsl"), ["dom"]);
        assert_eq!(packages.iter().count(), 4);
    }

    #[test]
    fn composers_packages_need_each_other_extensions_and_the_loader() {
        let tree = tree_of(&[
            "/app/vendor/autoload.php",
            "/app/vendor/composer/installed.json",
            "/app/vendor/composer/ClassLoader.php",
            "/app/vendor/symfony/console/composer.json",
            "/app/vendor/symfony/console/A.php",
            "/app/vendor/bin/console",
            "/app/vendor/psr/log/L.php",
            "/app/vendor/evil/evil -> /etc",
            "/etc/passwd",
            "/usr/lib/php/20220829/mbstring.so",
        ]);
        let list = r#"{"packages":[
            {"name":"symfony/console","version":"v6.1","install-path":"../symfony/console","bin":["bin/console"],
             "require":{"php":">=8.1","ext-mbstring":"*","psr/log-implementation":"1"}},
            {"name":"psr/log","version":"3","install-path":"../psr/log","provide":{"psr/log-implementation":"1"}},
            {"name":"evil/up","install-path":"../../../../etc"},
            {"name":"evil/evil","install-path":"../evil/evil"},
            {"name":"evil/all","install-path":".."},
            7
        ]}"#;
        let packages = read_with(&tree, &[("/app/vendor/composer/installed.json", list)], read);
        assert_eq!(
            files(&packages, "symfony/console"),
            ["/app/vendor/bin/console", "/app/vendor/symfony/console/A.php", "/app/vendor/symfony/console/composer.json"]
        );
        assert_eq!(needed(&packages, "symfony/console"), ["composer-autoload", "mbstring", "psr/log"]);
        assert_eq!(files(&packages, "composer-autoload").len(), 3);
        for name in ["evil/up", "evil/evil", "evil/all"] {
            assert_eq!(files(&packages, name), [""; 0], "{name}");
        }
    }

    #[test]
    fn the_list_of_composer_1_is_an_array() {
        let tree = tree_of(&["/app/vendor/composer/installed.json", "/app/vendor/a/b/x.php"]);
        let packages = read_with(&tree, &[("/app/vendor/composer/installed.json", r#"[{"name":"a/b","version":"1"}]"#)], read);
        assert_eq!(files(&packages, "a/b"), ["/app/vendor/a/b/x.php"]);
    }
}
