import numpy as np
import pytest

from whisperq_core import eval_sets, scores
from whisperq_core.audio import SAMPLE_RATE
from whisperq_core.errors import ModelError
from whisperq_core.eval_sets import Utterance
from whisperq_core.protocols import STUDY, Protocol
from whisperq_core.transcribe import detect_language, plan_batches, transcribe


def utterance(id, duration_s):
    return Utterance(id, eval_sets.SPEECH, "text", duration_s)


def test_batches_are_formed_by_length_and_long_ones_stand_alone():
    given = [utterance(i, s) for i, s in [("a", 3), ("b", 31), ("c", 5), ("d", 3), ("e", 30)]]
    batches = plan_batches(given, 2)
    assert [[u.id for u in batch] for batch in batches] == [["b"], ["e", "c"], ["a", "d"]]
    assert plan_batches(given[::-1], 2) == batches  # the order of a manifest does not matter


@pytest.fixture(scope="module")
def chapter():
    """Consecutive utterances of one chapter, which make one recording over 30 s."""
    every = eval_sets.by_name("test-other-excerpt").utterances
    found = sorted((u for u in every if u.id.startswith("367-130732-")), key=lambda u: u.id)
    assert sum(u.duration_s for u in found) > 35
    return found


def test_over_30_seconds_is_transcribed_whole(tiny, chapter):
    audio = np.concatenate([eval_sets.read_audio(u) for u in chapter])
    reference = " ".join(u.reference for u in chapter)
    heard = transcribe(tiny, tiny.torch_model, [audio], ["en"], STUDY).texts[0]
    words = scores.score(reference, heard).words
    assert words.rate < 30
    # Nothing after the first window is missing: its words alone would be a third of the whole.
    assert words.deletions < 0.15 * words.reference_length


def test_times_are_of_generation_alone(tiny, jfk):
    found = transcribe(tiny, tiny.torch_model, [eval_sets.read_audio(jfk)], ["en"], STUDY)
    assert 0.05 < found.wall_s < 60


def test_a_batch_of_fp32_hears_what_each_utterance_alone_does(tiny):
    utterances = eval_sets.by_name("quick-look").utterances[:3]
    audio = [eval_sets.read_audio(u) for u in utterances]
    together = transcribe(tiny, tiny.torch_model, audio, ["en"] * 3, STUDY).texts
    alone = [transcribe(tiny, tiny.torch_model, [a], ["en"], STUDY).texts[0] for a in audio]
    assert list(together) == alone


@pytest.fixture(scope="module")
def german():
    return eval_sets.by_name("fleurs-de-example").utterances[0]


def test_the_language_is_detected_or_given(base, tiny, german, jfk):
    audio = eval_sets.read_audio(german)
    assert detect_language(base, audio) == "de"
    assert detect_language(base, eval_sets.read_audio(jfk)) == "en"
    assert detect_language(tiny, audio) == "en"  # it knows no other
    heard = transcribe(base, base.torch_model, [audio], ["de"], STUDY).texts[0]
    assert scores.score(german.reference, heard, "de").words.rate < 35


def test_an_english_model_refuses_other_languages_and_translation(tiny, german):
    audio = [eval_sets.read_audio(german)]
    with pytest.raises(ModelError, match=r"tiny.en knows English only.*base"):
        transcribe(tiny, tiny.torch_model, audio, ["de"], STUDY)
    with pytest.raises(ModelError, match="translate"):
        transcribe(tiny, tiny.torch_model, audio, ["en"], Protocol("x", task="translate"))


def test_silence_does_not_fail(tiny):
    silence = np.zeros(2 * SAMPLE_RATE, np.float32)
    found = transcribe(tiny, tiny.torch_model, [silence], ["en"], STUDY)
    assert isinstance(found.texts[0], str)
