#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds and runs the digits example. On Debian it first installs what is missing; TENON_NO_INSTALL=1 makes it
# list that instead and leave with 3.
set -euo pipefail
cd "$(dirname "$0")/.."
source cmake/debian_packages.sh

need_packages "compiler and build tools" g++ cmake ninja-build
need_packages "pictures of the digits example" libpng-dev
install_packages

# A tree that is configured already, with tests say, is used as it is.
[[ -f build/release/build.ninja ]] ||
  cmake --preset release -DTENON_BUILD_TESTS=OFF -DTENON_BUILD_BENCHMARKS=OFF
cmake --build --preset release -j "$(nproc)" --target digits
build/release/digits "$@"
