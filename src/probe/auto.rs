//! Auto: which recipe fits an image of which nobody said how to probe it.

use super::Recipe;
use super::choose::Facts;

/// Programs that end at once without a terminal or a script: running them shows nothing.
const INTERACTIVE: [&str; 15] = [
    "sh", "bash", "ash", "dash", "zsh", "fish", "busybox", "python", "python3", "node", "irb", "php", "perl", "ruby",
    "jshell",
];

/// The recipes of `known` that fit, each with the reason why.
pub(super) fn fitting(facts: &Facts, known: Vec<Recipe>) -> Vec<(Recipe, String)> {
    known.into_iter().filter_map(|recipe| reason(facts, &recipe).map(|why| (recipe, why))).collect()
}

fn reason(facts: &Facts, recipe: &Recipe) -> Option<String> {
    let port = recipe.ports.iter().find(|port| facts.ports.contains(port));
    // An entrypoint script comes first, or a shell or init; far behind, a name may be just a word.
    let near = if port.is_some() { facts.argv.len() } else { 2 };
    let program =
        facts.argv.iter().take(near).map(|word| basename(word)).find(|word| recipe.programs.iter().any(|p| p == word));
    match (program, port) {
        (Some(program), Some(port)) => Some(format!("it runs {program} and exposes port {port}")),
        (Some(program), None) => Some(format!("it runs {program}")),
        (None, Some(port)) => Some(format!("it exposes port {port}")),
        (None, None) => None,
    }
}

/// Whether a command only makes sense with a person in front of it.
pub(super) fn is_interactive(argv: &[String]) -> bool {
    match argv {
        [program] => INTERACTIVE.contains(&basename(program)),
        _ => false,
    }
}

fn basename(word: &str) -> &str {
    word.rsplit('/').next().unwrap_or(word)
}
