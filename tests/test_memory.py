import ctypes
import sys
import weakref

import numpy as np
import pytest

from whisperq_core.memory import Latest, MemoryGrowth, kept_memory

MB = 1_000_000


class MallocFigures(ctypes.Structure):
    """struct mallinfo2 of glibc 2.33 and later, of which hblkhd is read."""

    _fields_ = (
        ("before", ctypes.c_size_t * 4),
        ("mapped_bytes", ctypes.c_size_t),
        ("after", ctypes.c_size_t * 5),
    )


def filled(megabytes: int) -> np.ndarray:
    return np.ones(megabytes * MB, np.uint8)


def test_growth_is_what_the_block_takes():
    with MemoryGrowth("cpu") as growth:
        assert growth.bytes is None
        kept = filled(200)
    assert kept[-1] == 1
    assert 190 * MB <= growth.bytes < 400 * MB


def test_growth_is_the_peak_and_not_what_is_left():
    with MemoryGrowth("cpu") as growth:
        for _ in range(3):
            filled(200)
    assert 190 * MB <= growth.bytes < 400 * MB


def test_an_earlier_peak_does_not_count():
    filled(300)
    with MemoryGrowth("cpu") as growth:
        filled(50)
    assert 45 * MB <= growth.bytes < 150 * MB


def test_memory_that_was_there_before_does_not_count():
    held = filled(200)
    with MemoryGrowth("cpu") as growth:
        held[:] = 2
    assert 0 <= growth.bytes < 50 * MB


def test_an_error_goes_through_and_the_growth_is_known():
    growth = MemoryGrowth("cpu")
    with pytest.raises(ZeroDivisionError), growth:
        _ = filled(100), 1 // 0
    assert growth.bytes >= 90 * MB


def test_where_the_system_does_not_tell_nothing_is_claimed():
    with MemoryGrowth("mps") as growth:
        filled(1)
    assert growth.bytes is None


def test_the_latest_is_made_once_and_gone_before_the_next_is_made():
    latest, made = Latest(), []

    def make():
        made.append([earlier() is None for earlier in things])
        thing = np.ones(3)
        things.append(weakref.ref(thing))
        return thing

    things = []
    for key in "aabba":
        latest.get(key, make)
    assert made == [[], [True], [True, True]]


def test_what_could_not_be_made_is_tried_again():
    latest = Latest()
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            latest.get("a", lambda: 1 / 0)
    assert latest.get("a", lambda: 2) == 2


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_memory_that_is_kept_is_none_that_the_system_takes_back():
    """What glibc maps for one array alone goes back when that is freed; the heap stays."""
    library = ctypes.CDLL(None)
    library.mallinfo2.restype = MallocFigures

    def mapped_for_one() -> int:
        library.malloc_trim(0)
        before = library.mallinfo2().mapped_bytes
        held = filled(100)
        mapped = library.mallinfo2().mapped_bytes - before
        assert held[-1] == 1
        return mapped

    assert mapped_for_one() >= 100 * MB
    with kept_memory():
        assert mapped_for_one() == 0
    assert mapped_for_one() >= 100 * MB
