# SPDX-License-Identifier: Apache-2.0
# Asks Tenon's half (bench_decode) and torch's (theirs.py) in turn, in warm processes, and prints a table of medians. Ours
# must find the tokens that torch finds in float32 with the same weights.
#   compare.py BENCH_DECODE FILES [--turns N] [--quick]
import argparse
import os
import pathlib
import statistics
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "peers"))
from sets import wanted
from sides import Side, machine

PROMPT = [1, 17, 44, 3, 71]
HEAD = """
| model | dtype | threads | ours, tokens/s | torch, tokens/s | ours / torch | limit, tokens/s | ours / limit | torch / limit | same tokens |
|---|---|---|---|---|---|---|---|---|---|"""


def number(value):
    """Three digits."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def same(ours, theirs):
    """How many tokens are the same before the first that is not."""
    return next((i for i, (a, b) in enumerate(zip(ours, theirs)) if a != b), len(theirs))


def measure(entry, options, threads, ours, theirs, question, tokens, expected):
    """A row of the table; the first turn is not counted."""
    rates = {"ours": [], "theirs": [], "limit": []}
    for side in (ours, theirs):
        side.ask(f"threads {threads}")
    for turn in range(options.turns + 1):
        taken, *found = ours.ask(question)
        their_taken, *their_found = theirs.ask(question)
        read, size = ours.ask("read")
        if found != expected or (entry.dtype == "f32" and their_found != expected):
            sys.exit(f"compare: {entry.net} {entry.dtype}: expected {expected}, ours {found}, torch's {their_found}")
        if turn > 0:
            rates["ours"].append(tokens / float(taken))
            rates["theirs"].append(tokens / float(their_taken))
            rates["limit"].append(1 / float(read))
    mine, their, limit = (statistics.median(rates[key]) for key in ("ours", "theirs", "limit"))
    row = [entry.net, entry.dtype, str(threads), number(mine), number(their), number(mine / their), number(limit), number(mine / limit),
           number(their / limit), f"{same(found, their_found)} of {len(found)}"]
    print(f"  {entry.net} {entry.dtype}, {threads} thread(s): {number(mine)} and {number(their)} tokens/s; a token reads "
          f"{int(size) / 1e6:.3g} MB of weights, {number(float(size) * limit / 1e9)} GB/s", flush=True)
    return "| " + " | ".join(row) + " |"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("bench", type=pathlib.Path)
    parser.add_argument("files", type=pathlib.Path)
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="two turns of what is small: does it run?")
    options = parser.parse_args()
    if options.quick:
        options.turns = 2
    about = machine()
    rows = []
    for entry in wanted(options.quick):
        folder = str(options.files / f"{entry.net}_{entry.dtype}")
        tokens = 4 if options.quick and entry.net != "tiny" else entry.tokens
        question = f"decode {tokens} {' '.join(map(str, PROMPT))}"
        their_command = [sys.executable, str(HERE / "theirs.py"), folder]
        reference = Side([*their_command, "float32"])
        _, *expected = reference.ask(question)
        reference.close()
        ours = Side([str(options.bench), entry.net, folder])
        theirs = Side([*their_command, "auto"])
        for threads in (1, 2)[: os.cpu_count()]:
            rows.append(measure(entry, options, threads, ours, theirs, question, tokens, expected))
        ours.close()
        theirs.close()
    versions = ", ".join(f"{name} {about['versions'][name]}" for name in ("torch", "transformers"))
    print(f"\n{about['cpu']}, {about['cores']} cores, {', '.join(about['sets'])}; {versions}; load at the start {about['load']:.1f}.")
    print(f"Medians of {options.turns} turns. Limit: as many bytes as a token reads of weights, read by a plain loop.")
    print("\n".join([HEAD, *rows]))


main()
