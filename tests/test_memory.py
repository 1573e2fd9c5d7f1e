import gc
import subprocess
import sys
import threading
import weakref

import numpy as np
import pytest

from whisperq_core.memory import MemoryGrowth, SingleItemCache, without_garbage_collection
from whisperq_core.settings import PROJECT

MB = 1_000_000


# Asks of a new process, whose heap holds nothing yet: bytes that glibc maps for one array, which it
# gives back when that is freed, before, while and after memory is kept. struct mallinfo2 has ten
# fields, of which hblkhd is the fifth.
ASK = """
import ctypes
import numpy as np
from whisperq_core.memory import retain_freed_memory

class Figures(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in "abcdefghij"]

library = ctypes.CDLL(None)
library.mallinfo2.restype = Figures

def mapped():
    library.malloc_trim(0)
    before = library.mallinfo2().e
    held = np.ones(100_000_000, np.uint8)
    return library.mallinfo2().e - before

print(mapped())
with retain_freed_memory():
    print(mapped())
print(mapped())
"""


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
    latest, made = SingleItemCache(), []

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
    latest = SingleItemCache()
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            latest.get("a", lambda: 1 / 0)
    assert latest.get("a", lambda: 2) == 2


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_memory_that_is_kept_is_none_that_the_system_takes_back():
    command = [sys.executable, "-c", ASK]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True)
    before, kept, after = map(int, done.stdout.split())
    assert before >= 100 * MB and kept == 0 and after >= 100 * MB


def test_collections_of_garbage_pause_until_the_last_block_of_any_thread_ends():
    second_began, first_ended = threading.Event(), threading.Event()

    def first():
        with without_garbage_collection():
            second_began.wait(10)
        first_ended.set()

    thread = threading.Thread(target=first)
    thread.start()
    with without_garbage_collection():
        second_began.set()
        assert first_ended.wait(10)
        assert not gc.isenabled()
    thread.join(10)
    assert gc.isenabled()


def test_collections_that_were_off_before_stay_off():
    gc.disable()
    try:
        with without_garbage_collection():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
