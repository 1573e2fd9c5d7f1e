import contextlib
import io
import shlex

import pytest

from tests.support.advisor_runs import (
    FP32,
    INCONCLUSIVE,
    RUNS,
    SAME,
    SPEEDS,
    by_recipe,
    requirements,
)
from tests.support.sample_runs import speed_run, tiny_english
from tests.support.spoken_runs import ALIKE, MANY, SOME, run_with
from whisperq_core.analyze.advisor import advise
from whisperq_core.cli.main import main
from whisperq_core.present import advisor_text
from whisperq_core.present.advisor_text import answer, check_text, notes, snippet
from whisperq_core.whisper.protocols import CORRECTED, FITTED, MERGED, short_name


def why(limits, runs) -> str:
    return advisor_text.next_measurement(advise(limits, runs).next_measurement, limits.priority)


def test_the_answer_recommends_with_the_evidence():
    text = answer(advise(requirements(), RUNS))
    assert text.startswith(
        "Use quanto-int8 on base, Study protocol. 120 MB, 40 % smaller than fp32, takes 1.3"
        " times as long on A CPU. WER +0.00 points, 95 % interval "
    )
    assert "(3 minutes, 20 speakers). Verdict: no worse than fp32 (95 %), apart from rare" in text
    good = run_with("quanto-int8", [0] * 20, weights_bytes=90_000_000)
    assert "Verdict: better, apart" in answer(advise(requirements(), [FP32, good]))


def test_a_lower_confidence_is_told_as_it_is():
    limits = requirements(max_wer_rise_points=3.0, confidence=0.6)
    text = answer(advise(limits, [FP32, SAME, INCONCLUSIVE]))
    assert text.startswith("Use bnb-nf4 on base, Study protocol. 60 MB")
    assert "The confidence that WER rises by less than 3 points is " in text
    assert "Verdict" not in text


def test_speed_in_words():
    assert advisor_text.speed_words(1.0) == "about as fast"
    assert advisor_text.speed_words(0.121) == "8.3 times as fast"
    assert advisor_text.speed_words(0.05) == "20 times as fast"
    assert advisor_text.speed_words(2.0) == "takes 2 times as long"


def test_nothing_inconclusive_is_recommended_silently():
    text = answer(advise(requirements(max_weights_bytes=100_000_000), [FP32, INCONCLUSIVE]))
    assert text.startswith("No configuration is shown yet to meet these requirements. Closest")
    assert "Closest: bnb-nf4 on base, Study protocol (60 MB)." in text
    assert "allowed: +2); an estimated" in text
    assert text.endswith("more minutes of test audio are needed for a conclusion.")


def test_fp32_is_kept_where_no_quantized_configuration_is_shown_to_fit():
    text = answer(advise(requirements(), [FP32, INCONCLUSIVE]))
    assert text.startswith("Keep base in fp32. No quantized configuration is shown yet to meet")
    assert "Closest: bnb-nf4 on base, Study protocol (60 MB)" in text
    alone = answer(advise(requirements(), [FP32]))
    assert alone.startswith("Keep base in fp32") and "Closest" not in alone


def test_where_nothing_fits_the_notes_say_which_limit_excludes_most():
    advice = advise(requirements(max_weights_bytes=30_000_000), RUNS)
    assert answer(advice).startswith(
        "No measured configuration meets these requirements. Closest: bnb-nf4 on base"
    )
    assert "The limit on size excludes the most: 4 of 4 configurations." in notes(advice)
    fp32 = "fp32 itself does not meet the requirements on base (size: 200 MB (limit: 30 MB))."
    assert fp32 in notes(advice)


def test_the_notes_begin_with_what_everything_is_compared_with():
    advice = advise(requirements(), RUNS)
    assert notes(advice)[0].startswith("Compared with fp32 under the Study protocol")
    (missing,) = notes(advice)[1:]
    assert missing.startswith("Not yet measured on base with this kind of speech:")
    assert "hqq-int4-g64" in missing


def test_without_results_the_answer_says_so():
    advice = advise(requirements(device="cuda"), [])
    assert answer(advice) == (
        "There are no results with English speech yet. Evaluate fp32 and a few recipes first."
    )
    assert notes(advice) == []
    assert "every recipe" in why(requirements(device="cuda"), [])


def test_the_wer_of_several_models_is_told():
    tiny = [tiny_english(run_with("fp32", MANY)), tiny_english(run_with("quanto-int8", MANY))]
    advice = advise(requirements(), [FP32, SAME, *tiny])
    assert any("WER of fp32:" in note and "tiny.en 31" in note for note in notes(advice))


def test_each_check_says_what_was_measured_and_the_limit():
    limits = requirements(max_weights_bytes=150_000_000, max_rtf_ratio=1.4, max_rtf=0.43)
    configurations = by_recipe(advise(limits, RUNS))
    increase, size, latency, rtf = map(check_text, configurations["quanto-int8"].checks)
    assert increase.startswith("+0.00 points compared with fp32 (") and increase.endswith(
        "allowed: +2)"
    )
    assert size == "120 MB (limit: 150 MB)"
    assert latency == "1.32 (1.31 to 1.33 in repeated passes; limit: 1.40)"
    assert rtf == "0.41 on A CPU (0.40 to 0.42 in repeated passes; limit: 0.43)"
    assert check_text(configurations["fp32"].checks[0]) == "none, it is the reference"
    assert "speed was not measured" in advisor_text.unmet_text(configurations["bnb-nf4"])


def test_the_next_measurement_says_why():
    closer = why(requirements(max_wer_rise_points=3.0), [FP32, SAME, INCONCLUSIVE])
    assert (
        "bnb-nf4 on base, Study protocol would be smaller than quanto-int8, but the evidence is"
        in closer
    )
    assert "more minutes of test audio are needed for a conclusion." in closer
    straddling = requirements(max_rtf_ratio=1.32, max_weights_bytes=130_000_000)
    assert "only some of its repeated passes meet the limit" in why(straddling, RUNS[:2] + SPEEDS)
    untimed = why(requirements(max_rtf_ratio=1.0), [FP32, INCONCLUSIVE])
    assert untimed == "The speed of bnb-nf4 on base, Study protocol was not measured."
    assert (
        why(requirements(), [SAME])
        == "fp32 was not evaluated on the same utterances as quanto-int8 on base, Study protocol."
    )


@pytest.mark.parametrize("recipe", ["torch-int8", "bnb-nf4"])
def test_the_code_of_a_configuration_runs(recipe, jfk):
    runs = [tiny_english(run_with(recipe, ALIKE))]
    configuration = by_recipe(advise(requirements(), runs))[recipe]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(snippet(configuration.configuration, str(jfk.audio)), "snippet", "exec"), {})
    assert "your country" in printed.getvalue()


@pytest.mark.parametrize(
    ("recipe", "protocol"), [("whole-int8-dynamic", FITTED), ("torch-int8", CORRECTED)]
)
def test_the_code_and_the_command_use_the_protocol(recipe, protocol, jfk, tmp_path, capsys):
    run = tiny_english(run_with(recipe, ALIKE))
    run = run.model_copy(update={"spec": run.spec.model_copy(update={"protocol": protocol})})
    configuration = by_recipe(advise(requirements(), [tiny_english(FP32), run]))[recipe]
    recording = tmp_path / "a name with spaces.flac"
    recording.write_bytes(jfk.audio.read_bytes())
    code = snippet(configuration.configuration, str(recording))
    assert f'protocol="{short_name(protocol.name)}").text' in code
    exec(compile(code, "snippet", "exec"), {})
    by_code = capsys.readouterr().out.strip()
    assert "your country" in by_code
    command = advisor_text.command_line(configuration.configuration, str(recording))
    python, dash_m, package, *arguments = shlex.split(command)
    assert (python, dash_m, package) == ("python", "-m", "whisperq_core")
    assert main(arguments) == 0
    heading, text = capsys.readouterr().out.strip().splitlines()
    assert protocol.label in heading and recipe in heading and text == by_code


def test_the_code_of_a_calibrated_recipe_calibrates_under_the_protocol():
    run = run_with("quanto-int8-int8", ALIKE)
    run = run.model_copy(update={"spec": run.spec.model_copy(update={"protocol": MERGED})})
    configuration = by_recipe(advise(requirements(), [FP32, run]))["quanto-int8-int8"]
    lines = snippet(configuration.configuration).splitlines()
    assert lines[1] == 'model = wq.quantize("base", "quanto-int8-int8", protocol="merged")'


def test_the_code_names_the_device_where_it_is_not_the_default():
    runs = [run_with("bnb-nf4", SOME, device="cuda")]
    configuration = advise(requirements(device="cuda"), runs).candidates[0].configuration
    assert '"bnb-nf4", device="cuda")' in snippet(configuration)


def test_the_command_line_prints_the_same_answer(store, capsys):
    for run in RUNS:
        store.put(run)
    limits = ["--max-mb", "150", "--max-time", "1.4", "--max-rise", "2"]
    assert main(["--cache", str(store.root), "advise", *limits]) == 0
    wanted = requirements(max_weights_bytes=150_000_000, max_rtf_ratio=1.4, models=("base",))
    advice = advise(wanted, store.runs())
    printed = capsys.readouterr().out
    assert printed.splitlines()[0] == answer(advice)
    assert "Use quanto-int8" in printed and snippet(advice.best.configuration) in printed


def test_what_to_use_on_this_machine_is_said_only_where_it_cannot_run_the_named_one(monkeypatch):
    bf16 = run_with("bf16", SOME, weights_bytes=100_000_000)
    runs = [*RUNS, bf16, speed_run("bf16", [2.0, 2.1, 2.2], [3.0, 3.1, 3.2])]
    advice = advise(requirements(), runs)
    monkeypatch.setattr("whisperq_core.machine.cpu_flags", lambda: frozenset({"avx512_bf16"}))
    assert advisor_text.on_this_machine(advice) == ""
    monkeypatch.setattr("whisperq_core.machine.cpu_flags", lambda: frozenset({"avx2"}))
    text = advisor_text.on_this_machine(advice)
    assert text.startswith("This machine cannot run bf16: This CPU has no bf16 instructions;")
    assert "Use here: quanto-int8 on " in text
    assert 'wq.quantize("base", "quanto-int8")' in advisor_text.as_text(advice)
    alone = advise(requirements(), [FP32, bf16])
    assert advisor_text.on_this_machine(alone).endswith(
        "Nothing else that it can run is shown to meet the requirements."
    )
