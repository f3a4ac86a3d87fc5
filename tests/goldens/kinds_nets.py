# SPDX-License-Identifier: Apache-2.0
"""The nets that the goldens of adapter kinds are made on, and how a seeded tensor is drawn. Imported by the scripts beside it.

`Layers` is a bag: one layer of each type, none feeding another, so that each layer's output stands for itself. Its forward takes
and gives a dict, module path -> tensor. `tiny_gpt2` is transformers' GPT-2 with one block, its lm_head tied to its embedding.
Both are built from their files in kinds/, so a script that runs twice reads the same weights.
"""

import contextlib
import copy
import hashlib
import pathlib

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel
from transformers.pytorch_utils import Conv1D

KINDS = pathlib.Path(__file__).resolve().parent / "kinds"
GPT2_CONFIG = GPT2Config(
    n_layer=1, n_embd=8, n_head=2, vocab_size=24, n_positions=8, attn_implementation="eager", bos_token_id=0, eos_token_id=0
)
MANIFEST = ("case@strength", "tool", "adapter", "base", "kind", "strength", "tolerance", "forward", "notes")


class Layers(nn.Module):
    def __init__(self):
        super().__init__()
        self.attn = nn.ModuleDict({"q": nn.Linear(12, 16, bias=False), "k": nn.Linear(12, 16), "o": nn.Linear(16, 16)})
        self.mlp = nn.ModuleDict({"up": nn.Linear(16, 24), "down": nn.Linear(24, 16)})
        self.embed = nn.Embedding(20, 12)
        self.conv = nn.ModuleDict(
            {
                "one": nn.Conv2d(8, 12, 1),
                "three": nn.Conv2d(8, 12, 3, stride=2, padding=1),
                "grouped": nn.Conv2d(8, 12, 3, padding=1, groups=4),
                "line": nn.Conv1d(8, 12, 3, padding=1),
                "box": nn.Conv3d(4, 6, (1, 2, 2), stride=(1, 2, 2)),
            }
        )
        self.gpt = nn.ModuleDict({"fc": Conv1D(20, 12)})
        self.norm = nn.LayerNorm(16)
        self.group_norm = nn.GroupNorm(4, 12)

    def forward(self, x):
        return {path: self.get_submodule(path)(value) for path, value in x.items()}


INPUT_SHAPES = {
    "attn.q": (3, 12),
    "attn.k": (3, 12),
    "attn.o": (3, 16),
    "mlp.up": (3, 16),
    "mlp.down": (3, 24),
    "gpt.fc": (3, 12),
    "norm": (3, 16),
    "group_norm": (2, 12, 3),
    "conv.one": (1, 8, 3, 2),
    "conv.three": (1, 8, 5, 5),
    "conv.grouped": (1, 8, 4, 3),
    "conv.line": (2, 8, 4),
    "conv.box": (1, 4, 2, 4, 4),
}


def drawn(key, shape):
    """Standard normal numbers that depend on `key` alone, as f32: cases can come and go without changing each other."""
    generator = torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "little"))
    return torch.randn(tuple(shape), generator=generator, dtype=torch.float32)


def layers(file=KINDS / "base.safetensors"):
    net = Layers()
    net.load_state_dict(load_file(file), strict=True)
    return net.eval()


def tiny_gpt2(file=KINDS / "base_gpt2.safetensors"):
    net = GPT2LMHeadModel(copy.deepcopy(GPT2_CONFIG))
    net.load_state_dict(load_file(file), strict=False)  # lm_head.weight is the embedding, not stored
    net.tie_weights()
    return net.eval()


NETS = {"base.safetensors": layers, "base_gpt2.safetensors": tiny_gpt2}


def inputs():
    """Module path -> its input; `gpt2` is the input of tiny_gpt2. Token ids are i64, the rest f32."""
    return load_file(KINDS / "inputs.safetensors")


def outputs(net, x, double=True):
    """Module path -> output; {"gpt2": logits} for tiny_gpt2."""
    x = {path: value.double() if double and value.is_floating_point() else value for path, value in x.items()}
    if "gpt2" in x:
        return {"gpt2": net(input_ids=x["gpt2"], use_cache=False).logits}
    return net(x)


@contextlib.contextmanager
def float64_arithmetic():
    """float64 as torch's default, so that constants which a tool makes on its way (identities, scales) are not rounded to f32."""
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextlib.contextmanager
def float_means_double():
    """float64_arithmetic, and a tool's own cast to float32 is one to float64."""
    with float64_arithmetic():
        plain = torch.Tensor.float
        torch.Tensor.float = torch.Tensor.double
        try:
            yield
        finally:
            torch.Tensor.float = plain


def write_manifest(tool, rows):
    """Puts `tool`'s rows into manifest.tsv, in place of those that it had there."""
    path = KINDS / "manifest.tsv"
    kept = [line.split("\t") for line in path.read_text().splitlines()[1:]] if path.exists() else []
    rows = sorted([row for row in kept if row[1] != tool] + rows, key=lambda row: ("peft", "lycoris", "kohya").index(row[1]))
    path.write_text("".join("\t".join(row) + "\n" for row in [["# " + MANIFEST[0], *MANIFEST[1:]], *rows]))


def save_goldens(path, tensors):
    """Rounded to f32: 6e-8 of a number is far below every tolerance here."""
    save_file({key: value.float().contiguous().clone() for key, value in tensors.items()}, path)


class BlockDiagonal:
    """PEFT's CUDA extension fbd_cuda, on a CPU: (N, D, H, H) -> (N, D*H, D*H). Without it PEFT makes one butterfly stage."""

    @staticmethod
    def forward(blocks):
        return [torch.stack([torch.block_diag(*row) for row in blocks])]


def butterflies_on_cpu():
    import peft.tuners.boft.layer as boft_layer

    boft_layer._FBD_CUDA = BlockDiagonal


def write_base_nets():
    net = Layers()
    state = {
        k: 0.5 * drawn("base/" + k, v.shape) + (1.0 if k in ("norm.weight", "group_norm.weight") else 0.0)
        for k, v in net.state_dict().items()
    }
    save_file(state, KINDS / "base.safetensors", metadata={"format": "pt"})
    gpt2 = GPT2LMHeadModel(copy.deepcopy(GPT2_CONFIG))
    state = {
        k: 0.5 * drawn("gpt2/" + k, v.shape) + (1.0 if "ln_" in k and k.endswith("weight") else 0.0)
        for k, v in gpt2.state_dict().items()
        if k != "lm_head.weight"
    }
    save_file(state, KINDS / "base_gpt2.safetensors", metadata={"format": "pt"})
    x = {path: drawn("x/" + path, shape) for path, shape in INPUT_SHAPES.items()}
    x["embed"] = torch.tensor([[0, 19, 7], [3, 3, 11]])
    x["gpt2"] = torch.tensor([[1, 23, 5, 5, 0], [9, 2, 17, 4, 22]])
    save_file(x, KINDS / "inputs.safetensors")
