"""`whisperq gate` as CI calls it: exit codes, one paragraph, JUnit XML."""

from xml.etree import ElementTree

import pytest

from whisperq_core.cli.gate import NOT_MEASURED
from whisperq_core.cli.main import main
from whisperq_core.evaluate.store import Store
from whisperq_core.settings import SHIPPED_CACHE

TINY = ["gate", "--model", "tiny.en", "--threads", "2", "--recipe"]


@pytest.fixture
def shipped(store):
    """A cache of the test's own with the shipped results in it."""
    store.results.parent.mkdir(parents=True)
    store.results.symlink_to(SHIPPED_CACHE / "results")
    return store


def test_case(path):
    suites = ElementTree.parse(path).getroot()
    assert suites.tag == "testsuites" and suites.get("tests") == "1"
    [suite] = suites
    [case] = suite.iter("testcase")
    return suite, case


test_case.__test__ = False


@pytest.mark.model
def test_stored_results_of_tiny_pass_and_fail(shipped, tmp_path, capsys):
    sets = ["--sets", "test-clean-excerpt,test-other-excerpt", "--margin", "8", "--junit"]
    for recipe, code, tag in (("quanto-int8", 0, None), ("hqq-int3-g64", 1, "failure")):
        path = tmp_path / f"{recipe}.xml"
        assert main([*TINY, recipe, *sets, str(path)]) == code
        printed = capsys.readouterr()
        assert printed.err == "" and printed.out.count("\n") == 1
        suite, case = test_case(path)
        assert suite.get("failures") == str(code)
        assert case[0].tag == (tag or "system-out")
        assert case.findtext("system-out").strip() in printed.out
        names = {p.get("name"): p.get("value") for p in suite.iter("property")}
        assert names["outcome"] in ("pass", "fail") and len(names["records"].split(",")) == 2


@pytest.mark.model
def test_a_new_recording_is_evaluated_and_too_little(store, tmp_path, capsys):
    path = tmp_path / "gate.xml"
    command = ["gate", "--model", "tiny.en", "--recipe", "torch-int8", "--set", "jfk"]
    command += ["--threads", "1", "--baseline-protocol", "fitted", "--junit", str(path)]
    assert main(command) == 3
    printed = capsys.readouterr()
    assert printed.err.count("Evaluating") == 2
    assert "TOO CLOSE TO CALL. torch-int8 (Study protocol) of tiny.en against fp32 (Fitted" in (
        printed.out
    )
    suite, case = test_case(path)
    assert suite.get("skipped") == "1" and case.find("skipped").get("message")
    assert len(Store().runs()) == 2
    assert main(command) == 3
    assert "Evaluating" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--recipe", "int5"], "no recipe named"),
        (["--recipe", "bf16", "--model", "gigantic\x00<b>"], "no model"),
        (["--recipe", "bf16", "--sets", "/nowhere"], "no evaluation set"),
        (["--recipe", "bf16", "--margin", "-1"], "margin must be"),
        (["--recipe", "bf16", "--confidence", "1"], "confidence must be"),
        (["--recipe", "torch-int8", "--device", "mps"], "torch-int8 runs on cpu"),
        (["--recipe", "faster-whisper-int8", "--protocol", "fitted"], "30 s window"),
    ],
)
def test_what_cannot_be_measured_is_neither_pass_nor_fail(
    store, tmp_path, capsys, arguments, words
):
    path = tmp_path / "gate.xml"
    assert main(["gate", *arguments, "--junit", str(path)]) == NOT_MEASURED == 4
    assert words in capsys.readouterr().err
    suite, case = test_case(path)
    assert suite.get("errors") == "1" and words in case.find("error").get("message")


def test_a_file_that_cannot_be_written_is_no_outcome(shipped, capsys):
    command = [*TINY, "quanto-int8", "--sets", "test-other-excerpt", "--junit", "/nowhere/gate.xml"]
    assert main(command) == NOT_MEASURED
    assert "cannot be written" in capsys.readouterr().err


def test_a_wrong_command_is_code_2():
    assert main(["gate"]) == 2
