"""Pieces: typed, and those of older versions are read."""

import pytest

from whisperq_core.errors import Cancelled
from whisperq_core.evaluate.pieces import (
    BatchPiece,
    Hypothesis,
    ModelPiece,
    PassPiece,
    RunPieces,
    batch_name,
    pass_name,
)

KEY = "ab" * 8
TIME = {"batch": 0, "utterances": 2, "audio_s": 9.0, "wall_s": 1.0}
# As the first version of WhisperQ stored it.
OLD_BATCH = {"hypotheses": ["a", "b"], "time": TIME, "growth_bytes": None}
PASS = {"subject": "fp32", "repeat": 1, "audio_s": 9.0, "wall_s": 1.0}


@pytest.fixture
def pieces(store):
    return RunPieces(store, KEY, "a run", 2)


def test_names_are_pinned():
    # Runs that were interrupted are resumed by them.
    assert (batch_name(3), pass_name("recipe", 1)) == ("batch-0003", "pass-1-recipe")


def test_a_batch_of_an_older_version_is_read(pieces, store):
    store.put_piece(KEY, batch_name(0), OLD_BATCH)
    piece = pieces.get(batch_name(0), BatchPiece)
    assert piece.by_utterance() == [Hypothesis("a", 0.0, False), Hypothesis("b", 0.0, False)]
    assert piece.machine is None


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        (BatchPiece, OLD_BATCH | {"temperatures": [0.0, 0.2], "redone": [], "machine": None}),
        (
            ModelPiece,
            {
                "modules": ["proj_out"],
                "weights_bytes": 1,
                "fp32_bytes": 2,
                "quantize_s": 0.5,
                "load_average": None,
            },
        ),
    ],
)
def test_the_stored_json_is_what_was_read(pieces, store, kind, content):
    pieces.put("a", kind.model_validate(content))
    assert store.piece(KEY, "a") == content


def test_a_pass_is_stored_under_the_name_that_it_always_had(pieces, store):
    pieces.put("pass-1-fp32", PassPiece.model_validate({"pass": PASS, "growth_bytes": 5}))
    stored = store.piece(KEY, "pass-1-fp32")
    assert stored["pass"]["wall_s"] == 1.0 and stored["growth_bytes"] == 5
    assert pieces.get("pass-1-fp32", PassPiece).timed.subject == "fp32"


def test_a_damaged_piece_is_computed_again(pieces, store):
    store.put_piece(KEY, batch_name(0), {"hypotheses": "none"})
    computed = pieces.get_or_compute(
        batch_name(0), BatchPiece, lambda: BatchPiece.model_validate(OLD_BATCH)
    )
    assert computed == pieces.get(batch_name(0), BatchPiece)


def test_progress_is_reported_and_stop_is_asked_before_each_piece(store):
    reports = []
    pieces = RunPieces(store, KEY, "a run", 2, lambda *counts: reports.append(counts), bool)
    pieces.get_or_compute(batch_name(0), BatchPiece, lambda: BatchPiece.model_validate(OLD_BATCH))
    assert reports == [(1, 2)]
    stopped = RunPieces(store, KEY, "a run", 2, stop=lambda: True)
    stopped.get_or_compute(batch_name(0), BatchPiece, lambda: pytest.fail("it is finished"))
    with pytest.raises(Cancelled, match="a run was stopped"):
        stopped.get_or_compute(batch_name(1), BatchPiece, lambda: pytest.fail("it was stopped"))
