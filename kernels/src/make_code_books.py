#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes code_books.hpp: the code books of the IQ formats, from the `gguf` Python package (PyPI), where they are facts of the format.

    pip install gguf && python3 make_code_books.py > code_books.hpp
"""

from gguf import quants

BOOKS = [("kIq2XxsBook", quants.IQ2_XXS), ("kIq2XsBook", quants.IQ2_XS), ("kIq2SBook", quants.IQ2_S),
         ("kIq3XxsBook", quants.IQ3_XXS), ("kIq3SBook", quants.IQ3_S), ("kIq1Book", quants.IQ1_S)]

HEADER = """// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

// Code books of the IQ formats: an index in a block stands for several elements at once. Written by
// make_code_books.py from the `gguf` Python package 0.19.0; the numbers are part of the format.
//
// A word holds the digits of one entry, element 0 in the lowest bits: eight digits of two bits, or
// four of four bits in the IQ3 books. What a digit stands for is in the k...Digits arrays; those of
// IQ1 are eighths, since an eighth is added to or taken from each element.

namespace tensor_pager::kernels {

inline constexpr std::array<std::int8_t, 4> kIq2Digits = {8, 25, 43, 0};
inline constexpr std::array<std::int8_t, 4> kIq1Digits = {-8, 0, 8, 0};
inline constexpr std::array<std::int8_t, 8> kIq3XxsDigits = {4, 12, 20, 28, 36, 44, 52, 62};
inline constexpr std::array<std::int8_t, 8> kIq3SDigits = {1, 3, 5, 7, 9, 11, 13, 15};

// clang-format off"""

FOOTER = """
// clang-format on

}  // namespace tensor_pager::kernels"""


def words(book):
    raw = bytes.fromhex(book.grid_hex.decode())
    return [raw[i] | raw[i + 1] << 8 for i in range(0, len(raw), 2)]


def main():
    assert quants.IQ2_XXS.grid_map == quants.IQ2_XS.grid_map == quants.IQ2_S.grid_map == (8, 25, 43)
    assert quants.IQ1_S.grid_map == (-1, 0, 1)
    assert quants.IQ3_XXS.grid_map == (4, 12, 20, 28, 36, 44, 52, 62)
    assert quants.IQ3_S.grid_map == (1, 3, 5, 7, 9, 11, 13, 15)
    print(HEADER)
    for name, book in BOOKS:
        entries = words(book)
        assert len(entries) == book.grid_shape[0]
        print(f"\ninline constexpr std::array<std::uint16_t, {len(entries)}> {name} = {{")
        for i in range(0, len(entries), 12):
            print("    " + " ".join(f"0x{word:04x}," for word in entries[i:i + 12]))
        print("};")
    print(FOOTER)


if __name__ == "__main__":
    main()
