#!/usr/bin/env bash
# Runs one build as a step: inputs from INPUT_* variables, what came of it as outputs and annotations.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
report=${INPUT_REPORTS:-slim-reports}/slim.report.json
words=("${INPUT_IMAGE:?which image is to be made small}")
if [ -n "${INPUT_TAG:-}" ]; then words+=(--tag "$INPUT_TAG"); fi
# One word a line, so that nothing has to be quoted.
while IFS= read -r word; do
    [ -z "$word" ] || words+=("$word")
done <<<"${INPUT_ARGS:-}"

# The value of a workflow command. What an image says may have lines of its own.
escaped() { local text=$1; text=${text//'%'/%25} text=${text//$'\r'/%0D}; printf %s "${text//$'\n'/%0A}"; }
output() { printf '%s=%s\n' "$1" "${2//$'\n'/ }" >>"$GITHUB_OUTPUT"; }

# What the image writes into the log is no command to the runner.
pause=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
echo "::stop-commands::$pause"
status=0
PROGRAM=$INPUT_PROGRAM REPORTS=${INPUT_REPORTS:-slim-reports} BASELINE=${INPUT_BASELINE:-} FAIL_ON=${INPUT_FAIL_ON:-} \
    "$here/../slim-ci.sh" "${words[@]}" || status=$?
echo "::$pause::"

output status "$status"
if [ -s "$report" ]; then
    output verdict "$(jq -r .verdict.kind "$report")"
    output size-before "$(jq -r .source.size_bytes "$report")"
    output size-after "$(jq -r '.result.size_bytes // empty' "$report")"
    if [ "$status" = 0 ]; then
        output ref "$(jq -r '.result.archive // .result.ref' "$report")"
        digest=$(jq -r .result.digest "$report")
        if [ -s "${report%/*}/digest" ]; then digest=$(cat "${report%/*}/digest"); fi
        output digest "$digest"
    else
        echo "::error title=slim::$(escaped "$(jq -r .verdict.line "$report")")"
    fi
    while IFS= read -r line; do
        echo "::error title=slim: budget missed::$(escaped "$line")"
    done < <(jq -r '.budgets[]? | select(.kept | not) | .line' "$report")
    while IFS= read -r line; do
        echo "::warning title=slim::$(escaped "$line")"
    done < <(jq -r '.warnings[]?' "$report")
elif [ "$status" = 0 ]; then
    output verdict up-to-date
    published=$(head -n 1 "${report%/*}/published")
    output ref "${published%@sha256:*}"
    output digest "sha256:${published##*@sha256:}"
else
    echo "::error title=slim::no report was written, see the log (status $status)"
fi
exit "$status"
