#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# check_messages.sh PAGE FILE...: every sentence that a FILE of will_not_compile expects stands in PAGE.
set -euo pipefail
page=$1
shift
missing=0
for file in "$@"; do
  while IFS= read -r sentence; do
    sentence=$(sed 's/\\\(.\)/\1/g' <<<"$sentence")
    grep -qF -e "$sentence" "$page" || { printf '%s: not in %s: %s\n' "$file" "$page" "$sentence"; missing=1; }
  done < <(sed -n '/^\/\//!q; s|^// expect: \(tenon.*\)|\1|p' "$file")
done
exit "$missing"
