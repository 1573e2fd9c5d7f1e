import csv
import io
from dataclasses import replace

import pandas as pd
import pytest

from tests.support.sample_runs import MACHINE, accuracy_run, renamed, spec, speed_run
from whisperq_core.analyze import results_table
from whisperq_core.whisper.protocols import CORRECTED, STUDY


def only_row(*runs) -> pd.Series:
    frame = results_table.rows(runs)
    assert len(frame) == 1
    return frame.iloc[0]


def test_no_runs_make_an_empty_frame_with_every_column():
    frame = results_table.rows([])
    assert list(frame.columns) == list(results_table.COLUMNS)
    assert frame.empty


def test_errors_add_up_over_utterances():
    row = only_row(accuracy_run("fp32", [("a cat sat down", "a cat sat"), ("there", "there now")]))
    assert (row["substitutions"], row["deletions"], row["insertions"]) == (0, 1, 1)
    assert row["reference_words"] == 5
    assert row["wer_pct"] == pytest.approx(40.0)
    assert row["utterances"] == 2
    assert row["audio_s"] == 20.0


def test_design_axes_come_from_the_recipe():
    row = only_row(accuracy_run("bnb-nf4-dq"))
    axes = {axis: row[axis] for axis in results_table.AXES}
    assert axes == {
        "family": "quantized in PyTorch",
        "backend": "bitsandbytes",
        "weights": "nf4",
        "bits": 4,
        "scheme": "weight-only",
        "method": "symmetric",
        "granularity": "group",
        "group_size": 64,
        "activations": "float",
        "double_quant": "yes",
        "calibration": "none",
        "coverage": "linear-but-proj_out",
        "embeddings": "fp32",
        "attention": "fp32",
    }


def test_speed_is_the_median_of_the_repeated_passes():
    row = only_row(
        accuracy_run("torch-int8", wall_s=9.0),
        speed_run("torch-int8", [1.0, 3.0, 1.2], [2.0, 4.0, 2.0]),
    )
    assert row["rtf"] == pytest.approx(0.12)
    assert (row["rtf_low"], row["rtf_high"]) == pytest.approx((0.1, 0.3))
    assert row["rtf_ratio"] == pytest.approx(0.6)
    assert (row["rtf_ratio_low"], row["rtf_ratio_high"]) == pytest.approx((0.5, 0.75))
    assert row["rtf_source"] == "3 passes alternating with fp32"
    assert row["peak_memory_bytes"] == 400_000_000


def test_without_a_speed_run_the_single_pass_is_taken_and_said_so():
    row = only_row(accuracy_run("torch-int8", wall_s=2.0))
    assert row["rtf"] == pytest.approx(0.2)
    assert row["rtf_source"] == "single pass"
    assert pd.isna(row["rtf_ratio"])
    assert pd.isna(row["rtf_low"])


def test_time_of_dequantized_weights_is_never_the_recipe_s():
    row = only_row(accuracy_run("quanto-int4", kernels="dequantized"))
    assert pd.isna(row["rtf"])
    assert row["rtf_source"] == "not measured"


@pytest.mark.parametrize(
    "changes",
    [
        {"weights_digest": "dd" * 32},
        {"device": "cuda"},
        {"threads": 1},
        {"protocol": replace(STUDY, batch_size=1)},
    ],
)
def test_speed_of_other_work_is_not_taken(changes):
    row = only_row(accuracy_run("fp32"), speed_run("fp32", [1.0], **changes))
    assert row["rtf_source"] == "single pass"


def test_names_are_no_part_of_the_work():
    row = only_row(accuracy_run("fp32"), speed_run("fp32", [1.0], protocol=renamed("another name")))
    assert row["rtf"] == pytest.approx(0.1)


def test_what_tied_does_is_in_the_recipe_so_it_is_no_part_of_the_work():
    tied = replace(STUDY, tied=True)
    row = only_row(accuracy_run("bnb-nf4"), speed_run("bnb-nf4", [1.0], protocol=tied))
    assert row["rtf"] == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("protocol", "shown"),
    [
        (STUDY, "as in the study"),
        (CORRECTED, "corrected"),
        (renamed("mine"), STUDY.summary),
        (replace(STUDY, batch_size=1), replace(STUDY, batch_size=1).summary),
    ],
)
def test_a_protocol_is_shown_by_its_name_where_it_has_one(protocol, shown):
    assert only_row(accuracy_run("fp32", protocol=protocol))["protocol"] == shown


def test_parts_of_the_time_come_from_the_speed_run():
    columns = ["encoder_share", "first_token_s", "tokens_per_s"]
    speed = speed_run("fp32", [2.0])
    assert only_row(accuracy_run("fp32"), speed)[columns].tolist() == [0.25, 1.0, 20.0]
    unknown = {"encoder_s": None, "first_token_s": None, "tokens": None}
    old = speed.model_copy(update={"passes": (speed.passes[0].model_copy(update=unknown),)})
    for runs in ([old], []):
        assert only_row(accuracy_run("fp32"), *runs)[columns].isna().all()


def test_fallbacks_are_counted():
    run = accuracy_run("fp32", [("a", "a"), ("b", "b")])
    hot = run.utterances[1].model_copy(update={"temperature": 0.2})
    assert only_row(run)["fallbacks"] == 0
    again = run.model_copy(update={"utterances": (run.utterances[0], hot)})
    assert only_row(again)["fallbacks"] == 1


def test_the_newest_speed_run_wins_in_any_order():
    old, new = speed_run("fp32", [1.0], minutes=1), speed_run("fp32", [2.0], minutes=2)
    for runs in ([old, new], [new, old]):
        assert only_row(accuracy_run("fp32"), *runs)["rtf"] == pytest.approx(0.2)


def test_times_are_of_one_kind_of_machine():
    """The newest time is another machine's, and is not shown beside those of this one."""
    other = MACHINE.model_copy(update={"cpu": "Another CPU"})
    here = [speed_run(name, [1.0], [2.0]) for name in ("fp32", "bf16")]
    elsewhere = speed_run("bf16", [9.0], [9.0], minutes=9, cpu="Another CPU")
    elsewhere = elsewhere.model_copy(update={"machine": other})
    heard = [accuracy_run(name) for name in ("fp32", "bf16", "bnb-nf4")]
    heard[2] = heard[2].model_copy(update={"machine": other})
    runs = [*heard, *here, elsewhere]
    assert results_table.machines(runs) == [MACHINE.kind, other.kind]
    rtfs = results_table.rows(runs).set_index("recipe")["rtf"]
    assert rtfs["bf16"] == pytest.approx(0.1) and pd.isna(rtfs["bnb-nf4"])
    shown = results_table.rows(runs, other.kind).set_index("recipe")
    assert shown["rtf"]["bf16"] == pytest.approx(0.9) and pd.isna(shown["rtf"]["fp32"])
    assert shown["rtf_source"]["fp32"] == "not measured on this kind of machine"
    # Pieces of two kinds of machine have no time in common.
    mixed = heard[2].model_copy(update={"kinds_of_machine": 2})
    assert mixed.rtf is None and heard[2].rtf is not None


def test_the_newest_of_a_key_wins():
    old = accuracy_run("fp32", minutes=1)
    new = accuracy_run("fp32", [("a cat", "a cat")], minutes=2)
    assert old.key == new.key
    for runs in ([old, new], [new, old]):
        assert only_row(*runs)["wer_pct"] == 0


def test_a_set_without_words_has_no_wer():
    assert pd.isna(only_row(accuracy_run("fp32", [("", "noise")]))["wer_pct"])


def test_bytes_are_shown_as_megabytes():
    frame = results_table.rows([accuracy_run("fp32", weights_bytes=290_500_000)])
    assert results_table.values(frame, "weights_bytes").tolist() == [290.5]
    assert results_table.METRICS["weights_bytes"].show(290_500_000) == "290.5 MB"
    assert results_table.display(frame)["weights_bytes"].tolist() == [290.5]


def test_leaders_are_named_beside_their_baseline():
    good, fair, poor = (
        [(" ".join("abcdefghij" * 10), " ".join("abcdefghij" * 10)[wrong * 2 :])]
        for wrong in (0, 1, 9)
    )
    runs = [
        accuracy_run("fp32", good, weights_bytes=200_000_000),
        accuracy_run("quanto-int8", fair, weights_bytes=120_000_000),
        accuracy_run("hqq-int2-g64", poor, weights_bytes=50_000_000),
        speed_run("hqq-int2-g64", [4.0], [2.0]),
        speed_run("quanto-int8", [3.0], [2.0]),
    ]
    found = results_table.highlights(results_table.rows(runs), points=1.0)
    leaders = {leader.title: leader for leader in found}
    assert {title: leader.row["recipe"] for title, leader in leaders.items()} == {
        "Lowest WER": "fp32",
        "Lowest relative latency": "quanto-int8",
        "Smallest within 1 point of fp32's WER": "quanto-int8",
    }
    assert all(leader.baseline["recipe"] == "fp32" for leader in leaders.values())


def test_another_recipe_can_be_the_baseline():
    runs = [accuracy_run("quanto-int8", weights_bytes=120_000_000), accuracy_run("quanto-int4")]
    last = results_table.highlights(results_table.rows(runs), "quanto-int8")[-1]
    assert last.title == "Smallest within 0.5 points of quanto-int8's WER"
    assert (last.row["recipe"], last.baseline["recipe"]) == ("quanto-int4", "quanto-int8")


def test_without_fp32_nothing_is_called_close_to_it():
    titles = [
        h.title for h in results_table.highlights(results_table.rows([accuracy_run("quanto-int8")]))
    ]
    assert titles == ["Lowest WER"]


@pytest.mark.parametrize("risky", ["=1+1", "+1", "-1", "@SUM(A1)", "  =1", "\t=1", "\r=1", "＝1"])
def test_csv_has_no_formula_in_a_text(risky):
    frame = results_table.rows([accuracy_run("fp32", model=risky)])
    line = next(csv.DictReader(io.StringIO(results_table.csv(frame).decode(), newline="")))
    assert line["model"] == f"'{risky}"


def test_csv_leaves_numbers_and_other_texts_alone():
    frame = pd.DataFrame({"model": ["a=b", None], "x": [-1.5, 2.0]})
    assert results_table.csv(frame) == b'"model","x"\n"a=b",-1.5\n"",2.0\n'


def test_every_column_has_a_label():
    named = {*results_table.LABELS, *results_table.METRICS}
    assert set(results_table.COLUMNS) - named == {"description", "audio_s", "speed_key"}


def test_axes_are_fields_of_a_recipe():
    recipe = spec("fp32", "accuracy").recipe
    missing = [
        axis for axis in results_table.AXES if axis != "coverage" and not hasattr(recipe, axis)
    ]
    assert not missing
