# SPDX-License-Identifier: Apache-2.0
# The same whole program as ours.cpp with torch, transformers (MiniLM) and PEFT, with one more stage: imports. In PEFT
# loading an adapter attaches it, so `attach` is the merge where there is one.
#   theirs.py wan|minilm side|merged FOLDER MODEL OUTPUT THREADS
import os
import pathlib
import sys
import time

start = time.perf_counter()
os.environ.setdefault("HF_HUB_OFFLINE", "1")
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "peers"))
import warnings

warnings.filterwarnings("ignore")
import numpy
import peft
import torch

import nets
from memory import peak_kilobytes

net_name, mode, folder, model_path, output, threads = sys.argv[1:]
if net_name == "minilm":
    from transformers import BertModel
torch.set_num_threads(int(threads))
torch.set_num_interop_threads(1)


def stage(name, since):
    print(name, f"{time.perf_counter() - since:.6f}", peak_kilobytes())
    return time.perf_counter()


def main(now):
    if net_name == "wan":
        net = nets.opened("wan", model_path)
        x = numpy.fromfile(f"{folder}/input.f32", dtype=numpy.float32, count=32 * 5120).reshape(1, 32, 5120)
        x = torch.from_numpy(x).to(torch.bfloat16)
        forward = lambda model: model(x)
    else:
        net = nets.open_minilm(str(pathlib.Path(model_path).parent))
        ids = torch.from_numpy(numpy.fromfile(f"{folder}/ids.i32", dtype=numpy.int32).reshape(8, 64)).long()
        mask = torch.ones_like(ids)
        forward = lambda model: nets.embed(model, ids, mask)
    now = stage("open", now)
    model = peft.PeftModel.from_pretrained(net, f"{folder}/adapter_000", autocast_adapter_dtype=False).eval()
    now = stage("load", now)
    if mode == "merged":
        model.merge_adapter()
    now = stage("attach", now)
    y = forward(model)
    now = stage("forward", now)
    y.float().numpy().tofile(output)
    now = time.perf_counter()
    if mode == "merged":
        model.unmerge_adapter()
    model.unload()
    stage("detach", now)


with torch.inference_mode():
    started = stage("imports", start)
    print("imports_user", os.times().user, 0)
    main(started)
