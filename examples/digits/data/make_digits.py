# SPDX-License-Identifier: Apache-2.0
"""Trains the small real model of examples/digits, and three LoRA adapters for it, and writes every file of this folder.

Makes   digits.safetensors            the base model, f32, trained on upright clean digits
        digits_test.safetensors       450 test images of 8x8 pixels (u8, 0..16) under each shift, and their labels
        rotated/ inverted/ noisy/     adapters trained and saved by PEFT on shifted images
Run     python -m pip install -r requirements.txt && python make_digits.py        (one thread, about one minute)

Everything is seeded: on one machine with these versions a second run writes the same bytes.
"""
import json
import pathlib
import shutil
import tempfile

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

HERE = pathlib.Path(__file__).resolve().parent
SEED = 20240
NOISE_SIGMA = 6.0  # in pixel steps; a pixel is 0..16
TASKS = ("clean", "rotated", "inverted", "noisy", "rotated_inverted")


# ---- the model: the names of its state dict are the contract with the C++ side -------------------------------------
class Block(nn.Module):
    def __init__(self, width=64, hidden=128):
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=1e-5)
        self.up = nn.Linear(width, hidden)
        self.down = nn.Linear(hidden, width)

    def forward(self, x):
        return x + self.down(nn.functional.gelu(self.up(self.norm(x))))


class Digits(nn.Module):
    """[n, 64] pixels / 16 -> [n, 10] logits."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Linear(64, 64)
        self.blocks = nn.ModuleList(Block() for _ in range(3))
        self.norm = nn.LayerNorm(64, eps=1e-5)
        self.head = nn.Linear(64, 10)

    def forward(self, x):
        x = nn.functional.gelu(self.stem(x))
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


# ---- the shifts: u8 [n, 64] -> u8 [n, 64] --------------------------------------------------------------------------
def rotate(pixels):
    return np.ascontiguousarray(np.rot90(pixels.reshape(-1, 8, 8), axes=(1, 2))).reshape(-1, 64)  # counterclockwise


def invert(pixels):
    return (16 - pixels.astype(np.int16)).astype(np.uint8)


def add_noise(pixels, rng):
    noise = rng.normal(0.0, NOISE_SIGMA, size=pixels.shape)
    return np.clip(np.rint(pixels + noise), 0, 16).astype(np.uint8)


def shifted(pixels, task, rng):
    if task == "clean":
        return pixels
    if task == "rotated":
        return rotate(pixels)
    if task == "inverted":
        return invert(pixels)
    if task == "noisy":
        return add_noise(pixels, rng)
    if task == "rotated_inverted":
        return invert(rotate(pixels))
    raise ValueError(task)


def to_input(pixels):
    return torch.from_numpy(pixels.astype(np.float32) / 16)


def split():
    """(train pixels [1347, 64] u8, train labels), (test pixels [450, 64] u8, test labels)"""
    data = load_digits()
    train_x, test_x, train_y, test_y = train_test_split(
        data.data.astype(np.uint8), data.target.astype(np.uint8), test_size=450, stratify=data.target, random_state=SEED)
    return (train_x, train_y), (test_x, test_y)


# ---- training ------------------------------------------------------------------------------------------------------
def train(model, train_set, tasks, epochs, rate, seed, prepare=lambda task: None):
    """AdamW over the parameters that ask for a gradient; batches go round `tasks`, `prepare(task)` runs before each."""
    pixels, labels = train_set
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=rate, weight_decay=0.02)
    batch, n = 64, len(labels)
    steps = epochs * (n // batch)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    step = 0
    for _ in range(epochs):
        order = rng.permutation(n)
        for first in range(0, n - batch + 1, batch):
            rows, task = order[first:first + batch], tasks[step % len(tasks)]
            prepare(task)
            x, y = to_input(shifted(pixels[rows], task, rng)), torch.from_numpy(labels[rows].astype(np.int64))
            loss = nn.functional.cross_entropy(model(x), y, label_smoothing=0.05)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            step += 1


@torch.no_grad()
def correct(model, pixels, labels):
    return int((model(to_input(pixels)).argmax(1).numpy() == labels).sum())


# ---- adapters ------------------------------------------------------------------------------------------------------
LORA = {
    "rotated": dict(r=8, lora_alpha=16, target_modules=["stem", "up", "down", "head"]),
    "inverted": dict(r=4, lora_alpha=8, target_modules=["stem", "up", "down", "head"],
                     rank_pattern={"blocks.0.up": 8, "stem": 6}, alpha_pattern={"head": 4, r"blocks\.[12]\.down": 12}),
    "noisy": dict(r=4, lora_alpha=8, use_rslora=True, target_modules=["up", "down"]),
}


def select(peft_model, active, trained):
    """Attaches the adapters `active`; only `trained` takes gradients."""
    peft_model.base_model.set_adapter(list(active))
    for name, parameter in peft_model.named_parameters():
        parameter.requires_grad_(f".{trained}." in name and "lora_" in name)


def train_adapters(base, train_set):
    torch.manual_seed(SEED + 1)
    model = get_peft_model(base, LoraConfig(**LORA["rotated"]), adapter_name="rotated")
    train(model, train_set, ["rotated"], epochs=60, rate=4e-3, seed=SEED + 2)

    # inverted learns to work alone and beside rotated, which stays frozen: the two are meant to be attached together.
    model.add_adapter("inverted", LoraConfig(**LORA["inverted"]))
    beside = {"inverted": ["inverted"], "rotated_inverted": ["rotated", "inverted"]}
    select(model, ["inverted"], "inverted")
    train(model, train_set, list(beside), epochs=200, rate=4e-3, seed=SEED + 3,
          prepare=lambda task: select(model, beside[task], "inverted"))

    model.add_adapter("noisy", LoraConfig(**LORA["noisy"]))
    select(model, ["noisy"], "noisy")
    train(model, train_set, ["noisy"], epochs=60, rate=2e-3, seed=SEED + 4)
    return model


def save_adapters(model, folder):
    """What PEFT saves, less its model card and what differs between runs: the base's path, the order of a Python set."""
    with tempfile.TemporaryDirectory() as saved:
        model.save_pretrained(saved)
        for name in model.peft_config:
            (folder / name).mkdir(parents=True, exist_ok=True)
            shutil.copyfile(f"{saved}/{name}/adapter_model.safetensors", folder / name / "adapter_model.safetensors")
            config = json.loads(pathlib.Path(saved, name, "adapter_config.json").read_text())
            config["base_model_name_or_path"] = "digits"
            config["target_modules"] = sorted(config["target_modules"])
            (folder / name / "adapter_config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def main():
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    train_set, (test_pixels, test_labels) = split()

    torch.manual_seed(SEED)
    base = Digits()
    train(base, train_set, ["clean"], epochs=60, rate=2e-3, seed=SEED)
    save_file({k: v.contiguous() for k, v in base.state_dict().items()}, HERE / "digits.safetensors", metadata={"format": "pt"})

    rng = np.random.default_rng(SEED + 5)
    tests = {task: shifted(test_pixels, task, rng) for task in TASKS}
    save_file({**{k: torch.from_numpy(v) for k, v in tests.items()}, "labels": torch.from_numpy(test_labels)},
              HERE / "digits_test.safetensors")

    print(f"{'':18}" + "".join(f"{task:>18}" for task in TASKS))
    row = lambda name, model: print(f"{name:18}" + "".join(f"{correct(model, tests[t], test_labels):18}" for t in TASKS))
    row("base", base)
    model = train_adapters(base, train_set)
    for active in (["rotated"], ["inverted"], ["noisy"], ["rotated", "inverted"]):
        model.base_model.set_adapter(active)
        row("+".join(active), model)

    save_adapters(model, HERE)


if __name__ == "__main__":
    main()
