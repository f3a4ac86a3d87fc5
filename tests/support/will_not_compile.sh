#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# will_not_compile.sh COMPILER FILE FLAG...
# FILE must compile with -DTENON_POSITIVE_CONTROL and must be refused without it, in the words of each of the
# lines `// expect: <extended regular expression>` at its top. Prints how many lines a user gets to read.
set -euo pipefail
export LC_ALL=C # plain quotes in messages

compiler=$1 file=$2
shift 2
command=("$compiler" -fsyntax-only "$@" "$file")
mapfile -t expected < <(sed -n '/^\/\//!q; s|^// expect: ||p' "$file")
fail() {
  printf '%s: %s\n' "$file" "$1"
  [[ $# -lt 2 ]] || printf '%s said:\n%s\n' "$compiler" "$2"
  exit 1
}

((${#expected[@]} > 0)) || fail "has no line '// expect: <regex>' in its first comment"
messages=$("${command[@]}" -DTENON_POSITIVE_CONTROL 2>&1) || fail "the positive control does not compile" "$messages"
if messages=$("${command[@]}" 2>&1); then fail "compiles, and must not"; fi
for regex in "${expected[@]}"; do
  grep -qE -e "$regex" <<<"$messages" || fail "no line of the messages matches: $regex" "$messages"
done
awk '/error:/ && ++errors == 2 { exit } errors { ++lines; print } END { print "lines of the first error: " lines }' \
  <<<"$messages"
