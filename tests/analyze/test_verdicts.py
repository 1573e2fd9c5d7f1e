import math

import pytest

from tests.support.advisor_runs import requirements
from tests.support.spoken_runs import ALIKE, MANY, SOME, run_with
from whisperq_core.analyze.advisor import advise
from whisperq_core.analyze.paired_comparisons import compare_runs, verdicts
from whisperq_core.analyze.paired_tests import Comparison
from whisperq_core.analyze.pareto_front import error_rate_relation
from whisperq_core.analyze.significance import Estimate
from whisperq_core.analyze.verdicts import Verdict, keeps_margin, require_margin
from whisperq_core.cli.main import main
from whisperq_core.errors import InputError


def comparison(low: float, high: float, p_difference: float, p_inferior: float) -> Comparison:
    """With a margin of half a point."""
    difference = Estimate((low + high) / 2, low, high, 9, "speaker")
    return Comparison(difference, 1.0, 0.5, p_difference, p_inferior, 0.5)


BETTER = comparison(-4, -2, 0.001, 0.0)
WORSE = comparison(2, 4, 0.001, 1.0)
# Shown to be worse, but by less than the margin.
SLIGHTLY_WORSE = comparison(0.1, 0.3, 0.001, 0.001)
NO_WORSE = comparison(-0.2, 0.2, 1.0, 0.001)
INCONCLUSIVE = comparison(-2, 2, 0.8, 0.4)
# Beyond the margin, but its p-value is not significant after the correction.
CORRECTED_AWAY = comparison(1, 3, 0.2, 1.0)


@pytest.mark.parametrize(
    ("compared", "verdict", "within_margin"),
    [
        (BETTER, Verdict.BETTER, True),
        (WORSE, Verdict.WORSE, False),
        (SLIGHTLY_WORSE, Verdict.WORSE, True),
        (NO_WORSE, Verdict.NO_WORSE, True),
        (INCONCLUSIVE, Verdict.INCONCLUSIVE, None),
        (CORRECTED_AWAY, Verdict.INCONCLUSIVE, False),
        (comparison(-4, -2, 0.2, 0.3), Verdict.INCONCLUSIVE, None),
        # A significant p-value is not enough where the interval disagrees, nor the other way round.
        (comparison(-2, 0.1, 0.001, 0.3), Verdict.INCONCLUSIVE, None),
        (comparison(-2, 0.6, 0.3, 0.001), Verdict.INCONCLUSIVE, None),
    ],
)
def test_a_verdict_needs_the_interval_and_the_p_value(compared, verdict, within_margin):
    assert compared.verdict is verdict
    assert keeps_margin(compared) is within_margin


NO_MARGINS = [-0.5, math.nan, math.inf, 1e6]
BASE, SAME = run_with("fp32", SOME), run_with("quanto-int8", ALIKE)


@pytest.mark.parametrize("margin", NO_MARGINS)
@pytest.mark.parametrize(
    "compare",
    [
        require_margin,
        lambda margin: compare_runs(BASE, SAME, margin=margin),
        lambda margin: verdicts([BASE, SAME], margin=margin),
        lambda margin: error_rate_relation([BASE, SAME], margin=margin),
        lambda margin: advise(requirements(max_wer_rise_points=margin), [BASE, SAME]),
    ],
    ids=["margin", "compare_runs", "verdicts", "error_rate_relation", "advise"],
)
def test_what_is_no_margin_is_refused_with_a_sentence(compare, margin):
    with pytest.raises(InputError, match="points of WER from 0 to 100"):
        compare(margin)


@pytest.mark.parametrize("margin", [0, 0.5, 100])
def test_margins_are_points(margin):
    require_margin(margin)


def test_with_no_margin_no_audio_would_show_that_nothing_differs():
    same = compare_runs(BASE, run_with("quanto-int8", SOME), margin=0)
    assert same.difference.value == 0 and same.verdict is Verdict.INCONCLUSIVE
    assert same.minutes_needed(9) is None
    assert math.isfinite(same.minutes_for_margin(9))
    more = compare_runs(BASE, run_with("quanto-int2", MANY), margin=0)
    assert more.verdict is Verdict.WORSE


def test_the_command_line_takes_a_margin_of_zero_and_refuses_no_margins(store, capsys):
    runs = [BASE, run_with("quanto-int8", SOME)]
    for run in runs:
        store.put(run)
    cache, keys = ["--cache", str(store.root)], [run.key for run in runs]
    assert main([*cache, "compare", *keys, "--margin", "0"]) == 0
    assert "no statistically conclusive difference from fp32" in capsys.readouterr().out
    for margin in ("nan", "-1", "1e9"):
        assert main([*cache, "compare", *keys, f"--margin={margin}"]) != 0
        assert "The margin must be a number of points" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["max_weights_bytes", "max_rtf_ratio", "max_rtf"])
@pytest.mark.parametrize("limit", [0.0, -1.0, math.nan])
def test_limits_that_nothing_can_meet_are_refused(name, limit):
    with pytest.raises(InputError, match="must be above 0"):
        requirements(**{name: limit})
