# SPDX-License-Identifier: Apache-2.0
# Writes what both sides read, with fixed seeds: base weights, inputs, and adapters that PEFT itself saves.
#   make_files.py FOLDER SET...      SET: stack_f32 stack_bf16 wide_f32 wide_bf16 wan_bf16 minilm
# A set that is there already is left as it is. `minilm` needs the model's folder in TENON_MINILM.
import os
import pathlib
import shutil
import sys

os.environ.setdefault("HF_HUB_OFFLINE", "1")
import peft
import torch
from safetensors.torch import save_file

import nets

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}
RANK = {"f32": 16, "bf16": 32}
ADAPTERS = {"stack_f32": 100, "stack_bf16": 2, "wide_f32": 2, "wide_bf16": 2, "wan_bf16": 1}
SIGMA = {"stack": 0.02, "wide": 0.012, "wan": 0.008}  # so that outputs stay about as large as inputs
TARGETS = {
    "stack": ["fc1", "fc2", "fc3", "fc4"],
    "wide": ["fc1", "fc2"],
    "wan": ["to_q", "to_k", "to_v", "to_out.0", "add_k_proj", "add_v_proj", "net.0.proj", "net.2"],
}


def save_adapters(net, folder, targets, rank, names):
    for i, name in enumerate(names):
        torch.manual_seed(1000 + i)
        config = peft.LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=targets, init_lora_weights=False)
        model = peft.get_peft_model(net, config, autocast_adapter_dtype=False)
        model.save_pretrained(folder / name)
        net = model.unload()


def make_net(folder, name, dtype):
    net = nets.empty(name, DTYPES[dtype])
    torch.manual_seed(1)
    tensors = {key: torch.empty(value.shape, dtype=value.dtype).normal_(0, SIGMA[name]) for key, value in net.state_dict().items()}
    save_file(tensors, folder / "model.safetensors")
    net.load_state_dict(tensors, assign=True)
    save_adapters(net, folder, TARGETS[name], RANK[dtype], [f"adapter_{i:03}" for i in range(ADAPTERS[f"{name}_{dtype}"])])
    if name != "wan":
        save_adapters(net, folder, TARGETS[name], 128, ["adapter_rank_128"])  # large enough to tell from the noise in memory
    torch.randn(512, nets.WIDTH[name]).to(DTYPES[dtype]).float().numpy().tofile(folder / "input.f32")


def make_minilm(folder):
    net = nets.open_minilm(os.environ["TENON_MINILM"])
    save_adapters(net, folder, ["query", "key", "value", "dense"], 16, ["adapter_000"])
    torch.manual_seed(2)
    torch.randint(1000, 30000, (8, 64), dtype=torch.int32).numpy().tofile(folder / "ids.i32")


def main():
    root = pathlib.Path(sys.argv[1])
    for wanted in sys.argv[2:]:
        done = root / wanted
        if done.exists():
            continue
        print(f"making {done}", flush=True)
        part = root / (wanted + ".part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        if wanted == "minilm":
            make_minilm(part)
        else:
            make_net(part, *wanted.split("_"))
        part.rename(done)


main()
