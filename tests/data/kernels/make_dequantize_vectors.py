#!/usr/bin/env python3
"""Writes dequantize_vectors.bin: blocks of every weight type and what they stand for.

The expected values come from gguf.quants of the `gguf` Python package, an implementation independent of ours. The tests
only read the file; run this (pip install gguf) after adding a type, and commit the result:

    python3 make_dequantize_vectors.py dequantize_vectors.bin

Layout, little-endian: magic "TPDQVEC1", uint32 number of types; per type uint32 GGUF type number, uint32 elements, uint32
bytes of blocks, the blocks, then float32 [elements]. Values are finite: random bytes with scales of every magnitude,
then blocks whose scales are zero, the largest, the smallest and negative ones, and blocks of all-zero and all-one codes.
"""

import sys

import numpy as np
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize

TYPES = ["F32", "F16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL",
         "IQ4_XS", "BF16"]
# Byte offsets of the half-precision scales in a block.
HALVES = {"Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "Q2_K": [80, 82], "Q3_K": [108],
          "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208], "IQ4_NL": [0], "IQ4_XS": [0]}
# 0, -0, 1, -1, largest, -largest, smallest normal, subnormals, an ordinary value.
EDGE_HALVES = np.array([0x0000, 0x8000, 0x3C00, 0xBC00, 0x7BFF, 0xFBFF, 0x0400, 0x0001, 0x83FF, 0x2A66], np.uint16)


def finite_halves(rng, count):
    halves = rng.integers(0, 1 << 16, count, dtype=np.uint16)
    return np.where((halves & 0x7C00) == 0x7C00, halves & 0xBFFF, halves)


def quantised_blocks(name, rng):
    block_elements, block_bytes = GGML_QUANT_SIZES[GGMLQuantizationType[name]]
    random_blocks = max(8, 1024 // block_elements)
    edges = len(EDGE_HALVES)
    blocks = rng.integers(0, 256, (random_blocks + edges + 2, block_bytes), dtype=np.uint8)
    blocks[-2] = 0x00
    blocks[-1] = 0xFF
    for shift, offset in enumerate(HALVES[name]):
        ordinary = np.array([0x2A66, 0x2A66], np.uint16)
        halves = np.concatenate([finite_halves(rng, random_blocks), np.roll(EDGE_HALVES, 3 * shift), ordinary])
        blocks[:, offset:offset + 2] = halves.astype("<u2").view(np.uint8).reshape(-1, 2)
    return blocks.reshape(-1)


def plain_bytes(name, rng):
    if name == "F32":
        values = np.concatenate([rng.standard_normal(1003, np.float32), np.array([0, -0.0, 1e-42, 3e38], np.float32)])
        return values.astype("<f4").view(np.uint8)
    if name == "F16":
        return np.concatenate([finite_halves(rng, 1021), EDGE_HALVES]).astype("<u2").view(np.uint8)
    upper = rng.integers(0, 1 << 16, 1021, dtype=np.uint16)
    return np.where((upper & 0x7F80) == 0x7F80, upper & 0xBFFF, upper).astype("<u2").view(np.uint8)


def main():
    rng = np.random.default_rng(20240607)
    with open(sys.argv[1], "wb") as out:
        out.write(b"TPDQVEC1" + np.uint32(len(TYPES)).tobytes())
        for name in TYPES:
            kind = GGMLQuantizationType[name]
            blocks = quantised_blocks(name, rng) if name in HALVES else plain_bytes(name, rng)
            with np.errstate(over="ignore"):
                values = np.ascontiguousarray(dequantize(blocks, kind), dtype="<f4")
            if not np.isfinite(values).all():
                raise SystemExit(f"{name}: a value is not finite")
            out.write(np.array([kind.value, values.size, blocks.size], "<u4").tobytes())
            out.write(blocks.tobytes() + values.tobytes())


if __name__ == "__main__":
    main()
