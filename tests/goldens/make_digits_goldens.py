# SPDX-License-Identifier: Apache-2.0
"""Goldens for the digits model and its adapters, from PyTorch and PEFT, read back from examples/digits/data.

Makes   digits/digits_goldens.safetensors   x [32, 64] f32 and logits [32, 10], computed and stored in float64
        digits/accuracy.json                right answers out of 450 on each task, in float32, and the smallest
                                            distance between a first and a second logit
Run     python -m pip install -r requirements.txt && python make_digits_goldens.py        (one thread, seconds)

A key of the goldens says what is attached: `base`, `rotated@0.5`, `rotated@0.8+inverted@0.6`. The number after @ multiplies
PEFT's own scale (alpha / r, or alpha / sqrt(r) under rsLoRA). `merged:` before it: the same after PEFT merged the weights.
"""
import json
import pathlib
import sys

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file, save_file

sys.dont_write_bytecode = True
HERE = pathlib.Path(__file__).resolve().parent
DATA = HERE.parents[1] / "examples" / "digits" / "data"
sys.path.insert(0, str(DATA))
from make_digits import TASKS, Digits  # noqa: E402

ADAPTERS = ("rotated", "inverted", "noisy")
CASES = [{name: scale} for name in ADAPTERS for scale in (1, 0.5, -0.75)]
CASES += [{"rotated": 0.8, "inverted": 0.6}, {"rotated": 1, "inverted": -0.5, "noisy": 0.3}]
EVALUATED = [{}, *({name: 1} for name in ADAPTERS), {"rotated": 1, "inverted": 1}]


def label(case):
    return "+".join(f"{name}@{scale}" for name, scale in case.items()) or "base"


def base_model():
    model = Digits()
    model.load_state_dict(load_file(DATA / "digits.safetensors"), strict=True)
    return model


def attached(case, merge=False):
    """The base with the adapters of `case` attached by PEFT at their scales, all in float64, merged on request."""
    if not case:
        return base_model().double().eval()
    names = list(case)
    model = PeftModel.from_pretrained(base_model(), str(DATA / names[0]), adapter_name=names[0])
    for name in names[1:]:
        model.load_adapter(str(DATA / name), adapter_name=name)
    model.base_model.set_adapter(names)
    for layer in model.modules():
        if isinstance(layer, LoraLayer):
            for name, scale in case.items():
                layer.set_scale(name, scale)
    model.double().eval()
    if merge:
        model.merge_adapter(names)
    return model


@torch.no_grad()
def main():
    torch.set_num_threads(1)
    tests = load_file(DATA / "digits_test.safetensors")

    # eight images of each shift the base or an adapter is made for
    x = torch.cat([tests[task][8 * i:8 * i + 8] for i, task in enumerate(("clean", *ADAPTERS))]).float() / 16
    goldens = {"x": x, "base": attached({})(x.double())}
    for case in CASES:
        goldens[label(case)] = attached(case)(x.double())
        goldens["merged:" + label(case)] = attached(case, merge=True)(x.double())
        print(f"{label(case):42} side path vs merged {(goldens[label(case)] - goldens['merged:' + label(case)]).abs().max():.1e}"
              f"   vs base {(goldens[label(case)] - goldens['base']).abs().max():.2f}")
    save_file({k: v.contiguous() for k, v in goldens.items()}, HERE / "digits" / "digits_goldens.safetensors")

    labels = tests["labels"].numpy()
    table, closest = {}, float("inf")
    for case in EVALUATED:
        model, row = attached(case).float(), table.setdefault("+".join(case) or "base", {})
        for task in TASKS:
            logits = model(tests[task].float() / 16)
            row[task] = int((logits.argmax(1).numpy() == labels).sum())
            first, second = logits.topk(2).values.T
            closest = min(closest, (first - second).min().item())
    report = {"images": len(labels), "closest_decision": round(closest, 5), "correct": table}
    (HERE / "digits" / "accuracy.json").write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(table, indent=1))


if __name__ == "__main__":
    main()
