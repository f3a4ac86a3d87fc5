# SPDX-License-Identifier: Apache-2.0
# The half of PyTorch and PEFT: answers on stdout, line by line, the same questions as ours.cpp, which lists them.
#   theirs.py NET FOLDER
# Times are of the call alone, in a warm process: imports and the first use of PEFT are behind it. Adapters keep the dtype
# that their file has (autocast_adapter_dtype=False): less to hold and to convert than with PEFT's default.
import os
import sys
import time

os.environ.setdefault("HF_HUB_OFFLINE", "1")
import warnings

warnings.filterwarnings("ignore")
import numpy
import peft
import torch
from safetensors.torch import load_file
from torch.nn import functional

import nets
from memory import peak_kilobytes, reset_peak, resident_kilobytes, anonymous_kilobytes


def warm_peft():
    """PEFT looks for its optional back ends at the first use; on a net of its own, so that no figure holds it."""
    net = nets.stack(1, 8)
    model = peft.get_peft_model(net, peft.LoraConfig(r=2, target_modules=["fc1"]))
    model(torch.zeros(1, 8))
    model.merge_adapter()
    model.unmerge_adapter()


def seconds(call):
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def mean_seconds(call):
    """The mean of as many calls as take 5 ms, at least one after the first; the first counts if it is long."""
    once = seconds(call)
    if once > 0.1:
        return once
    count = max(1, min(10_000, int(5e-3 / once)))
    start = time.perf_counter()
    for _ in range(count):
        call()
    return (time.perf_counter() - start) / count


class Theirs:
    def __init__(self, name, folder):
        self.folder = folder
        self.net = nets.opened(name, f"{folder}/model.safetensors")
        self.dtype = next(self.net.parameters()).dtype
        width = nets.WIDTH[name]
        self.input = torch.from_numpy(numpy.fromfile(f"{folder}/input.f32", dtype=numpy.float32).reshape(-1, width))
        linears = [module for module in self.net.modules() if isinstance(module, torch.nn.Linear)]
        self.weights = [linear.weight.detach() for linear in linears]
        self.biases = [linear.bias.detach() for linear in linears]
        self.model = None
        self.loaded = 0
        self.at = 0

    def x(self, rows):
        return self.input[: int(rows)].to(self.dtype)

    def path(self, i):
        return f"{self.folder}/adapter_{i:03}"

    # --- each question is a method; what it returns is the answer's seconds, or text ---------------------------
    def threads(self, count):
        torch.set_num_threads(int(count))
        return "yes"

    def adapters(self, count):
        """Loads adapters until there are so many; the first is the active one."""
        while self.loaded < int(count):
            name = f"a{self.loaded}"
            if self.model is None:
                self.wrap(self.path(0))
            else:
                self.model.load_adapter(self.path(self.loaded), name, autocast_adapter_dtype=False)
            self.loaded += 1
        return "yes"

    def wrap(self, path):
        self.model = peft.PeftModel.from_pretrained(self.net, path, adapter_name="a0", autocast_adapter_dtype=False).eval()

    def load(self, how):
        """Loads one more adapter and makes it the active one; `how`: plain, or low (low_cpu_mem_usage)."""
        low = how == "low"

        def call():
            self.model.load_adapter(self.path(1), "fresh", autocast_adapter_dtype=False, low_cpu_mem_usage=low)
            self.model.set_adapter("fresh")

        total = 0
        for _ in range(3):
            total += seconds(call)
            self.model.set_adapter("a0")
            self.model.delete_adapter("fresh")
        return total / 3

    def switch(self):
        def call():
            self.at = (self.at + 1) % self.loaded
            self.model.set_adapter(f"a{self.at}")

        time_each = mean_seconds(call)
        self.model.set_adapter("a0")
        return time_each

    def merge(self, *_):
        return seconds(lambda: self.model.merge_adapter(["a0"]))

    def unmerge(self):
        return seconds(self.model.unmerge_adapter)

    def switch_merged(self):
        """From a0 merged to a1 merged."""
        self.model.merge_adapter(["a0"])

        def call():
            self.model.unmerge_adapter()
            self.model.set_adapter("a1")
            self.model.merge_adapter(["a1"])

        taken = seconds(call)
        self.model.unmerge_adapter()
        self.model.set_adapter("a0")
        return taken

    def forward(self, rows):
        x = self.x(rows)
        return mean_seconds(lambda: self.model(x))

    def product(self, rows):
        """One product x W^T of torch alone, with the first layer's weight."""
        x, weight = self.x(rows), self.weights[0]
        return mean_seconds(lambda: functional.linear(x, weight))

    def output(self, what, rows, path):
        if what == "merged":
            self.model.merge_adapter(["a0"])
        self.model(self.x(rows)).float().numpy().tofile(path)
        if what == "merged":
            self.model.unmerge_adapter()
        return "yes"

    def reference(self, rows, path):
        """What a net of layers one after another gives in float64, for the stored weights and the first adapter."""
        factors = load_file(f"{self.path(0)}/adapter_model.safetensors")
        y = self.input[: int(rows)].to(self.dtype).double()
        for i, weight in enumerate(self.pristine()):
            a, b = (factors[f"base_model.model.fc{i + 1}.lora_{part}.weight"].double() for part in "AB")
            y = functional.linear(y, weight.double(), self.biases[i].double()) + 2.0 * (y @ a.T) @ b.T
        y.numpy().tofile(path)
        return "yes"

    def pristine(self):
        """The weights as the file has them, mapped anew."""
        tensors = load_file(f"{self.folder}/model.safetensors")
        return [tensors[f"fc{i + 1}.weight"] for i in range(len(self.weights))]

    def changed(self):
        """The share of the base weights' elements that differ from the file's, and the largest difference."""
        changed = total = 0
        largest = 0.0
        for weight, was in zip(self.weights, self.pristine()):
            difference = (weight.float() - was.float()).abs()
            changed += int((difference > 0).sum())
            total += difference.numel()
            largest = max(largest, float(difference.max()))
        return f"{changed / total} {largest}"

    def peak(self, what):
        """KiB at most above what was resident before, and what stays of it in memory of the process's own."""
        before, own = resident_kilobytes(), anonymous_kilobytes()
        reset_peak()
        if what == "load":
            self.wrap(f"{self.folder}/adapter_rank_128")
        elif what == "pass":
            self.model(self.x(64))
        elif what == "merge":
            self.model.merge_adapter(["a0"])
        elif what == "unmerge":
            self.model.unmerge_adapter()
            self.net = self.model.unload()
            self.model = None
        elif what == "base":
            self.net(self.x(64))
        return f"{peak_kilobytes() - before} {anonymous_kilobytes() - own}"


def main():
    torch.set_num_threads(1)
    torch.set_num_interop_threads(1)
    with torch.inference_mode():
        warm_peft()
        theirs = Theirs(*sys.argv[1:3])
        for line in sys.stdin:
            question, *arguments = line.split()
            answer = getattr(theirs, question)(*arguments)
            print(question, answer, resident_kilobytes(), flush=True)


main()
