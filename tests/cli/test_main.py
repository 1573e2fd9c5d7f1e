import json
import os
from dataclasses import replace

import numpy as np
import pytest
import soundfile
from safetensors.torch import load_file, save_file

from tests.support.sample_runs import accuracy_run
from tests.support.synthetic_noise import pink
from whisperq_core import api, settings
from whisperq_core.cli.main import COMMANDS, main
from whisperq_core.quantize.recipes import CATALOGUE
from whisperq_core.speech import decode, evaluation_sets
from whisperq_core.whisper.protocols import FITTED

# Most of these tests load real weights.
pytestmark = pytest.mark.model


def test_lists(capsys):
    for command, words in [("recipes", CATALOGUE), ("models", ["tiny.en", "here", "large-v3"])]:
        assert main([command]) == 0
        printed = capsys.readouterr().out
        assert all(word in printed for word in words)
    assert main(["sets"]) == 0
    assert "22 utterances" in capsys.readouterr().out


def test_run_prints_figures_and_results_lists_them(store, capsys):
    arguments = ["--cache", str(store.root)]
    run = [*arguments, "run", "--models", "tiny.en", "--recipes", "fp32", "--threads", "2"]
    assert main([*run, "--only", "accuracy"]) == 0
    first = capsys.readouterr().out
    assert "tiny.en · fp32 · quick-look: WER 8.97%" in first
    assert main([*run, "--plan", "--only", "accuracy"]) == 0
    assert "cached" in capsys.readouterr().out
    assert main([*arguments, "results"]) == 0
    assert "8.974" in capsys.readouterr().out


def test_batches_of_one_are_results_of_their_own(store, capsys):
    run = ["--cache", str(store.root), "run", "--models", "tiny.en", "--recipes", "torch-int8"]
    run += ["--sets", "jfk", "--only", "accuracy", "--threads", "1", "--batch-size"]
    assert main([*run, "1"]) == 0
    assert (
        "tiny.en · torch-int8 · jfk, Study protocol, batches of 1: WER" in capsys.readouterr().out
    )
    assert main([*run, "1", "--plan"]) == 0
    assert "cached" in capsys.readouterr().out
    assert main([*run, "8", "--plan"]) == 0
    assert "to run" in capsys.readouterr().out
    assert main([*run, "0"]) == 2
    assert "--batch-size" in capsys.readouterr().err
    assert main(["recipes"]) == 0
    listed = capsys.readouterr().out
    assert listed.count("python -m whisperq_core run --batch-size 1") == 5


def test_the_corrected_protocol_leaves_out_what_it_refuses(store, capsys):
    arguments = ["--cache", str(store.root), "run", "--models", "tiny.en", "--plan"]
    arguments += ["--only", "accuracy", "--recipes", "all", "--protocol"]
    assert main([*arguments, "study"]) == 0
    assert "quanto-int8-int8-eval10" in capsys.readouterr().out
    assert main([*arguments, "corrected"]) == 0
    printed = capsys.readouterr().out
    assert "eval10" not in printed and "quanto-int8-int8 · quick-look, Corrected" in printed


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "--recipes", "int5"], "no recipe named"),
        (["run", "--recipes", "hqq-int4-g96"], "Group sizes are 16, 32, 64, 128"),
        (["run", "--recipes", "torchao-int4"], "torchao-int8"),
        (["run", "--models", "gigantic"], "no model"),
        (["run", "--sets", "/nowhere"], "no evaluation set or folder"),
        (["run", "--sets", ""], "Name at least one evaluation set"),
        (["run", "--models", ","], "Name at least one model"),
        (["run", "--recipes", ""], "Name at least one recipe"),
        (["run", "--threads", "-3"], "must be 0 (all cores) to 1024, not -3"),
        (["run", "--threads", "9999"], "must be 0 (all cores) to 1024, not 9999"),
        (["transcribe", "a.wav", "--recipes", ""], "Name at least one recipe"),
        (["advise", "--models", "base,gigantic"], "no model"),
        (["advise", "--max-mb", "-5"], "maximum size must be above 0"),
        (["evidence", "--model", "gigantic"], "There is no result of gigantic"),
        (["evidence"], "There is no result."),
    ],
)
def test_a_wrong_name_is_one_sentence(arguments, words, store, capsys):
    assert main(["--cache", str(store.root), *arguments]) == 1
    printed = capsys.readouterr()
    assert words in printed.err + printed.out
    assert "Traceback" not in printed.err


def test_what_cannot_run_here_is_said_and_is_no_failure(store, capsys):
    arguments = ["run", "--recipes", "torch-int8", "--device", "mps", "--only", "accuracy"]
    assert main(["--cache", str(store.root), *arguments]) == 0
    assert "refused. torch-int8 runs on cpu" in capsys.readouterr().out


def test_two_stored_runs_are_compared_whatever_their_protocols(store, capsys):
    said = [("a cat sat down", "a cat sat down")] * 12
    wrong = [("a cat sat down", "a cat stood up")] * 12
    runs = [
        accuracy_run("fp32", said, speakers="aabbccddeeff"),
        accuracy_run("hqq-int3-g64", wrong, speakers="aabbccddeeff", protocol=FITTED),
    ]
    for run in runs:
        store.put(run)
    keys = [run.key[:8] for run in runs]
    assert main(["--cache", str(store.root), "compare", *keys]) == 0
    printed = capsys.readouterr().out
    assert "WER 0.00%" in printed and "WER 50.00%" in printed and "Fitted window" in printed
    assert (
        "hqq-int3-g64 under “Fitted window”: significantly higher WER than fp32 under “Study"
        " protocol” (+50.00 points"
    ) in printed
    assert main(["--cache", str(store.root), "compare", "ffffff", keys[0]]) == 1
    assert "No stored run has a key that starts with ffffff" in capsys.readouterr().err


def test_a_wrong_command_is_a_sentence_and_code_2(capsys):
    for arguments in (["advice"], ["run", "--protocol", "fast"], ["export", "--recipe", "fp32"]):
        assert main(arguments) == 2
        printed = capsys.readouterr()
        assert "Error" in printed.err and "Traceback" not in printed.err


def test_every_command_explains_itself(capsys):
    assert main(["--help"]) == 0
    listed = capsys.readouterr().out
    for command in COMMANDS:
        name = command.__name__.replace("_", "-")
        assert f"  {name} " in listed
        assert main([name, "--help"]) == 0
        assert (command.__doc__ or "-").split(".")[0] in " ".join(capsys.readouterr().out.split())


def test_the_command_line_leaves_the_environment_as_it_was(store):
    before = dict(os.environ)
    assert main(["--cache", str(store.root / "other"), "sets"]) == 0
    assert dict(os.environ) == before


def test_one_bad_file_does_not_end_a_batch(store, jfk, tmp_path, capsys):
    bad = tmp_path / "bad.wav"
    bad.write_text("no audio")
    files = [str(bad), f" '{jfk.audio}' "]
    assert main(["transcribe", *files, "--model", "tiny.en"]) == 1
    printed = capsys.readouterr()
    assert "bad.wav" in printed.err and "ask not what your country can do" in printed.out


def test_the_cache_option_is_one_for_every_command(store, tmp_path, monkeypatch):
    chosen = []
    monkeypatch.setattr(
        "whisperq_core.quantize.sensitivity_measurement.measure",
        lambda *_: chosen.append(settings.current().cache) or _stop(),
    )
    assert main(["--cache", str(tmp_path / "here"), "sensitivity", "--models", "tiny.en"]) == 130
    assert chosen == [tmp_path / "here"]


def _stop():
    raise KeyboardInterrupt


def test_a_folder_is_previewed_with_what_is_left_out(jfk, tmp_path, capsys):
    folder = tmp_path / "my set"
    folder.mkdir()
    (folder / "a.flac").write_bytes(jfk.audio.read_bytes())
    (folder / "manifest.jsonl").write_text('{"audio": "a.flac", "text": "ask not"}')
    (folder / "b.flac").write_bytes(jfk.audio.read_bytes())
    assert main(["sets", f"'{folder}'"]) == 0
    printed = capsys.readouterr().out
    assert "1 utterances, 0.2 minutes" in printed and "b.flac" in printed


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"audio": "a.flac", "text": "a", "language": "Klingon"}, "line 1: "),
        ({"audio": "a.flac", "words_spoken": "a"}, "manifest.jsonl, line 1 has no text"),
        ({"recording": "a.flac", "text": "a"}, "Its columns are: recording, text"),
    ],
)
def test_a_set_that_is_refused_names_the_line(jfk, line, message, tmp_path, capsys):
    (tmp_path / "a.flac").write_bytes(jfk.audio.read_bytes())
    (tmp_path / "manifest.jsonl").write_text(json.dumps(line))
    assert main(["sets", str(tmp_path)]) == 1
    printed = capsys.readouterr()
    assert message in printed.err and "Traceback" not in printed.err


def test_languages_are_taken_as_people_write_them(store, jfk, capsys):
    command = ["transcribe", str(jfk.audio), "--model", "tiny.en", "--language"]
    for language in ("English", "en-US", "EN"):
        assert main([*command, language]) == 0
        assert "· en ·" in capsys.readouterr().out
    assert main([*command, "Klingon"]) == 1
    assert "Klingon" in capsys.readouterr().err


def test_transcribe_says_what_was_done_to_the_samples(store, jfk, capsys, tmp_path):
    samples = decode.load(jfk.audio) * 2**15
    path = tmp_path / "exported.wav"
    soundfile.write(path, np.stack([samples, -samples], 1), decode.SAMPLE_RATE, subtype="FLOAT")
    mono = decode.load(jfk.audio)
    faint = tmp_path / "faint.wav"
    soundfile.write(faint, mono / np.abs(mono).max() * 10 ** (-66 / 20), 16_000, subtype="PCM_24")
    # A length in the header is that of the whole recording, of which a third is left.
    cut, sphere = tmp_path / "cut.mp3", tmp_path / "a.sph"
    soundfile.write(cut, np.tile(mono, 3), 16_000)
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 3])
    soundfile.write(sphere, mono, 16_000, format="NIST")
    silent = tmp_path / "silent.wav"
    soundfile.write(silent, np.zeros(45 * 16_000, np.float32), 16_000)
    files = [str(file) for file in (path, faint, cut, sphere, silent)]
    assert main(["transcribe", *files, "--model", "tiny.en"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("ask not what your country can do") == 4
    assert "Recording: Its channels are in opposite phase" in printed
    assert "are on the scale of 16-bit integers" in printed
    assert "very quiet" in printed.split("faint.wav")[1].split("cut.mp3")[0]
    assert printed.rstrip().endswith("\n\nThe recording is silent: it has no words.")
    for file in (cut, sphere):
        file.with_suffix(".txt").write_text("ask not")
    for file in (path, faint, silent):
        file.unlink()
    assert main(["sets", str(tmp_path)]) == 0
    assert "2 utterances, 0.4 minutes" in capsys.readouterr().out  # cut: 11 s


def test_transcribe_says_what_is_probably_hallucinated(store, capsys, tmp_path):
    path = tmp_path / "room.wav"
    path.write_bytes(decode.encode_wav(pink(10)))
    arguments = ["--cache", str(store.root), "transcribe", str(path), "--model", "tiny.en"]
    assert main(arguments) == 0
    assert "Probably no speech in the recording: the words are" in capsys.readouterr().out
    path.write_bytes(decode.encode_wav(np.zeros(16_000, np.float32)))
    assert main(arguments) == 0
    assert "The recording is silent: it has no words." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("language", "reference", "text", "shown"),
    [
        ("en", "It’s a dog’s life", "It's a dog's life", " 0.000"),
        ("en", "ten thirty a.m. on june third", "10:30 AM on June 3", " 0.000"),
        ("ar", "مُحَمَّدٌ", "محمد", " 0.000"),
        ("hi", "नमस्ते हिन्दी में दुनिया", "नमस्ते हिन्दी में", " 25.000"),
        ("zh", "今天天气很好我们去公园", "今天天气很好我们去花园", " 9.091"),
    ],
)
def test_every_script_is_scored_by_its_units(language, reference, text, shown, store, capsys):
    found = accuracy_run("fp32", [(reference, text)])
    (spoken,) = found.utterances
    old = replace(spoken.score, normaliser="whisper-english@0.0.1")
    spoken = spoken.model_copy(update={"language": language, "score": old})
    store.put(found.model_copy(update={"utterances": (spoken,)}))
    assert main(["--cache", str(store.root), "rescore"]) == 0
    assert main(["--cache", str(store.root), "results"]) == 0
    assert shown in capsys.readouterr().out
    assert api.results().to_frame()["wer_pct"].tolist() == [pytest.approx(float(shown), abs=1e-3)]


def test_folders_that_others_saved_load_and_are_told_apart(tiny, store, tmp_path, capsys):
    folders = [tmp_path / name for name in ("half", "others")]
    for folder in folders:
        tiny.torch_model.save_pretrained(folder)
        tiny.tokenizer.save_pretrained(folder)
    half, others = folders
    weights = load_file(half / "model.safetensors")
    weights = {name: tensor.bfloat16().contiguous() for name, tensor in weights.items()}
    save_file(weights, half / "model.safetensors", {"format": "pt"})
    save_file(weights, others / "model.safetensors", {"format": "pt"})
    settings_of = [folder / "generation_config.json" for folder in folders]
    fields = json.loads(settings_of[0].read_text())
    # Heads of layers that only a larger decoder has, as distilled models are saved.
    settings_of[0].write_text(json.dumps(fields | {"alignment_heads": [[9, 3]]}))
    more = [*fields["suppress_tokens"], *tiny.tokenizer(" And", add_special_tokens=False).input_ids]
    settings_of[1].write_text(json.dumps(fields | {"suppress_tokens": more}))
    run = ["--cache", str(store.root), "run", "--sets", "jfk", "--recipes", "fp32"]
    run += ["--only", "accuracy", "--models"]
    assert main([*run, f"'{half}'"]) == 0
    assert "WER 0.00%" in capsys.readouterr().out
    assert main([*run, f"{half},{others}", "--plan"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert "cached" in first and "to run" in second
    recording = str(evaluation_sets.shipped_sets()["jfk"].utterances[0].audio)
    assert main(["transcribe", recording, "--model", str(half), "--words"]) == 0
    printed = capsys.readouterr().out
    assert "ask not what your country" in printed and "layers it does not have" in printed
    assert " s  " in printed
