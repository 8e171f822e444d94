//! Build: a Dockerfile through the engine's own (classic) builder.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::io;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use bollard::auth::DockerCredentials;
use bollard::query_parameters::BuildImageOptions;
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::sync::mpsc;

use super::ledger::Made;
use super::pull::{credentials, stored_login};
use super::{Core, context};
use crate::engine::BuildSpec;
use crate::engine::error::EngineError;
use crate::image::Reference;

/// Lines of the build's output that an error shows.
const LAST_LINES: usize = 12;

impl Core {
    /// Builds; gives the image's ID. What the build leaves behind is ours unless it was there before or has
    /// a name.
    pub(super) async fn build(self: Arc<Self>, build: BuildSpec) -> Result<String> {
        let dockerfile = match build.dockerfile.as_str() {
            "" => "Dockerfile".to_owned(),
            name => name.trim_start_matches("./").to_owned(),
        };
        context::check(&build.context, &dockerfile)?;
        let options = options(&build, &dockerfile)?;
        let logins = logins(&build.context.join(&dockerfile)).await?;
        let before: BTreeSet<String> = self.image_ids().await?.into_iter().map(|(id, _)| id).collect();
        let context::Sent { stream, outcome } = context::send(&build.context, &dockerfile)?;
        let result = self.follow(options, logins, stream, &before).await;
        let what = || format!("build {}", build.context.join(&dockerfile).display());
        match outcome.await.context("send the build context")? {
            // When the engine hung up, it has said why.
            Err(error) if !is_broken_pipe(&error) => Err(error).with_context(what),
            Ok(()) | Err(_) => result.with_context(what),
        }
    }

    async fn follow(
        &self,
        options: BuildImageOptions,
        logins: HashMap<String, DockerCredentials>,
        stream: mpsc::Receiver<io::Result<Bytes>>,
        before: &BTreeSet<String>,
    ) -> Result<String> {
        let pieces = futures_util::stream::unfold(stream, |mut stream| async move {
            stream.recv().await.map(|piece| (piece, stream))
        });
        let body = bollard::body_try_stream(pieces);
        let logins = Some(logins).filter(|logins| !logins.is_empty());
        let mut answers = std::pin::pin!(self.slow.build_image(options, logins, Some(body)));
        let mut output = Output::default();
        let mut last = None;
        while let Some(answer) = answers.next().await {
            let answer = match answer {
                Ok(answer) => answer,
                Err(error) => return Err(output.explain(EngineError::from_api(error))),
            };
            let named = output.push(answer.stream.as_deref().unwrap_or_default());
            for image in named.into_iter().chain(answer.aux.and_then(|aux| aux.id)) {
                let Some(found) = self.image(&image).await? else { continue };
                if !before.contains(&found.id) {
                    self.ledger.add(Made::Image(found.id.clone()));
                }
                last = Some(found.id);
            }
        }
        last.ok_or_else(|| output.explain(EngineError::Other("the builder named no image".into())))
    }
}

/// What a builder prints: its last lines, and the images it names.
#[derive(Default)]
struct Output {
    part: String,
    lines: VecDeque<String>,
}

impl Output {
    /// Takes a piece of output; gives the images that its whole lines name.
    fn push(&mut self, text: &str) -> Vec<String> {
        let mut images = Vec::new();
        self.part.push_str(text);
        while let Some(end) = self.part.find('\n') {
            let line: String = self.part.drain(..=end).collect();
            let line = line.trim_end();
            let words = line.strip_prefix(" ---> ").or_else(|| line.strip_prefix("Successfully built "));
            let image = words.filter(|id| id.len() >= 12 && id.bytes().all(|byte| byte.is_ascii_hexdigit()));
            images.extend(image.map(str::to_owned));
            if !line.is_empty() {
                self.lines.push_back(line.to_owned());
            }
            if self.lines.len() > LAST_LINES {
                self.lines.pop_front();
            }
        }
        images
    }

    /// An error with the end of the output under it.
    fn explain(&self, error: EngineError) -> anyhow::Error {
        let text = error.to_string();
        if NEEDS_BUILDKIT.iter().any(|words| text.contains(words)) {
            let text = format!(
                "{text}; the engine's builder cannot do this: build it with `docker buildx build --load -t NAME` and \
                 give slim NAME"
            );
            return EngineError::Refused(text).into();
        }
        let lines: Vec<&str> = self.lines.iter().map(String::as_str).chain([self.part.trim_end()]).collect();
        let shown = format!("{text}\n  {}", lines.join("\n  ").trim_end());
        match error {
            EngineError::Busy(_) => EngineError::Busy(shown).into(),
            EngineError::NoSpace(_) => EngineError::NoSpace(shown).into(),
            EngineError::Unauthorized(_) => EngineError::Unauthorized(shown).into(),
            _ => EngineError::Refused(shown).into(),
        }
    }
}

/// How the classic builder refuses what only BuildKit understands.
const NEEDS_BUILDKIT: &[&str] = &[
    "requires BuildKit",
    "nknown flag: mount",
    "nknown flag: link",
    "nknown flag: chmod",
    "nknown flag: network",
    "nknown flag: checksum",
    "nknown flag: parents",
    "nknown flag: exclude",
    "unknown instruction: <<",
    "the --mount option",
];

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>()).any(|e| e.kind() == io::ErrorKind::BrokenPipe)
}

fn options(build: &BuildSpec, dockerfile: &str) -> Result<BuildImageOptions> {
    let argument = |text: &String| match text.split_once('=') {
        Some(("", _)) => Err(EngineError::Refused("--build-arg: NAME=VALUE is meant".into())),
        Some((name, value)) => Ok(Some((name.to_owned(), value.to_owned()))),
        None => Ok(std::env::var(text).ok().map(|value| (text.clone(), value))),
    };
    let arguments: Vec<_> = build.args.iter().map(argument).collect::<Result<_, _>>()?;
    let arguments: HashMap<String, String> = arguments.into_iter().flatten().collect();
    let tag = build.tag.as_deref().map(Reference::parse).transpose();
    let tag = tag.map_err(|error| EngineError::Refused(error.to_string()))?;
    Ok(BuildImageOptions {
        dockerfile: dockerfile.to_owned(),
        t: tag.map(|tag| tag.familiar()),
        buildargs: Some(arguments).filter(|map| !map.is_empty()),
        target: build.target.clone().unwrap_or_default(),
        networkmode: build.network.clone(),
        rm: true,
        forcerm: true,
        ..BuildImageOptions::default()
    })
}

/// Credentials for the registries that the Dockerfile's FROM lines name.
async fn logins(dockerfile: &Path) -> Result<HashMap<String, DockerCredentials>> {
    let text = tokio::fs::read(dockerfile).await.with_context(|| format!("read {}", dockerfile.display()))?;
    let text = String::from_utf8_lossy(&text);
    let mut logins = HashMap::new();
    for reference in text.lines().filter_map(base_image) {
        let Ok(Reference::Name(name)) = Reference::parse(reference) else { continue };
        if let Some(login) = stored_login(&name).await? {
            let entry = credentials(login, &name.registry);
            logins.insert(entry.serveraddress.clone().unwrap_or_default(), entry);
        }
    }
    Ok(logins)
}

/// The image of a `FROM [--platform=...] IMAGE [AS NAME]` line.
fn base_image(line: &str) -> Option<&str> {
    let mut words = line.split_whitespace();
    let from = words.next().filter(|word| word.eq_ignore_ascii_case("from"));
    from.and_then(|_| words.find(|word| !word.starts_with("--")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_named_in_whole_lines_only() {
        let mut output = Output::default();
        assert!(output.push("Step 1/2 : FROM x\n ---> 0123456789").is_empty());
        assert_eq!(output.push("ab\n ---> Running in 0123456789ab\n"), ["0123456789ab"]);
        assert_eq!(output.push("Successfully built 0123456789cd\n"), ["0123456789cd"]);
    }

    #[test]
    fn a_failed_build_shows_its_last_lines() {
        let mut output = Output::default();
        for line in 0..100 {
            output.push(&format!("line {line}\n"));
        }
        let error = output.explain(EngineError::Other("it returned 1".into())).to_string();
        assert!(error.starts_with("it returned 1\n") && error.ends_with("line 99"), "{error}");
        assert!(!error.contains("line 5\n"), "{error}");
    }

    #[test]
    fn what_only_buildkit_understands_has_a_remedy() {
        for text in [
            "the --mount option requires BuildKit. Refer to ...",
            "dockerfile parse error line 2: Unknown flag: link",
        ] {
            let error = Output::default().explain(EngineError::Refused(text.into())).to_string();
            assert!(error.contains("docker buildx build --load"), "{error}");
        }
    }

    #[test]
    fn base_images_are_found() {
        for (line, image) in [
            ("FROM a:1", Some("a:1")),
            ("from --platform=linux/amd64 h:5000/a AS b", Some("h:5000/a")),
            ("RUN x", None),
            ("", None),
        ] {
            assert_eq!(base_image(line), image, "{line}");
        }
    }
}
