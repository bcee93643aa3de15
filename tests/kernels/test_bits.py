"""Stored weights read and written: compiled, interpreted and by another route the same."""

import numpy as np

from conjoin.kernels.bits import real, stored
from conjoin.kernels.weights import decode, put_quotient


def test_every_bfloat16_is_read_and_written_back():
    bits = np.arange(1 << 16, dtype=np.uint32).astype(np.uint16)
    numbers = np.empty(len(bits), np.float32)
    decode(numbers, bits)
    np.testing.assert_array_equal(numbers, (bits.astype(np.uint32) << 16).view(np.float32))
    some = bits[::97]
    np.testing.assert_array_equal([real(b) for b in some], numbers[::97])
    sound = ~np.isnan(numbers)
    again = np.empty(len(bits), np.uint16)
    put_quotient(again, numbers, np.float32(1))
    np.testing.assert_array_equal(again[sound], bits[sound])
    assert np.isnan((again[~sound].astype(np.uint32) << 16).view(np.float32)).all()


def test_rounding_is_to_the_nearest_even():
    numbers = np.array([1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-8 + 2**-20, -3.4e38, np.inf, np.nan], np.float32)
    out = np.empty(len(numbers), np.uint16)
    put_quotient(out, numbers, np.float32(1))
    assert out[:5].tolist() == [0x3F80, 0x3F82, 0x3F81, 0xFF80, 0x7F80]
    assert [int(stored(v, np.uint16(0))) for v in numbers] == out.tolist()
