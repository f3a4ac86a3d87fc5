#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# check_example.sh PROGRAM SOURCE
# Runs an example and compares what it prints with the comment lines under "// Expected output:" in its source,
# each written as "//   <line>"; a bare "//" is an empty line. `...` stands for any text, as in "took ... ms".
set -euo pipefail

program=$1 source=$2
mapfile -t expected < <(awk '
  inside && /^\/\/   / { while (empty-- > 0) print ""; empty = 0; print substr($0, 6); next }
  inside && /^\/\/$/ { ++empty; next }
  inside { exit }
  /^\/\/ Expected output:$/ { inside = 1 }' "$source")
expected+=("(left with 0)")
mapfile -t printed < <("$program" && code=0 || code=$?; echo "(left with $code)")
# 77: the machine has no device that the program is about
if [[ ${printed[-1]} == "(left with 77)" ]]; then exit 77; fi
# 2: the program needs a file that must be fetched first, and said so; ctest shows 77 as skipped
if [[ ${printed[-1]} == "(left with 2)" && ${TENON_REQUIRE_MODELS-} != 1 ]]; then exit 77; fi

for ((i = 0; i < ${#printed[@]} || i < ${#expected[@]}; ++i)); do
  line=${printed[i]-(nothing)} words=${expected[i]-(nothing)}
  pattern=${words//\\/\\\\} pattern=${pattern//\*/\\*} pattern=${pattern//\?/\\?} pattern=${pattern//\[/\\[}
  # shellcheck disable=SC2053 # the right side is a pattern
  if [[ $line != ${pattern//.../*} ]]; then
    printf 'line %d\n  expected: %s\n  printed:  %s\n' "$((i + 1))" "$words" "$line"
    exit 1
  fi
done
echo "$((${#printed[@]} - 1)) lines as expected"
