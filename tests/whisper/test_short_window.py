"""Windows that fit the speech, on tiny.en and real speech."""

import dataclasses

import numpy as np
import pytest
import torch

from whisperq_core.errors import ModelError
from whisperq_core.quantize import backends
from whisperq_core.quantize.recipes import recipe
from whisperq_core.speech import evaluation_sets
from whisperq_core.whisper import short_window
from whisperq_core.whisper.protocols import FITTED, MERGED, STUDY
from whisperq_core.whisper.short_window import WHOLE, Window
from whisperq_core.whisper.transcription import transcribe


@pytest.fixture(scope="module")
def three():
    """Utterances of different length, the longest first."""
    found = evaluation_sets.by_name("test-clean-excerpt").utterances
    ordered = sorted(found, key=lambda u: -u.duration_s)
    return [ordered[i] for i in (8, 14, 20)]


@pytest.fixture(scope="module")
def audio(three):
    return [evaluation_sets.read_audio(u) for u in three]


@pytest.fixture(scope="module")
def transcripts(tiny, audio):
    """generate() in the whole window."""
    return transcribe(tiny, tiny.torch_model, audio, ["en"] * 3, STUDY)


def features(model, audio):
    return model.features.windows(audio)


def test_in_the_whole_window_it_chooses_the_tokens_of_generate(tiny, audio, transcripts):
    prompts = [tiny.prompt("en", "transcribe")] * 3
    with torch.no_grad():
        made = short_window.generate(
            tiny.torch_model, features(tiny, audio), [30.0] * 3, prompts, WHOLE
        )
    texts = tiny.tokenizer.batch_decode(made.tokens, skip_special_tokens=True)
    assert tuple(text.strip() for text in texts) == transcripts.texts
    assert made.token_count == transcripts.tokens
    assert 0 < made.times.encoder_s < made.times.wall_s
    assert made.times.encoder_s < made.first_token_s < made.times.wall_s


@pytest.mark.parametrize("protocol", [FITTED, MERGED], ids=lambda p: p.name)
def test_a_fitted_window_transcribes_nearly_the_same(protocol, tiny, audio, transcripts):
    found = transcribe(tiny, tiny.torch_model, audio, ["en"] * 3, protocol)
    pairs = [(a.split(), b.split()) for a, b in zip(found.texts, transcripts.texts, strict=True)]
    assert all(abs(len(a) - len(b)) <= 1 for a, b in pairs)
    assert sum(len(set(a) ^ set(b)) for a, b in pairs) <= 6
    assert found.redone == (False,) * 3


def test_an_utterance_does_not_depend_on_its_neighbours(tiny, audio):
    together = transcribe(tiny, tiny.torch_model, audio, ["en"] * 3, FITTED).texts
    alone = transcribe(tiny, tiny.torch_model, audio[1:2], ["en"], FITTED).texts
    assert together[1:2] == alone


def encoded(tiny, audio, seconds, window):
    with torch.no_grad():
        return short_window.encode(tiny.torch_model, features(tiny, audio[-1:]), seconds, window)


def test_positions_and_their_weights_add_up_to_the_window(tiny, audio):
    states, weights = encoded(tiny, audio, 2.0, Window(margin_s=0.5, fold=32))
    assert len(states) == len(weights) == 125 + 43  # 1375 positions of silence by 32, rounded up
    assert weights.exp().sum() == pytest.approx(1500, rel=1e-5)
    assert weights[:125].eq(0).all()


def test_merging_halves_the_positions_of_speech(tiny, audio):
    states, weights = encoded(tiny, audio, 2.0, Window(margin_s=0.5, fold=32, merge_at=0.5))
    assert len(states) == 62 + 1 + 43
    assert weights.exp().sum() == pytest.approx(1500, rel=1e-5)


def test_silence_is_cut_without_a_fold(tiny, audio):
    states, weights = encoded(tiny, audio, 2.0, Window(margin_s=0.5))
    assert len(states) == 125
    assert not weights.any()


def test_folding_by_one_is_the_whole_window(tiny, audio, three):
    """Every position of silence for itself: what the whole window computes."""
    folded, _ = encoded(tiny, audio, three[-1].duration_s, Window(margin_s=0.5, fold=1))
    whole, weights = encoded(tiny, audio, 30.0, WHOLE)
    assert len(folded) == len(whole) == 1500
    assert not weights.any()
    # The convolutions' very last position sees the padding, which the folded one does not.
    difference = (folded - whole).abs().mean()
    assert difference < 0.03 * whole.abs().mean()


def test_the_watch_ends_a_row_and_only_that(tiny, audio, monkeypatch):
    monkeypatch.setattr(short_window, "_STOP_CHECK_EVERY", 4)
    prompts = [tiny.prompt("en", "transcribe")] * 3
    seconds = [len(a) / 16000 for a in audio]
    window = Window(margin_s=0.5, fold=32)

    def run(watch):
        with torch.no_grad():
            model, mel = tiny.torch_model, features(tiny, audio)
            return short_window.generate(
                model, mel, seconds, prompts, window, watch
            ).tokens.tolist()

    free, first = run(None), []
    stopped = run(lambda tokens: not first and not first.append(tokens[0]))
    assert stopped[0][:4] == free[0][:4]
    end = tiny.torch_model.generation_config.eos_token_id
    assert all(token == end for token in stopped[0][4:])
    length = min(len(free[1]), len(stopped[1]))
    assert stopped[1][:length] == free[1][:length]


def test_a_loop_is_decoded_again_in_the_whole_window_and_its_time_counts(tiny, audio, transcripts):
    """Cutting right after the speech makes tiny.en repeat itself, which folding does not."""
    cut = dataclasses.replace(FITTED, margin_s=0.0, fold=None)
    found = transcribe(tiny, tiny.torch_model, audio, ["en"] * 3, cut)
    assert any(found.redone)
    for text, whole, redone in zip(found.texts, transcripts.texts, found.redone, strict=True):
        assert not redone or text == whole
    plain = transcribe(tiny, tiny.torch_model, audio, ["en"] * 3, FITTED)
    assert found.encoder_s > plain.encoder_s


def test_speech_over_30_s_is_heard_window_after_window(tiny, audio):
    long = np.concatenate([audio[-1], np.zeros(30 * 16000, np.float32)])
    found = transcribe(tiny, tiny.torch_model, [long], ["en"], FITTED)
    assert len(found.texts[0].split()) > 3
    assert found.redone == ()


def test_an_unknown_language_is_refused(tiny, audio):
    with pytest.raises(ModelError, match="needs the language"):
        transcribe(tiny, tiny.torch_model, audio[:1], [None], FITTED)


@pytest.mark.parametrize("name", ["whole-int8-dynamic-bf16", "quanto-int8", "bnb-nf4"])
def test_it_works_on_the_layers_of_any_recipe(name, tiny, audio):
    if reason := backends.unavailable_reason(recipe(name), "cpu"):
        pytest.skip(reason)
    quantized = backends.quantize(tiny.torch_model, recipe(name)).torch_model
    text = transcribe(tiny, quantized, audio[-1:], ["en"], FITTED).texts[0]
    assert len(text.split()) > 3
