#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes dequantize_vectors.bin: blocks of every weight type and what they stand for.

The expected values come from gguf.quants of the `gguf` Python package, an implementation independent of ours. The tests
only read the file; run this (pip install gguf) after adding a type, and commit the result:

    python3 make_dequantize_vectors.py dequantize_vectors.bin

Layout, little-endian: magic "TPDQVEC1", uint32 number of types; per type uint32 GGUF type number, uint32 elements, uint32
bytes of blocks, the blocks, then float32 [elements]. Values are finite: random bytes with scales of every magnitude,
then blocks whose scales are zero, the largest, the smallest and negative ones, and blocks of all-zero and all-one codes.
Every entry of the code books occurs.
"""

import sys

import numpy as np
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize

TYPES = ["F32", "F16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL",
         "IQ4_XS", "BF16", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S", "IQ1_S", "IQ1_M", "TQ1_0", "TQ2_0", "MXFP4",
         "NVFP4"]
PLAIN = ["F32", "F16", "BF16"]
# Byte offsets of the half-precision scales in a block.
HALVES = {"Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "Q2_K": [80, 82], "Q3_K": [108],
          "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208], "IQ4_NL": [0], "IQ4_XS": [0], "IQ2_XXS": [0], "IQ2_XS": [0],
          "IQ2_S": [0], "IQ3_XXS": [0], "IQ3_S": [0], "IQ1_S": [0], "TQ1_0": [52], "TQ2_0": [64]}
# 0, -0, 1, -1, largest, -largest, smallest normal, subnormals, an ordinary value.
EDGE_HALVES = np.array([0x0000, 0x8000, 0x3C00, 0xBC00, 0x7BFF, 0xFBFF, 0x0400, 0x0001, 0x83FF, 0x2A66], np.uint16)


def finite_halves(rng, count):
    halves = rng.integers(0, 1 << 16, count, dtype=np.uint16)
    return np.where((halves & 0x7C00) == 0x7C00, halves & 0xBFFF, halves)


# Entries of the code books; for those whose indices have bits beyond a byte's: first byte and size of the fields that these
# are in, and how many each index has.
BOOKS = {"IQ2_XXS": (256, None), "IQ2_XS": (512, None), "IQ2_S": (1024, (66, 1, 2)), "IQ3_XXS": (256, None),
         "IQ3_S": (512, (66, 1, 1)), "IQ1_S": (2048, (34, 2, 3))}


def set_entries(name, blocks):
    """Makes the first blocks refer to each entry of the type's code book once."""
    entries, upper = BOOKS[name]
    per_block = 64 if name.startswith("IQ3") else 32
    for entry in range(entries):
        block, i = blocks[entry // per_block], entry % per_block
        if name == "IQ2_XS":
            block[2 + 2 * i] = entry & 255
            block[3 + 2 * i] = block[3 + 2 * i] & 0xFE | entry >> 8
            continue
        block[2 + (8 * (i // 4) + i % 4 if name == "IQ2_XXS" else i)] = entry & 255
        if upper:
            first, size, bits = upper
            per_field = 8 // bits if size == 1 else 4
            field = block[first + size * (i // per_field):][:size].view(f"<u{size}")
            shift = bits * (i % per_field)
            field[0] = int(field[0]) & ~((1 << bits) - 1 << shift) | entry >> 8 << shift


def set_scales(name, blocks, rng):
    """Scales that are no halves in one piece: ordinary ones, and the largest and smallest at the end."""
    if name == "IQ1_M":  # a half in the top nibbles of four words
        halves = np.concatenate([finite_halves(rng, len(blocks) - len(EDGE_HALVES)), EDGE_HALVES])
        for nibble in range(4):
            byte = blocks[:, 49 + 2 * nibble]
            byte[:] = byte & 0x0F | (halves >> 4 * nibble & 15) << 4
    elif name == "MXFP4":  # 2^e, where 12 * 2^127 would be too large
        blocks[:, 0] = np.minimum(blocks[:, 0], 251)
        blocks[-4:, 0] = [0, 1, 2, 251]
    elif name == "NVFP4":
        blocks[-1, :4] = [0x7E, 0x7F, 0xFF, 0x80]
        blocks[-2, :4] = [0, 1, 7, 8]


def quantised_blocks(name, rng):
    block_elements, block_bytes = GGML_QUANT_SIZES[GGMLQuantizationType[name]]
    random_blocks = max(8, 1024 // block_elements, BOOKS[name][0] // 32 if name in BOOKS else 0)
    edges = len(EDGE_HALVES)
    blocks = rng.integers(0, 256, (random_blocks + edges + 2, block_bytes), dtype=np.uint8)
    blocks[-2] = 0x00
    blocks[-1] = 0xFF
    if name in BOOKS:
        set_entries(name, blocks)
    set_scales(name, blocks, rng)
    for shift, offset in enumerate(HALVES.get(name, [])):
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
            blocks = plain_bytes(name, rng) if name in PLAIN else quantised_blocks(name, rng)
            with np.errstate(over="ignore"):
                values = np.ascontiguousarray(dequantize(blocks, kind), dtype="<f4")
            if not np.isfinite(values).all():
                raise SystemExit(f"{name}: a value is not finite")
            out.write(np.array([kind.value, values.size, blocks.size], "<u4").tobytes())
            out.write(blocks.tobytes() + values.tobytes())


if __name__ == "__main__":
    main()
