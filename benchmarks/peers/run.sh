#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Measures Tenon beside PyTorch and PEFT and writes docs/peers.md, its figures and a section of docs/performance.md.
#   benchmarks/peers/run.sh           about ten minutes; the first time also what pip takes (6 GB on disk; MiniLM: 80 MB)
#   benchmarks/peers/run.sh --quick   two turns of a few rows; prints the page and writes no docs
# On Debian it first installs what is missing; TENON_NO_INSTALL=1 makes it list that instead and leave with 3. Weights and
# results go to build/peers (2.2 GB). TENON_PEERS_VENV names a virtual environment that has requirements.txt already.
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
need_packages "torch and PEFT" python3 python3-venv
install_packages

work=build/peers
mkdir -p "$work"
source benchmarks/peers/python.sh # sets python
minilm=$(PYTHON="$python" bash examples/sentences/fetch_model.sh)

fresh=()
[[ -f build/release/build.ninja ]] || fresh=(-DTENON_BUILD_TESTS=OFF -DTENON_BUILD_EXAMPLES=OFF)
cmake --preset release -DTENON_BUILD_BENCHMARKS=ON "${fresh[@]}" >/dev/null
cmake --build --preset release -j "$(nproc)" --target bench_peers bench_lifecycle

sets=(stack_f32 wide_bf16 minilm)
((${#quick[@]} > 0)) || sets+=(stack_bf16 wide_f32 wan_bf16)
export HF_HUB_OFFLINE=1 HF_HUB_DISABLE_TELEMETRY=1
TENON_MINILM=$minilm "$python" -W ignore benchmarks/peers/make_files.py "$work/files" "${sets[@]}" 2>"$work/make_files.log" ||
  { cat "$work/make_files.log" >&2; exit 1; }

"$python" benchmarks/peers/compare.py build/release/bench_peers "$work/files" "$work/peers.json" "${quick[@]}"
"$python" benchmarks/lifecycle/compare.py build/release/bench_lifecycle "$work/files" "$minilm" "$work/lifecycle.json" "${quick[@]}"
if ((${#quick[@]} > 0)); then
  "$python" benchmarks/peers/report.py "$work/peers.json" "$work/lifecycle.json" -
else
  "$python" benchmarks/peers/report.py "$work/peers.json" "$work/lifecycle.json" docs
  echo "Written: docs/peers.md, docs/figures, docs/performance.md"
fi
