import pytest
import torch

from whisperq_core.speech import evaluation_sets
from whisperq_core.whisper.generation import generate, timed
from whisperq_core.whisper.transcription import _inputs, forward


@pytest.fixture(scope="module")
def speech():
    """A short utterance and a longer one, so that rows end at different steps."""
    found = sorted(
        evaluation_sets.by_name("test-clean-excerpt").utterances, key=lambda u: u.duration_s
    )
    return [evaluation_sets.read_audio(u) for u in (found[0], found[len(found) // 2])]


def teacher_forced(model, audio, tokens: list[int]) -> float:
    """Mean log-probability of the tokens and their end, from one pass over all of them."""
    tables = model.torch_model.generation_config
    end = tables.eos_token_id
    prompt = [tables.decoder_start_token_id, tables.no_timestamps_token_id]
    logits = forward(model, model.torch_model, [audio], [[*prompt, *tokens]])[0, 1:]
    logits[:, tables.suppress_tokens] = -torch.inf
    logits[0, tables.begin_suppress_tokens] = -torch.inf
    chosen = logits.log_softmax(-1).gather(1, torch.tensor([*tokens, end])[:, None])
    return chosen.mean().item()


@pytest.mark.parametrize("temperature", [0.0, 0.6])
def test_log_probabilities_are_those_of_a_teacher_forced_pass(tiny, speech, temperature):
    inputs = {"input_features": _inputs(tiny, tiny.torch_model, speech)["input_features"]}
    end = tiny.torch_model.generation_config.eos_token_id
    torch.manual_seed(0)
    with torch.no_grad():
        options = {"temperature": temperature, "top_k": 0}
        made = generate(tiny.torch_model, inputs, options, with_logprobs=True)
    rows = [[t for t in row if t != end] for row in made.tokens.tolist()]
    assert made.token_count == sum(len(row) + 1 for row in rows)
    expected = [teacher_forced(tiny, audio, row) for audio, row in zip(speech, rows, strict=True)]
    assert made.avg_logprobs == pytest.approx(expected, abs=1e-3)


def test_watching_changes_no_token(tiny, speech):
    inputs = _inputs(tiny, tiny.torch_model, speech)
    with torch.no_grad():
        plain = tiny.torch_model.generate(**inputs, num_beams=1, do_sample=False)
        watched = generate(tiny.torch_model, inputs, {"num_beams": 1, "do_sample": False})
    assert torch.equal(plain, watched.tokens)
    assert 0 < watched.times.encoder_s < watched.first_token_s < watched.times.wall_s
    assert watched.attempts == 1 and watched.avg_logprobs == ()


def test_nothing_stays_behind_on_the_encoder(tiny, speech):
    encoder = tiny.torch_model.model.encoder
    with timed(tiny.torch_model) as times, torch.no_grad():
        encoder(_inputs(tiny, tiny.torch_model, speech[:1])["input_features"])
    assert 0 < times.encoder_s <= times.wall_s
    assert not encoder._forward_hooks and not encoder._forward_pre_hooks
    with pytest.raises(ZeroDivisionError), timed(tiny.torch_model):
        _ = 1 / 0
    assert not encoder._forward_hooks and not encoder._forward_pre_hooks
