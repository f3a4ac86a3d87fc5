# SPDX-License-Identifier: Apache-2.0
# The models that are measured: the folder's name is NET_DTYPE.
import collections

# memory: GiB of both sides and of making the files; tokens: decoded in one turn
Set = collections.namedtuple("Set", "net dtype memory tokens")
SETS = [
    Set("tiny", "f32", 2, 64),
    Set("tiny", "bf16", 2, 64),
    Set("qwen25_05b", "bf16", 5, 12),
    Set("qwen25_05b", "f32", 8, 12),
]


def available():
    """GiB that programs can have without others being put out of memory. Linux only."""
    with open("/proc/meminfo") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")) / 2**20


def wanted(quick):
    """Those that fit; says which do not."""
    for entry in SETS:
        if quick and entry.memory > 5:
            continue
        if entry.memory > available():
            print(f"left out: {entry.net} {entry.dtype}, which takes {entry.memory} GiB of memory; {available():.1f} are available")
            continue
        yield entry
