from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from shards.decode import Ragged, decode_audio_column, decode_npy, decode_npy_column


def saved(array: np.ndarray) -> bytes:
    data = io.BytesIO()
    np.save(data, array)
    return data.getvalue()


shapes = arrays.array_shapes(min_dims=0, max_dims=3, min_side=0)
dtypes = st.sampled_from(["int16", "int64", "float16", "float32", ">i4", "bool"])


@given(arrays.arrays(dtypes, shapes), st.booleans())
def test_every_array_reads_as_numpy_reads_it(array: np.ndarray, fortran: bool) -> None:
    data = saved(np.asfortranarray(array) if fortran else array)
    read = decode_npy(data)
    expected = np.load(io.BytesIO(data))
    assert read.dtype == expected.dtype and read.shape == expected.shape
    assert np.array_equal(read, expected, equal_nan=array.dtype.kind == "f")


@given(st.lists(arrays.arrays("int16", st.integers(0, 40)), min_size=1, max_size=8))
def test_a_column_of_arrays_is_one_view_of_all(values: list[np.ndarray]) -> None:
    column = decode_npy_column([saved(value) for value in values])
    assert isinstance(column, Ragged)
    assert [a.tolist() for a in column.arrays()] == [value.tolist() for value in values]


def test_arrays_that_differ_in_kind_stay_apart() -> None:
    values = [np.arange(3, dtype=np.int16), np.arange(4, dtype=np.int32), np.ones((2, 2))]
    column = decode_npy_column([saved(value) for value in values])
    assert isinstance(column, list)
    assert [a.tolist() for a in column] == [value.tolist() for value in values]


@pytest.mark.parametrize(
    "data", [b"", b"rubbish", saved(np.arange(9))[:-3], saved(np.arange(9))[:64]]
)
def test_damaged_arrays_are_an_error(data: bytes) -> None:
    with pytest.raises((ValueError, SyntaxError, EOFError)):
        decode_npy(data)
    with pytest.raises((ValueError, SyntaxError, EOFError)):
        decode_npy_column([saved(np.arange(4)), data])


def test_audio_that_ends_early_is_an_error() -> None:
    data = io.BytesIO()
    soundfile.write(data, np.zeros(8000), 8000, format="FLAC")
    with pytest.raises((ValueError, soundfile.LibsndfileError)):
        decode_audio_column([data.getvalue()[:60]], None)
