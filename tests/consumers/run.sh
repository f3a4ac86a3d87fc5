#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# run.sh BUILD_DIR: builds and runs one tiny program in each of the three ways to get Tenon: an install tree,
# a subdirectory, a copied include folder; and one with an installed Tenon's devices, where Thrust is found.
set -euo pipefail
mkdir -p "$1"
build=$(cd "$1" && pwd)
cd "$(dirname "$0")"
source_dir=$(cd ../.. && pwd)

expect() {
  local printed
  printed=$("$2")
  echo "$1: $printed"
  [[ $printed == "tenon "*": held 350.0 MiB (overlay 350.0 MiB), then 0 B" ]]
}

rm -rf "$build"/{tree,tenon,installed,subdirectory,gpu}
options=(-G Ninja -DCMAKE_BUILD_TYPE=Release)
cmake -S "$source_dir" -B "$build/tenon" "${options[@]}" -DTENON_BUILD_{TESTS,EXAMPLES,BENCHMARKS}=OFF -DTENON_GPU=OFF >/dev/null
cmake --install "$build/tenon" --prefix "$build/tree" >/dev/null
cmake -S installed -B "$build/installed" "${options[@]}" -DCMAKE_PREFIX_PATH="$build/tree" >/dev/null
cmake --build "$build/installed" >/dev/null
expect installed "$build/installed/consumer"

cmake -S subdirectory -B "$build/subdirectory" "${options[@]}" -DCMAKE_CXX_FLAGS_RELEASE=-O1 >/dev/null # it compiles the bodies
cmake --build "$build/subdirectory" >/dev/null
expect subdirectory "$build/subdirectory/consumer"

"${CXX:-g++}" -std=c++20 -O2 -I "$source_dir/include" main.cpp -o "$build/copied"
expect copied "$build/copied"

if [[ -e /usr/include/thrust/version.h || -e /usr/local/cuda/include/cccl/thrust/version.h ]]; then
  cmake -S gpu -B "$build/gpu" "${options[@]}" -DCMAKE_CXX_FLAGS_RELEASE=-O1 -DCMAKE_PREFIX_PATH="$build/tree" -DTENON_GPU=CPP >/dev/null
  cmake --build "$build/gpu" >/dev/null
  printed=$("$build/gpu/consumer")
  echo "gpu: $printed"
  [[ $printed == "device memory of this machine (Thrust's CPP system): held 1.0 KiB (overlay 1.0 KiB)" ]]
else
  echo "gpu: skipped (no Thrust)"
fi
