# SPDX-License-Identifier: Apache-2.0
"""What make_model_names.py, make_model_goldens.py and make_diffusion_goldens.py share. Imported by them.

Names: transformers 5 renamed modules of ViT and of CLIP's text encoder; released files keep the names of transformers 4, and
`released_name` gives those. Weights depend on the tensor's name alone. `Exact` makes a model compute everything in float64.
`write_bf16` makes bf16.safetensors.
"""

import pathlib

import torch
from safetensors.torch import save_file
from torch.overrides import TorchFunctionMode

from kinds_nets import drawn

MODELS = pathlib.Path(__file__).resolve().parent / "models"
BF16_GAP = 16 * 2**-8  # how far a run in bfloat16 may be from float64: 1 and the number below it are 2^-8 apart
VIT_NAMES = (
    ("attention.q_proj.", "attention.attention.query."),
    ("attention.k_proj.", "attention.attention.key."),
    ("attention.v_proj.", "attention.attention.value."),
    ("attention.o_proj.", "attention.output.dense."),
    ("mlp.fc1.", "intermediate.dense."),
    ("mlp.fc2.", "output.dense."),
)


def released_name(kind, name):
    """The name in released files of what transformers 5 calls `name` in a model of class `kind`."""
    if kind == "CLIPTextModel":
        return "text_model." + name
    if kind == "ViTModel" and name.startswith("layers."):
        name = "encoder.layer." + name.removeprefix("layers.")
        for ours, theirs in VIT_NAMES:
            name = name.replace(ours, theirs)
    return name


def released_state(model):
    """Released name -> tensor, in the model's order. A tensor that two modules share is there once, under its first name."""
    state, seen = {}, set()
    for name, tensor in model.state_dict(keep_vars=True).items():
        if id(tensor) not in seen:
            state[released_name(type(model).__name__, name)] = tensor.detach()
        seen.add(id(tensor))
    return state


def weight(seed, name, shape, std=0.2):
    """Far from an initialization, so that every part shows in the output: norms about 1, biases about 0."""
    if len(shape) == 1:
        return 1 + 0.2 * drawn(seed + name, shape) if name.endswith("weight") else 0.1 * drawn(seed + name, shape)
    return std * drawn(seed + name, shape)


class Exact(TorchFunctionMode):
    """float64 as torch's default, and a model's own steps in float32 (norms, softmax, angles) are in float64 too."""

    def __enter__(self):
        torch.set_default_dtype(torch.float64)
        return super().__enter__()

    def __exit__(self, *exception):
        torch.set_default_dtype(torch.float32)
        return super().__exit__(*exception)

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func in (torch.frombuffer, torch.Tensor.view):  # these reinterpret the bytes of a file
            return func(*args, **(kwargs or {}))
        func = torch.Tensor.double if func is torch.Tensor.float else func
        args = [torch.float64 if a is torch.float32 else a for a in args]
        kwargs = {k: torch.float64 if v is torch.float32 else v for k, v in (kwargs or {}).items()}
        return func(*args, **kwargs)


def rounded(tensors, dtype):
    """Each number rounded once to `dtype`, to nearest even; integers as they are."""
    return {k: v.to(dtype) if v.is_floating_point() else v for k, v in tensors.items()}


def in_bf16(model):
    """What files hold is bf16, constants of the code (angles) stay as they are: so from_pretrained(dtype=torch.bfloat16), which
    would keep a few of Wan's weights in float32 besides."""
    for tensor in model.state_dict(keep_vars=True).values():
        tensor.data = tensor.data.bfloat16() if tensor.is_floating_point() else tensor.data
    return model


def write_bf16(name, keys, make, outputs, adapted=None, valid=...):
    """models/NAME/bf16.safetensors. `make()` is the model with rounded weights, `adapted()` the same with the adapter aside;
    `outputs(model, dtype)` is what one gives, of which `keys` are kept. Only the rows `valid` count."""
    whole = outputs(in_bf16(make()), torch.bfloat16)
    with Exact():
        exact = outputs(make(), torch.float64)
        beside = outputs(adapted(), torch.float64) if adapted else {}
    keep = {}
    for key in keys:
        assert whole[key].dtype == torch.bfloat16 and exact[key].dtype == torch.float64
        gap = relative(whole[key][valid], exact[key][valid])
        assert 2**-10 < gap < BF16_GAP, (name, key, gap)
        print(f"{name:21} {key}: bf16 against f64 {gap:.4f}, that is {gap * 2**8:.1f} / 2^8")
        keep[key], keep["bfloat16." + key] = exact[key], whole[key]
        keep.update({"adapted." + key: beside[key]} if beside else {})
    save(MODELS / name / "bf16.safetensors", keep)


def relative(got, exact):
    return ((got.double() - exact).abs().max() / exact.abs().max()).item()


def save(path, tensors):
    """Rounded to f32; integers are i32."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rounded = {k: v.float() if v.is_floating_point() else v.int() for k, v in tensors.items()}
    save_file({k: v.detach().contiguous().clone() for k, v in rounded.items()}, path, metadata={"format": "pt"})
