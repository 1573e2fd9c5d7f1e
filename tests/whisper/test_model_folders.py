"""Folders as people save them, from tiny.en's weights: loaded right, or refused with the cause."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from whisperq_core.errors import ModelError
from whisperq_core.speech import evaluation_sets
from whisperq_core.whisper import model_sources, model_weights, models
from whisperq_core.whisper.protocols import STUDY
from whisperq_core.whisper.runtime import Segment
from whisperq_core.whisper.transcription import transcribe
from whisperq_core.whisper.word_timestamps import alignment_problem, timed_words

# Most of these tests load real weights.
pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def saved(tiny, tmp_path_factory):
    """tiny.en as Transformers saves it."""
    folder = tmp_path_factory.mktemp("saved")
    tiny.torch_model.save_pretrained(folder)
    tiny.tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "model")


@pytest.fixture(scope="module")
def audio(jfk):
    return [evaluation_sets.read_audio(jfk)]


@pytest.fixture(scope="module")
def expected(tiny, audio):
    return transcribe(tiny, tiny.torch_model, audio, ["en"], STUDY).texts


def digest(folder) -> str:
    return model_weights.digest(model_sources.find(str(folder)))


def change_weights(folder, change) -> None:
    path = folder / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file({name: t.contiguous() for name, t in tensors.items()}, path, {"format": "pt"})


def change_json(path, **fields) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def to_half(dtype):
    return lambda tensors: tensors.update({n: t.to(dtype) for n, t in tensors.items()})


def test_bfloat16_and_float16_load(folder, tiny, audio, expected):
    change_weights(folder, to_half(torch.float16))
    assert digest(folder) == tiny.digest
    change_weights(folder, to_half(torch.bfloat16))
    model = models.load(str(folder))
    weight = model.torch_model.model.encoder.layers[0].fc1.weight
    wanted = tiny.torch_model.model.encoder.layers[0].fc1.weight
    assert torch.equal(weight, wanted.to(torch.bfloat16).float())
    assert transcribe(model, model.torch_model, audio, ["en"], STUDY).texts == expected


def test_shards_load_and_a_missing_one_is_named(folder, tiny):
    tiny.torch_model.save_pretrained(folder, max_shard_size="40MB")
    (folder / "model.safetensors").unlink(missing_ok=True)
    shards = sorted(folder.glob("model-*.safetensors"))
    assert len(shards) > 1 and digest(folder) == tiny.digest
    shards[0].unlink()
    with pytest.raises(ModelError, match=rf"lacks {shards[0].name}.*index"):
        models.load(str(folder))


def test_files_beyond_the_model_change_nothing(folder, tiny):
    save_file({"state": torch.ones(2)}, folder / "optimizer.safetensors")
    (folder / "training_args.bin").write_bytes(b"pickle")
    assert digest(folder) == tiny.digest


def test_an_output_projection_of_its_own_is_refused(folder, tiny):
    table = "model.decoder.embed_tokens.weight"
    change_weights(folder, lambda tensors: tensors.update({"proj_out.weight": tensors[table] * 1}))
    assert digest(folder) == tiny.digest
    change_weights(folder, lambda tensors: tensors.update({"proj_out.weight": tensors[table] * 2}))
    with pytest.raises(ModelError, match=r"proj_out.* differs from the token embeddings"):
        models.load(str(folder))


def test_quantized_weights_are_refused(folder):
    name = "model.decoder.layers.0.fc1.weight"
    change_weights(folder, lambda tensors: tensors.update({name: tensors[name].to(torch.int8)}))
    with pytest.raises(ModelError, match=r"fc1.weight as I8: the model is quantized already"):
        models.load(str(folder))


def test_an_adapter_is_refused_with_the_way_to_merge_it(tmp_path):
    (tmp_path / "adapter_config.json").write_text("{}")
    save_file({"base_model.lora_A.weight": torch.ones(2)}, tmp_path / "adapter_model.safetensors")
    with pytest.raises(ModelError, match=r"holds an adapter.*merge_and_unload"):
        models.load(str(tmp_path))


def test_a_resized_vocabulary_loads_and_has_its_own_identity(folder, saved, tiny, audio, expected):
    tokenizer = models.read_tokenizer(folder)
    tokenizer.add_tokens(["misplaced"])
    tokenizer.save_pretrained(folder)
    with pytest.raises(ModelError, match=r"'misplaced' the id 50363, that of a timestamp"):
        models.load(str(folder))
    tokenizer = models.read_tokenizer(saved)
    tokenizer.add_tokens([f"<|{i * 0.02:.2f}|>" for i in range(1501)], special_tokens=True)
    tokenizer.save_pretrained(folder)
    assert digest(folder) == tiny.digest
    tokenizer.add_tokens(["whisperqish"])
    tokenizer.save_pretrained(folder)
    rows = tokenizer.convert_tokens_to_ids("whisperqish") + 1
    with pytest.raises(ModelError, match=rf"needs {rows} rows.* different models"):
        models.load(str(folder))
    table = "model.decoder.embed_tokens.weight"

    def grow(tensors):
        more = torch.zeros(rows - len(tensors[table]), tensors[table].shape[1])
        tensors[table] = torch.cat([tensors[table], more])

    change_weights(folder, grow)
    model = models.load(str(folder))
    assert model.digest == digest(folder) != tiny.digest
    assert transcribe(model, model.torch_model, audio, ["en"], STUDY).texts == expected


def test_without_generation_settings_whispers_own_are_used(folder, tiny, audio, expected):
    (folder / "generation_config.json").unlink()
    model = models.load(str(folder))
    ours, theirs = model.torch_model.generation_config, tiny.torch_model.generation_config
    assert ours.suppress_tokens == theirs.suppress_tokens
    assert ours.begin_suppress_tokens == theirs.begin_suppress_tokens
    assert model.digest == digest(folder) == tiny.digest
    assert transcribe(model, model.torch_model, audio, ["en"], STUDY).texts == expected


def test_generation_settings_of_another_model_are_refused(folder):
    settings = folder / "generation_config.json"
    change_json(settings, no_timestamps_token_id=50363)
    with pytest.raises(ModelError, match=r"generation_config.json belongs to another model"):
        models.load(str(folder))
    change_json(settings, no_timestamps_token_id=50362, suppress_tokens=[1, 60000])
    with pytest.raises(ModelError, match="suppress token 60000"):
        models.load(str(folder))
    settings.write_text("{")
    with pytest.raises(ModelError, match=r"generation_config.json is not JSON"):
        models.load(str(folder))


@pytest.mark.parametrize("key", ["suppress_tokens", "begin_suppress_tokens"])
def test_other_suppressed_tokens_are_another_model(key, folder, tiny, audio, expected):
    settings = folder / "generation_config.json"
    usual = json.loads(settings.read_text())[key]
    assert digest(folder) == tiny.digest
    change_json(settings, **{key: [*reversed(usual), usual[0]]})
    assert digest(folder) == tiny.digest  # the same tokens
    first_word = tiny.tokenizer(" And", add_special_tokens=False).input_ids
    change_json(settings, **{key: [*usual, *first_word]})
    model = models.load(str(folder))
    assert model.digest == digest(folder) != tiny.digest
    assert transcribe(model, model.torch_model, audio, ["en"], STUDY).texts != expected
    change_json(settings, **{key: []})
    assert digest(folder) not in (tiny.digest, model.digest)


def test_alignment_heads_that_do_not_exist_spread_words_evenly_and_say_so(folder, tiny, audio):
    change_json(folder / "generation_config.json", alignment_heads=[[1, 0], [9, 3]])
    model = models.load(str(folder))
    words = timed_words(model, audio[0], [Segment(0.0, 10.0, "a b c d e")], "en", "transcribe")
    assert [word.start_s for word in words] == [0.0, 2.0, 4.0, 6.0, 8.0]
    assert "layers it does not have" in alignment_problem(model, "transcribe")
    assert alignment_problem(tiny, "transcribe") is None
    assert "translation" in alignment_problem(tiny, "translate")
    assert model.digest == digest(folder) == tiny.digest  # they change no transcript


def test_digests_of_the_embedded_models_are_pinned(base, tiny):
    """Stored results have these in their keys."""
    assert tiny.digest == "5025e89907c935064d272ca652508b9e7b0797243c74309328a15fbad21fd1d1"
    assert base.digest == "5a665de58a783864fcd44404077217c4623096d3fc1df41dff3224d70a65158a"


def test_a_multilingual_folder_with_standard_settings_has_the_digest_of_its_weights(base, tmp_path):
    base.torch_model.save_pretrained(tmp_path)
    base.tokenizer.save_pretrained(tmp_path)
    assert digest(tmp_path) == base.digest
