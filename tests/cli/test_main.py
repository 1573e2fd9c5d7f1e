import pytest

from tests.support.made_runs import accuracy_run
from whisperq_core.__main__ import main
from whisperq_core.quantize.recipes import CATALOGUE
from whisperq_core.whisper.protocols import FITTED


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


def test_the_corrected_protocol_leaves_out_what_it_refuses(store, capsys):
    arguments = ["--cache", str(store.root), "run", "--models", "tiny.en", "--plan"]
    arguments += ["--only", "accuracy", "--recipes", "all", "--protocol"]
    assert main([*arguments, "study"]) == 0
    assert "quanto-int8-int8-eval10" in capsys.readouterr().out
    assert main([*arguments, "corrected"]) == 0
    printed = capsys.readouterr().out
    assert "eval10" not in printed and "quanto-int8-int8 · quick-look, corrected" in printed


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "--recipes", "int5"], "no recipe named"),
        (["run", "--models", "gigantic"], "no model"),
        (["run", "--sets", "/nowhere"], "no evaluation set or folder"),
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
    assert "WER 0.00%" in printed and "WER 50.00%" in printed and "fitted window" in printed
    assert "a higher WER than fp32, decided (+50.00 points" in printed
    assert main(["--cache", str(store.root), "compare", "ffffff", keys[0]]) == 1
    assert "No stored run has a key that starts with ffffff" in capsys.readouterr().err
