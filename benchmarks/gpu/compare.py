# SPDX-License-Identifier: Apache-2.0
# Prints what bench_gpu and theirs.py measured on one GPU, side by side, with ours/theirs.
#   compare.py OURS THEIRS      two JSON files
import json
import pathlib
import sys

ROWS = [  # in words, key of ours, key of theirs: PEFT has one way to merge, we have two
    ("load an adapter from its file, 1 loaded", "load_1", "load_1"),
    ("load an adapter from its file, 10 loaded", "load_10", "load_10"),
    ("load an adapter from its file, 100 loaded", "load_100", "load_100"),
    ("switch, 1 loaded", "switch_1", "switch_1"),
    ("switch, 10 loaded", "switch_10", "switch_10"),
    ("switch, 100 loaded", "switch_100", "switch_100"),
    ("merge, ours out of place", "merge", "merge"),
    ("unmerge that", "unmerge", "unmerge"),
    ("merge, ours in place", "merge_in_place", "merge"),
    ("unmerge that (ours copies from the file)", "unmerge_in_place", "unmerge"),
    ("peak device memory, load", "peak_load", "peak_load"),
    ("peak device memory, merge, ours out of place", "peak_merge", "peak_merge"),
    ("peak device memory, merge, ours in place", "peak_merge_in_place", "peak_merge"),
]


def read(path):
    file = pathlib.Path(path)
    return json.loads(file.read_text()) if file.exists() else None


def text(value, unit):
    if value is None:
        return "not measured"
    return f"{value / 1e6:.4g} MB" if unit == "B" else f"{value:.4g} {unit}"


def main():
    ours, theirs = (read(path) for path in sys.argv[1:3])
    rows = {row["key"].removeprefix("peft."): row for row in (ours or {}).get("rows", []) if row["key"].startswith("peft.")}
    values = (theirs or {}).get("values", {})
    where = f"torch {theirs['torch']}, PEFT {theirs['peft']}, {theirs['linears']} linears, r = {theirs['rank']}" if theirs else "PEFT: not measured"
    print(f"{where}\n{'':<48} {'ours':>14} {'PEFT':>14} {'ours/PEFT':>10}")
    for words, own, other in ROWS:
        row, value = rows.get(own), values.get(other)
        both = row is not None and value
        unit = row["unit"] if row else "B" if own.startswith("peak") else "ms"
        ratio = f"{row['value'] / value:.3g}" if both else "-"
        print(f"{words:<48} {text(row and row['value'], unit):>14} {text(value, unit):>14} {ratio:>10}")


main()
