import os
import time
from datetime import timedelta

import pytest

from whisperq_core.errors import InputError
from whisperq_core.evaluate.records import utc_now
from whisperq_core.evaluate.store import UserStore
from whisperq_core.serve import retention
from whisperq_core.serve.recording_store import RecordingStore
from whisperq_core.serve.user_sets import UserSets
from whisperq_core.speech.evaluation_sets import is_public

DAY = timedelta(days=1)


@pytest.fixture
def shelves(store, jfk) -> list[RecordingStore]:
    """A recording on that of all, and one on a user's."""
    made = [RecordingStore(store.root), RecordingStore(UserStore(store, "ann", is_public).root)]
    for shelf in made:
        shelf.add([("jfk.flac", jfk.audio.read_bytes())])
    return made


def left(shelves: list[RecordingStore]) -> list[int]:
    return [len(shelf.all()) for shelf in shelves]


def test_recordings_of_all_users_go_when_their_time_is_over_and_sets_stay(store, shelves, jfk):
    sets = UserSets(store.root)
    (kept,) = shelves[0].all()
    sets.add("calls", shelves[0].set_reference(kept.id, jfk.reference), jfk.audio, "en")
    assert retention.expires_at(kept) == kept.added_at + 30 * DAY
    assert retention.delete_expired(store.root, utc_now() + 29 * DAY) == 0 and left(shelves) == [
        1,
        1,
    ]
    assert retention.delete_expired(store.root, utc_now() + 31 * DAY) == 2 and left(shelves) == [
        0,
        0,
    ]
    assert list(shelves[0].folder.iterdir()) == []
    assert len(sets.get("calls").utterances) == 1


def test_a_clock_that_was_set_back_deletes_nothing(store, shelves):
    assert retention.delete_expired(store.root, utc_now() - 10_000 * DAY) == 0
    assert left(shelves) == [1, 1]


def test_a_clock_set_forward_by_a_year_deletes_nothing_for_a_day(store, shelves):
    year = 365 * DAY
    assert retention.delete_expired(store.root, utc_now() + year) == 0
    assert retention.delete_expired(store.root, utc_now() + year + 0.9 * DAY) == 0
    # Set right again, nothing of it is remembered.
    assert retention.delete_expired(store.root) == 0
    assert retention.delete_expired(store.root, utc_now() + year + 2 * DAY) == 0
    assert left(shelves) == [1, 1]
    retention.forget_sightings(store.root)
    assert retention.delete_expired(store.root, utc_now() + year + 4 * DAY) == 0
    assert retention.delete_expired(store.root, utc_now() + year + 5 * DAY) == 2


def test_loops_of_links_and_pipes_do_not_end_the_hour(store, shelves):
    loop, pipe = shelves[0].folder / "loop", shelves[0].folder / ("0" * 16)
    loop.symlink_to(loop)
    pipe.mkdir()
    os.mkfifo(pipe / "about.json")
    assert retention.delete_expired(store.root, utc_now() + 29.5 * DAY) == 0
    assert retention.delete_expired(store.root, utc_now() + 31 * DAY) >= 2
    assert left(shelves) == [0, 0]


def test_what_killed_processes_left_is_removed_after_hours(store):
    left_behind = [store.root / "artefacts" / ".base-0123.new", store.root / "pieces/a/.b.json.tmp"]
    left_behind[0].mkdir(parents=True)
    left_behind[1].parent.mkdir(parents=True)
    left_behind[1].write_text("half")
    retention.delete_expired(store.root)
    assert all(path.exists() for path in left_behind)
    retention.delete_expired(store.root, utc_now() + 0.5 * DAY)
    assert not any(path.exists() for path in left_behind)


@pytest.mark.parametrize(("days", "at", "gone"), [("0", 10_000, 0), ("2.5", 2, 0), ("2.5", 3, 2)])
def test_the_time_is_the_users_to_say(store, shelves, monkeypatch, days, at, gone):
    monkeypatch.setenv("WHISPERQ_KEEP_DAYS", days)
    assert retention.delete_expired(store.root, utc_now() + (at - 1) * DAY) == 0
    assert retention.delete_expired(store.root, utc_now() + at * DAY) == gone


@pytest.mark.parametrize("days", ["a month", "-1", "nan", "inf", "1e9"])
def test_what_is_no_time_deletes_nothing_and_says_so(store, shelves, monkeypatch, days):
    monkeypatch.setenv("WHISPERQ_KEEP_DAYS", days)
    with pytest.raises(InputError, match="WHISPERQ_KEEP_DAYS"):
        retention.delete_expired(store.root, utc_now() + 31 * DAY)
    assert left(shelves) == [1, 1]


def test_what_was_cut_off_or_damaged_goes_too(store, shelves):
    aside = [shelves[0].folder / ".0123.tmp", UserSets(store.root).root / ".4567.tmp"]
    for folder in aside:
        folder.mkdir(parents=True)
        (folder / "original.wav").write_bytes(b"half")
    (about,) = shelves[0].folder.glob("*/about.json")
    about.write_text("{")
    yesterday = time.time() - 86_400
    for folder in (*aside, about.parent):
        os.utime(folder, (yesterday, yesterday))
    assert retention.delete_expired(store.root) == 2
    assert not any(folder.exists() for folder in aside) and about.exists()
    assert retention.delete_expired(store.root, utc_now() + 28.2 * DAY) == 0
    assert retention.delete_expired(store.root, utc_now() + 29.5 * DAY) == 1
    assert not about.exists() and left(shelves) == [0, 1]


def test_the_app_deletes_without_being_asked(store, shelves):
    retention.delete_expired(store.root, utc_now() + 29.5 * DAY)
    retention.start_hourly_deletion(store.root, lambda: utc_now() + 31 * DAY)
    deadline = time.monotonic() + 20
    while left(shelves) != [0, 0]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
