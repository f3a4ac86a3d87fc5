#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# check_headers.sh [header...]: each header alone with g++, and all of them together with clang 19, all warnings as
# errors. Both compilers use one standard library, so that what stands alone with one does with the other. A header over an
# optional library (CUDA, MPI, xtensor ...) is skipped, and named, where that is absent or does not compile itself.
set -euo pipefail
cd "$(dirname "$0")/../../include"
flags=(-std=c++20 -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Werror -I . -isystem /usr/include/eigen3
       -x c++ -fsyntax-only)

third_party() { # of a header, the optional libraries that it includes
  sed -nE 's|^ *# *include <((Eigen\|cuda\|cublas\|thrust\|xtensor\|mpi\|nccl\|dnnl\|oneapi)[^>]*)>.*|\1|p' "$1"
}
compiles() { # compiler, included header...
  local compiler=$1
  shift
  printf '#include <%s>\n' "$@" | "$compiler" "${flags[@]}" - 2>&1
}
check() {
  local header=$1 library message
  for library in $(third_party "$header"); do
    if ! compiles g++ "$library" >/dev/null; then
      echo "skipped: $header (no <$library>)"
      return
    fi
  done
  if ! message=$(compiles g++ "$header"); then
    printf '%s does not compile alone:\n%s\n' "$header" "$message"
    return 1
  fi
}
check_together() {
  local header library together=() message
  for header in "$@"; do
    for library in $(third_party "$header"); do
      if ! compiles clang++-19 "$library" >/dev/null; then
        echo "skipped: $header (<$library> with clang)"
        continue 2
      fi
    done
    together+=("$header")
  done
  if ! message=$(compiles clang++-19 "${together[@]}"); then
    printf 'the headers do not compile together with clang:\n%s\n' "$message"
    return 1
  fi
}
export -f check compiles third_party
headers=("$@")
((${#headers[@]} > 0)) || mapfile -t headers < <(find tenon -name '*.hpp' | sort)
printf '%s\0' "${headers[@]}" | xargs -0 -P 2 -I {} bash -c "$(declare -p flags); check \"\$1\"" _ {}
check_together "${headers[@]}"
echo "${#headers[@]} headers stand alone"
