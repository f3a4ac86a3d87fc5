# SPDX-License-Identifier: Apache-2.0
# Runs whole programs in turn, ours and PEFT's, and writes medians to a JSON file: each stage's time, and, from the system,
# the time and the peak of resident memory of the whole process. Both programs' outputs must agree.
#   compare.py BENCH_LIFECYCLE FILES MINILM_FOLDER RESULTS.json [--turns N] [--quick]
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

import numpy

HERE = pathlib.Path(__file__).resolve().parent
# of the largest output. wan: bf16, torch rounds every sum and every layer's output to 8 bits. minilm: f32
TOLERANCE = {"wan": 3e-2, "minilm": 1e-5}


def run(command):
    """Runs a program to its end: its stages, its time, the part of it in the program itself, and its peak (KiB)."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    text = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"compare: {command} left with {process.returncode}")
    stages = {name: (float(taken), int(peak)) for name, taken, peak in (line.split() for line in text.splitlines())}
    return {"stages": stages, "wall": time.perf_counter() - start, "user": usage.ru_utime, "peak": usage.ru_maxrss}


def medians(runs):
    names = runs[0]["stages"]
    return {**{key: statistics.median(r[key] for r in runs) for key in ("wall", "user")}, "peak": statistics.median(r["peak"] for r in runs),
            "stages": {n: statistics.median(r["stages"][n][0] for r in runs) for n in names},
            "level": statistics.median(r["stages"]["imports"][1] for r in runs) if "imports" in names else 0}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("bench", type=pathlib.Path)
    parser.add_argument("files", type=pathlib.Path)
    parser.add_argument("minilm", type=pathlib.Path)
    parser.add_argument("results", type=pathlib.Path)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one turn of minilm: does it run?")
    options = parser.parse_args()
    work = options.results.parent
    found = []
    for net in ("minilm",) if options.quick else ("minilm", "wan"):
        folder = options.files / ("wan_bf16" if net == "wan" else net)
        model = folder / "model.safetensors" if net == "wan" else options.minilm / "model.safetensors"
        for mode in ("side", "merged"):
            warm = 1 if mode == "side" and not options.quick else 0  # not counted: it brings the files into memory
            turns = 1 if options.quick else options.turns
            sides = {"ours": [str(options.bench)], "theirs": [sys.executable, str(HERE / "theirs.py")]}
            runs = {side: [] for side in sides}
            for turn in range(warm + turns):
                for side, command in sides.items():
                    got = run(command + [net, mode, str(folder), str(model), str(work / side), "1"])
                    if turn >= warm:
                        runs[side].append(got)
            outputs = [numpy.fromfile(work / side, dtype=numpy.float32) for side in ("ours", "theirs")]
            apart = float(abs(outputs[0] - outputs[1]).max() / abs(outputs[1]).max())
            row = {"net": net, "mode": mode, "turns": turns, "threads": 1, "apart": apart,
                   **{side: medians(list_) for side, list_ in runs.items()}}
            found.append(row)
            print(f"  {net} {mode}: {row['ours']['wall']:.3g} s and {row['ours']['peak'] / 1024:.0f} MiB, "
                  f"{row['theirs']['wall']:.3g} s and {row['theirs']['peak'] / 1024:.0f} MiB; outputs apart by {apart:.2g}", flush=True)
            if apart > TOLERANCE[net]:
                sys.exit(f"compare: {net} {mode}: outputs are apart by more than {TOLERANCE[net]} of the largest")
    options.results.write_text(json.dumps({"tolerance": TOLERANCE, "runs": found}, indent=1) + "\n")


main()
