#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds and runs all tests (preset `release`); the last lines are ctest's summary. On Debian it first installs
# what is missing; TENON_NO_INSTALL=1 makes it list that instead and leave with 3.
set -euo pipefail
cd "$(dirname "$0")/.."
source cmake/debian_packages.sh

need_packages "compiler and build tools" g++ cmake ninja-build
need_packages "pictures of the digits example" libpng-dev
need_packages "decompositions; the command-line tools" libeigen3-dev libcli11-dev
need_packages "test framework" doctest-dev
need_packages "arrays as inputs" libxtensor-dev
need_packages "device code on the processor" libthrust-dev
need_packages "second compiler: error messages, instantiation counts" clang-19
install_packages

cmake --preset release -DTENON_BUILD_TESTS=ON -DTENON_BUILD_EXAMPLES=ON -DTENON_BUILD_BENCHMARKS=ON
cmake --build --preset release -j "$(nproc)" --target tenon_tests tenon_examples
ctest --preset release -j "$(nproc)" "$@"
