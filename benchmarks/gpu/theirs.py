# SPDX-License-Identifier: Apache-2.0
# PEFT's half of the comparison on a GPU: the linears of a few blocks of Wan in bf16, adapters of rank 32, as in as_peft.hpp.
#   theirs.py RESULTS [--device cuda|cpu] [--tiny]
# Writes JSON, key -> value, in ms and bytes; times are medians of the call and the wait for the device. Adapters keep the
# dtype of their file (autocast_adapter_dtype=False), and loading takes the quicker of PEFT's two ways. Where there is no
# torch, no PEFT or no GPU it says so and leaves with 77.
import argparse
import json
import os
import pathlib
import sys
import tempfile
import time
import warnings

os.environ.setdefault("HF_HUB_OFFLINE", "1")
warnings.filterwarnings("ignore")
RANK = 32
TARGETS = ["to_q", "to_k", "to_v", "to_out.0", "add_k_proj", "add_v_proj", "net.0.proj", "net.2"]
ROUNDS = 21
LOAD_ROUNDS = 7  # they are slow


def leave(why):
    print(f"theirs: not measured: {why}", flush=True)
    sys.exit(77)


try:
    import peft
    import torch

    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "peers"))
    import nets
except ImportError as missing:
    leave(missing)


class Theirs:
    def __init__(self, device, tiny, folder):
        self.device = device
        self.results = {}
        width, inner = (128, 352) if tiny else (5120, 13824)
        with torch.device("meta"):
            net = nets.Wan(2, width, inner).to(torch.bfloat16)
        net = net.to_empty(device=device).eval().requires_grad_(False)
        torch.manual_seed(1)
        for tensor in net.state_dict().values():
            tensor.normal_(0, 0.02)
        self.linears = len(nets.linear_names(net))
        config = peft.LoraConfig(r=RANK, lora_alpha=RANK, target_modules=TARGETS, init_lora_weights=False)
        self.model = peft.get_peft_model(net, config, adapter_name="a0", autocast_adapter_dtype=False).eval()
        with torch.no_grad():
            for name, tensor in self.model.named_parameters():
                if "lora_" in name:
                    tensor.normal_(0, 0.02)
        self.model.save_pretrained(folder)
        self.path = f"{folder}/a0"
        self.loaded = 1

    def wait(self):
        if self.device == "cuda":
            torch.cuda.synchronize()

    def ms(self, call):
        self.wait()
        start = time.perf_counter()
        call()
        self.wait()
        return (time.perf_counter() - start) * 1e3

    def add(self, key, value):
        self.results[key] = value
        print(f"  PEFT {key}: {value:.4g}", file=sys.stderr, flush=True)

    def time(self, call, undo, rounds):
        """Medians of both, in ms; the first turn does not count."""
        taken = [(self.ms(call), self.ms(undo)) for _ in range(rounds + 1)][1:]
        return [sorted(times)[rounds // 2] for times in zip(*taken)]

    def peak(self, call):
        """Bytes of the GPU's memory at most above what is held before; none on the processor."""
        if self.device != "cuda":
            call()
            return None
        self.wait()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        self.wait()
        return torch.cuda.max_memory_allocated() - before

    def load(self, name, low):
        self.model.load_adapter(self.path, name, autocast_adapter_dtype=False, low_cpu_mem_usage=low, torch_device=self.device)

    def load_and_switch(self, loaded):
        while self.loaded < loaded:
            self.load(f"a{self.loaded}", True)
            self.loaded += 1
        drop = lambda: self.model.delete_adapter("fresh")
        if loaded == 1:
            self.add_peak("peak_load", lambda: self.load("fresh", True))
            drop()
        ways = [self.time(lambda: self.load("fresh", low), drop, LOAD_ROUNDS)[0] for low in (False, True)]
        self.add(f"load_{loaded}", min(ways))
        at = 0

        def switch():
            nonlocal at
            at = (at + 1) % loaded
            self.model.set_adapter(f"a{at}")

        self.add(f"switch_{loaded}", self.time(switch, lambda: None, ROUNDS)[0])
        self.model.set_adapter("a0")

    def add_peak(self, key, call):
        peak = self.peak(call)
        if peak is not None:
            self.add(key, peak)

    def merge(self):
        call = lambda: self.model.merge_adapter(["a0"])
        self.add_peak("peak_merge", call)
        self.model.unmerge_adapter()
        merged, unmerged = self.time(call, self.model.unmerge_adapter, ROUNDS)
        self.add("merge", merged)
        self.add("unmerge", unmerged)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("results", type=pathlib.Path)
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--tiny", action="store_true", help="small sizes: does it run?")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        leave("torch finds no GPU")
    with torch.inference_mode(), tempfile.TemporaryDirectory() as folder:
        theirs = Theirs(options.device, options.tiny, folder)
        theirs.merge()
        for loaded in (1, 10, 100):
            theirs.load_and_switch(loaded)
            options.results.write_text(json.dumps(
                {"torch": torch.__version__, "peft": peft.__version__, "linears": theirs.linears, "rank": RANK, "values": theirs.results}, indent=1) + "\n")


main()
