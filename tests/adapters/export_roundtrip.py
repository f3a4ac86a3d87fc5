#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""export_roundtrip.py TOOL: what Tenon exports, as the tools whose formats they are read it.

TOOL is export_tool. PEFT must load the folders without a missing or unexpected key and arrive at the deltas of the goldens. The
diffusers file must load as diffusers does it: a LoraConfig from the header, injected, then the keys under the component's prefix. Of the
kohya file the deltas are formed by kohya's rule, alpha / down.shape[0]. Needs tests/goldens/requirements.txt.
"""
import json
import pathlib
import subprocess
import sys
import tempfile
import warnings

import torch
from peft import LoraConfig, PeftModel, inject_adapter_in_model, set_peft_model_state_dict
from peft.tuners.lora import LoraLayer
from safetensors import safe_open
from safetensors.torch import load_file

GOLDENS = pathlib.Path(__file__).resolve().parents[1] / "goldens"
sys.path.insert(0, str(GOLDENS))
from make_combination_goldens import Tiny  # noqa: E402

LARGEST = 0.0


def expected_delta(goldens, adapter, path, shape):
    a, b = goldens[f"{adapter}/{path}.A"].double(), goldens[f"{adapter}/{path}.B"].double()
    product = b.flatten(1) @ a.flatten(1) * goldens[f"{adapter}/{path}.scale"]
    return (product.T if path == "emb" else product).reshape(shape)


def check(what, got, expected):
    """Float factors and a float scale: some units of 2^-24 of the largest."""
    global LARGEST
    error = ((got.double() - expected).abs().max() / expected.abs().max()).item()
    LARGEST = max(LARGEST, error)
    if error > 1e-6:
        sys.exit(f"{what}: off by {error:.3g} of the largest value")


def check_model(what, model, goldens, adapter, paths):
    seen = 0
    for path, layer in model.named_modules():
        if isinstance(layer, LoraLayer):
            name = next(iter(layer.scaling))
            check(f"{what}: {path}", layer.get_delta_weight(name), expected_delta(goldens, adapter, path, layer.weight.shape))
            seen += 1
    if seen != len(paths):
        sys.exit(f"{what}: {seen} modules, expected {len(paths)}")


@torch.no_grad()
def main():
    goldens = load_file(GOLDENS / "combination" / "combination_goldens.safetensors")
    modules = {n: [p for p in ("fc", "conv", "emb") if f"{n}/{p}.A" in goldens] for n in "acd"}
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.argv[1], folder], check=True)
        for adapter, paths in modules.items():
            for folder_name in (adapter, adapter + "_rslora"):
                with warnings.catch_warnings(record=True) as caught:
                    warnings.simplefilter("always")
                    model = PeftModel.from_pretrained(Tiny(), f"{folder}/{folder_name}")
                if any("missing" in str(w.message) or "unexpected" in str(w.message) for w in caught):
                    sys.exit(f"{folder_name}: {caught[0].message}")
                check_model(folder_name, model.base_model.model, goldens, adapter, paths)
            model = PeftModel.from_pretrained(Tiny(), f"{folder}/{adapter}_bias").base_model.model
            bias = model.fc.lora_B["default"].bias * model.fc.scaling["default"]
            check(adapter + "_bias", bias, torch.arange(7).double() / 8)

            file = f"{folder}/{adapter}_diffusers.safetensors"
            with safe_open(file, "pt") as opened:
                metadata = json.loads(opened.metadata()["lora_adapter_metadata"])
            config = LoraConfig(**{k.removeprefix("unet."): v for k, v in metadata.items()})
            model = inject_adapter_in_model(config, Tiny(), "default")
            state = {k.removeprefix("unet."): v for k, v in load_file(file).items()}
            result = set_peft_model_state_dict(model, state, "default")
            if result.unexpected_keys:
                sys.exit(f"{file}: unexpected {result.unexpected_keys}")
            plain = [p for p in paths if p != "emb"]
            check_model(file, model, goldens, adapter, plain)

            for key, value in (kohya := load_file(f"{folder}/{adapter}_kohya.safetensors")).items():
                if key.endswith(".alpha"):
                    name = key.removesuffix(".alpha")
                    down, up = kohya[name + ".lora_down.weight"], kohya[name + ".lora_up.weight"]
                    delta = up.flatten(1).double() @ down.flatten(1).double() * (value.double() / down.shape[0])
                    path = name.removeprefix("lora_unet_")
                    check(key, delta, expected_delta(goldens, adapter, path, delta.shape))
    print(f"PEFT loads what was exported; the largest error is {LARGEST:.2g} of the largest value")


if __name__ == "__main__":
    main()
