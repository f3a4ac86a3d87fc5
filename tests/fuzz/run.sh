#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# run.sh SECONDS BUILD_DIR [TARGET...]: builds the fuzzers in BUILD_DIR and runs each (json, safetensors, adapter unless
# some are named) for SECONDS, from its seeds in corpus/. What they find new stays in BUILD_DIR; a crash leaves its input there and fails the script.
set -euo pipefail
if (($# < 2)); then
  echo "usage: run.sh SECONDS BUILD_DIR [TARGET...]" >&2
  exit 2
fi
seconds=$1
mkdir -p "$2"
build=$(cd "$2" && pwd)
cd "$(dirname "$0")"
shift 2
(($# > 0)) || set -- json safetensors adapter

for target in "$@"; do
  "${FUZZ_CXX:-clang++-19}" -std=c++20 -g -O1 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all \
    -I ../../include -o "$build/${target}_fuzz" "${target}_fuzz.cpp"
  mkdir -p "$build/$target"
  "$build/${target}_fuzz" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
    -dict="$target.dict" -artifact_prefix="$build/${target}-" "$build/$target" "corpus/$target"
done
