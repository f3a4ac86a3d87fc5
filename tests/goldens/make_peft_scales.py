# SPDX-License-Identifier: Apache-2.0
"""Small adapters over a net of two linears, one for each way in which PEFT arrives at a scale, and what PEFT computes with them.

Makes   peft/tiny.safetensors          the base: fc1 Linear(12, 8), fc2 Linear(8, 6), y = fc2(fc1(x))
        peft/plain/                    r=2, alpha=6: alpha / r = 3 on both
        peft/rslora/                   r=5, alpha=3, use_rslora: 3 / sqrt(5) on both
        peft/patterns/                 r=2, alpha=8, rank_pattern {fc2: 3}, alpha_pattern {fc1: 5}: 5 / 2 and 8 / 3
        peft/my_adapter/               r=1, alpha=4, fc2 only, an adapter that is not named "default"
        peft/in_memory_keys.safetensors   the same adapter under the names of PEFT's state dict, with the adapter's infix
        peft/tiny_goldens.safetensors  x [5, 12] f32; the rest computed and stored in float64 (keys below)
Run     python -m pip install -r requirements.txt && python make_peft_scales.py        (one thread, seconds)

Keys: `base`, `plain@0.5`, `plain@1+rslora@-0.5`, `merged:plain@1` are outputs [5, 6], the number after @ multiplying PEFT's scale;
`scale:plain/fc1` [1] is that scale, `delta:plain/fc1` [out, in] the weight delta at scale 1 that PEFT merges.
"""
import json
import pathlib
import shutil
import tempfile

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file, save_file
from torch import nn

HERE = pathlib.Path(__file__).resolve().parent / "peft"
SEED = 20240
BOTH = ["fc1", "fc2"]
ADAPTERS = {
    "plain": ("default", LoraConfig(r=2, lora_alpha=6, target_modules=BOTH, init_lora_weights=False)),
    "rslora": ("default", LoraConfig(r=5, lora_alpha=3, use_rslora=True, target_modules=BOTH, init_lora_weights=False)),
    "patterns": ("default", LoraConfig(r=2, lora_alpha=8, rank_pattern={"fc2": 3}, alpha_pattern={"fc1": 5},
                                       target_modules=BOTH, init_lora_weights=False)),
    "my_adapter": ("my_adapter", LoraConfig(r=1, lora_alpha=4, target_modules=["fc2"], init_lora_weights=False)),
}
CASES = [{name: scale} for name in ADAPTERS for scale in (1, 0.5, -2)]
CASES += [{"plain": 1, "rslora": -0.5}, {"plain": 0.25, "rslora": 1, "patterns": -1, "my_adapter": 2}]


class Tiny(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(12, 8)
        self.fc2 = nn.Linear(8, 6)

    def forward(self, x):
        return self.fc2(self.fc1(x))


def label(case):
    return "+".join(f"{name}@{scale}" for name, scale in case.items()) or "base"


def base_model():
    model = Tiny()
    model.load_state_dict(load_file(HERE / "tiny.safetensors"), strict=True)
    return model


def save_adapter(name):
    """What PEFT saves, less its model card and what differs between runs: the base's path, the order of a Python set."""
    adapter_name, config = ADAPTERS[name]
    model = get_peft_model(base_model(), config, adapter_name=adapter_name)
    (HERE / name).mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as saved:
        model.save_pretrained(saved)
        written = pathlib.Path(saved) if adapter_name == "default" else pathlib.Path(saved, adapter_name)
        shutil.copyfile(written / "adapter_model.safetensors", HERE / name / "adapter_model.safetensors")
        config = json.loads((written / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = "tiny"
    config["target_modules"] = sorted(config["target_modules"])
    (HERE / name / "adapter_config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    if adapter_name != "default":
        in_memory = {k: v.contiguous() for k, v in model.state_dict().items() if "lora_" in k}
        save_file(in_memory, HERE / "in_memory_keys.safetensors")
        print("keys in memory:", *in_memory)
    print(f"keys in {name}/:", *load_file(HERE / name / "adapter_model.safetensors"))


def attached(case, merge=False):
    """The base with the adapters of `case` attached by PEFT at their scales, all in float64, merged on request."""
    if not case:
        return base_model().double()
    names = list(case)
    model = PeftModel.from_pretrained(base_model(), str(HERE / names[0]), adapter_name=names[0])
    for name in names[1:]:
        model.load_adapter(str(HERE / name), adapter_name=name)
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
    torch.manual_seed(SEED)
    save_file(Tiny().state_dict(), HERE / "tiny.safetensors", metadata={"format": "pt"})
    for name in ADAPTERS:
        save_adapter(name)

    x = torch.randn(5, 12)
    goldens = {"x": x, "base": attached({})(x.double())}
    for case in CASES:
        goldens[label(case)] = attached(case)(x.double())
        goldens["merged:" + label(case)] = attached(case, merge=True)(x.double())
    for name in ADAPTERS:
        for path, layer in attached({name: 1}).base_model.model.named_modules():
            if isinstance(layer, LoraLayer):
                goldens[f"scale:{name}/{path}"] = torch.tensor([layer.scaling[name]], dtype=torch.float64)
                goldens[f"delta:{name}/{path}"] = layer.get_delta_weight(name)
                print(f"{name}/{path}: rank {layer.r[name]}, scale {layer.scaling[name]:.6f}")
    save_file({k: v.contiguous() for k, v in goldens.items()}, HERE / "tiny_goldens.safetensors")


if __name__ == "__main__":
    main()
