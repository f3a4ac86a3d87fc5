# SPDX-License-Identifier: Apache-2.0
"""Small adapters combined by PEFT's add_weighted_adapter in each of its ways, for a linear, a convolution and an embedding.

Makes   combination/combination_goldens.safetensors   what went in and what came out (keys below)
        combination/cases.tsv                         a line a case: number, method, adapters, weights, density, majority, rank
Run     python -m pip install -r requirements.txt && python make_combination_goldens.py        (one thread, seconds)

Keys: `a/fc.A`, `a/fc.B`, `a/fc.scale` are adapter a's factors as PEFT holds them (f32; a convolution's 4-d, an embedding's lora_embedding_A and _B)
and its scale; `3/fc` is the delta [out, in...] of case 3 in float64, from the combined factors at the scale of 1 that PEFT means them to have (it
forgets that where the first adapter is rank-stabilised). `3/fc.keep_A.a` and the like are DARE's masks, as torch drew them; `keep_delta` for
the methods on deltas. All arithmetic is float64, but for the weights: PEFT rounds them to float32.
"""
import pathlib

import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.lora import LoraLayer
from peft.utils import merge_utils
from safetensors.torch import save_file
from torch import nn

HERE = pathlib.Path(__file__).resolve().parent / "combination"
SEED = 4121
MODULES = ["fc", "conv", "emb"]
ADAPTERS = {
    "a": LoraConfig(r=4, lora_alpha=8, target_modules=MODULES, init_lora_weights=False),
    "b": LoraConfig(r=4, lora_alpha=3, use_rslora=True, target_modules=MODULES, init_lora_weights=False),
    "c": LoraConfig(r=4, lora_alpha=4, alpha_pattern={"conv": 6}, target_modules=["fc", "conv"], init_lora_weights=False),
    "d": LoraConfig(r=2, lora_alpha=8, rank_pattern={"fc": 3}, target_modules=["fc", "emb"], init_lora_weights=False),
}
SAME_RANK = [("abc", (1.0, 0.5, -0.75)), ("ba", (0.6, 1.1))]
CASES = [("cat", "abcd", (1.0, -0.5, 0.25, 2.0), None, "total", None), ("svd", "abcd", (1.0, -0.5, 0.25, 2.0), None, "total", 3),
         ("svd", "ad", (0.5, 0.5), None, "total", None), ("linear", "a", (1.0,), None, "total", None),
         ("linear", "b", (-0.5,), None, "total", None)]
for _names, _weights in SAME_RANK:
    CASES.append(("linear", _names, _weights, None, "total", None))
    for _method in ("ties", "dare_ties"):
        for _majority in ("total", "frequency"):
            CASES.append((_method, _names, _weights, 0.5, _majority, None))
            CASES.append((_method + "_svd", _names, _weights, 0.4, _majority, 3))
    for _method in ("dare_linear", "magnitude_prune"):
        CASES.append((_method, _names, _weights, 0.7, "total", None))
        CASES.append((_method + "_svd", _names, _weights, 0.3, "total", 4))


class Tiny(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(10, 7)
        self.conv = nn.Conv2d(3, 6, kernel_size=(3, 2))
        self.emb = nn.Embedding(11, 5)


class DrawnMasks:
    """Stands in for torch.bernoulli while PEFT draws, and keeps what was drawn."""

    def __init__(self):
        self.drawn = []
        self.bernoulli = torch.bernoulli

    def __enter__(self):
        merge_utils.torch.bernoulli = self
        return self

    def __exit__(self, *_):
        torch.bernoulli = self.bernoulli

    def __call__(self, probabilities):
        self.drawn.append(self.bernoulli(probabilities))
        return self.drawn[-1]


def parts(layer, name):
    if name in layer.lora_A:
        return layer.lora_A[name].weight, layer.lora_B[name].weight
    return layer.lora_embedding_A[name], layer.lora_embedding_B[name]


def delta(layer, name):
    """B A at scale 1, in the shape of the weight."""
    a, b = parts(layer, name)
    product = b.flatten(1) @ a.flatten(1)
    return (product.T if name not in layer.lora_A else product).reshape(layer.get_base_layer().weight.shape)


def base_with_adapters():
    model = Tiny()
    peft = None
    for name, config in ADAPTERS.items():
        if peft is None:
            peft = get_peft_model(model, config, adapter_name=name)
        else:
            peft.add_adapter(name, config)
    return peft.double()


@torch.no_grad()
def main():
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    HERE.mkdir(exist_ok=True)
    peft = base_with_adapters()
    goldens = {}
    layers = {n: m for n, m in peft.base_model.model.named_modules() if isinstance(m, LoraLayer)}
    for path, layer in layers.items():
        for name in layer.scaling:
            a, b = parts(layer, name)
            for part in (a, b):  # full, random, and what a float holds
                part.copy_(torch.randn(part.shape).double())
            goldens[f"{name}/{path}.A"] = a.float()
            goldens[f"{name}/{path}.B"] = b.float()
            goldens[f"{name}/{path}.scale"] = torch.tensor([layer.scaling[name]], dtype=torch.float64)
    lines = ["# number\tmethod\tadapters\tweights\tdensity\tmajority\trank"]
    for number, (method, names, weights, density, majority, rank) in enumerate(CASES):
        made = f"made{number}"
        with DrawnMasks() as masks:
            peft.base_model.add_weighted_adapter(list(names), list(weights), made, combination_type=method, svd_rank=rank,
                                                 density=density, majority_sign_method=majority)
        drawn = iter(masks.drawn)
        for path, layer in layers.items():
            present = [name for name in names if name in layer.scaling]
            if not present:
                continue
            goldens[f"{number}/{path}"] = delta(layer, made)
            if masks.drawn:
                for part in ("delta",) if method.endswith("svd") else ("A", "B"):
                    for name in present:
                        goldens[f"{number}/{path}.keep_{part}.{name}"] = next(drawn).to(torch.uint8)
        assert next(drawn, None) is None
        peft.base_model.delete_adapter(made)
        lines.append("\t".join([str(number), method, names, ",".join(map(str, weights)), str(density or 1), majority, str(rank or 0)]))
    save_file({k: v.contiguous() for k, v in goldens.items()}, HERE / "combination_goldens.safetensors")
    (HERE / "cases.tsv").write_text("\n".join(lines) + "\n")
    print(len(CASES), "cases,", len(goldens), "tensors")


if __name__ == "__main__":
    main()
