import pytest
import torch

from whisperq_core.speech import evaluation_sets
from whisperq_core.whisper import teacher_forcing
from whisperq_core.whisper.protocols import FITTED
from whisperq_core.whisper.short_window import WHOLE, Window
from whisperq_core.whisper.transcription import forward, transcribe, window_of

pytestmark = pytest.mark.model

UTTERANCES = evaluation_sets.shipped_sets()["quick-look"].utterances[:3]


def predictions(model, audio, text, window):
    tokens, first = teacher_forcing.forced_tokens(model, text, "en", "transcribe")
    encoded = teacher_forcing.encode(model, model.torch_model, audio, window)
    return (
        tokens,
        first,
        teacher_forcing.log_probabilities(model.torch_model, encoded, tokens, first),
    )


@pytest.mark.parametrize("utterance", UTTERANCES, ids=lambda u: u.id)
def test_a_greedy_transcript_is_what_its_model_predicts(tiny, utterance):
    """Token by token: generation and the teacher-forced pass are the same mathematics."""
    audio = evaluation_sets.read_audio(utterance)
    text = transcribe(tiny, tiny.torch_model, [audio], ["en"], FITTED).texts[0]
    tokens, first, log_probs = predictions(tiny, audio, text, window_of(FITTED))
    assert log_probs.shape == (len(tokens) - first, tiny.torch_model.config.vocab_size)
    assert log_probs.argmax(-1).tolist() == tokens[first:]
    assert torch.allclose(log_probs.exp().sum(-1), torch.ones(len(log_probs)), atol=1e-4)


def test_whole_window_is_what_transformers_computes(tiny):
    audio = evaluation_sets.read_audio(UTTERANCES[0])
    text = "He said nothing of the kind."
    tokens, first, log_probs = predictions(tiny, audio, text, WHOLE)
    logits = forward(tiny, tiny.torch_model, [audio], [tokens[:-1]])[0, first - 1 :]
    assert torch.allclose(log_probs, logits.log_softmax(-1), atol=1e-3)


def test_folded_silence_counts_in_the_decoder_too(tiny):
    """A folded window is nearer to the whole one than a window that is cut."""
    audio = evaluation_sets.read_audio(UTTERANCES[1])
    text = transcribe(tiny, tiny.torch_model, [audio], ["en"], FITTED).texts[0]
    whole, folded, cut = (
        predictions(tiny, audio, text, window)[2]
        for window in (WHOLE, Window(0.5, 32), Window(0.5))
    )
    apart = [(whole.exp() * (whole - other)).sum(-1).mean() for other in (folded, cut)]
    assert apart[0] < apart[1]


def test_tokens_end_where_the_decoder_does(tiny):
    tokens, first = teacher_forcing.forced_tokens(tiny, "no " * 1000, "en", "transcribe")
    assert (len(tokens), first) == (448, 2)
