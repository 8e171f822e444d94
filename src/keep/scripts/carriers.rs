//! Carriers: programs that run another program, as data: `env`, `xargs`, `gosu` and their like.

/// A program whose arguments are, after some of its own, a command.
pub(super) struct Carrier {
    /// What it is called.
    names: &'static [&'static str],
    /// Options whose value is a word of its own.
    valued: &'static [&'static str],
    /// Words of its own before the command: a user, a duration, a file.
    operands: usize,
}

const CARRIERS: &[Carrier] = &[
    carrier(&["exec"], &["-a"], 0),
    carrier(&["builtin", "command", "nohup", "setsid", "time", "with-contenv", "busybox", "chronic", "doas"], &["-u", "-f", "-o"], 0),
    carrier(&["env"], &["-u", "-C", "--unset", "--chdir"], 0),
    carrier(&["nice"], &["-n", "--adjustment"], 0),
    carrier(&["ionice"], &["-c", "-n", "--class", "--classdata"], 0),
    carrier(&["stdbuf"], &["-i", "-o", "-e"], 0),
    carrier(&["timeout"], &["-k", "-s", "--kill-after", "--signal"], 1),
    carrier(&["watch"], &["-n", "--interval"], 0),
    carrier(
        &["xargs"],
        &["-a", "-d", "-E", "-I", "-L", "-n", "-P", "-s", "--arg-file", "--delimiter", "--max-args", "--max-procs", "--max-lines", "--max-chars", "--replace"],
        0,
    ),
    carrier(&["su-exec", "gosu", "setuidgid", "s6-setuidgid", "s6-envdir", "envdir"], &[], 1),
    carrier(&["chpst"], &["-u", "-U", "-b", "-e", "-/", "-n", "-l", "-L", "-m", "-d", "-o", "-p", "-f", "-c"], 0),
    carrier(&["chroot"], &["--userspec", "--groups"], 1),
    carrier(&["flock"], &["-w", "-E", "--wait", "--timeout", "--conflict-exit-code"], 1),
    carrier(
        &["setpriv"],
        &["--reuid", "--regid", "--groups", "--inh-caps", "--ambient-caps", "--bounding-set", "--securebits", "--pdeathsig", "--selinux-label", "--apparmor-profile"],
        0,
    ),
    carrier(&["sudo"], &["-u", "-g", "-C", "-D", "-h", "-p", "-r", "-t", "-T", "-U", "--user", "--group", "--chdir"], 0),
    carrier(&["runuser"], &["-u", "-g", "-G", "-s", "-w", "--user", "--group", "--supp-group", "--shell"], 0),
    carrier(&["dumb-init"], &["-r", "--rewrite"], 0),
    carrier(&["tini", "docker-init", "catatonit"], &["-p", "-e"], 0),
];

const fn carrier(names: &'static [&'static str], valued: &'static [&'static str], operands: usize) -> Carrier {
    Carrier { names, valued, operands }
}

/// Shells: `-c` makes their next word a script, another operand is the file of one.
pub(super) const SHELLS: &[&str] = &["sh", "ash", "bash", "dash", "ksh", "ksh93", "mksh", "rbash", "yash", "zsh"];

/// What a shell does itself, when nothing carries it: builtins of POSIX's, dash's and bash's.
const BUILTINS: &[&str] = &[
    ".", ":", "[", "alias", "bg", "bind", "break", "builtin", "caller", "cd", "chdir", "command", "compgen", "complete",
    "compopt", "continue", "declare", "dirs", "disown", "echo", "enable", "eval", "exec", "exit", "export", "false", "fc",
    "fg", "getopts", "hash", "help", "history", "jobs", "kill", "let", "local", "logout", "mapfile", "popd", "printf",
    "pushd", "pwd", "read", "readarray", "readonly", "return", "set", "shift", "shopt", "source", "suspend", "test", "time",
    "times", "trap", "true", "type", "typeset", "ulimit", "umask", "unalias", "unset", "wait",
];

/// Whether a shell does this itself.
pub(super) fn is_builtin(name: &str) -> bool {
    BUILTINS.contains(&name)
}

/// Whether a program of this path or name is a shell whose language is read here.
pub(super) fn is_shell(program: &str) -> bool {
    SHELLS.contains(&base(program))
}

/// The last component.
pub(super) fn base(program: &str) -> &str {
    program.rsplit('/').next().unwrap_or(program)
}

/// The carrier of this name.
pub(super) fn find(program: &str) -> Option<&'static Carrier> {
    let name = base(program);
    CARRIERS.iter().find(|carrier| carrier.names.contains(&name))
}

impl Carrier {
    /// Where in its arguments the command begins. A word that is not known (`None`) is taken for an operand.
    pub fn command_at(&self, arguments: &[Option<&str>]) -> usize {
        let mut operands = self.operands;
        let mut at = 0;
        while let Some(word) = arguments.get(at) {
            match word {
                Some("--") => return at + 1 + operands,
                Some(word) if word.len() > 1 && word.starts_with('-') => {
                    at += 1 + usize::from(self.valued.contains(word));
                }
                // `env NAME=value`, and `sudo` alike.
                Some(word) if word.contains('=') && !word.starts_with('/') => at += 1,
                _ if operands > 0 => {
                    operands -= 1;
                    at += 1;
                }
                _ => return at,
            }
        }
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_carriers_command_begins_after_its_own_words() {
        for (line, at) in [
            ("env A=1 -u B prog", 3),
            ("su-exec app:app prog", 1),
            ("timeout -k 5 10s prog", 3),
            ("xargs -0 -n 1 prog x", 3),
            ("sudo -u www -E prog", 3),
            ("tini -- prog", 1),
            ("flock -n /run/lock prog", 2),
            ("nohup", 0),
        ] {
            let mut words = line.split(' ');
            let carrier = find(words.next().unwrap()).unwrap();
            assert_eq!(carrier.command_at(&words.map(Some).collect::<Vec<_>>()), at, "{line}");
        }
    }
}
