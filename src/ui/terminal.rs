//! Terminal: what the streams of this process can show: colours, width, movement.

use std::io::IsTerminal;
use std::os::fd::AsFd;

use crate::report::show::Style;

/// Columns where nobody says how wide a terminal is.
const DEFAULT_WIDTH: usize = 100;

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Moving bars on stderr, and a line for each phase that ended.
    Fancy,
    /// A line for each phase that begins and that ends.
    Plain,
    /// Only warnings, errors and the summary.
    None,
    /// Only errors; stdout has `ref@digest`.
    Quiet,
    /// JSON lines on stdout.
    Json,
}

impl Mode {
    /// What suits stderr: fancy on a terminal that can move its cursor, plain anywhere else.
    pub fn auto() -> Self {
        let moves = std::io::stderr().is_terminal() && !is_dumb(&env) && env("CI").is_none();
        if moves { Mode::Fancy } else { Mode::Plain }
    }
}

/// Whether colours are used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Color {
    /// On a terminal, unless the environment says otherwise (NO_COLOR, CLICOLOR, CLICOLOR_FORCE, TERM=dumb).
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// How text on a stream is set.
pub fn style<S: IsTerminal + AsFd>(color: Color, stream: &S) -> Style {
    let tty = stream.is_terminal();
    let columns = terminal_size::terminal_size_of(stream).map(|(width, _)| usize::from(width.0));
    let width = columns.filter(|columns| *columns >= 20).unwrap_or(DEFAULT_WIDTH);
    Style { width, color: colors(color, tty, &env) }
}

/// Whether to use colours, by the conventions of no-color.org and bixense.com/clicolors.
fn colors(color: Color, tty: bool, env: &dyn Fn(&str) -> Option<String>) -> bool {
    let set = |name: &str| env(name).is_some_and(|value| !value.is_empty());
    match color {
        Color::Always => true,
        Color::Never => false,
        Color::Auto if set("NO_COLOR") => false,
        Color::Auto if env("CLICOLOR_FORCE").is_some_and(|value| !matches!(value.as_str(), "" | "0")) => true,
        Color::Auto => tty && !is_dumb(env) && env("CLICOLOR").as_deref() != Some("0"),
    }
}

fn is_dumb(env: &dyn Fn(&str) -> Option<String>) -> bool {
    env("TERM").is_some_and(|term| term == "dumb")
}

fn env(name: &str) -> Option<String> {
    std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_follow_the_conventions() {
        for (color, tty, vars, want) in [
            (Color::Auto, true, &[][..], true),
            (Color::Auto, false, &[], false),
            (Color::Auto, true, &[("NO_COLOR", "1")], false),
            (Color::Auto, true, &[("NO_COLOR", "")], true),
            (Color::Auto, true, &[("TERM", "dumb")], false),
            (Color::Auto, true, &[("CLICOLOR", "0")], false),
            (Color::Auto, false, &[("CLICOLOR_FORCE", "1")], true),
            (Color::Auto, false, &[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")], false),
            (Color::Always, false, &[("NO_COLOR", "1")], true),
            (Color::Never, true, &[("CLICOLOR_FORCE", "1")], false),
        ] {
            let env = |name: &str| vars.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
            assert_eq!(colors(color, tty, &env), want, "{color:?} {tty} {vars:?}");
        }
    }
}
