"""Types of weights against ml_dtypes, which torch agrees with."""

import numpy as np
import pytest

from conjoin.errors import InputError
from conjoin.transfer.checkpoints.dtypes import FLOATS, STORED, dtype_of, read_as, wider, write_as

ml_dtypes = pytest.importorskip("ml_dtypes")
PEERS = {
    "BF16": ml_dtypes.bfloat16,
    "F8_E4M3": ml_dtypes.float8_e4m3fn,
    "F8_E5M2": ml_dtypes.float8_e5m2,
    "F16": np.float16,
}


def codes(dtype):
    return np.arange(256 if dtype.startswith("F8") else 65536, dtype="u1" if dtype.startswith("F8") else "u2")


@pytest.mark.parametrize("dtype", PEERS)
def test_every_code_means_the_same(dtype):
    all_ = codes(dtype)
    wanted = all_.view(PEERS[dtype]).astype(np.float32)
    np.testing.assert_array_equal(read_as(all_.view(STORED[dtype]), dtype, "F32"), wanted)


@pytest.mark.parametrize("dtype", PEERS)
@pytest.mark.parametrize("wide", ["F32", "F64"])
def test_a_round_trip_changes_nothing(dtype, wide):
    all_ = codes(dtype)
    numbers = all_.view(PEERS[dtype]).astype(np.float32)
    all_ = all_[np.isfinite(numbers)].view(STORED[dtype])
    np.testing.assert_array_equal(write_as(read_as(all_, dtype, wide), wide, dtype), all_)


@pytest.mark.parametrize("dtype", PEERS)
def test_rounding_to_the_nearest_even(dtype):
    rng = np.random.default_rng(0)
    numbers = (rng.standard_normal(20_000) * 10.0 ** rng.integers(-6, 2, 20_000)).astype(np.float32)
    halves = read_as(codes(dtype).view(STORED[dtype]), dtype, "F32")
    halves = np.sort(halves[np.isfinite(halves)])
    numbers = np.concatenate([numbers, ((halves[1:].astype(float) + halves[:-1]) / 2).astype(np.float32)])
    wanted = numbers.astype(PEERS[dtype]).view(STORED[dtype])
    fits = np.isfinite(wanted.view(PEERS[dtype]).astype(np.float32))
    found = write_as(numbers, "F32", dtype)
    np.testing.assert_array_equal(found[fits].view(codes(dtype).dtype), wanted[fits].view(codes(dtype).dtype))


def test_what_is_too_large_or_no_number():
    found = write_as(np.array([1e9, -1e9, np.nan], np.float32), "F32", "F8_E4M3")
    assert read_as(found, "F8_E4M3", "F32")[:2].tolist() == [448, -448]
    assert np.isnan(read_as(found, "F8_E4M3", "F32")[2])
    bits = write_as(np.array([np.inf, -np.inf, np.nan, 3.4e38], np.float32), "F32", "BF16")
    assert read_as(bits, "BF16", "F32")[[0, 1, 3]].tolist() == [np.inf, -np.inf, np.inf]
    assert np.isnan(read_as(bits, "BF16", "F32")[2])


def test_types_meet_without_loss():
    assert wider(("BF16", "BF16")) == "BF16"
    assert wider(("BF16", "F16")) == "F32"
    assert wider(("BF16", "F64")) == "F64"
    assert set(FLOATS) <= set(STORED)


def test_whole_numbers_and_unknown_names_are_refused():
    with pytest.raises(InputError, match="only floats"):
        read_as(np.zeros(2, np.int64), "I64", "F32")
    with pytest.raises(InputError, match="did you mean 'bfloat16'"):
        dtype_of("bfloat61")
