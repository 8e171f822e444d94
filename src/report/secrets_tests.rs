//! Secrets, tested: canaries go in, none comes out, and harmless text stays readable.

use super::*;

const CANARY: &str = "c4n4ry-Zx81qv";

fn told() -> Redactor {
    let mut redactor = Redactor::new();
    redactor.learn_env([format!("DB_PASSWORD={CANARY}"), "LANG=C.UTF-8".to_owned()]);
    redactor
}

#[test]
fn every_pattern_compiles() {
    for found in [&*URL_PASSWORD, &*HEADER, &*NAMED, &*OPTION, &*NEAR_WORD, &*SHAPES] {
        assert!(!found.as_str().is_empty());
    }
}

#[test]
fn a_told_value_is_masked_in_any_spelling() {
    let redactor = told();
    let base64 = base64::engine::general_purpose::STANDARD.encode(CANARY);
    for text in [format!("pg: {CANARY}!"), format!("x{CANARY}x"), format!("b64 {base64}")] {
        let out = redactor.text(&text);
        assert!(!out.contains(CANARY) && !out.contains(&base64), "{out}");
    }
    let mut spaced = Redactor::new();
    spaced.learn("pass word/1");
    assert_eq!(spaced.text("q=pass%20word%2F1 q=pass+word%2F1"), "q=*** q=***");
}

#[test]
fn a_short_value_is_masked_as_a_word_only() {
    let mut redactor = Redactor::new();
    redactor.learn_env(["POSTGRES_PASSWORD=root"]);
    assert_eq!(redactor.text("chroot as root, rooted"), "chroot as ***, rooted");
}

#[test]
fn basic_authorization_hides_its_password_too() {
    let mut redactor = Redactor::new();
    redactor.learn_header("Authorization", "Basic dXNlcjpodW50ZXIyMQ==");
    assert_eq!(redactor.text("dXNlcjpodW50ZXIyMQ== is hunter21"), "*** is ***");
}

#[test]
fn what_looks_like_a_secret_is_masked_untold() {
    let redactor = Redactor::new();
    for text in [
        format!("password={CANARY}"),
        format!("DB_PASSWORD: \"{CANARY}\""),
        format!("{{\"api_key\":\"{CANARY}\"}}"),
        format!("postgres://app:{CANARY}@db/x"),
        format!("Authorization: Bearer {CANARY}"),
        format!("cookie: sid={CANARY}; theme={CANARY}"),
        format!("GET /login?user=a&token={CANARY}&x=1"),
        format!("sh -c 'tool --password {CANARY}'"),
        format!("using token {CANARY}abcdef0123456789"),
        format!("eyJhbGciOiJIUzI1NiJ9.{CANARY}AAAA.{CANARY}"),
        format!("error: password={CANARY}"),
        format!("level=error msg=\"token: {CANARY}\" at=start"),
        format!("-----BEGIN RSA PRIVATE KEY-----\n{CANARY}\n"),
    ] {
        let out = redactor.text(&text);
        assert!(!out.contains(CANARY), "{text} -> {out}");
        assert!(out.contains(MASK), "{out}");
    }
}

#[test]
fn harmless_text_stays() {
    let redactor = told();
    for text in [
        "GET /about.html?page=2&sort=name",
        "password authentication failed for user \"app\"",
        "PASSWORD_FILE=/run/secrets/pw",
        "PWD=/srv/app",
        "listening on http://0.0.0.0:8080/",
        "key /etc/ssl/private/server is readable",
        "user=nobody uid=65534",
        "pass: 3, fail: 1; key=id",
        "TOKENIZERS_PARALLELISM=false",
    ] {
        assert_eq!(redactor.text(text), text);
    }
}

#[test]
fn secret_arguments_are_masked() {
    let redactor = told();
    for (argv, shown) in [
        (vec!["app", "--password=x1y2", "--port=80"], vec!["app", "--password=***", "--port=80"]),
        (vec!["app", "--api-token", "x1y2", "-v"], vec!["app", "--api-token", "***", "-v"]),
        (vec!["/usr/bin/mysql", "-px1y2", "-P", "3306"], vec!["/usr/bin/mysql", "-p***", "-P", "3306"]),
        (vec!["sshpass", "-p", "x1y2", "ssh"], vec!["sshpass", "-p", "***", "ssh"]),
        (vec!["redis-cli", "-a", "x1y2", "ping"], vec!["redis-cli", "-a", "***", "ping"]),
        (vec!["curl", "-u", "me:x1y2", "http://h/"], vec!["curl", "-u", "***", "http://h/"]),
        (vec!["docker", "run", "-p80:80"], vec!["docker", "run", "-p80:80"]),
        (vec!["env", "TOKEN=x1y2", "app"], vec!["env", "TOKEN=***", "app"]),
        (vec!["app", "--no-password", "--verbose"], vec!["app", "--no-password", "--verbose"]),
    ] {
        let argv: Vec<String> = argv.into_iter().map(str::to_owned).collect();
        assert_eq!(redactor.arguments(&argv), shown);
    }
}

#[test]
fn settings_and_words_inside_words_are_not_taken_for_secrets() {
    let mut redactor = Redactor::new();
    redactor.learn_env(["USE_TOKEN=true", "SESSION=12", "POSTGRES_PASSWORD=postgres", "SECRETKEY1=x9x9x9"]);
    let text = "true 12 /usr/lib/postgresql/15 as postgres, x9x9x9";
    assert_eq!(redactor.text(text), "true 12 /usr/lib/postgresql/15 as ***, ***");
}

#[test]
fn a_key_that_spans_log_lines_is_masked_whole() {
    let lines = ["-----BEGIN PRIVATE KEY-----", CANARY, "-----END PRIVATE KEY-----", "ready"].map(str::to_owned);
    assert_eq!(Redactor::new().lines(&lines), [MASK, "ready"]);
}
