#!/usr/bin/env bash
# Makes one image small, the way a CI job wants it: every report in one directory, budgets from a variable, and the
# report of the last good build as what the next one is measured against.
#
#   slim-ci.sh IMAGE [FLAG...] [-- ARGS...]      what `slim build` takes
#
#   PROGRAM    slim [default: the one that PATH has]
#   REPORTS    directory for the reports [default: slim-reports]
#   BASELINE   report of the last good build; written when this one is good [default: none]
#   FAIL_ON    budgets, one a line; those that measure a change are left out while there is no BASELINE yet
#
# The status is that of slim: 0 done, 1 could not, 2 usage, 3 the original fails its probes, 4 recording incomplete,
# 5 the slim image differs, 6 a budget was missed, 75 worth another try. Then nothing was published.
set -euo pipefail

program=${PROGRAM:-slim} reports=${REPORTS:-slim-reports} baseline=${BASELINE:-}
report=$reports/slim.report.json
flags=(--report "$report" --html "$reports/slim.html" --markdown "$reports/slim.md" --junit "$reports/slim.junit.xml"
    --sarif "$reports/slim.sarif" --provenance "$reports/slim.provenance.json" --digest-file "$reports/digest")

mkdir -p "$reports"
# What an earlier run left here is not of this one.
rm -f "$report" "$reports"/slim.{report.removed.jsonl,html,md,junit.xml,sarif,provenance.json} "$reports"/{digest,published}
if [ -n "$baseline" ] && [ -s "$baseline" ]; then
    flags+=(--baseline "$baseline")
fi
while IFS= read -r budget; do
    [ -n "$budget" ] || continue
    if [[ $budget =~ [\<\>][+-] ]] && ! { [ -n "$baseline" ] && [ -s "$baseline" ]; }; then
        echo "$budget is left out: there is no report of an earlier build yet" >&2
        continue
    fi
    flags+=(--fail-on "$budget")
done <<<"${FAIL_ON:-}"

status=0
"$program" build "${flags[@]}" "$@" || status=$?
if [ "$status" = 0 ] && [ ! -s "$report" ]; then
    # Up to date: there is no new report, and the old baseline stays. Asked once more, it says names and digests.
    "$program" build --quiet "${flags[@]}" "$@" >"$reports/published"
elif [ "$status" = 0 ] && [ -n "$baseline" ]; then
    mkdir -p "$(dirname "$baseline")"
    cp "$report" "$baseline"
fi
exit "$status"
