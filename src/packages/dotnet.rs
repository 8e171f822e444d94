//! .NET: an application is what its `NAME.deps.json` lists beside it ("Runtime configuration files" of the .NET
//! SDK's documentation); a framework is a directory `shared/NAME/VERSION`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::gather::{all_below, at_place, is_shared, json, keys, name_of, string};
use super::{Package, Reading, System};
use crate::image::{ImagePath, Tree};

/// What stands beside an application and carries its name.
const OWN_ENDS: &[&str] = &["", ".deps.json", ".dll", ".dll.config", ".exe", ".pdb", ".runtimeconfig.json", ".staticwebassets.runtime.json"];

/// The fields of a library that list its files, all of which an application's directory holds by their last name.
const FLAT: &[&str] = &["runtime", "native"];

/// Reads the applications and frameworks of an image.
pub(super) fn read(reading: &mut Reading<'_>) {
    let tree = reading.tree;
    let homes = homes(tree);
    let mut owned = BTreeSet::new();
    for home in &homes {
        owned.extend(["shared", "sdk", "host", "packs"].map(|dir| home.child(dir.as_bytes())));
        installation(reading, home);
    }
    let lists = tree.iter().filter(|(path, entry)| entry.is_file() && path.as_bytes().ends_with(b".deps.json"));
    for (path, _) in lists.filter(|(path, _)| !path.ancestors().any(|above| owned.contains(&above))) {
        application(reading, path);
    }
}

/// Directories that hold an installation (DOTNET_ROOT): there the `dotnet` command finds frameworks.
fn homes(tree: &Tree) -> BTreeSet<ImagePath> {
    let frameworks = tree.iter().filter(|(path, entry)| entry.is_dir() && path.as_bytes().ends_with(b"/shared/Microsoft.NETCore.App"));
    frameworks.filter_map(|(path, _)| path.parent()?.parent()).collect()
}

/// The frameworks, the host and the SDKs of an installation.
fn installation(reading: &mut Reading<'_>, home: &ImagePath) {
    let tree = reading.tree;
    let mut host = Package::new(System::DotNet, "dotnet-host", "");
    host.files = all_below(tree, &home.child(b"host"));
    host.files.extend(Some(home.child(b"dotnet")).filter(|path| tree.get(path).is_some_and(|entry| !entry.is_dir())));
    reading.packages.push(host);
    for (framework, _) in tree.children(&home.child(b"shared")) {
        let name = name_of(framework);
        for (dir, _) in tree.children(framework).filter(|(_, entry)| entry.is_dir()) {
            let mut package = Package::new(System::DotNet, &name, name_of(dir));
            package.files = all_below(tree, dir);
            package.description = Some(dir.child(format!("{name}.deps.json").as_bytes())).filter(|path| tree.contains(path)).into_iter().collect();
            package.requires = vec![vec!["dotnet-host".to_owned()]];
            if name != "Microsoft.NETCore.App" {
                package.requires.push(vec!["Microsoft.NETCore.App".to_owned()]);
            }
            reading.packages.push(package);
        }
    }
    for (dir, _) in tree.children(&home.child(b"sdk")).filter(|(_, entry)| entry.is_dir()) {
        let mut package = Package::new(System::DotNet, "dotnet-sdk", name_of(dir));
        package.files = all_below(tree, dir);
        package.requires = vec![vec!["Microsoft.NETCore.App".to_owned()]];
        reading.packages.push(package);
    }
}

/// An application and its libraries.
fn application(reading: &mut Reading<'_>, list: &ImagePath) {
    let Some(dir) = list.parent() else { return };
    let stem = name_of(list).trim_end_matches(".deps.json").to_owned();
    let Some(value) = json(reading, list) else { return };
    let config = dir.child(format!("{stem}.runtimeconfig.json").as_bytes());
    let config = if reading.tree.contains(&config) { json(reading, &config) } else { None };
    for (library, fields) in libraries(&value) {
        let (name, version) = library.split_once('/').unwrap_or((library, ""));
        let mut package = Package::new(System::DotNet, name, version);
        package.files = files(reading.tree, &dir, fields);
        package.provides = vec![at_place(name, &dir)];
        package.requires = keys(fields, "dependencies").map(|need| vec![at_place(need, &dir)]).collect();
        let kind = value.pointer(&format!("/libraries/{}/type", escaped(library))).and_then(Value::as_str);
        package.in_place = kind == Some("project");
        if name == stem {
            let own = OWN_ENDS.iter().map(|end| dir.child(format!("{stem}{end}").as_bytes()));
            package.files.extend(own.filter(|path| reading.tree.get(path).is_some_and(|entry| !entry.is_dir())));
            package.requires.extend(frameworks(config.as_ref()));
            package.description = BTreeSet::from([list.clone()]);
        }
        reading.packages.push(package);
    }
}

/// A JSON pointer's spelling of a key (RFC 6901).
fn escaped(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

/// The libraries of the target that the list is for.
fn libraries(value: &Value) -> BTreeMap<&str, &Value> {
    let target = value.pointer("/runtimeTarget/name").and_then(Value::as_str).unwrap_or_default();
    let targets = value.get("targets");
    let found = targets.and_then(|targets| targets.get(target).or_else(|| targets.as_object()?.values().next()));
    found.and_then(Value::as_object).into_iter().flatten().map(|(name, fields)| (name.as_str(), fields)).collect()
}

/// The frameworks that an application asks for.
fn frameworks(config: Option<&Value>) -> Vec<Vec<String>> {
    let options = config.and_then(|config| config.get("runtimeOptions"));
    let several = options.and_then(|options| options.get("frameworks")).and_then(Value::as_array);
    let one = options.and_then(|options| options.get("framework"));
    several.into_iter().flatten().chain(one).filter_map(|framework| string(framework, "name")).map(|name| vec![name.to_owned()]).collect()
}

/// The files of a library. Those of a package are beside the application by their last name, satellites in a
/// directory of their language; what is for one platform is where the list says.
fn files(tree: &Tree, dir: &ImagePath, fields: &Value) -> BTreeSet<ImagePath> {
    let last = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
    let mut names: Vec<String> = FLAT.iter().flat_map(|field| keys(fields, field)).flat_map(|path| [last(path), path.to_owned()]).collect();
    names.extend(keys(fields, "runtimeTargets").map(str::to_owned));
    for (path, asset) in fields.get("resources").and_then(Value::as_object).into_iter().flatten() {
        names.push(format!("{}/{}", string(asset, "locale").unwrap_or_default(), last(path)));
    }
    // Beside a library its documentation and symbols may stand.
    let companions: Vec<String> = names.iter().filter_map(|name| Some(format!("{}.pdb", name.strip_suffix(".dll")?))).collect();
    let paths = names.iter().chain(&companions).filter(|name| !name.is_empty()).map(|name| dir.join(name.trim_start_matches('/')));
    let may_own = |path: &ImagePath| path.starts_with(dir) && (!is_shared(dir) || path.parent().as_ref() == Some(dir));
    paths.filter(|path| may_own(path) && tree.get(path).is_some_and(|entry| !entry.is_dir())).collect()
}

#[cfg(test)]
mod tests {
    use super::super::{Packages, read_with, tree_of};
    use super::*;

    fn files(packages: &Packages, name: &str) -> Vec<String> {
        let package = packages.iter().find(|package| package.name == name).unwrap_or_else(|| panic!("no {name}"));
        package.files.iter().map(ImagePath::encode).collect()
    }

    #[test]
    fn an_application_has_its_libraries_and_its_frameworks() {
        let tree = tree_of(&[
            "/app/web.dll",
            "/app/web",
            "/app/web.deps.json",
            "/app/web.runtimeconfig.json",
            "/app/Npgsql.dll",
            "/app/de/Npgsql.resources.dll",
            "/app/runtimes/linux-x64/native/libe_sqlite3.so",
            "/app/appsettings.json",
            "/usr/share/dotnet/dotnet",
            "/usr/share/dotnet/host/fxr/8.0.1/libhostfxr.so",
            "/usr/share/dotnet/shared/Microsoft.NETCore.App/8.0.1/System.dll",
            "/usr/share/dotnet/shared/Microsoft.NETCore.App/8.0.1/Microsoft.NETCore.App.deps.json",
            "/usr/share/dotnet/shared/Microsoft.AspNetCore.App/8.0.1/Kestrel.dll",
            "/etc/passwd",
        ]);
        let list = r#"{
            "runtimeTarget": {"name": ".NETCoreApp,Version=v8.0"},
            "targets": {".NETCoreApp,Version=v8.0": {
                "web/1.0.0": {"dependencies": {"Npgsql": "8.0.0", "sqlite": "1"}, "runtime": {"web.dll": {}}},
                "Npgsql/8.0.0": {"runtime": {"lib/net8.0/Npgsql.dll": {}, "../../etc/passwd": {}},
                                 "resources": {"lib/net8.0/de/Npgsql.resources.dll": {"locale": "de"}, "x/passwd": {"locale": "../etc"}}},
                "sqlite/1": {"runtimeTargets": {"runtimes/linux-x64/native/libe_sqlite3.so": {"rid": "linux-x64"}}},
                "unused/1": {}
            }},
            "libraries": {"web/1.0.0": {"type": "project"}, "Npgsql/8.0.0": {"type": "package"}}
        }"#;
        let config = r#"{"runtimeOptions": {"framework": {"name": "Microsoft.AspNetCore.App", "version": "8.0.0"}}}"#;
        let packages = read_with(&tree, &[("/app/web.deps.json", list), ("/app/web.runtimeconfig.json", config)], read);
        assert_eq!(files(&packages, "web"), ["/app/web", "/app/web.deps.json", "/app/web.dll", "/app/web.runtimeconfig.json"]);
        assert_eq!(files(&packages, "Npgsql"), ["/app/Npgsql.dll", "/app/de/Npgsql.resources.dll"]);
        assert_eq!(files(&packages, "sqlite"), ["/app/runtimes/linux-x64/native/libe_sqlite3.so"]);
        let start = packages.iter().position(|package| package.name == "web").unwrap();
        assert!(packages.at(start).in_place);
        let needed: Vec<&str> = packages.closure([start]).into_keys().map(|index| packages.at(index).name.as_str()).collect();
        assert_eq!(needed, ["Microsoft.AspNetCore.App", "Microsoft.NETCore.App", "Npgsql", "dotnet-host", "sqlite", "web"]);
    }

    #[test]
    fn lists_that_make_no_sense_are_survived() {
        for text in ["", "[]", "{\"targets\": 3}", "{\"targets\": {\"a\": {\"x\": []}}}", "{\"targets\": {\"a\": {\"/\": {\"runtime\": {\"\": 1, \"/\": 2}}}}}"] {
            let packages = read_with(&tree_of(&["/app/a.deps.json"]), &[("/app/a.deps.json", text)], read);
            assert!(packages.iter().all(|package| package.files.is_empty()), "{text}");
        }
    }
}
