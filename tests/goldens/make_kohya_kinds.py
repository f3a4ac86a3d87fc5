# SPDX-License-Identifier: Apache-2.0
"""Adapters of the two kinds of kohya's sd-scripts, LoRA and OFT, as it saves them, and what its modules compute with them.

Makes   kinds/kohya/CASE.safetensors      random and non-zero everywhere, under lora_unet_<path> and oft_unet_<path>, underscores for dots
        kinds/kohya_weights.safetensors   CASE@STRENGTH/<weight name>: the weight after its merge
        kinds/kohya_outputs.safetensors   CASE@STRENGTH/<module path>: what the adapted layer gives on inputs.safetensors
        kinds/manifest.tsv                the rows of these cases
Run     python make_kohya_kinds.py SD_SCRIPTS        (a checkout of kohya-ss/sd-scripts at 48d368fa; after make_peft_kinds.py)

Computed in float64, a cast of theirs to float32 being one to float64, stored rounded to f32. STRENGTH is kohya's multiplier.
"""

import importlib.machinery
import logging
import shutil
import sys
import types
from unittest import mock

import diffusers  # noqa: F401  before the stand-ins, it looks at what is installed
import torch
from diffusers import AutoencoderKL, EulerAncestralDiscreteScheduler  # noqa: F401
from safetensors.torch import load_file, save_file
from transformers import CLIPTextModel  # noqa: F401

import kinds_nets
from kinds_nets import KINDS, drawn, layers

HERE = KINDS / "kohya"
LINEAR = ["attn.q", "attn.k", "attn.o"]
# case: kind, targets, dim, alpha as created, alpha as in the file (None: taken out of the file), dtype, strengths, notes
CASES = {
    "lora-linear": ("lora", LINEAR, 3, 2.0, 2.0, None, (1, 0.5, -2), ""),
    "lora-conv": ("lora", ["conv.one", "conv.three"], 4, 1.0, 1.0, None, (1, 0.5), ""),
    "lora-f16": ("lora", ["attn.q", "conv.three"], 4, 1.0, 1.0, torch.float16, (1,), ""),
    "lora-bf16": ("lora", ["attn.q", "conv.three"], 4, 1.0, 1.0, torch.bfloat16, (1,), ""),
    "lora-alpha-zero": ("lora", ["attn.q"], 3, 0.0, 3.0, None, (1,), "created with alpha 0: the file's alpha is the rank"),
    "lora-no-alpha": ("lora", ["attn.q"], 3, 3.0, None, None, (1,), "no alpha in the file: the rank, so the scale is 1"),
    "oft-linear": ("oft", LINEAR, 4, 0.5, 0.5, None, (1, 0.5), "dim is the number of blocks; alpha 0.5 * out is not reached"),
    "oft-constraint": ("oft", LINEAR, 4, 0.0625, 0.0625, None, (1, 0.5), "norm(Q) brought down to alpha * out"),
    "oft-conv": ("oft", ["conv.one", "conv.three"], 4, 0.0625, 0.0625, None, (1,), ""),
    "oft-alpha-zero": ("oft", ["attn.q"], 4, 0.0, 0.0, None, (1,), "a constraint of 0: nothing rotates, in LyCORIS it would mean no constraint"),
    "oft-f16": ("oft", ["attn.q"], 4, 0.0625, 0.0625, torch.float16, (1,), ""),
}  # fmt: skip


def modules_of_sd_scripts(checkout):
    for name in ("cv2", "torchvision", "torchvision.transforms"):
        sys.modules[name] = types.ModuleType(name)
        sys.modules[name].__spec__ = importlib.machinery.ModuleSpec(name, None)
    sys.modules["torchvision"].transforms = sys.modules["torchvision.transforms"]
    sys.path.insert(0, checkout)
    from networks import lora, oft

    return {"lora": lora.LoRAInfModule, "oft": oft.OFTInfModule}


def named(kind, path):
    return f"{kind}_unet_{path.replace('.', '_')}"


def save(module_class, case_name):
    kind, targets, dim, alpha, stored_alpha, dtype, _, _ = CASES[case_name]
    net, file = layers(), {}
    for path in targets:
        module = module_class(named(kind, path), net.get_submodule(path), 1.0, dim, alpha)
        for key, value in module.state_dict().items():
            if key.startswith("org_module"):
                continue
            if key == "alpha":
                assert stored_alpha is None or value.item() == stored_alpha
                if stored_alpha is None:
                    continue
            else:
                value = (0.2 if kind == "oft" else 0.4) * drawn(f"kohya/{case_name}/{path}/{key}", value.shape)
            file[f"{named(kind, path)}.{key}"] = value.to(dtype) if dtype else value
    save_file(file, HERE / f"{case_name}.safetensors")


@torch.no_grad()
def run(module_class, case_name, strength, x):
    kind, targets, dim, alpha, _, _, _, _ = CASES[case_name]
    file = {k: v.double() for k, v in load_file(HERE / f"{case_name}.safetensors").items()}
    nets = {merge: layers().double() for merge in (False, True)}
    with kinds_nets.float_means_double(), mock.patch.multiple(torch, float=torch.float64, float32=torch.float64):
        return run_in_double(module_class, kind, targets, dim, alpha, file, nets, strength, x)


def run_in_double(module_class, kind, targets, dim, alpha, file, nets, strength, x):
    outputs, weights = {}, {}
    for path in targets:
        for merge, net in nets.items():
            layer = net.get_submodule(path)
            module = module_class(named(kind, path), layer, strength, dim, file.get(f"{named(kind, path)}.alpha", alpha))
            own = {k.removeprefix(named(kind, path) + "."): v for k, v in file.items() if k.startswith(named(kind, path) + ".")}
            module.load_state_dict(own, strict=False)
            module.double()
            if not merge:
                module.apply_to()
                module.network = types.SimpleNamespace(mask_dic=None, num_sub_prompts=None)
                forward = module.default_forward if kind == "lora" else module.forward
                outputs[path] = forward(x[path].double())
            elif kind == "lora":
                module.merge_to(own, torch.float64, "cpu")
                weights[path + ".weight"] = layer.weight.data
            else:
                module.merge_to()
                weights[path + ".weight"] = layer.weight.data
    return outputs, weights


def main():
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    classes = modules_of_sd_scripts(sys.argv[1])
    shutil.rmtree(HERE, ignore_errors=True)
    HERE.mkdir()
    x, weights, outputs, rows = kinds_nets.inputs(), {}, {}, []
    for case_name, (kind, _, _, _, _, _, strengths, notes) in CASES.items():
        save(classes[kind], case_name)
        for strength in strengths:
            label = f"{case_name}@{strength}"
            y, merged = run(classes[kind], case_name, strength, x)
            for key, value in merged.items():
                path = key.removesuffix(".weight")
                layer = layers().double().get_submodule(path)
                layer.weight.data = value
                gap = ((layer(x[path].double()) - y[path]).abs().max() / y[path].abs().max()).item()
                assert gap < 1e-12, (label, key, gap)
            weights |= {f"{label}/{key}": value for key, value in merged.items()}
            outputs |= {f"{label}/{path}": value for path, value in y.items()}
            path = f"kohya/{case_name}.safetensors"
            rows.append([label, "kohya", path, "base.safetensors", kind, str(strength), "1e-6", "same", notes])
            print(label, len(y), "modules")
    kinds_nets.save_goldens(KINDS / "kohya_weights.safetensors", weights)
    kinds_nets.save_goldens(KINDS / "kohya_outputs.safetensors", outputs)
    kinds_nets.write_manifest("kohya", rows)


if __name__ == "__main__":
    main()
