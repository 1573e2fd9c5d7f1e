"""Several sets as one: what is pooled, what is left out, and that intervals and verdicts hold."""

import math

import numpy as np
import pytest

from tests.support.spoken_runs import ALIKE, MANY, SOME, run_with
from whisperq_core.analyze import multiple_testing
from whisperq_core.analyze.blocks import blocks_of, totals_variance
from whisperq_core.analyze.paired_comparisons import compare_runs
from whisperq_core.analyze.paired_tests import PairedTest, compare_family
from whisperq_core.analyze.pooled_comparisons import heterogeneity, pooled_comparisons
from whisperq_core.analyze.significance import ErrorCounts
from whisperq_core.analyze.verdicts import INFERIORITY_LEVEL, Verdict

FIRST, SECOND = [f"a-{i:02}" for i in range(20)], [f"b-{i:02}" for i in range(20)]


def run(recipe: str, wrong: list[int], ids=FIRST, name="first", **how):
    return run_with(recipe, wrong, ids=ids, eval_set=name, eval_set_digest=name * 8, **how)


def two_sets(recipe: str, first: list[int], second: list[int]) -> list:
    return [run(recipe, first), run(recipe, second, SECOND, "second")]


def test_the_pool_counts_the_errors_and_words_of_all_sets():
    runs = two_sets("fp32", SOME, SOME) + two_sets("quanto-int2", MANY, SOME)
    [pooled] = pooled_comparisons(runs)
    first, second = (part.comparison.difference.value for part in pooled.parts)
    assert pooled.comparison.difference.value == pytest.approx((first + second) / 2)
    assert second == 0 and {part.eval_set for part in pooled.parts} == {"first", "second"}
    assert pooled.minutes == pytest.approx(sum(run.minutes for run in runs[:2]))
    # The speakers of both have the same names, so each is one block.
    assert pooled.comparison.difference.blocks == 20
    assert pooled.heterogeneity.p < 0.001 and pooled.heterogeneity.i_squared_pct > 90


def test_each_part_is_the_comparison_of_its_set_alone():
    runs = two_sets("fp32", SOME, SOME) + two_sets("bf16", ALIKE, SOME)
    runs += two_sets("quanto-int2", MANY, ALIKE)
    by_key = {run.key: run for run in runs}
    for pooled in pooled_comparisons(runs):
        for part in pooled.parts:
            alone = compare_runs(by_key[part.baseline_key], by_key[part.key])
            assert part.comparison.family == 1
            for shown in ("value", "low", "high"):
                found, wanted = (getattr(c.difference, shown) for c in (part.comparison, alone))
                assert found == pytest.approx(wanted, rel=1e-12)


def test_sets_evaluated_with_other_threads_are_pooled_too():
    runs = two_sets("fp32", SOME, SOME)
    runs += [run("bf16", ALIKE), run("bf16", ALIKE, SECOND, "second", threads=8)]
    [pooled] = pooled_comparisons(runs)
    assert set(pooled.sets) == {"first", "second"}


def test_of_sets_that_share_an_utterance_the_larger_one_counts():
    smaller = [*SECOND[:5], *FIRST[:5]]
    runs = [
        *(run(recipe, SOME) for recipe in ("fp32", "bf16")),
        *(run(recipe, SOME[:10], smaller, "overlapping") for recipe in ("fp32", "bf16")),
    ]
    [pooled] = pooled_comparisons(runs)
    assert pooled.sets == ("first",) and pooled.left_out == ("overlapping",)
    assert pooled.heterogeneity is None


def test_a_family_is_all_that_was_run_on_the_pool_and_not_what_else_a_recipe_has():
    runs = two_sets("fp32", SOME, SOME) + two_sets("bf16", ALIKE, SOME)
    runs += [run("quanto-int8", ALIKE), run("quanto-int2", MANY)]
    found = {pooled.recipe: pooled for pooled in pooled_comparisons(runs)}
    assert [found[r].comparison.family for r in ("bf16", "quanto-int8", "quanto-int2")] == [1, 3, 3]
    assert len(found["bf16"].parts) == 2 and len(found["quanto-int8"].parts) == 1


def test_other_languages_and_sets_that_only_one_ran_on_are_left_out():
    runs = [*two_sets("fp32", SOME, SOME), run("bf16", ALIKE)]
    [pooled] = pooled_comparisons(runs)
    assert pooled.sets == ("first",)
    assert pooled_comparisons([run("bf16", ALIKE)]) == []


def test_strata_are_sets_unless_they_share_speakers():
    speakers, sets = tuple("aabbccdd"), tuple("11112222")
    apart = blocks_of(speakers, sets)
    assert (apart.number, apart.strata.tolist(), apart.degrees) == (4, [0, 0, 1, 1], 2)
    shared = blocks_of(tuple("aabbaacc"), sets)
    assert (shared.number, shared.strata.tolist()) == (3, [0, 0, 0])
    unknown = blocks_of((*"aabb", None, None, None, None), sets)
    assert (unknown.number, unknown.kind) == (6, "speaker or utterance")
    # A set of one speaker joins another.
    assert blocks_of(tuple("aabbcccc"), sets).strata.tolist() == [0, 0, 0]


def test_the_variance_of_strata_is_that_worked_out_on_paper():
    blocks = blocks_of(tuple("abcde"), tuple("11222"))
    values = np.array([[1.0], [3.0], [0.0], [3.0], [6.0]])
    found = totals_variance(blocks, values)
    # 2/1 × 2 = 4, and 3/2 × 18 = 27; Satterthwaite: 31² / (4² / 1 + 27² / 2).
    assert found.variance[0] == pytest.approx(31)
    assert found.degrees[0] == pytest.approx(31**2 / (16 + 27**2 / 2))


def test_heterogeneity_of_two_sets_is_welchs_t_test():
    parts = [
        compare_runs(run("fp32", SOME), run("bf16", ALIKE)),
        compare_runs(run("fp32", SOME), run("quanto-int2", MANY)),
    ]
    found = heterogeneity(parts)
    values, errors = zip(*((p.difference.value, p.standard_error) for p in parts), strict=True)
    t = (values[1] - values[0]) / math.hypot(*errors)
    assert found.q == pytest.approx(t**2)
    assert found.i_squared_pct == pytest.approx(100 * (1 - 1 / t**2))
    assert heterogeneity(parts[:1]) is None
    assert heterogeneity([parts[0], parts[0]]).i_squared_pct == 0


# Shapes of the sets: speakers and utterances each, base's WER on them, as in the shipped results.
POOL = ((34, 2, 0.035), (25, 9, 0.12))
EXCERPTS = ((14, 2, 0.035), (9, 8, 0.12))
# Of each of twelve recipes: errors it has right, and new ones for each word. Half of the new ones
# are the same for all, since recipes err on the same words.
RECIPES = [(0.03, 0.002), (0.03, 0.004), (0.05, 0.006), (0.05, 0.01), (0.1, 0.02), (0.1, 0.04)] * 2


def sample(random: np.random.Generator, shapes, recipes) -> tuple[ErrorCounts, list, list]:
    """Counts of a baseline and of recipes, and the recipes' true differences in points."""
    speakers, strata, lengths, base, voices = [], [], [], [], []
    for number, (many, utterances, rate) in enumerate(shapes):
        who = np.repeat(np.arange(many), utterances)
        words = random.integers(5, 36, len(who)) * 1.0
        voice = random.lognormal(-0.11, 0.47, many)[who]
        speakers += [(number, one) for one in who]
        strata += [number] * len(who)
        lengths.append(words)
        voices.append(voice)
        base.append(random.poisson(random.gamma(rate * voice * words / 0.8, 0.8)))
    words, errors = np.concatenate(lengths), np.concatenate(base) * 1.0
    expected = np.concatenate(
        [rate * voice * w for (_, _, rate), voice, w in zip(shapes, voices, lengths, strict=True)]
    )
    rates = np.concatenate([np.full(len(w), s[2]) for s, w in zip(shapes, lengths, strict=True)])

    def counts(errors):
        return ErrorCounts(errors, words, tuple(speakers), strata=tuple(strata))

    common = random.gamma(expected / 0.8 + 1e-9, 0.8)
    mean_rate = float(np.sum(rates * words) / words.sum())
    candidates, truths = [], []
    for regained, extra in recipes:
        own = random.gamma(expected / 0.8 + 1e-9, 0.8)
        scale = extra / 0.12
        new = random.poisson(scale * (common + own) / 2)
        candidates.append(counts(errors - random.binomial(errors.astype(int), regained) + new))
        truths.append(100 * mean_rate * (scale - regained))
    return counts(errors), candidates, truths


def generators(sets: int):
    """One for each simulated set, of five seeds in turn: what holds must not hang on one."""
    seeds = [np.random.default_rng(seed) for seed in (11, 22, 33, 44, 55)]
    return (seeds[i % len(seeds)] for i in range(sets))


@pytest.fixture
def fewer_resamples(monkeypatch):
    """Four thousand; with a thousand the tails are too coarse for twelve recipes."""
    monkeypatch.setattr(multiple_testing, "RESAMPLES", 4000)


# The pool's intervals cover all twelve truths in 95 % of 300 sets; those of the excerpts, with nine
# speakers of hard speech, in about 90 %. 200 sets leave 1.5 points of noise.
@pytest.mark.parametrize(("shapes", "low"), [(POOL, 0.93), (EXCERPTS, 0.87)])
def test_simultaneous_intervals_of_a_pool_cover_all_truths_and_verdicts_hardly_ever_err(
    fewer_resamples, shapes, low
):
    sets, covered, wrong, single = 200, 0, 0, 0
    for random in generators(sets):
        base, candidates, truths = sample(random, shapes, RECIPES)
        found = compare_family(base, candidates)
        inside = [
            c.difference.low <= t <= c.difference.high for c, t in zip(found, truths, strict=True)
        ]
        covered += all(inside)
        alone = PairedTest(base, candidates[:1]).alone(0.5)[0].difference
        single += alone.low <= truths[0] <= alone.high
        wrong += any(_is_wrong(c, t) for c, t in zip(found, truths, strict=True))
    assert low <= covered / sets <= 0.98
    assert low <= single / sets <= 0.99
    assert wrong / sets <= 0.05


def test_each_as_the_baseline_of_all_is_each_compared_by_itself():
    base, candidates, _ = sample(np.random.default_rng(5), POOL, RECIPES)
    samples = [base, *candidates]
    for baseline, test in zip(samples, PairedTest.of_each(samples), strict=True):
        alone = PairedTest(baseline, samples)
        assert test.values.tolist() == alone.values.tolist()
        assert test.p_difference.tolist() == alone.p_difference.tolist()
        assert test.p_inferior(0.5).tolist() == alone.p_inferior(0.5).tolist()


def _is_wrong(comparison, truth: float) -> bool:
    match comparison.verdict:
        case Verdict.WORSE:
            return truth <= 0
        case Verdict.BETTER:
            return truth >= 0
        case Verdict.NO_WORSE:
            return truth >= comparison.margin
    return False


# Recipes that lose exactly the margin, or nothing: any other verdict than too close to call errs.
@pytest.mark.parametrize(
    ("regained", "extra", "errs"),
    [(0.05, 0.0592, Verdict.NO_WORSE), (0.05, 0.006, Verdict.WORSE)],
)
def test_losses_of_the_margin_and_of_nothing_are_hardly_ever_taken_for_another(
    fewer_resamples, regained, extra, errs
):
    sets, wrong = 150, 0
    mean = 0.098  # of POOL's words
    extra = 0.12 * (regained + (0.005 / mean if errs is Verdict.NO_WORSE else 0.0))
    for random in generators(sets):
        base, candidates, _ = sample(random, POOL, [(regained, extra)] * 8)
        wrong += any(c.verdict is errs for c in compare_family(base, candidates))
    assert wrong / sets <= 0.05


def test_intervals_and_verdicts_never_contradict_each_other(fewer_resamples):
    random, seen = np.random.default_rng(23), set()
    for _ in range(60):
        base, candidates, _ = sample(random, EXCERPTS, RECIPES)
        for found in compare_family(base, candidates):
            difference, verdict = found.difference, found.verdict
            seen.add(verdict)
            assert difference.low <= difference.value <= difference.high
            assert (difference.low >= 0) == (verdict is Verdict.WORSE) or difference.low == 0
            assert (found.p_inferior < INFERIORITY_LEVEL) == (difference.high <= found.margin)
    assert {Verdict.WORSE, Verdict.INCONCLUSIVE} <= seen
