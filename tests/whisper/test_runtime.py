"""Runtimes other than PyTorch, on real weights: what a user might pick instead."""

import shutil
import struct
import sys
from dataclasses import replace

import numpy as np
import pytest

from whisperq_core.errors import LibraryMissing, ModelError, RecipeUnsupported
from whisperq_core.evaluate.planner import plan
from whisperq_core.evaluate.requests import SPEED_REPEATS, Request
from whisperq_core.evaluate.resolution import resolve
from whisperq_core.evaluate.runner import run
from whisperq_core.quantize import backends
from whisperq_core.quantize.recipes import CATALOGUE, recipe
from whisperq_core.scoring import error_rates
from whisperq_core.speech import evaluation_sets
from whisperq_core.speech.decode import SAMPLE_RATE
from whisperq_core.whisper.protocols import CORRECTED, FITTED, STUDY, Protocol
from whisperq_core.whisper.runtime import Transcripts, combine_transcripts

RUNNABLE = [
    name
    for name, chosen in CATALOGUE.items()
    if chosen.has_own_runtime and backends.unavailable_reason(chosen, "cpu") is None
]
INT8 = "faster-whisper-int8"
EXPORTED = ("onnxruntime-int8", "openvino-int8")


@pytest.fixture(scope="module")
def opened(opened_runtimes):
    """Every runtime there is."""
    return {name: opened_runtimes[name] for name in RUNNABLE}


def test_those_without_a_file_of_the_user_s_can_run():
    assert {"faster-whisper-fp32", INT8, *EXPORTED} <= set(RUNNABLE)


@pytest.mark.parametrize("name", RUNNABLE)
def test_each_runtime_hears_jfk(name, opened, jfk):
    found = opened[name].runtime.transcribe([evaluation_sets.read_audio(jfk)], ["en"], STUDY)
    assert error_rates.score(jfk.reference, found.texts[0], "en").words.errors == 0
    assert found.temperatures == (0.0,) and found.wall_s > 0
    assert found.encoder_s is None or 0 < found.encoder_s < found.wall_s


def test_faster_whisper_tells_encoder_and_tokens_but_not_the_first_token(opened, jfk):
    audio = evaluation_sets.read_audio(jfk)
    found = opened[INT8].runtime.transcribe([audio, audio], ["en", None], STUDY)
    assert found.texts[0] == found.texts[1] and len(found.temperatures) == 2
    assert found.first_token_s is None and found.tokens == 2 * 24  # 23 and the end


def test_converting_leaves_the_model_as_it_was(opened, tiny, jfk):
    """CTranslate2 quantizes in the memory it is given: a second conversion would hear nonsense."""
    largest = {n: float(p.abs().max()) for n, p in tiny.torch_model.named_parameters()}
    assert max(largest.values()) < 100  # scaled for int8 they would reach 127
    again = backends.open_runtime(tiny, recipe(INT8)).runtime
    audio = [evaluation_sets.read_audio(jfk)]
    before = opened[INT8].runtime.transcribe(audio, ["en"], STUDY).texts
    assert again.transcribe(audio, ["en"], STUDY).texts == before


def test_sizes_are_those_of_the_files(opened, tiny):
    fp32 = backends.serialized_bytes(tiny.torch_model)
    plain, int8 = opened["faster-whisper-fp32"], opened[INT8]
    assert plain.weights_bytes == pytest.approx(fp32, rel=0.001) and plain.modules == ()
    assert int8.weights_bytes == pytest.approx(fp32 / 4, rel=0.1)
    assert {"decoder/embeddings/weight", "encoder/conv1/weight"} <= set(int8.modules)
    assert int8.torch_model is None and int8.quantize_s > 0


def test_exported_graphs_are_as_small_as_their_recipe_says(opened, tiny):
    """A byte a weight; ONNX Runtime has the token embeddings twice, and convolutions in fp32."""
    parameters = {name: p.numel() for name, p in tiny.torch_model.named_parameters()}
    table, every = parameters["model.decoder.embed_tokens.weight"], sum(parameters.values())
    found = {name: opened[name] for name in EXPORTED}
    assert found["openvino-int8"].weights_bytes == pytest.approx(every, rel=0.1)
    assert found["onnxruntime-int8"].weights_bytes == pytest.approx(every + table, rel=0.15)
    # Compressed are 34 constants in each of OpenVINO's graphs; one is the table, for two modules.
    assert [len(found[name].modules) for name in EXPORTED] == [66, 69]
    assert "model.encoder.conv1" in found["openvino-int8"].modules
    assert all({"proj_out", "model.decoder.embed_tokens"} <= set(f.modules) for f in found.values())


@pytest.mark.parametrize("name", EXPORTED)
def test_exported_graphs_take_batches_and_tell_their_times(name, opened, jfk):
    audio = evaluation_sets.read_audio(jfk)
    found = opened[name].runtime.transcribe([audio, audio[: 4 * SAMPLE_RATE]], ["en"] * 2, STUDY)
    assert error_rates.score(jfk.reference, found.texts[0], "en").words.errors <= 1
    assert "fellow Americans" in found.texts[1] and len(found.texts[1]) < len(found.texts[0])
    assert 0 < found.encoder_s < found.first_token_s < found.wall_s and found.tokens > 30


def test_opening_prints_nothing_and_openvino_reports_nothing(opened, opened_runtimes):
    assert opened_runtimes.printed == ""
    assert sys.modules["openvino_telemetry"] is None


def test_faster_whisper_falls_back_under_the_corrected_protocol_only(opened, jfk):
    looping = np.tile(evaluation_sets.read_audio(jfk)[: int(2.2 * SAMPLE_RATE)], 4)
    noise = np.random.default_rng(0).normal(0, 0.1, 5 * SAMPLE_RATE).astype(np.float32)
    runtime, languages = opened["faster-whisper-fp32"].runtime, ["en", "en"]
    study = runtime.transcribe([looping, noise], languages, STUDY)
    corrected = runtime.transcribe([looping, noise], languages, CORRECTED)
    assert study.temperatures == (0.0, 0.0) and study.texts[1]
    assert corrected.temperatures[0] > 0 and corrected.texts[1] == ""
    assert corrected.tokens > study.tokens


def test_an_english_model_refuses_other_languages_and_translation(opened, jfk):
    audio, runtime = [evaluation_sets.read_audio(jfk)], opened[INT8].runtime
    with pytest.raises(ModelError, match="supports English only"):
        runtime.transcribe(audio, ["de"], STUDY)
    with pytest.raises(ModelError, match="translate"):
        runtime.transcribe(audio, ["en"], Protocol("x", task="translate"))


def test_a_runtime_is_evaluated_timed_and_stored_like_any_recipe(store, tmp_path, jfk):
    folder = tmp_path / "one"
    folder.mkdir()
    shutil.copy(jfk.audio, folder)
    (folder / f"{jfk.audio.stem}.txt").write_text(jfk.reference)
    request = Request("tiny.en", recipe(INT8), str(folder), threads=2)
    found = run(request, store)
    assert found.words.errors == 0 and found.key == resolve(request).key
    assert found.spec.versions.keys() >= {"faster-whisper", "ctranslate2", "torch"}
    assert store.get(found.key) == found == run(request, store)
    timed = run(replace(request, measures="speed"), store)
    assert [p.subject for p in timed.passes] == ["fp32", "recipe"] * SPEED_REPEATS
    assert timed.first_token_s() is None and timed.first_token_s("fp32") > 0
    assert 0 < timed.encoder_share() < 1 and timed.tokens_per_s() > 0


def test_what_a_runtime_cannot_do_is_refused_with_the_reason(store, tiny):
    request = Request("tiny.en", recipe(INT8), "quick-look", threads=2)
    fitted = replace(request, protocol=FITTED)
    on_cuda = replace(request, device="cuda")
    reasons = [planned.reason for planned in plan([fitted, on_cuda], store)]
    assert "always uses a 30 s window" in reasons[0] and "on cpu only" in reasons[1]
    for refused in (fitted, on_cuda):
        with pytest.raises(RecipeUnsupported):
            run(refused, store)
    with pytest.raises(RecipeUnsupported, match="whole model"):
        backends.quantize(tiny.torch_model, recipe(INT8))


def test_a_missing_runtime_names_the_pip_command(monkeypatch, tiny):
    def not_installed(package):
        raise backends.availability.PackageNotFoundError(package)

    monkeypatch.setattr(backends.availability, "version", not_installed)
    with pytest.raises(LibraryMissing, match="pip install faster-whisper"):
        backends.open_runtime(tiny, recipe(INT8))


def test_what_a_runtime_needs_beside_its_library_is_named_too(monkeypatch):
    def without_nncf(package):
        if package == "nncf":
            raise backends.availability.PackageNotFoundError(package)
        return "1"

    monkeypatch.setattr(backends.availability, "version", without_nncf)
    assert "pip install nncf" in backends.unavailable_reason(recipe("openvino-int8"), "cpu")
    assert backends.unavailable_reason(recipe("onnxruntime-int8"), "cpu") is None


@pytest.mark.parametrize("name", EXPORTED)
def test_exported_graphs_decode_greedily_only(name, store):
    protocols = STUDY, CORRECTED, replace(STUDY, name="beams", beams=5)
    asked = [Request("tiny.en", recipe(name), "quick-look", protocol=p) for p in protocols]
    found = plan(asked, store)
    assert found[0].status == "to run"
    assert all("greedy decoding only" in refused.reason for refused in found[1:])


def test_whisper_cpp_says_how_to_get_the_file_that_it_needs(monkeypatch, tmp_path, store):
    monkeypatch.setenv("WHISPERQ_GGML", str(tmp_path))
    plain, q8_0 = recipe("whisper.cpp-fp16"), recipe("whisper.cpp-q8_0")
    assert "WHISPERQ_GGML" in backends.unavailable_reason(plain, "cpu")
    (tmp_path / "ggml-base.bin").write_bytes(b"weights")
    assert backends.unavailable_reason(plain, "cpu") is None
    reason = backends.unavailable_reason(q8_0, "cpu")
    assert "whisper-quantize ggml-base.bin ggml-base-q8_0.bin q8_0" in reason
    missing, there, corrected = plan(
        [
            Request("tiny.en", plain, "quick-look"),
            Request("base", plain, "quick-look"),
            Request("base", plain, "quick-look", protocol=CORRECTED),
        ],
        store,
    )
    assert missing.status == "refused" and "such as ggml-tiny.en.bin" in missing.reason
    assert there.status == "to run" and "greedy decoding only" in corrected.reason
    (tmp_path / "ggml-base.bin").write_bytes(b"other weights")
    assert resolve(there.request).key != there.key


def test_a_ggml_file_of_another_model_is_refused(monkeypatch, tmp_path, tiny):
    monkeypatch.setenv("WHISPERQ_GGML", str(tmp_path))
    base = struct.pack("<12i", 0x67676D6C, 51865, 1500, 512, 8, 6, 448, 512, 8, 6, 80, 1)
    for content in (b"", b"x" * 100, base):
        (tmp_path / "ggml-tiny.en.bin").write_bytes(content)
        with pytest.raises(RecipeUnsupported, match=r"not a ggml file of tiny\.en"):
            backends.open_runtime(tiny, recipe("whisper.cpp-fp16"))


def test_together_adds_what_is_known():
    one = Transcripts(("a",), (0.0,), 2.0, encoder_s=1.0, first_token_s=0.5, tokens=3)
    other = Transcripts(("b",), (0.2,), 1.0, encoder_s=0.5, tokens=4)
    assert combine_transcripts([one, one]) == Transcripts(("a",) * 2, (0.0,) * 2, 4.0, 2.0, 0.5, 6)
    assert combine_transcripts([one, other]) == Transcripts(
        ("a", "b"), (0.0, 0.2), 3.0, 1.5, None, 7
    )
