"""Whisper as two graphs, and the greedy loop over them, against Transformers' own generate()."""

import numpy as np
import pytest

from whisperq_core.errors import ModelError
from whisperq_core.scoring import error_rates
from whisperq_core.speech import evaluation_sets
from whisperq_core.speech.decode import SAMPLE_RATE
from whisperq_core.whisper import graph_export
from whisperq_core.whisper.protocols import STUDY, Protocol
from whisperq_core.whisper.transcription import transcribe

SPOKEN = evaluation_sets.shipped_sets()["quick-look"].utterances


def running(module):
    """A module of PyTorch as arrays in and arrays out."""
    import torch

    def run(*arrays):
        given = [torch.from_numpy(np.ascontiguousarray(array)) for array in arrays]
        with torch.no_grad():
            return [tensor.numpy() for tensor in module(*given)]

    return run


def greedy(model, modules):
    return graph_export.GraphRuntime(model, *[running(module) for module in modules])


@pytest.fixture(scope="module")
def graphs(tiny):
    return graph_export.export_graphs(tiny.torch_model)


@pytest.fixture(scope="module")
def of_tiny(tiny, graphs):
    return greedy(tiny, [graph.program.module() for graph in graphs])


@pytest.fixture(scope="module")
def of_base(base):
    return greedy(base, graph_export.graph_modules(base.torch_model))


def test_the_graphs_choose_the_tokens_of_generate(tiny, of_tiny, monkeypatch):
    """On a batch of two lengths, so that one row ends before the other."""
    audio = [evaluation_sets.read_audio(u) for u in (SPOKEN[0], SPOKEN[-1])]
    assert len(audio[0]) != len(audio[1])
    decoded, decode = [], tiny.tokenizer.batch_decode
    monkeypatch.setattr(
        tiny.tokenizer,
        "batch_decode",
        lambda rows, **options: decoded.append(np.array(rows)) or decode(rows, **options),
    )
    found = of_tiny.transcribe(audio, ["en", "en"], STUDY)
    features = tiny.features.windows(audio)
    wanted = tiny.torch_model.generate(features, do_sample=False, num_beams=1).numpy()
    end = tiny.torch_model.generation_config.eos_token_id
    rows = [[*row[row != end]] for row in decoded[0]]
    assert rows == [[t for t in row if t < end] for row in wanted.tolist()]
    assert found.tokens == sum(map(len, rows)) + 2
    assert 0 < found.encoder_s < found.first_token_s < found.wall_s


def test_the_names_are_those_of_inputs_and_outputs(graphs, tiny):
    encoder, step = graphs
    layers = tiny.torch_model.config.decoder_layers
    assert encoder.outputs == step.inputs[1 + 2 * layers :]
    assert len(step.inputs) == 1 + 4 * layers and len(step.outputs) == 1 + 2 * layers
    for graph in graphs:
        assert len(graph.program.graph_signature.user_inputs) == len(graph.inputs)
        assert len(graph.program.graph_signature.user_outputs) == len(graph.outputs)


def test_several_languages_given_or_detected(base, of_base):
    audio = [evaluation_sets.read_audio(u) for u in sorted(SPOKEN, key=lambda u: u.duration_s)[:2]]
    ours = of_base.transcribe(audio, ["en", "de"], STUDY)
    theirs = transcribe(base, base.torch_model, audio, ["en", "de"], STUDY)
    assert (ours.texts, ours.tokens) == (theirs.texts, theirs.tokens)
    assert of_base.transcribe(audio[:1], [None], STUDY).texts == ours.texts[:1] != ours.texts[1:]


def test_longer_audio_is_cut_into_windows(tiny, of_tiny, jfk):
    audio = evaluation_sets.read_audio(jfk)
    silence = np.zeros(30 * SAMPLE_RATE - len(audio), np.float32)
    found = of_tiny.transcribe([np.concatenate([audio, silence, audio])], ["en"], STUDY)
    once = of_tiny.transcribe([audio], ["en"], STUDY)
    assert found.texts == (f"{once.texts[0]} {once.texts[0]}",)
    assert found.tokens == 2 * once.tokens and found.temperatures == (0.0,)
    assert error_rates.score(jfk.reference, once.texts[0], "en").words.errors == 0


def test_an_english_model_refuses_other_languages(of_tiny):
    for languages, task in ((["de"], "transcribe"), (["en"], "translate")):
        with pytest.raises(ModelError, match="supports English only"):
            of_tiny.transcribe(
                [np.zeros(SAMPLE_RATE, np.float32)], languages, Protocol("x", task=task)
            )
