# SPDX-License-Identifier: Apache-2.0
# What the scripts share that ask two programs in turn.
import importlib.metadata
import os
import pathlib
import platform
import subprocess
import sys


class Side:
    """A process that answers one line for each line."""

    def __init__(self, command, environment=None):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        env={**os.environ, **(environment or {})})

    def ask(self, question):
        self.process.stdin.write(question + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"compare: no answer to '{question}' from {self.process.args}")
        return line.split()[1:-1]

    def number(self, question):
        return float(self.ask(question)[0])

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def machine():
    model = flags = ""
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            model = value.strip()
        if key.strip() == "flags":
            flags = value.split()
    sets = [name for name in ("avx2", "fma", "avx512f", "avx512_bf16", "amx_bf16") if name in flags]
    versions = {name: importlib.metadata.version(name) for name in ("torch", "peft", "transformers", "safetensors", "numpy")}
    compiler = subprocess.run(["c++", "--version"], capture_output=True, text=True).stdout.splitlines()
    return {"cpu": model, "cores": os.cpu_count(), "sets": sets, "system": f"{platform.system()} {'.'.join(platform.release().split('.')[:2])}, {' '.join(platform.libc_ver())}", "versions": versions,
            "python": platform.python_version(), "compiler": compiler[0] if compiler else "?",
            "load": os.getloadavg()[0]}
