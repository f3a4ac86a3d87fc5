# SPDX-License-Identifier: Apache-2.0
# Asks Tenon's half (bench_peers) and PyTorch's and PEFT's (theirs.py) in turn, in warm processes, and writes medians to a
# JSON file, which report.py turns into a page. Before anything is timed both sides' outputs are held against float64.
#   compare.py BENCH_PEERS FILES RESULTS.json [--turns N] [--quick]
import argparse
import json
import os
import pathlib
import statistics
import sys

import numpy

from sides import Side, machine

HERE = pathlib.Path(__file__).resolve().parent
ROWS = 64  # of the pass that is checked
TOLERANCE = {"f32": 1e-5, "bf16": 3e-2}  # of the largest output; bf16: torch rounds every layer's output to 8 bits
WEIGHTS = {"stack": (4, 2048), "wide": (2, 5120)}  # layers, width
BYTES = {"f32": 4, "bf16": 2}
# glibc gives large blocks back to the system as soon as they are free, or not, as the blocks around them happen to lie; a
# merge of PEFT's, which takes and frees a few matrices, is several times faster where it does not.
KEEP_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(1 << 34)}


class Pair:
    """Both sides on one net, and the rows measured on it."""

    def __init__(self, options, net, dtype):
        self.options, self.net, self.dtype = options, net, dtype
        folder = str(options.files / f"{net}_{dtype}")
        self.folder = folder
        self.ours = Side([str(options.bench), net, folder])
        self.start_theirs({})
        self.rows = []
        self.merges = 1  # of theirs: that of `checks`

    def start_theirs(self, environment):
        self.theirs = Side([sys.executable, str(HERE / "theirs.py"), self.net, self.folder], environment)

    def both(self, question):
        return self.ours.ask(question), self.theirs.ask(question)

    def in_turn(self, ours, theirs):
        """Medians of the answers to lists of questions, asked in turn; the first round is not counted."""
        answers = [[] for _ in ours + theirs]
        for turn in range(self.options.turns + 1):
            for i, (side, question) in enumerate([(self.ours, q) for q in ours] + [(self.theirs, q) for q in theirs]):
                value = side.number(question)
                if turn > 0:
                    answers[i].append(value)
        medians = [statistics.median(list_) for list_ in answers]
        return medians[: len(ours)], medians[len(ours) :]

    def add(self, what, kind, threads, ours, theirs, **more):
        self.rows.append({"net": self.net, "dtype": self.dtype, "what": what, "kind": kind, "threads": threads,
                          "ours": ours, "theirs": theirs, **more})
        print(f"  {self.net} {self.dtype} {what}, {threads} thread(s): {ours:.3g} s, {theirs:.3g} s, x {theirs / ours:.3g}", flush=True)

    # --- before the times -------------------------------------------------------------------------------------------
    def peaks(self):
        self.both("peak base")  # the base's pages are in
        found = []
        for what in ("load", "pass", "merge"):
            (ours, ours_own), (theirs, theirs_own) = self.both(f"peak {what}")
            found.append({"net": self.net, "dtype": self.dtype, "what": what, "ours": int(ours), "theirs": int(theirs),
                          "ours_own": int(ours_own), "theirs_own": int(theirs_own)})
            print(f"  {self.net} {self.dtype} peak of {what}: {ours} KiB, {theirs} KiB", flush=True)
        self.ours.ask("own")
        ours, ours_own = self.ours.ask("peak merge_in_place")
        self.ours.ask("unmerge_in_place")
        found.append({**found[-1], "what": "merge in place", "ours": int(ours), "ours_own": int(ours_own)})
        print(f"  {self.net} {self.dtype} peak of merge in place: {ours} KiB", flush=True)
        self.both("peak unmerge")
        self.both("adapters 1")
        return found

    def checks(self):
        work = self.options.work
        self.theirs.ask(f"reference {ROWS} {work}/reference")
        wanted = numpy.fromfile(work / "reference", dtype=numpy.float64)
        found = []
        kinds = ("side", "merged") if self.dtype == "f32" else ("side", "merged", "side, rounded")
        for kind in kinds:
            what = kind.split(",")[0]
            self.ours.ask(f"rounds {'yes' if kind.endswith('rounded') else 'no'}")
            errors = []
            for side, name in ((self.ours, "ours"), (self.theirs, "theirs")):
                side.ask(f"output {what} {ROWS} {work}/{name}")
                got = numpy.fromfile(work / name, dtype=numpy.float32)
                errors.append(float(abs(got - wanted).max() / abs(wanted).max()))
            apart = float(abs(numpy.fromfile(work / "ours", dtype=numpy.float32) - got).max() / abs(wanted).max())
            found.append({"net": self.net, "dtype": self.dtype, "what": kind, "ours": errors[0], "theirs": errors[1], "apart": apart})
            print(f"  {self.net} {self.dtype} {kind}: off float64 by {errors[0]:.2g}, {errors[1]:.2g} of the largest output", flush=True)
            if max(errors) > TOLERANCE[self.dtype]:
                sys.exit(f"compare: {self.net} {self.dtype} {kind}: outputs are off by more than {TOLERANCE[self.dtype]}")
        self.ours.ask("rounds no")
        return found

    def restart_theirs_keeping_memory(self):
        self.theirs.close()
        self.start_theirs(KEEP_MEMORY)

    # --- times ------------------------------------------------------------------------------------------------------
    def load_and_switch(self, loaded):
        self.both(f"adapters {loaded}")
        (ours,), (plain, low) = self.in_turn(["load"], ["load plain", "load low"])
        self.add(f"load and attach, {loaded} loaded before", "load", 1, ours, min(plain, low), loaded=loaded,
                 note="low_cpu_mem_usage" if low < plain else "")
        (ours,), (theirs,) = self.in_turn(["switch"], ["switch"])
        self.add(f"switch, {loaded} loaded", "switch", 1, ours, theirs, loaded=loaded)

    def moved(self):
        """Bytes that copying the weights reads and writes."""
        layers, width = WEIGHTS[self.net]
        return 2 * layers * width * width * BYTES[self.dtype]

    def merge_into_new_memory(self, threads):
        (ours, _), (theirs, _) = self.in_turn(["merge fresh", "unmerge"], ["merge", "unmerge"])
        self.add("merge, memory from the system", "merge", threads, ours, theirs, bytes=self.moved())

    def merge_and_unmerge(self, threads):
        (merge, unmerge), (their_merge, their_unmerge) = self.in_turn(["merge kept", "unmerge"], ["merge", "unmerge"])
        self.add("merge, memory kept", "merge kept", threads, merge, their_merge, bytes=self.moved())
        self.add("unmerge, memory kept", "unmerge", threads, unmerge, their_unmerge)
        (ours,), (theirs,) = self.in_turn(["switch_merged"], ["switch_merged"])
        self.add("from one merged to another", "switch merged", threads, ours, theirs, bytes=self.moved())
        self.ours.ask("own")
        (merge, unmerge), (their_merge, their_unmerge) = self.in_turn(["merge_in_place", "unmerge_in_place"], ["merge", "unmerge"])
        self.add("merge in place", "merge in place", threads, merge, their_merge, bytes=self.moved())
        self.add("unmerge in place", "unmerge in place", threads, unmerge, their_unmerge, bytes=self.moved())
        self.merges += 4 * (self.options.turns + 1)  # `switch_merged` makes two

    def passes(self, threads, kind, rows, rounds=False):
        """`rounds`: our activations are rounded to bf16 too, where they are multiplied with base weights."""
        self.ours.ask(f"rounds {'yes' if rounds else 'no'}")
        (ours,), (theirs,) = self.in_turn([f"{kind} {rows}"], [f"{kind} {rows}"])
        self.ours.ask("rounds no")
        layers, width = WEIGHTS[self.net] if kind == "forward" else (1, WEIGHTS[self.net][1])
        operations = 2 * rows * layers * width * width
        name = "pass with an adapter" if kind == "forward" else "product, no adapter"
        self.add(f"{name}, {rows} {'row' if rows == 1 else 'rows'}", kind, threads, ours, theirs, rows=rows,
                 operations=operations, bytes=layers * width * width * BYTES[self.dtype], rounds=rounds,
                 note="bf16_products" if rounds else "")

    def drift(self):
        ours, theirs = self.both("changed")
        found = {"net": self.net, "dtype": self.dtype, "cycles": self.merges, "ours": float(ours[0]), "theirs": float(theirs[0]),
                 "largest": float(theirs[1])}
        print(f"  {self.net} {self.dtype}: base elements that differ after {self.merges} merges and unmerges: "
              f"{found['ours']:.0%}, {found['theirs']:.0%}", flush=True)
        return found


def limits(options, threads):
    """GB/s and GFLOP/s of so many single threads at once."""
    found = {}
    for what in ("read", "copy", "fma", "pairs"):
        sides = [Side([str(options.bench), "stack", str(options.files / "stack_f32")]) for _ in range(threads)]
        for side in sides:
            side.process.stdin.write(f"limit {what}\n")
            side.process.stdin.flush()
        found[what] = sum(float(side.process.stdout.readline().split()[1]) for side in sides)
        for side in sides:
            side.close()
    return found


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("bench", type=pathlib.Path)
    parser.add_argument("files", type=pathlib.Path)
    parser.add_argument("results", type=pathlib.Path)
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="two turns of a few rows: does it run?")
    options = parser.parse_args()
    if options.quick:
        options.turns = 2
    options.work = options.results.parent
    results = {"machine": machine(), "turns": options.turns, "quick": options.quick, "tolerance": TOLERANCE,
               "limits": {}, "peaks": [], "checks": [], "rows": [], "drift": []}
    groups = [("stack", "f32"), ("wide", "bf16")] if options.quick else [(net, dtype) for net in WEIGHTS for dtype in BYTES]
    for net, dtype in groups:
        print(f"{net} {dtype}", flush=True)
        pair = Pair(options, net, dtype)
        thread_counts = [1]
        if (os.cpu_count() or 1) > 1 and pair.ours.ask("threads 2") == ["yes"]:
            thread_counts.append(2)
        pair.both("threads 1")
        results["peaks"] += pair.peaks()
        for threads in thread_counts:
            pair.both(f"threads {threads}")
            pair.merge_into_new_memory(threads)
        pair.restart_theirs_keeping_memory()
        pair.both("threads 1")
        pair.both("adapters 1")
        results["checks"] += pair.checks()
        if net == "stack" and dtype == "f32":
            pair.load_and_switch(1)
        pair.both("adapters 2")
        if not (net == "stack" and dtype == "f32"):
            pair.load_and_switch(2)
        for threads in thread_counts:
            pair.both(f"threads {threads}")
            found, best = limits(options, threads), results["limits"].setdefault(str(threads), {})
            for what, value in found.items():
                best[what] = max(value, best.get(what, 0))
            print(f"  limits, {threads} thread(s): {found}", flush=True)
            pair.merge_and_unmerge(threads)
            for rows in (64,) if options.quick else (1, 64, 512) if net == "stack" else (1, 64):
                pair.passes(threads, "forward", rows)
                if dtype == "bf16" and rows > 1:
                    pair.passes(threads, "forward", rows, rounds=True)
            if net == "wide":
                for rows in (64,) if options.quick else (1, 64, 512):
                    pair.passes(threads, "product", rows)
                    if dtype == "bf16" and rows > 1:
                        pair.passes(threads, "product", rows, rounds=True)
        pair.both("threads 1")
        if net == "stack" and dtype == "f32":
            for loaded in (10,) if options.quick else (10, 100):
                pair.load_and_switch(loaded)
        results["drift"].append(pair.drift())
        results["rows"] += pair.rows
        pair.ours.close()
        pair.theirs.close()
    options.results.write_text(json.dumps(results, indent=1) + "\n")


main()
