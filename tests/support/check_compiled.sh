#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# check_compiled.sh COMPILER REPOSITORY [FLAG...]: the sources of tenon::compiled include every header that leaves bodies
# to them, or programs would not link.
set -euo pipefail
compiler=$1 repository=$2
shift 2
missing=0
while read -r source macro; do
  included=$("$compiler" "$@" -MM "$repository/cmake/$source")
  while read -r header; do
    if [[ $header != */core/compiled.hpp && $included != *"$header"* ]]; then
      echo "$source does not include $header, which has bodies for it"
      missing=1
    fi
  done < <(grep -rl --include='*.hpp' "^#if.* *$macro" "$repository/include")
done <<'SOURCES'
tenon_compiled.cpp TENON_HAS_BODIES
tenon_compiled_making.cpp TENON_HAS_MAKING_BODIES
SOURCES
exit $missing
