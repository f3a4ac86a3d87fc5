#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Tokens a second beside torch's, a token at a time with a cache: the tests' small Llama, and a random model of Qwen 2.5 0.5B's
# shape, f32 and bf16, one thread and two. Prints one table.
#   benchmarks/decode/run.sh           some minutes; 3 GB on disk in build/decode, 5 GB of memory (f32: 8, left out if not there)
#   benchmarks/decode/run.sh --quick   two turns of the small one and of bf16: does it run?
# What it needs is that of benchmarks/peers/run.sh; TENON_PEERS_VENV and TENON_NO_INSTALL=1 are as there.
set -euo pipefail
cd "$(dirname "$0")/../.."
source cmake/debian_packages.sh

quick=()
case "${1-}" in
  "") ;;
  --quick) quick=(--quick) ;;
  *) echo "usage: run.sh [--quick]" >&2; exit 2 ;;
esac

need_packages "compiler and build tools" g++ cmake ninja-build
need_packages "torch and transformers" python3 python3-venv
install_packages
source benchmarks/peers/python.sh # sets python

fresh=()
[[ -f build/release/build.ninja ]] || fresh=(-DTENON_BUILD_TESTS=OFF -DTENON_BUILD_EXAMPLES=OFF)
cmake --preset release -DTENON_BUILD_BENCHMARKS=ON "${fresh[@]}" >/dev/null
cmake --build --preset release -j "$(nproc)" --target bench_decode

export HF_HUB_OFFLINE=1 HF_HUB_DISABLE_TELEMETRY=1
"$python" -W ignore benchmarks/decode/make_files.py build/decode "${quick[@]}"
"$python" benchmarks/decode/compare.py build/release/bench_decode build/decode "${quick[@]}"
