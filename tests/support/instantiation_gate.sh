#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# instantiation_gate.sh CLANG FILE NUMBERS FLAG...
# Counts the class and function templates that FILE makes clang instantiate, and fails above 1.5 times the
# number that NUMBERS gives in a line "<name of FILE> <count>". A count is the same on a busy machine and an
# idle one; seconds are not. It does depend on the standard library's version: numbers are for Debian 12.
set -euo pipefail

clang=$1 file=$2 numbers=$3
shift 3
name=$(basename "$file")
trace=$(mktemp)
trap 'rm -f "$trace"' EXIT
"$clang" -c -O0 "$@" "$file" -o /dev/null -ftime-trace="$trace" -ftime-trace-granularity=0
count=$({ grep -oE '"name":"Instantiate(Class|Function)"' "$trace" || true; } | wc -l)
committed=$(awk -v name="$name" '$1 == name { print $2 }' "$numbers" 2>/dev/null || true)

echo "$name: $count template instantiations, ${committed:-no number} committed"
if [[ -z $committed ]]; then
  echo "add this line to $(basename "$numbers"):"
  echo "$name $count"
  exit 1
fi
if ((2 * count > 3 * committed)); then
  echo "more than 1.5 times as many: find the recursion, or commit the new number and say why"
  exit 1
fi
if ((3 * count < 2 * committed)); then echo "far below: commit the new number to keep the gain"; fi
