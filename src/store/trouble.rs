//! Trouble: what goes wrong between here and a registry, in one line with what to do about it.

use std::error::Error;

use anyhow::anyhow;
use oci_client::errors::{OciDistributionError as Trouble, OciErrorCode};

use crate::exit::{Exit, Hint};

/// Whether the same request may succeed a little later.
pub(super) fn passes(error: &Trouble) -> bool {
    match error {
        Trouble::RequestError(error) => !is_certificate(&all_of(error)) && !is_plain(&all_of(error)) && !error.is_builder(),
        Trouble::IoError(error) => error.kind() != std::io::ErrorKind::InvalidData,
        Trouble::ServerError { code, .. } => *code >= 500 || *code == 429,
        Trouble::RegistryError { envelope, .. } => envelope.errors.iter().any(|e| e.code == OciErrorCode::Toomanyrequests),
        _ => false,
    }
}

/// Whether the registry does not have what was asked for.
pub(super) fn is_absent(error: &Trouble) -> bool {
    use OciErrorCode::{BlobUnknown, ManifestUnknown, NameUnknown, NotFound};
    match error {
        Trouble::ServerError { code, .. } => *code == 404,
        Trouble::ImageManifestNotFoundError(_) => true,
        Trouble::RegistryError { envelope, .. } => {
            envelope.errors.iter().any(|error| [BlobUnknown, ManifestUnknown, NameUnknown, NotFound].contains(&error.code))
        }
        _ => false,
    }
}

/// The error in words; `named` says whether an account was given.
pub(super) fn explain(error: Trouble, registry: &str, named: bool) -> anyhow::Error {
    let login = match named {
        true => format!("its account or secret is wrong, or may not do this; `docker login {registry}` asks for another"),
        false => format!("`docker login {registry}`, or give --registry-account with --registry-secret-stdin"),
    };
    let refused = |text: &str| anyhow!("the registry {registry} refuses: {text}").context(Hint::new(login.clone()));
    match &error {
        Trouble::UnauthorizedError { .. } => refused("unauthorized"),
        Trouble::AuthenticationFailure(_) => refused("authentication failed"),
        Trouble::RegistryError { envelope, .. } => {
            let said: Vec<String> = envelope.errors.iter().map(|error| format!("{:?} {}", error.code, error.message)).collect();
            let said = crate::image::path::printable(said.join("; ").as_bytes());
            match envelope.errors.iter().any(|error| matches!(error.code, OciErrorCode::Unauthorized | OciErrorCode::Denied)) {
                true => refused(said.trim()),
                false if passes(&error) => anyhow!("the registry {registry} says {said}").context(Exit::Retry),
                false => anyhow!("the registry {registry} says {said}"),
            }
        }
        Trouble::ServerError { code: code @ (401 | 403), .. } => refused(&format!("status {code}")),
        Trouble::ServerError { code, .. } => {
            let failed = anyhow!("the registry {registry} answers with status {code}");
            if passes(&error) { failed.context(Exit::Retry) } else { failed }
        }
        Trouble::RequestError(request) => of_request(request, registry),
        Trouble::IoError(io) if passes(&error) => anyhow!("the connection to {registry} broke: {}", all_of(io)).context(Exit::Retry),
        _ => anyhow!("the registry {registry}: {}", all_of(&error)),
    }
}

fn of_request(error: &(impl Error + 'static), registry: &str) -> anyhow::Error {
    let all = all_of(error);
    let last = cause(&all);
    if all.contains("CaUsedAsEndEntity") {
        let hint = "make a certificate for the server that this authority signs, or a self-signed one with basicConstraints CA:FALSE";
        return anyhow!("the certificate of {registry} is an authority's, not a server's").context(Hint::new(hint));
    }
    if is_certificate(&all) {
        let hint = format!("give the certificate of its authority with --registry-ca FILE, or SSL_CERT_FILE=FILE; {registry} was not trusted");
        return anyhow!("the certificate of {registry} cannot be trusted: {last}").context(Hint::new(hint));
    }
    if is_plain(&all) {
        let hint = format!("if it really speaks plain HTTP and you trust the way to it: --insecure-registry {registry}");
        return anyhow!("{registry} does not speak TLS").context(Hint::new(hint));
    }
    let text = match all.contains("timed out") || all.contains("Timeout") || all.contains("timeout") {
        true => format!("the registry {registry} does not answer in time"),
        false => format!("cannot reach the registry {registry}: {last}"),
    };
    anyhow!(text).context(Hint::new("check its name and the network, then try again")).context(Exit::Retry)
}

/// The last cause, which says most. That of a name nobody knows is a dump of the resolver's question.
fn cause(all: &str) -> &str {
    match ["no records found", "dns error", "failed to lookup address"].iter().any(|word| all.contains(word)) {
        true => "its name cannot be looked up",
        false => all.rsplit(": ").next().unwrap_or(all),
    }
}

fn is_certificate(text: &str) -> bool {
    ["invalid peer certificate", "UnknownIssuer", "certificate verify failed", "NotValidForName"].iter().any(|word| text.contains(word))
}

/// What a TLS client sees of a server that speaks HTTP.
fn is_plain(text: &str) -> bool {
    ["corrupt message", "InvalidContentType"].iter().any(|word| text.contains(word))
}

/// An error with all its causes.
fn all_of(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut at = error.source();
    while let Some(cause) = at {
        text = format!("{text}: {cause}");
        at = cause.source();
    }
    crate::image::path::printable(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_cause_is_said_in_words() {
        let name = "error sending request: client error (Connect): dns error: no records found for Query { name: x, query_class: IN }";
        assert_eq!(cause(name), "its name cannot be looked up");
        assert_eq!(cause("error sending request: tcp connect error: Connection refused"), "Connection refused");
        assert_eq!(cause("one"), "one");
    }
}
