//! Scripts, tested: a text and what it calls.

use super::*;

fn calls(dialect: Dialect, text: &str) -> String {
    let script = read(dialect, text.as_bytes());
    assert_eq!(script.unread, None, "{text}");
    let tell = |call: &Call| match call.kind {
        CallKind::Program => call.name.clone(),
        CallKind::Source => format!("<{}", call.name),
        CallKind::Directory => format!("{}/", call.name),
        CallKind::Included => format!("+{}", call.name),
    };
    script.calls.iter().map(tell).collect::<Vec<_>>().join(" ")
}

#[test]
fn a_script_calls_what_its_commands_name() {
    for (text, expected) in [
        ("sed -i s/a/b/ /etc/x && nproc", "sed nproc"),
        ("ls | sort -u|uniq>out; wc <in &", "ls sort uniq wc"),
        ("echo x; cd /; printf %s; [ -f /x ] && test -n y; exit 0", ""),
        ("if grep -q a /b; then awk 1; elif cut -c1; then tr a b; else head; fi", "grep awk cut tr head"),
        ("while read -r l; do id; done </x; until curl x; do sleep 1; done", "id curl sleep"),
        ("for f in $(ls /x); do cat $f; done", "ls cat"),
        ("case $1 in a|b) date;; *) uname;; esac", "date uname"),
        ("case \"$(id -u)\" in 0) chown x y ;; esac", "id chown"),
        ("f() { sed; }; f; g() ( tr ); function h { cut; }; h; g", "sed tr cut"),
        ("exec nginx -g 'daemon off;'", "nginx"),
        ("exec >/log 2>&1\nexec -a name redis-server", "redis-server"),
        ("command -v curl >/dev/null || command wget -q x; type jq; hash yq", "wget"),
        ("env -i A=1 B=2 prog --x", "env prog"),
        ("A=1 B=2 prog", "prog"),
        ("find / -name x -exec rm -f {} + -o -exec sh -c 'stat \"$1\"' _ {} \\;", "find rm sh stat"),
        ("ls | xargs -0 -n 1 -I{} gzip {}", "ls xargs gzip"),
        ("su-exec app:app python3 x.py", "su-exec python3"),
        ("exec gosu \"$USER_NAME\" \"$0\" \"$@\"", "gosu"),
        ("gosu www timeout -k 3 10 nice -n 5 mysqld", "gosu timeout nice mysqld"),
        ("su - www -c 'psql -l | less'", "su psql less"),
        ("set -- redis-server \"$@\"; exec \"$@\"", "redis-server"),
        ("set -eu -o pipefail; set -- -x \"$@\"", ""),
        (". /lib/common.sh; source ./env.sh", "</lib/common.sh <./env.sh"),
        (". \"$(dirname \"$0\")/lib.sh\"; . ${0%/*}/other.sh", "dirname <${0%/*}/lib.sh <${0%/*}/other.sh"),
        ("HERE=$(cd \"$(dirname \"${BASH_SOURCE[0]}\")\" && pwd); . \"$HERE/x.sh\"", "dirname <${0%/*}/x.sh"),
        ("BIN=/opt/app/bin; $BIN/start; \"${BIN}\"/stop", "/opt/app/bin/start /opt/app/bin/stop"),
        ("if x; then P=a; else P=b; fi; $P", "x a b"),
        ("CMD='nginx -t'; $CMD", "nginx"),
        ("${EDITOR:-vi} x; \"$JAVA_HOME/bin/java\" -jar x", "${EDITOR} vi ${JAVA_HOME}/bin/java"),
        ("for tool in jq yq; do $tool --version; done", "jq yq"),
        ("x=$(tr a b <<<\"$(cut -d: -f1 /p)\"); y=`hostname`", "tr cut hostname"),
        ("cat <<EOF\nhost $(hostname -f)\nEOF\ncat <<'EOF'\n$(not called)\nEOF\n", "cat hostname"),
        ("echo \"now: $(date +%s) ${X:-$(uname)}\"", "date uname"),
        ("sh -c 'mkdir -p /x; touch /x/y && ls | wc -l'", "sh mkdir touch ls wc"),
        ("bash -euo pipefail -c \"envsubst <a >b\"", "bash envsubst"),
        ("sh /opt/setup.sh; bash -x ./y.sh", "sh </opt/setup.sh bash <./y.sh"),
        ("eval \"$(ssh-agent -s)\"; eval 'openssl version'", "ssh-agent openssl"),
        ("trap 'rm -f /tmp/x; kill 0' EXIT; trap - INT", "rm"),
        ("(cd /x && tar c .) | { tee f; }", "tar tee"),
        ("[[ -n $(pidof x) && a == b ]] || diff <(sort a) b", "pidof diff sort"),
        ("! pgrep x; time make; nohup setsid daemon &", "pgrep make nohup setsid daemon"),
        ("run-parts --regex '.*' /docker-entrypoint.d", "run-parts /docker-entrypoint.d/"),
        ("tini -- dumb-init -- java -version", "tini dumb-init java"),
        ("start-stop-daemon --start --exec /usr/sbin/x -- -a", "start-stop-daemon /usr/sbin/x"),
        ("xargs echo; env printf x", "xargs echo env printf"),
        ("arr=(nginx -g x); \"${arr[@]}\"", "nginx"),
        ("# sed\n: 'awk'\n\"quoted name\" x", "quoted name"),
        ("$UNKNOWN_ARG$(x) y", "x"),
    ] {
        assert_eq!(calls(Dialect::Shell, text), expected, "{text}");
    }
}

#[test]
fn a_command_line_calls_its_program_and_what_that_runs() {
    for (words, expected) in [
        (vec!["/bin/sh", "-c", "curl -f http://x/ || exit 1"], "/bin/sh curl"),
        (vec!["/bin/bash", "-c", "A=1 exec nginx -g 'daemon off;'"], "/bin/bash nginx"),
        (vec!["python3", "-c", "import x"], "python3"),
        (vec!["/usr/bin/tini", "--", "/entry.sh"], "/usr/bin/tini /entry.sh"),
        (vec!["test", "-f", "/x"], "test"),
        (vec![], ""),
    ] {
        let words: Vec<String> = words.into_iter().map(str::to_owned).collect();
        let text = String::from_utf8(words_text(&words)).unwrap();
        assert_eq!(calls(Dialect::Words, &text), expected, "{words:?}");
    }
}

#[test]
fn tables_name_commands_after_their_own_fields() {
    let table = "# x\nSHELL=/bin/sh\nPATH = /a:/b\n17 * * * * root cd / && run-parts --report /etc/cron.hourly\n\
                 @daily www /opt/clean $(date +\\%F)%in put\n";
    assert_eq!(calls(Dialect::Cron(TableUser::Named), table), "run-parts /etc/cron.hourly/ date /opt/clean");
    assert_eq!(calls(Dialect::Cron(TableUser::Owner), "*/5 * * * * /opt/job >/dev/null 2>&1\n@reboot sync"), "/opt/job sync");
    let conf = "[supervisord]\nnodaemon=true\n[program:web]\ncommand=gunicorn -b :80 app ; note\nuser=x\n\
                [program:sh]\ncommand=bash -c \"sleep 1;\n  exec %(ENV_APP_HOME)s/run\"\n[include]\nfiles = conf.d/*.conf %(here)s/y.ini\n";
    assert_eq!(
        calls(Dialect::Supervisor, conf),
        "gunicorn bash sleep ${APP_HOME}/run +conf.d/*.conf +${0%/*}/y.ini"
    );
}

#[test]
fn what_is_no_script_says_so() {
    for text in ["if true; then", "echo $((", "case x in"] {
        assert!(read(Dialect::Shell, text.as_bytes()).unread.is_some(), "{text}");
    }
}
