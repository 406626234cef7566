#!/bin/bash
# must_fail.sh SECONDS TEXT COMMAND...: passes if COMMAND ends with a failure of its own within
# SECONDS and prints TEXT, and its closing summary at most once.
limit_s=$1 text=$2
shift 2
start=$(date +%s%N)
output=$(timeout --kill-after=1 "$limit_s" "$@" 2>&1)
code=$?
elapsed_ms=$((($(date +%s%N) - start) / 1000000))
printf '%s\n' "$output"
fail() { echo "must_fail: $1 (exit code $code after $elapsed_ms ms)"; exit 1; }
[ $code -ne 0 ] || fail "it passed"
[ $code -ne 124 ] && [ $code -ne 137 ] || fail "it was still running after $limit_s s"
grep --quiet --fixed-strings -- "$text" <<<"$output" || fail "nobody said '$text'"
[ "$(grep --count 'Status:' <<<"$output")" -le 1 ] || fail "more than one rank printed a summary"
echo "must_fail: as it should be (exit code $code after $elapsed_ms ms)"
