//! Absent: flags of other image minimizers that a command line brings along and that do not exist here, each
//! with what to do instead. They are refused, never quietly ignored.

/// Name without dashes, and what to do instead.
const ABSENT: &[(&str, &str)] = &[
    ("app-image-dockerfile", "use --keep app: the user's own files stay"),
    ("app-image-start-instruction", "use --keep app: the user's own files stay"),
    ("app-image-start-instruction-group", "use --keep app: the user's own files stay"),
    ("archive-state", "drop it: nothing is stored; `slim trace -o FILE` keeps a recording"),
    ("check-version", "drop it: slim never calls home"),
    ("command-params-file", "put the flags into slim.toml"),
    ("container-dns-search", "use --network with a network that has the search domain"),
    ("cro-device-request", "use --gpus or --device"),
    ("cro-host-config-file", "use the flags of docker run: --memory, --ulimit, --cap-add ..."),
    ("crt-api-version", "drop it: the engine's version is negotiated"),
    ("debug", "use --progress=plain"),
    ("delete-generated-fat-image", "drop it: without --tag-fat the built image is removed"),
    ("docker-config-path", "set DOCKER_CONFIG to the directory"),
    ("enable-mondel", "use `slim trace -o FILE`, or --copy-meta-artifacts DIR, which has the trace too"),
    ("exclude-mounts", "drop it: what is mounted never gets into the image"),
    ("exclude-varlock-files", "use --exclude-pattern '/var/lock/**' '/run/lock/**'"),
    ("http-crawl-concurrency", "drop it: pages are crawled in a fixed order, so that runs are alike"),
    ("http-max-concurrent-crawlers", "drop it: pages are crawled in a fixed order, so that runs are alike"),
    ("http-probe-full", "drop it: every port is probed"),
    ("http-probe-proxy-endpoint", "drop it: probes reach the target directly"),
    ("http-probe-proxy-port", "drop it: probes reach the target directly"),
    ("http-probe-retry-count", "drop it: probes start when the target is ready; --ready-timeout limits the wait"),
    ("http-probe-retry-wait", "drop it: probes start when the target is ready; --ready-timeout limits the wait"),
    ("http-probe-start-wait", "drop it: probes start when the target is ready; --ready-timeout limits the wait"),
    ("image-build-arch", "drop it: the slim image has the architecture of its source"),
    ("image-build-engine", "drop it: no builder is used"),
    ("in-container", "drop it: it is found out"),
    ("include-app-image-all", "use --keep app: the user's own files stay"),
    ("include-cert-bundles-only", "drop it: certificate bundles are kept; --include-cert-all keeps every certificate"),
    ("include-cert-dirs", "use --include-path /etc/ssl/certs"),
    ("include-cert-pk-all", "use --include-path for the private keys"),
    ("include-cert-pk-dirs", "use --include-path /etc/ssl/private"),
    ("include-dir-bins", "use --include-path DIR: libraries come along"),
    ("include-node-package", "use --keep-package node:NAME"),
    ("include-oslibs-net", "drop it: name service libraries are kept"),
    ("include-paths-creport-file", "use --include-path-file with one path to a line"),
    ("include-ssh-client", "use --include-exe ssh and --include-path /etc/ssh"),
    ("include-workdir", "use --keep app, or --include-path with the working directory"),
    ("keep-perms", "drop it: modes and owners are always kept"),
    ("keep-tmp-artifacts", "use --copy-meta-artifacts DIR"),
    ("log", "redirect stderr"),
    ("log-format", "use --json"),
    ("log-level", "use --progress=plain"),
    ("obfuscate-metadata", "drop it: the result says truthfully what it contains"),
    ("output-format", "use --json"),
    ("path-perms", "drop it: modes and owners are those of the source image"),
    ("path-perms-file", "drop it: modes and owners are those of the source image"),
    ("publish-exposed-ports", "drop it: probes reach ports without publishing; or give --publish-port"),
    ("remove-file-artifacts", "drop it: nothing is left behind"),
    ("rta-onbuild-base-image", "drop it: ONBUILD is carried over"),
    ("rta-source-ptrace", "use --sensor"),
    ("run-target-as-user", "drop it: the target always runs as the image's USER"),
    ("sensor-ipc-endpoint", "drop it: the sensor needs no network"),
    ("sensor-ipc-mode", "drop it: the sensor needs no network"),
    ("show-blogs", "use --progress=plain"),
    ("show-plogs", "use --progress=plain"),
    ("state-path", "drop it: nothing is stored besides the report"),
    ("tls", "use --tls-verify"),
    ("use-local-mounts", "drop it: nothing of this machine is mounted"),
    ("use-sensor-volume", "drop it: the sensor's volume is made and removed for each run"),
    ("verbose", "use --progress=plain"),
    ("workdir-exclude", "use --exclude-pattern"),
];

/// Families of such flags, by a part of their name.
const FAMILIES: &[(&str, &str)] = &[
    (
        "compose",
        "compose files are not read yet; start the other services with `docker compose up -d`, then use \
         --network PROJECT_default, --env-file and --volume for the target",
    ),
    (
        "kube",
        "Kubernetes manifests are not read; give --env, --volume, --entrypoint and --cmd as the pod has them",
    ),
    ("include-app-next", "use --keep app: the user's own files stay"),
    ("include-app-nuxt", "use --keep app: the user's own files stay"),
    ("cbo-", "of that build only --build-arg, --build-target and --build-network; or build it with `docker build`"),
];

/// What to do instead of a flag that does not exist here; `None` when nobody has it.
pub fn instead_of(name: &str) -> Option<&'static str> {
    let exact = ABSENT.iter().find(|(absent, _)| *absent == name);
    let family = || FAMILIES.iter().find(|(part, _)| name.contains(part));
    exact.or_else(family).map(|(_, text)| *text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_absent_flag_exists() {
        let command = crate::cli::command();
        let build = command.find_subcommand("build").unwrap();
        for arg in build.get_arguments() {
            let names = arg.get_long().into_iter().chain(arg.get_all_aliases().unwrap_or_default());
            for name in names {
                assert!(!ABSENT.iter().any(|(absent, _)| *absent == name), "--{name} exists");
            }
        }
        assert!(ABSENT.is_sorted_by_key(|(name, _)| *name));
        assert!(instead_of("target-compose-svc").is_some());
        assert!(instead_of("no-such-thing").is_none());
    }

    #[test]
    fn every_flag_that_is_advised_exists() {
        let command = crate::cli::command();
        let flags = |name: &str| -> Vec<String> {
            let sub = command.find_subcommand(name).unwrap();
            let long = sub.get_arguments().chain(command.get_arguments());
            long.flat_map(|arg| arg.get_long().into_iter().chain(arg.get_all_aliases().unwrap_or_default())).map(str::to_owned).collect()
        };
        let known = flags("build");
        for (absent, text) in ABSENT.iter().chain(FAMILIES) {
            for word in text.split(|c: char| c.is_whitespace() || ",;:=`".contains(c)) {
                let Some(flag) = word.strip_prefix("--") else { continue };
                assert!(known.iter().any(|known| known == flag), "{absent}: --{flag} does not exist");
            }
        }
    }
}
