# SPDX-License-Identifier: Apache-2.0
# The nets that both sides compute, as torch modules; ours.cpp and ../lifecycle/ours.cpp have the same as types. A net is
# made without memory and then given the file's own mapping (`assign=True`): the cheapest way that torch offers.
import collections

import torch
from safetensors.torch import load_file
from torch import nn


def stack(layers, width):
    """Linear layers one after another: fc1, fc2, ..."""
    return nn.Sequential(collections.OrderedDict((f"fc{i + 1}", nn.Linear(width, width)) for i in range(layers)))


class WanBlock(nn.Module):
    """The Linear layers of a block of Wan 2.1 14B (image to video), joined by sums and its GELU: no attention."""

    def __init__(self, width, inner):
        super().__init__()
        square = lambda: nn.Linear(width, width)
        self.attn1 = nn.ModuleDict({n: square() for n in ("to_q", "to_k", "to_v")})
        self.attn1["to_out"] = nn.ModuleList([square()])
        self.attn2 = nn.ModuleDict({n: square() for n in ("to_q", "to_k", "to_v", "add_k_proj", "add_v_proj")})
        self.attn2["to_out"] = nn.ModuleList([square()])
        up = nn.Module()
        up.proj = nn.Linear(width, inner)
        self.ffn = nn.Module()
        self.ffn.net = nn.ModuleList([up, nn.Identity(), nn.Linear(inner, width)])

    def forward(self, x):
        for part in (self.attn1, self.attn2):
            joined = part["to_q"](x)
            for name in ("to_k", "to_v", "add_k_proj", "add_v_proj"):
                if name in part:
                    joined = joined + part[name](x)
            x = x + part["to_out"][0](joined)
        up, _, down = self.ffn.net
        return x + down(nn.functional.gelu(up.proj(x), approximate="tanh"))


class Wan(nn.Module):
    def __init__(self, blocks, width, inner):
        super().__init__()
        self.blocks = nn.ModuleList(WanBlock(width, inner) for _ in range(blocks))

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return x


BUILD = {
    "stack": lambda: stack(4, 2048),
    "wide": lambda: stack(2, 5120),
    "wan": lambda: Wan(2, 5120, 13824),
}
WIDTH = {"stack": 2048, "wide": 5120, "wan": 5120}


def linear_names(net):
    return [name for name, module in net.named_modules() if isinstance(module, nn.Linear)]


def empty(name, dtype=torch.float32):
    """A net whose tensors have shapes and no memory."""
    with torch.device("meta"):
        return BUILD[name]().to(dtype).eval().requires_grad_(False)


def opened(name, path):
    net = empty(name)
    net.load_state_dict(load_file(path), assign=True)
    return net.eval().requires_grad_(False)


def open_minilm(folder):
    """all-MiniLM-L6-v2 as transformers opens it, without the pooler, which sentence encoders do not use."""
    from transformers import BertModel

    return BertModel.from_pretrained(folder, add_pooling_layer=False).eval().requires_grad_(False)


def embed(bert, ids, mask):
    """The mean of the tokens, of length 1: what sentence-transformers computes with it."""
    hidden = bert(input_ids=ids, attention_mask=mask).last_hidden_state
    mean = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
    return nn.functional.normalize(mean, dim=1)
