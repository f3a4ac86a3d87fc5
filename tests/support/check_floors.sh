#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# check_floors.sh INCLUDE_DIR
# No header includes from a floor above its own (docs: the design). Folders of one floor may include each
# other, but for core, which stands alone.
set -euo pipefail
cd "$1"

find tenon -name '*.hpp' -print0 | sort -z | xargs -0 grep -HnE '^ *# *include *["<]' | awk -F: '
  BEGIN {
    split("core memory|weights|kernels cuda|graph|layers|formats|adapters train|session library|models gpu|interop distributed",
          rows, "|")
    for (row in rows) { split(rows[row], names, " "); for (n in names) floor[names[n]] = row - 1 }
  }
  # "tenon/graph/shape.hpp" -> "graph", "tenon/tenon.hpp" -> "tenon.hpp"
  function folder(path) { sub("^tenon/", "", path); sub("/.*", "", path); return path }
  function height(name) { return name == "tenon.hpp" || name == "gpu.hpp" ? 9 : (name in floor) ? floor[name] : -1 }
  function complain(sentence) { print $1 ":" $2 ": " sentence; ++faults }

  /include *"/ { complain("includes with quotes; write <tenon/...>"); next }
  !/<tenon\// { next }
  {
    included = $3; sub(".*<", "", included); sub(">.*", "", included)
    from = folder($1); to = folder(included); ++seen
    if (height(from) < 0) complain("folder " from " has no floor; give it one in check_floors.sh")
    else if (height(to) < 0) complain("folder " to " has no floor; give it one in check_floors.sh")
    else if (height(to) > height(from)) complain(from " (floor " height(from) ") includes " to " (floor " height(to) ")")
    else if (from == "core" && to != "core") complain("core includes " to)
  }
  END { print seen " includes between headers, " faults + 0 " against the floors"; exit faults > 0 || seen == 0 }'
