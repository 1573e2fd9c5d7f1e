"""How the command tells a slow measuring process from one that hangs.

A thread of the measuring process notes once a second where its main thread is, and how long child
processes, such as compilers, have computed. What hangs, on a GPU or in a lock, stays in one place.
A slow step does not: it comes from one layer to the next. Reading needs Python's own modules only.
"""

import sys
import threading
import time
from pathlib import Path
from types import FrameType

_FILE = "progress.txt"
_INTERVAL_S = 1.0


def note_always(folder: Path) -> None:
    """Notes the calling thread's progress in the folder for as long as the process runs."""
    thread = threading.get_ident()

    def note() -> None:
        noted = ""
        while True:
            state = _state(thread)
            if state != noted:
                (folder / _FILE).write_text(f"{time.monotonic()} {state}")
                noted = state
            time.sleep(_INTERVAL_S)

    threading.Thread(target=note, daemon=True).start()


def latest(folder: Path) -> str:
    """The latest note, which changes when there is progress; empty before the first one."""
    try:
        return (folder / _FILE).read_text()
    except FileNotFoundError:
        return ""


def place(note: str) -> str:
    """The file, line and function that a note names; empty where it names none."""
    return note.rpartition("|")[2]


def _state(thread: int) -> str:
    """Where a thread is, function by function, and what its child processes have computed."""
    frame = sys._current_frames().get(thread)
    return f"{_position(frame)} {_seconds_of_children()}|{_name(frame)}"


def _position(frame: FrameType | None) -> int:
    instructions = []
    while frame is not None:
        instructions.append((id(frame), frame.f_lasti))
        frame = frame.f_back
    return hash(tuple(instructions))


def _name(frame: FrameType | None) -> str:
    if frame is None:
        return ""
    path = Path(frame.f_code.co_filename)
    return f"{path.parent.name}/{path.name}:{frame.f_lineno} ({frame.f_code.co_name})"


def _seconds_of_children() -> int:
    """Whole seconds of CPU time; waiting processes need some microseconds now and then."""
    import psutil

    total = 0.0
    for child in psutil.Process().children(recursive=True):
        try:
            times = child.cpu_times()
        except psutil.Error:
            continue  # it has ended
        total += times.user + times.system
    return int(total)
