"""Records whose texts are not parsed are the same as those that are."""

import json
import pickle

import pytest

from tests.support.sample_runs import accuracy_run, speed_run
from whisperq_core.evaluate import records
from whisperq_core.evaluate.records import AccuracyRun
from whisperq_core.evaluate.run_summaries import UnparsedUtterances
from whisperq_core.evaluate.store import Store
from whisperq_core.settings import SHIPPED_CACHE

TEXTS = [("a cat sat down", "a cat sat up"), ("the end", "the the the end"), ("", "so")]
RUN = accuracy_run("quanto-int8", TEXTS, ids=["c", "a", "b"], speakers=["1", "2", None])
LATER = speed_run("quanto-int8", [2.0, 3.0], [4.0, 5.0], minutes=3)
FACTS = (
    *("key", "slug", "columns", "speech_digest", "audio_s", "minutes", "words", "characters"),
    *("loops", "fallbacks", "rtf", "by_id"),
)


@pytest.fixture
def unparsed(store, monkeypatch) -> AccuracyRun:
    """RUN as a second store reads it, which may not parse a record of this kind."""
    store.put(RUN)
    parse = records.parse
    with monkeypatch.context() as patch:
        patch.setattr(records, "parse", lambda text: pytest.fail("a record was parsed"))
        [run] = Store(store.root).runs()
        assert len(run.utterances) == 3 and run.words == RUN.words
    assert records.parse is parse
    return run


def test_it_is_the_run_that_was_stored(unparsed):
    for fact in FACTS:
        assert getattr(unparsed, fact) == getattr(RUN, fact)
    assert unparsed == RUN and unparsed == RUN
    assert tuple(unparsed.utterances) == RUN.utterances
    assert unparsed.utterances[0] == RUN.utterances[0]
    assert unparsed.utterances[1:] == RUN.utterances[1:]
    assert unparsed.utterances != RUN.utterances[1:]


def test_it_is_written_copied_and_pickled_as_the_run_that_was_stored(unparsed):
    assert unparsed.model_dump_json() == RUN.model_dump_json()
    assert unparsed.model_dump() == RUN.model_dump()
    assert pickle.loads(pickle.dumps(unparsed)) == RUN
    fewer = unparsed.model_copy(update={"utterances": unparsed.utterances[:1]})
    assert fewer.columns.ids == ("c",) and fewer.words == RUN.utterances[0].score.words


def test_a_rewritten_file_is_read_anew(store, unparsed):
    changed = RUN.model_copy(update={"utterances": RUN.utterances[:2]})
    store.put(changed)
    assert Store(store.root).runs() == [changed] == Store(store.root).runs()


def test_an_altered_file_is_refused_though_it_was_summarized(store, unparsed):
    path = store.results / f"{RUN.slug}.json"
    path.write_bytes(path.read_bytes().replace(b"sat up", b"sat on"))
    again = Store(store.root)
    assert again.runs() == [] and list(again.unreadable) == [path.name]


def test_without_a_place_for_summaries_runs_are_read_all_the_same(store):
    store.derived.path.mkdir(parents=True)
    store.put(RUN)
    for _ in range(2):
        assert Store(store.root).runs() == [RUN]


def test_records_of_other_kinds_are_parsed(store):
    store.put(LATER)
    for _ in range(2):
        assert Store(store.root).runs() == [LATER]
    assert not store.derived.path.exists()


@pytest.fixture(scope="module")
def shipped_twice(tmp_path_factory) -> list[tuple[AccuracyRun, AccuracyRun]]:
    """Some shipped records as they are parsed, and as a later store reads them."""
    root = tmp_path_factory.mktemp("cache")
    (root / "results").mkdir()
    paths = sorted((SHIPPED_CACHE / "results").glob("*_accuracy_*.json"))[::10]
    for path in paths:
        (root / "results" / path.name).write_bytes(path.read_bytes())
    Store(root).runs()
    later = {run.key: run for run in Store(root).runs()}
    pairs = []
    for path in paths:
        content = json.loads(path.read_bytes())
        content.pop("sha256", None)
        parsed = records.parse(json.dumps(content))
        pairs.append((parsed, later[parsed.key]))
    return pairs


def test_shipped_records_are_the_same_without_their_texts_and_with_them(shipped_twice):
    assert len(shipped_twice) > 20
    for parsed, later in shipped_twice:
        assert isinstance(later.utterances, UnparsedUtterances)
        for fact in FACTS[:-1]:
            assert getattr(later, fact) == getattr(parsed, fact), fact
        assert later == parsed and later.model_dump_json() == parsed.model_dump_json()
