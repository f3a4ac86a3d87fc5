# SPDX-License-Identifier: Apache-2.0
"""Loads adapters that Tenon wrote with PEFT and compares what the adapted nets give with the outputs stored beside them.

Run     python check_exports.py MANIFEST        (by hand, after writing adapters; no torch in CI)

MANIFEST is a TSV, paths relative to it, lines that start with # left out:
    adapter folder TAB base checkpoint TAB x.safetensors TAB y.safetensors [TAB prefix of the keys in y [TAB tolerance]]
The base's file name says which net of kinds_nets.py it is (base.safetensors or base_gpt2.safetensors); it may lie anywhere. x
holds module path -> input, y holds prefix + module path -> expected output; only the paths in y are run. PEFT computes in float64,
so the difference is the adapter's: relative to the largest expected number, at most the tolerance (1e-6). Exit code 1 if a row is
apart.
"""

import pathlib
import sys
import warnings

import torch
from peft import PeftModel
from safetensors.torch import load_file

import kinds_nets


@torch.no_grad()
def worst(adapter, base, x, y, prefix):
    """(largest relative difference, the module where it is)"""
    expected = {key.removeprefix(prefix): value for key, value in load_file(y).items() if key.startswith(prefix)}
    if not expected:
        raise SystemExit(f"{y}: expected outputs under '{prefix}', got none: see the keys of the file")
    x = {path: value for path, value in load_file(x).items() if path in expected}
    if set(x) != set(expected):
        raise SystemExit(
            f"expected an input for each of {sorted(expected)}, got {sorted(x)}: inputs and outputs do not belong together"
        )
    model = PeftModel.from_pretrained(kinds_nets.NETS[base.name](base), str(adapter)).double().eval()
    with kinds_nets.float64_arithmetic():
        got = kinds_nets.outputs(model, x)
    gaps = {path: ((got[path] - value).abs().max() / value.abs().max()).item() for path, value in expected.items()}
    return max((gap, path) for path, gap in gaps.items())


def main():
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    kinds_nets.butterflies_on_cpu()
    manifest = pathlib.Path(sys.argv[1])
    apart = 0
    for line in manifest.read_text().splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        fields = line.split("\t")
        adapter, base, x, y = (manifest.parent / field for field in fields[:4])
        prefix = fields[4] if len(fields) > 4 else ""
        tolerance = float(fields[5]) if len(fields) > 5 else 1e-6
        gap, path = worst(adapter, base, x, y, prefix)
        apart += not gap <= tolerance
        print(f"{'same ' if gap <= tolerance else 'APART'} {adapter.name:32} {gap:.1e} at {path}")
    raise SystemExit(1 if apart else 0)


if __name__ == "__main__":
    main()
