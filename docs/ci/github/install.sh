#!/usr/bin/env bash
# Finds slim, or builds it: there is no published executable. Says where it is in the output `program`.
#
#   INPUT_SLIM     an executable that is there already [default: none, then it is built with cargo]
#   INPUT_SOURCE   its sources [default: those that this file is part of]
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
program=${INPUT_SLIM:-}
if [ -z "$program" ]; then
    source=${INPUT_SOURCE:-$here/../../..}
    if [ ! -f "$source/Cargo.toml" ] || ! command -v cargo >/dev/null; then
        echo "::error title=slim::there is no slim: give its path as \`slim\`, or cargo and its sources as \`source\`"
        exit 1
    fi
    cargo build --release --locked --manifest-path "$source/Cargo.toml"
    # A target directory of one's own, and one for a target of one's own, are both usual.
    target=$(cargo metadata --format-version 1 --no-deps --manifest-path "$source/Cargo.toml" | jq -r .target_directory)
    program=$(ls -t "$target"/release/slim "$target"/*/release/slim 2>/dev/null | head -n 1)
fi
program=$(command -v "$program") || { echo "::error title=slim::${INPUT_SLIM:-slim} cannot be executed"; exit 1; }
"$program" --version
echo "program=$program" >>"$GITHUB_OUTPUT"
