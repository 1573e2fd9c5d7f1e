import pandas as pd
import pytest

from tests.support.sample_runs import accuracy_run, speed_run, tiny_english
from whisperq_core.analyze import results_table
from whisperq_core.quantize.recipes import CATALOGUE
from whisperq_core.study import published

# Read off the study a second time, table by table: WERs, CERs, RTF, size reduction.
TABLE_2 = """
fp32 3.48 11.88 1.02 3.62 0.121 -
torch-int8 3.72 13.67 1.11 4.21 0.077 57
hqq-int4-g64 3.52 14.09 1.09 4.38 0.155 69
quanto-int8-float8-eval10 5.95 15.92 1.83 5.03 0.169 57
fp32 3.48 11.88 1.02 3.62 0.006 -
quanto-int8 3.41 10.65 0.97 3.29 0.008 57
bnb-nf4 3.54 13.49 1.05 4.05 0.008 70
hqq-int3-g64 4.11 12.93 1.22 3.77 0.019 71
"""
TABLE_3 = """
fp32 5.08 12.87 1.93 6.76 0.0022 -
quanto-int8 5.10 14.72 1.93 7.60 0.0037 36.2
bnb-nf4 6.05 18.09 2.31 10.16 0.0036 52.1
fp32 7.60 23.69 2.98 12.84 0.0015 -
quanto-int8 7.64 24.64 2.99 13.24 0.0025 19.3
bnb-nf4 11.16 32.19 4.78 20.20 0.0026 37.5
"""
# Width, layers of encoder and of decoder, and fp32 parameters of the architecture.
SHAPES = {
    "tiny": (384, 4, 37_760_640),
    "base": (512, 6, 72_593_920),
    "small": (768, 12, 241_734_912),
}


def numbers(row: published.PublishedResult) -> list[float | None]:
    wers = [row.wer_clean_pct, row.wer_other_pct]
    return [*wers, row.cer_clean_pct, row.cer_other_pct, row.rtf, row.size_reduction_pct]


@pytest.mark.parametrize(
    "text, rows",
    [(TABLE_2, published.TABLE_2), (TABLE_3, published.TABLE_3)],
    ids=["table 2", "table 3"],
)
def test_numbers_are_the_study_s(text, rows):
    lines = [line.split() for line in text.strip().splitlines()]
    expected = [[n, *(None if v == "-" else float(v) for v in rest)] for n, *rest in lines]
    assert [[row.recipe, *numbers(row)] for row in rows] == expected


def test_models_and_devices():
    assert [(r.model, r.device) for r in published.TABLE_2] == [("small", "cpu")] * 4 + [
        ("small", "cuda")
    ] * 4
    assert [(r.model, r.device) for r in published.TABLE_3] == [("base", None)] * 3 + [
        ("tiny", None)
    ] * 3


def test_every_recipe_is_in_the_catalogue():
    rows = (*published.TABLE_2, *published.TABLE_3, *published.TABLE_4)
    assert {row.recipe for row in rows} <= set(CATALOGUE)


def test_pytorch_is_as_much_faster_as_the_text_says():
    fastest = published.TABLE_2[1]
    assert 100 * (1 - fastest.rtf_ratio) == pytest.approx(36.4, abs=0.05)


def test_baseline_is_of_the_same_model_and_device():
    for row in (*published.TABLE_2, *published.TABLE_3):
        assert row.baseline.recipe == "fp32"
        assert (row.baseline.model, row.baseline.device) == (row.model, row.device)
    assert published.TABLE_2[5].rtf_ratio == pytest.approx(8 / 6)


def test_table_4_follows_from_table_2():
    quantized = [row for row in published.TABLE_2 if row.recipe != "fp32"]
    on_cpu = [row for row in quantized if row.device == "cpu"]
    fastest, most_accurate, smallest = (row.recipe for row in published.TABLE_4)
    assert fastest == min(on_cpu, key=lambda row: row.rtf).recipe
    assert most_accurate == min(quantized, key=lambda row: row.wer_other_pct).recipe
    assert smallest == max(quantized, key=lambda row: row.size_reduction_pct).recipe


@pytest.mark.parametrize(
    "row",
    [r for r in (*published.TABLE_2, *published.TABLE_3) if r.recipe in ("quanto-int8", "bnb-nf4")],
    ids=lambda row: f"{row.model} {row.recipe}",
)
def test_sizes_are_those_of_the_layers_that_the_recipe_quantizes(row):
    width, layers, parameters = SHAPES[row.model]
    linear = layers * (12 + 16) * width**2
    proj_out = 51865 * width
    fp32_bytes = 4 * parameters
    if CATALOGUE[row.recipe].modules == "all-linear":
        saved = 3 * linear - proj_out
    else:
        saved = (4 - 0.5 - 4 / 64) * linear
    assert 100 * saved / fp32_bytes == pytest.approx(row.size_reduction_pct, abs=0.6)


def measured_runs() -> list:
    wrong, right = [("a cat sat down", "a cat")], [("a cat sat down",) * 2]
    return [
        accuracy_run("quanto-int8", right, eval_set="test-clean-excerpt"),
        accuracy_run("quanto-int8", wrong),
        speed_run("quanto-int8", [4.0], [2.0]),
        accuracy_run("fp32", wrong),
    ]


def line(lines: pd.DataFrame, recipe: str, source: str) -> pd.Series:
    return lines[(lines["recipe"] == recipe) & (lines["source"] == source)].iloc[0]


def test_measured_rows_stand_below_the_published_ones():
    lines = published.side_by_side(published.TABLE_3[:3], results_table.rows(measured_runs()))
    assert lines["source"].tolist() == [published.STUDY, published.HERE] * 3
    here = line(lines, "quanto-int8", published.HERE)
    assert (here["wer_clean_pct"], here["wer_other_pct"], here["gap_points"]) == (0, 50, 50)
    assert here["rtf_ratio"] == pytest.approx(2.0)
    assert here["size_reduction_pct"] == pytest.approx(50.0)
    assert here["what"] == "test-clean-excerpt, test-other-excerpt (1 + 1), CPU"
    assert line(lines, "bnb-nf4", published.HERE)["what"] == "not measured here"


def test_a_single_pass_is_not_put_beside_the_study_s_rtf():
    lines = published.side_by_side(
        published.TABLE_3[:1], results_table.rows([accuracy_run("fp32")])
    )
    here = line(lines, "fp32", published.HERE)
    assert pd.isna(here["rtf"])
    assert here["wer_other_pct"] == 25.0
    assert pd.isna(here["wer_clean_pct"])


def test_another_model_is_named():
    frame = results_table.rows([tiny_english(run) for run in measured_runs()])
    assert published.stand_in("tiny", frame) == "tiny.en"
    assert published.stand_in("base", frame) is None
    lines = published.side_by_side(published.TABLE_3[3:4], frame)
    assert lines["model"].tolist() == ["tiny", "tiny.en"]


def test_the_model_itself_is_preferred_to_another():
    small = [run.model_copy(update={"model": "small"}) for run in measured_runs()]
    assert published.stand_in("small", results_table.rows(small)) == "small"
    assert published.stand_in("small", results_table.rows(measured_runs())) == "base"


def test_rows_of_one_model_share_the_set_that_most_of_its_recipes_ran_on():
    whole = accuracy_run("fp32", eval_set="test-other", eval_set_digest="ee" * 32)
    frame = results_table.rows([*measured_runs(), whole])
    for rows, expected in (
        (published.TABLE_3[:1], "test-other"),
        (published.TABLE_3[:3], "test-other-excerpt"),
    ):
        here = line(published.side_by_side(rows, frame), "fp32", published.HERE)
        assert here["what"] == f"{expected} (1), CPU"


def test_first_here_is_of_the_priority_s_column():
    frame = results_table.rows(measured_runs())
    first = {row.column: published.best_measured_here(row, frame) for row in published.TABLE_4}
    assert {column: row["recipe"] for column, row in first.items()} == dict.fromkeys(
        ("rtf_ratio", "wer_pct", "weights_bytes"), "quanto-int8"
    )
    assert published.best_measured_here(published.TABLE_4[0], results_table.rows([])) is None
