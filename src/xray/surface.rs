//! Surface: what an attacker would look for in an image, as a build counts it (`report/surface.rs`).

use super::model::{Found, Surface};
use crate::image::Tree;
use crate::report::surface::{Target, targets};

/// At most so many paths of a kind are listed.
const LISTED: usize = 100;

/// Looks at all of an image.
pub fn surface(tree: &Tree) -> Surface {
    let mut surface = Surface::default();
    for (target, path, _) in targets(tree) {
        let found: &mut Found = match target {
            Target::Programs => &mut surface.programs,
            Target::Libraries => &mut surface.libraries,
            Target::Shells => &mut surface.shells,
            Target::PackageManagers => &mut surface.package_managers,
            Target::NetworkClients => &mut surface.network_clients,
            Target::Compilers => &mut surface.compilers,
            Target::Interpreters => &mut surface.interpreters,
            Target::Setuid => &mut surface.setuid,
            Target::Capabilities => &mut surface.capabilities,
            Target::Writable => &mut surface.writable,
        };
        found.count += 1;
        if !target.is_only_counted() && found.paths.len() < LISTED {
            found.paths.push(path.clone());
        }
    }
    surface
}
