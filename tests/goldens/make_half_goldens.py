# SPDX-License-Identifier: Apache-2.0
"""Goldens for weights/half.hpp: PyTorch's conversions between f32 and the two 16-bit formats, on the CPU.

Makes   half/f16_to_f32.bin     65,536 u32: the f32 bits of every f16
        half/bf16_to_f32.bin    65,536 u16: the upper half of the f32 bits of every bf16 (the lower half is 0)
        half/f32_to_f16.bin     65,568 u16: the f16 bits of the f32 patterns below
        half/f32_to_bf16.bin    65,568 u16: the bf16 bits of the f32 patterns below
Run     python -m pip install torch==2.15.0 numpy && python make_half_goldens.py        (seconds)

All little-endian. The patterns are a formula, which half_test.cpp repeats. For each 16-bit `i`: a positive `i`
gives the f32 halfway between `i` and its successor, a negative one the f32 just below or just above that
halfway point, by its second-lowest bit. Then the 32 patterns of SPECIAL.
"""
import pathlib

import numpy as np
import torch

HERE = pathlib.Path(__file__).resolve().parent
SPECIAL = [
    0x00000000, 0x80000000, 0x00000001, 0x807FFFFF, 0x00800000, 0x32FFFFFF, 0x33000000, 0x33000001,
    0xB3000000, 0x33800000, 0x387FDFFF, 0x387FE000, 0x387FEFFF, 0x387FF000, 0x387FF001, 0x387FFFFF,
    0x38800000, 0xB8800001, 0x477FE000, 0x477FEFFF, 0x477FF000, 0xC77FFFFF, 0x47800000, 0x7F7F7FFF,
    0x7F7F8000, 0xFF7FFFFF, 0x7F800000, 0xFF800000, 0x7F800001, 0xFFC00000, 0x7FFFFFFF, 0xFF801000,
]  # fmt: skip


def beside_halfway(halfway):
    """`halfway` holds the bits for the 32,768 magnitudes; signs and the neighbours of the halfway points added."""
    magnitude = np.arange(0x8000, dtype=np.uint32)
    beside = np.where(magnitude & 2, halfway + np.uint32(1), halfway - np.uint32(1))
    return np.concatenate([halfway, beside | np.uint32(0x80000000), np.array(SPECIAL, np.uint32)])


def f16_patterns():
    magnitude = np.arange(0x8000, dtype=np.uint32)
    subnormal = ((2 * magnitude + 1).astype(np.float32) * np.float32(2.0**-25)).view(np.uint32)
    normal = (magnitude << 13) + np.uint32((112 << 23) + 0x1000)
    return beside_halfway(np.where(magnitude < 0x400, subnormal, normal))


def bf16_patterns():
    return beside_halfway((np.arange(0x8000, dtype=np.uint32) << 16) + np.uint32(0x8000))


def narrowed(patterns, dtype):
    floats = torch.from_numpy(patterns.view(np.float32).copy())
    return floats.to(dtype).view(torch.int16).numpy().view(np.uint16)


def widened(dtype):
    every = torch.from_numpy(np.arange(0x10000, dtype=np.uint16).view(np.int16).copy())
    return every.view(dtype).to(torch.float32).numpy().view(np.uint32)


def main():
    out = HERE / "half"
    out.mkdir(exist_ok=True)
    wide = widened(torch.bfloat16)
    assert not np.any(wide & 0xFFFF)
    for name, values, kind in [
        ("f16_to_f32", widened(torch.float16), "<u4"),
        ("bf16_to_f32", wide >> 16, "<u2"),
        ("f32_to_f16", narrowed(f16_patterns(), torch.float16), "<u2"),
        ("f32_to_bf16", narrowed(bf16_patterns(), torch.bfloat16), "<u2"),
    ]:
        (out / f"{name}.bin").write_bytes(values.astype(kind).tobytes())


if __name__ == "__main__":
    main()
