//! Access: how registries are reached, from what docker login stored and what the command line says.

use std::sync::Arc;

use anyhow::{Context, Result, anyhow};

use crate::cli::copy::AccessArgs;
use crate::engine::Credentials;
use crate::engine::auth::{self, Login};
use crate::engine::host::Surroundings;
use crate::exit::Hint;
use crate::progress::Monitor;
use crate::store::Access;
use crate::store::registry::{Account, Logins, STALL};

/// How registries are reached. `given` is the account of the command line, for `registry` alone: a secret is for
/// nobody else. `None`, `None` when there is none.
pub fn access(args: &AccessArgs, given: Option<(&Credentials, String)>, monitor: Arc<dyn Monitor>) -> Access {
    let given = given.map(|(account, registry)| (Account { name: account.username.clone(), secret: account.secret.clone() }, registry));
    let logins: Logins = Arc::new(move |registry| match &given {
        Some((account, theirs)) if theirs == registry => Ok(Some(account.clone())),
        _ => stored(registry),
    });
    Access { logins, insecure: args.insecure_registry.clone(), ca: args.registry_ca.clone(), monitor, stall: STALL }
}

fn stored(registry: &str) -> Result<Option<Account>> {
    match auth::find(registry, &Surroundings::here())? {
        None => Ok(None),
        Some(Login::Password(found)) => Ok(Some(Account { name: found.username, secret: found.secret })),
        Some(Login::Token(_)) => Err(anyhow!("what docker login stored for {registry} is an identity token")).context(Hint::new(
            "give --registry-account and --registry-secret-stdin with an access token or password",
        )),
    }
}
