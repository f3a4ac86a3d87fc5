# SPDX-License-Identifier: Apache-2.0
# Turns the two compare.py's results into docs/peers.md with its figures and into a section of docs/performance.md.
#   report.py PEERS.json LIFECYCLE.json DOCS_FOLDER      DOCS_FOLDER "-": prints the page, writes nothing
import datetime
import json
import pathlib
import re
import sys

import plots

NET = {"stack": "4 x 2048", "wide": "2 x 5120"}
RANK = {"f32": 16, "bf16": 32}
MIB = 1024.0  # KiB


def time_text(seconds):
    for unit, size in (("s", 1), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"


def factor_text(factor):
    return f"{factor:.0f}" if factor >= 100 else f"{factor:.1f}" if factor >= 10 else f"{factor:.2f}"


def size_text(kilobytes):
    return f"{kilobytes / MIB:.1f} MiB"


def span(values, text=factor_text):
    low, high = text(min(values)), text(max(values))
    return low if low == high else f"{low} to {high}"


def limit_of(row, limits):
    """The least time for a row that moves bytes and computes, by plain loops on as many threads; 0 if unknown."""
    found = limits.get(str(row["threads"]))
    if found is None or "bytes" not in row:
        return 0.0
    if "operations" in row:
        fastest = max(found["fma"], found["pairs"] if row["dtype"] == "bf16" else 0)
        return max(row["operations"] / fastest, row["bytes"] / found["read"]) * 1e-9
    return row["bytes"] / found["copy"] * 1e-9


def gain(row):
    return row["theirs"] / row["ours"]


def label(row):
    return f"{row['what']}: {NET[row['net']]}, {row['dtype']}"


# --- goals ---------------------------------------------------------------------------------------------------------
def goal_line(text, rows, wanted, why):
    if not rows:
        return f"| {text} | not measured | |"
    gains = [gain(row) for row in rows]
    met = "yes" if min(gains) >= wanted else "no: " + why(rows) if max(gains) < wanted else "in part: " + why(rows)
    return f"| {text} | {span(gains)} x | {met} |"


def merge_bound(rows, limits):
    at_most = span([row["theirs"] / limit_of(row, limits) for row in rows])
    share = span([row["ours"] / limit_of(row, limits) for row in rows])
    return f"a merge that only moved the weights' bytes would be {at_most} x faster than PEFT's; ours takes {share} times that long"


def product_bound(rows, limits):
    lost = [row for row in rows if gain(row) < 1]
    if not lost:
        return "see the table"
    return "behind for " + ", ".join(f"{row['rows']} {'row' if row['rows'] == 1 else 'rows'} on {row['threads']} thread(s) "
                                     f"({factor_text(gain(row))} x; {factor_text(row['ours'] / limit_of(row, limits))} times the limit, "
                                     f"torch {factor_text(row['theirs'] / limit_of(row, limits))})" for row in lost)


def memory_line(text, peaks, parts, why):
    """The parts come one after another; their peaks are added, which is no less than the peak of all."""
    nets = sorted({(p["net"], p["dtype"]) for p in peaks})
    total = lambda net, side: sum(p[side] for p in peaks if (p["net"], p["dtype"]) == net and p["what"] in parts)
    shares = [max(total(net, "ours"), 0) / max(total(net, "theirs"), 1) for net in nets]
    return f"| {text} | {span(shares, lambda share: f'{share:.2f}')} of PEFT's | {'yes' if max(shares) <= 0.1 else 'no: ' + why} |"


def goals(results):
    rows, limits = results["rows"], results["limits"]
    of = lambda kind, **want: [r for r in rows if r["kind"] == kind and all(r[k] == v for k, v in want.items())]
    products = lambda rounds: [r for r in of("product", dtype="bf16", rounds=rounds) if r["rows"] >= 64]
    switches = [r for r in rows if r["kind"] == "switch" and r["loaded"] == max(x["loaded"] for x in rows if x["kind"] == "switch")]
    most = switches[0]["loaded"] if switches else 0
    return "\n".join([
        "| goal, beside PyTorch and PEFT | measured | met |",
        "|---|---|---|",
        *(goal_line(f"merge, {dtype}, {memory}: 10 x faster", of(kind, dtype=dtype), 10, lambda r: merge_bound(r, limits))
          for dtype in ("f32", "bf16") for kind, memory in (("merge", "memory from the system"), ("merge kept", "memory kept"), ("merge in place", "in place on both sides"))),
        goal_line("load and attach: 20 x faster", of("load"), 20, lambda r: "see the table"),
        goal_line(f"switch with {most} loaded: 100 x faster", switches, 100, lambda r: "see the table"),
        goal_line("products in bf16, 64 rows and more, ours with `bf16_products`: 1.0 x", products(True), 1.0,
                  lambda r: product_bound(r, limits)),
        goal_line("the same, our activations floats: 1.0 x", products(False), 1.0, lambda r: product_bound(r, limits)),
        goal_line("products in f32: 0.9 x", of("product", dtype="f32"), 0.9, lambda r: product_bound(r, limits)),
        memory_line("peak extra memory of load and attach: 1/10", results["peaks"], ["load"], "see the table"),
        memory_line("peak extra memory of load, attach and the first pass: 1/10", results["peaks"], ["load", "pass"],
                    "a pass reads the adapter's values, so they are in memory once, as pages of their file; PEFT makes copies of them, but not ten"),
        memory_line("peak extra memory of a merge: 1/10", results["peaks"], ["merge"],
                    "ours leaves the base alone, so a merged set is the changed weights again; PEFT overwrites the base "
                    "and needs a few matrices in passing"),
        memory_line("peak extra memory of a merge in place on both sides: 1/10", results["peaks"], ["merge in place"], "see the table"),
    ])


# --- tables --------------------------------------------------------------------------------------------------------
def time_table(rows, limits):
    lines = ["| | threads | ours | theirs | theirs / ours | ours / limit |", "|---|---|---|---|---|---|"]
    for row in rows:
        limit = limit_of(row, limits)
        lines.append(f"| {label(row)}{' (' + row['note'] + ')' if row.get('note') else ''} | {row['threads']} | {time_text(row['ours'])} | "
                     f"{time_text(row['theirs'])} | **{factor_text(gain(row))}** | {factor_text(row['ours'] / limit) if limit else ''} |")
    return "\n".join(lines)


def peak_table(peaks):
    name = {"load": "load, attach", "pass": "then the first pass, 64 rows", "merge": "merge", "merge in place": "merge in place (ours: a base that the model owns)"}
    lines = ["| | ours | theirs | ours / theirs | stays: ours | stays: theirs |", "|---|---|---|---|---|---|"]
    for p in peaks:
        lines.append(f"| {name[p['what']]}: {NET[p['net']]}, {p['dtype']} | {size_text(p['ours'])} | {size_text(p['theirs'])} | "
                     f"{p['ours'] / max(p['theirs'], 1):.2f} | {size_text(p['ours_own'])} | {size_text(p['theirs_own'])} |")
    return "\n".join(lines)


def check_table(checks):
    lines = ["| | ours off float64 | theirs off float64 | apart |", "|---|---|---|---|"]
    for c in checks:
        lines.append(f"| {c['what'].replace('side', 'side path').replace('rounded', '`bf16_products`')}: {NET[c['net']]}, {c['dtype']} | {c['ours']:.1e} | {c['theirs']:.1e} | {c['apart']:.1e} |")
    return "\n".join(lines)


def drift_table(drift):
    lines = ["| | merges and unmerges | ours | theirs | theirs, at most by |", "|---|---|---|---|---|"]
    for d in drift:
        lines.append(f"| {NET[d['net']]}, {d['dtype']} | {d['cycles']} | {d['ours']:.0%} | {d['theirs']:.0%} | {d['largest']:.1e} |")
    return "\n".join(lines)


def lifecycle_tables(runs):
    lines = ["| | ours | theirs | theirs, without imports | theirs / ours | without imports |", "|---|---|---|---|---|---|"]
    for r in runs:
        name = f"{r['net']}, {'side path' if r['mode'] == 'side' else 'merged'}"
        ours, theirs = r["ours"], r["theirs"]
        own = theirs["wall"] - theirs["stages"]["imports"]
        above = theirs["peak"] - theirs["level"]
        user = theirs["user"] - theirs["stages"]["imports_user"]
        lines.append(f"| {name}: time | {time_text(ours['wall'])} | {time_text(theirs['wall'])} | {time_text(own)} | "
                     f"**{factor_text(theirs['wall'] / ours['wall'])}** | **{factor_text(own / ours['wall'])}** |")
        lines.append(f"| {name}: of it in the program | {time_text(ours['user'])} | {time_text(theirs['user'])} | {time_text(user)} | "
                     f"**{factor_text(theirs['user'] / ours['user'])}** | **{factor_text(user / ours['user'])}** |")
        lines.append(f"| {name}: peak memory | {size_text(ours['peak'])} | {size_text(theirs['peak'])} | {size_text(above)} | "
                     f"**{factor_text(theirs['peak'] / ours['peak'])}** | **{factor_text(above / ours['peak'])}** |")
    stages = ["imports", "open", "load", "attach", "forward", "detach"]
    lines += ["", "Stages, ours / theirs:", "", "| | " + " | ".join(stages) + " |", "|---" * (len(stages) + 1) + "|"]
    for r in runs:
        cells = [f"{time_text(r['ours']['stages'][s]) if s in r['ours']['stages'] else '-'} / {time_text(r['theirs']['stages'][s])}" for s in stages]
        lines.append(f"| {r['net']}, {'side path' if r['mode'] == 'side' else 'merged'} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


# --- pages ---------------------------------------------------------------------------------------------------------
def machine_text(results):
    m, limits = results["machine"], results["limits"]
    versions = ", ".join(f"{name} {version}" for name, version in m["versions"].items())
    figures = "; ".join(f"{n} thread{'s' if n != '1' else ''}: reading {f['read']:.0f} GB/s, copying {f['copy']:.0f} GB/s (read and "
                        f"written), {f['fma']:.0f} GFLOP/s of floats, {f['pairs']:.0f} of pairs of bf16" for n, f in limits.items())
    wanting = [s for s in ("avx512f", "avx512_bf16", "amx_bf16") if s not in m["sets"]]
    return (f"{m['cpu']}, {m['cores']} cores, with {', '.join(m['sets'])}{', without ' + ', '.join(wanting) if wanting else ''}; {m['system']}.\n"
            f"{m['compiler']}, -O3 without `-march`. Python {m['python']}, {versions}.\n"
            f"Load average at the start: {m['load']:.1f}. "
            f"Medians of {results['turns']} turns, both sides in turn, in warm processes.\n\n"
            f"Limits, as plain loops find them on this machine ({figures}).")


def page(results, lifecycle):
    rows, limits = results["rows"], results["limits"]
    kinds = lambda *names: [r for r in rows if r["kind"] in names]
    threads = sorted({r["threads"] for r in rows})
    only_one = "" if len(threads) > 1 else " Tenon has one thread, so torch is given one."
    tolerance = results["tolerance"]
    return f"""# Beside PyTorch and PEFT

Written by `bash benchmarks/peers/run.sh`, which makes a virtual environment with the versions in
[`requirements.txt`](../benchmarks/peers/requirements.txt), asks both sides in turn and replaces this page: {datetime.date.today().isoformat()}.

{machine_text(results)}

**Fairness.** The same files: bases with fixed seeds, adapters saved by PEFT itself (rank {RANK['f32']} in f32, {RANK['bf16']} in bf16, on
every Linear), inputs that bf16 holds exactly, everything in the page cache. torch runs in `inference_mode`, its base mapped and
not copied (`assign=True`), with as many threads as Tenon.{only_one}
PEFT is called as its documentation says; adapters stay in their file's dtype (`autocast_adapter_dtype=False`: less to hold
and to convert than its default) and are loaded with and without `low_cpu_mem_usage`: the faster counts, and is named where it is
that one. No time but the whole programs' holds imports or PEFT's first use. diffusers calls PEFT for all of this, so it has no
rows of its own. In bf16 torch's activations are bf16, for which it has no instructions on a machine without `avx512_bf16` or
`amx_bf16`; Tenon's are floats, rounded to bf16 where they meet a base weight in the rows that say `bf16_products`.

## The goals
{goals(results)}

![Time of theirs over ours](figures/peers_times.svg)

## The same results
A pass of 64 rows, off a float64 pass over the stored values, largest difference / largest output. The run stops
above {tolerance['f32']:g} (f32) or {tolerance['bf16']:g} (bf16, where torch rounds each layer's output to 8 bits).

{check_table(results['checks'])}

What repeated merging leaves: the share of the base's elements that are not the file's afterwards.

{drift_table(results['drift'])}

## Load, attach, switch
A load maps and checks the file and attaches it, without looking for NaN, as PEFT does not either (`checks_values = false`); Tenon reads the values in the first pass, PEFT copies them when it loads.
One thread: neither side uses more here.

{time_table(kinds('load', 'switch'), limits)}

![Time against the number of adapters loaded](figures/peers_loaded.svg)

## Merge
Limit: copying the weights that change. PEFT merges in place, with a few matrices in passing, which glibc takes from the
system and gives back, or keeps, as it happens. *From the system*: both as they are by default, Tenon's pages new at each merge.
*Kept*: Tenon with `keep_overlays`, theirs with glibc told to keep what it has (`MALLOC_MMAP_MAX_=0`, `MALLOC_TRIM_THRESHOLD_` large);
so they run in all other tables of times too, since it is the faster way.

{time_table(kinds('merge', 'merge kept', 'unmerge', 'switch merged', 'merge in place', 'unmerge in place'), limits)}

## Passes and products
Limit: the greater of reading the weights and of the multiply-adds (without the adapter's, at most 3 % more; in bf16 those of
pairs, where the processor has them, and not those of tiles), on so many threads; below 1 where weights stay in the last-level cache.

{time_table(kinds('forward', 'product'), limits)}

## Peak memory
With an adapter of rank 128: resident memory above what was resident before, at most, the base's pages being in already; then
what stays of it in memory that no file stands behind. To about 0.3 MiB. PEFT's merge writes on the base's mapping, so its pages become the
process's own: they stay, although they add nothing to the resident total.

{peak_table(results['peaks'])}

## Whole programs
[`benchmarks/lifecycle`](../benchmarks/lifecycle): open the base, load the adapter, attach it, one pass, detach it; one thread; the times and
peaks are the system's for the whole process. *minilm*: all-MiniLM-L6-v2 (f32), 8 texts of 64 tokens, rank 16 on all Linear layers,
beside transformers. *wan*: the Linear layers of two blocks of Wan 2.1 14B (24 matrices, 1.6 GB of bf16), joined by
sums and its GELU, 32 rows, rank 32. Medians of {span([r['turns'] for r in lifecycle['runs']], str)} turn{'' if results['quick'] else 's'}; outputs apart by at most
{max(r['apart'] for r in lifecycle['runs'] if r['net'] == 'minilm'):.0e} (minilm){''.join(f" and {max(r['apart'] for r in lifecycle['runs'] if r['net'] == 'wan'):.0e} (wan)" for _ in range(any(r['net'] == 'wan' for r in lifecycle['runs'])))} of the largest.
*Without imports*: less the time of the imports, and above the memory that was resident after them; a wheel of torch with CUDA,
as PyPI has it, is most of that memory. Ours is always whole. *In the program*: without the system's share, which on a virtual
machine swells when its host must find memory anew, as a merge of gigabytes asks.

{lifecycle_tables(lifecycle['runs'])}

![Peak memory of whole programs](figures/lifecycle_memory.svg)
"""


def figures(results, lifecycle, folder):
    folder.mkdir(parents=True, exist_ok=True)
    one = [r for r in results["rows"] if r["threads"] == 1]
    order = ["switch", "load", "unmerge", "switch merged", "merge", "merge kept", "merge in place", "unmerge in place", "forward", "product"]
    one.sort(key=lambda r: (order.index(r["kind"]), -gain(r)))
    plots.log_bars(folder / "peers_times.svg", "How many times as long PyTorch or PEFT takes, one thread", [(label(r), gain(r)) for r in one])
    lines = []
    for kind, name in (("load", "load and attach"), ("switch", "switch")):
        found = sorted((r for r in one if r["kind"] == kind and r["net"] == "stack" and r["dtype"] == "f32"), key=lambda r: r["loaded"])
        lines.append((f"{name}, PEFT", plots.THEIRS, [(r["loaded"], r["theirs"]) for r in found]))
        lines.append((f"{name}, Tenon", plots.OURS, [(r["loaded"], r["ours"]) for r in found]))
    plots.log_lines(folder / "peers_loaded.svg", "Time against adapters loaded (4 x 2048, f32, rank 16)", "adapters loaded", lines)
    bars = []
    for r in lifecycle["runs"]:
        name = f"{r['net']}, {'side path' if r['mode'] == 'side' else 'merged'}"
        bars.append((name + ", Tenon", [(plots.OURS, r["ours"]["peak"] / MIB)]))
        bars.append((name + ", PEFT", [(plots.GROUND, r["theirs"]["level"] / MIB), (plots.THEIRS, (r["theirs"]["peak"] - r["theirs"]["level"]) / MIB)]))
    plots.stacked_bars(folder / "lifecycle_memory.svg", "Peak memory of a whole program (grey: after the imports)", "MiB", bars)


def replace_section(path, text):
    begin, end = "<!-- benchmarks/peers: begin -->", "<!-- benchmarks/peers: end -->"
    page_text = path.read_text()
    if begin not in page_text:
        sys.exit(f"report: {path} has no line {begin}")
    path.write_text(re.sub(f"{re.escape(begin)}.*?{re.escape(end)}", lambda _: f"{begin}\n{text}\n{end}", page_text, flags=re.S))


def main():
    results, lifecycle = (json.loads(pathlib.Path(p).read_text()) for p in sys.argv[1:3])
    text = page(results, lifecycle)
    if sys.argv[3] == "-":
        print(text)
        return
    docs = pathlib.Path(sys.argv[3])
    (docs / "peers.md").write_text(text)
    figures(results, lifecycle, docs / "figures")
    threads = sorted({r["threads"] for r in results["rows"]})
    replace_section(docs / "performance.md", f"Medians of {results['turns']} turns on {' and '.join(map(str, threads))} "
                    f"thread{'s' if threads != [1] else ''}; each row, the limits, the machine and the versions are in [peers.md](peers.md).\n\n{goals(results)}")


main()
