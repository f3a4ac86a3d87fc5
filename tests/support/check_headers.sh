#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# check_headers.sh [header...]: each header, alone, with g++ and clang 19, and with g++ where bodies are compiled
# elsewhere (TENON_COMPILED), all warnings as errors, two at a time. A header over an optional library (CUDA, MPI, xtensor ...) is skipped, and named, where that is absent.
set -euo pipefail
cd "$(dirname "$0")/../../include"

check() {
  local header=$1 compiler message third_party
  local flags=(-std=c++20 -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Werror -I . -isystem /usr/include/eigen3
               -x c++ -fsyntax-only)
  local needs_thrust=()
  if [[ $header == tenon/gpu* ]]; then # for the processor; a CUDA toolkit's copy does where there is no other
    needs_thrust=(thrust/version.h)
    [[ -e /usr/include/thrust/version.h ]] || flags+=(-isystem /usr/local/cuda/include/cccl)
  fi
  for third_party in "${needs_thrust[@]}" $(sed -nE 's|^ *# *include <((Eigen\|cuda\|cublas\|thrust\|xtensor\|mpi\|nccl\|dnnl\|oneapi)[^>]*)>.*|\1|p' "$header"); do
    if ! echo "#include <$third_party>" | g++ "${flags[@]}" - 2>/dev/null; then
      echo "skipped: $header (no <$third_party>)"
      return
    fi
  done
  for compiler in g++ clang++-19; do
    if ! message=$(echo "#include <$header>" | "$compiler" "${flags[@]}" - 2>&1); then
      printf '%s does not compile alone with %s:\n%s\n' "$header" "$compiler" "$message"
      return 1
    fi
  done
  if ! message=$(echo "#include <$header>" | g++ "${flags[@]}" -DTENON_COMPILED - 2>&1); then
    printf '%s does not compile alone with TENON_COMPILED:\n%s\n' "$header" "$message"
    return 1
  fi
}
export -f check

headers=("$@")
((${#headers[@]} > 0)) || mapfile -t headers < <(find tenon -name '*.hpp' | sort)
printf '%s\0' "${headers[@]}" | xargs -0 -P 2 -I {} bash -c 'check "$1"' _ {}
echo "${#headers[@]} headers stand alone"
