import math
import re
from dataclasses import replace

import kaldialign
import numpy as np
import pytest
from scipy import stats

from whisperq_core.analyze import paired_comparisons
from whisperq_core.analyze.mapsswe import mapsswe
from whisperq_core.analyze.multiple_testing import holm
from whisperq_core.analyze.paired_tests import Comparison, compare
from whisperq_core.analyze.significance import RESAMPLES, ErrorCounts, Estimate, rate
from whisperq_core.analyze.verdicts import POWER, Verdict
from whisperq_core.evaluate.store import Store
from whisperq_core.scoring import error_rates
from whisperq_core.scoring.normalizers import normalizer
from whisperq_core.settings import PROJECT
from whisperq_core.whisper.protocols import STUDY

# Of base fp32 on the test-other excerpt: WER, how far speakers' own rates spread around it relative
# to it, and how much more than Poisson's the errors of one utterance vary.
RATE, SPREAD, DISPERSION = 0.12, 0.5, 1.8
# Between the two extremes of an interval that is right in 95%, for 600 simulated sets or more.
RIGHT, SHORT = (0.92, 0.98), 0.92


class Speech:
    """Made-up results of many sets of the same shape: errors have the shape (sets, utterances)."""

    def __init__(self, seed: int, sets: int, speakers: int, utterances: int, words: int = 20):
        self.random = np.random.default_rng(seed)
        self.sets = sets
        self.who = np.repeat(np.arange(speakers), utterances)
        shape = sets, speakers * utterances
        self.lengths = self.random.integers(words // 4, 2 * words - words // 4 + 1, shape) * 1.0

    def heard(self, rate: float, spread: float = SPREAD) -> np.ndarray:
        """Errors at a rate that is each speaker's own, `rate` on average."""
        sigma = math.sqrt(math.log(1 + spread**2))
        normal = self.random.normal(-(sigma**2) / 2, sigma, (self.sets, self.who[-1] + 1))
        expected = rate * np.exp(normal)[:, self.who] * self.lengths
        uneven = self.random.gamma(expected / (DISPERSION - 1), DISPERSION - 1)
        return self.random.poisson(uneven) * 1.0

    def corrected(self, errors: np.ndarray, share: float) -> np.ndarray:
        """Which of the errors another system has right, each by chance."""
        return self.random.binomial(errors.astype(int), share)

    def samples(self, errors: np.ndarray, known: bool = True) -> list[ErrorCounts]:
        who = tuple(self.who) if known else (None,) * len(self.who)
        return [ErrorCounts(*one, who) for one in zip(errors, self.lengths, strict=True)]


def coverage(estimates: list[Estimate], truth: float) -> float:
    return np.mean([e.low <= truth <= e.high for e in estimates])


def made(errors, lengths=None, speakers=None) -> ErrorCounts:
    """Errors of one utterance a speaker, of 100 words unless told otherwise."""
    n = len(errors)
    return ErrorCounts(
        np.array(errors, dtype=float),
        np.array([100] * n if lengths is None else lengths, dtype=float),
        tuple(range(n)) if speakers is None else speakers,
    )


def test_the_interval_of_speakers_covers_the_truth_and_that_of_utterances_falls_short():
    speech = Speech(1, 800, speakers=20, utterances=5)
    errors = speech.heard(RATE)
    by_speaker, by_utterance = (
        [rate(sample) for sample in speech.samples(errors, known)] for known in (True, False)
    )
    assert by_speaker[0].block == "speaker" and by_utterance[0].block == "utterance"
    assert RIGHT[0] <= coverage(by_speaker, 100 * RATE) <= RIGHT[1]
    assert coverage(by_utterance, 100 * RATE) < SHORT - 0.05


def test_the_interval_of_a_difference_covers_the_truth_and_that_of_utterances_falls_short():
    speech = Speech(2, 800, speakers=20, utterances=5)
    baseline = speech.heard(RATE)
    candidate = baseline - speech.corrected(baseline, 0.1) + speech.heard(0.08)
    truth = 100 * (0.08 - 0.1 * RATE)
    by_speaker, by_utterance = (
        [
            compare(*pair).difference
            for pair in zip(
                speech.samples(baseline, known), speech.samples(candidate, known), strict=True
            )
        ]
        for known in (True, False)
    )
    assert RIGHT[0] <= coverage(by_speaker, truth) <= RIGHT[1]
    assert coverage(by_utterance, truth) < SHORT - 0.03


@pytest.mark.parametrize("speakers", [3, 4, 5])
def test_intervals_of_three_to_five_speakers_cover_the_truth(speakers):
    speech = Speech(31, 1500, speakers, utterances=8)
    found = [rate(sample) for sample in speech.samples(speech.heard(RATE))]
    assert 0.93 <= coverage(found, 100 * RATE) <= 0.97


def test_two_speakers_give_no_interval():
    found = rate(made([5, 9]))
    assert found.value == 7.0 and math.isnan(found.low) and math.isnan(found.high)


# 4000 sets of each give 92.9, 92.8 and 92.9 %: the interval leans low, as with any few speakers.
@pytest.mark.parametrize(("speakers", "utterances"), [(9, 8), (10, 8), (14, 2)])
def test_as_few_speakers_as_the_excerpts_have_cost_two_points_of_coverage(speakers, utterances):
    speech = Speech(3, 600, speakers, utterances)
    found = [rate(sample) for sample in speech.samples(speech.heard(RATE))]
    assert 0.905 <= coverage(found, 100 * RATE) <= RIGHT[1]
    below = np.mean([e.high < 100 * RATE for e in found])
    assert below > 2 * np.mean([e.low > 100 * RATE for e in found])


@pytest.mark.parametrize(("extra", "least"), [(0.001, 0.0), (0.012, 0.005)])
def test_what_does_not_differ_is_hardly_ever_decided_to(extra, least):
    speech = Speech(4, 600, speakers=9, utterances=8)
    baseline = speech.heard(RATE)
    candidate = baseline - speech.corrected(baseline, extra / RATE) + speech.heard(extra)
    pairs = zip(speech.samples(baseline), speech.samples(candidate), strict=True)
    decided = np.mean([compare(*pair).verdict in (Verdict.BETTER, Verdict.WORSE) for pair in pairs])
    assert least <= decided < 0.06


@pytest.mark.parametrize(("speakers", "utterances"), [(9, 8), (14, 2), (30, 3)])
def test_a_loss_of_the_margin_is_hardly_ever_called_no_worse(speakers, utterances):
    # Few words are lost, so many a set shows no loss at all.
    speech = Speech(5, 600, speakers, utterances)
    baseline = speech.heard(RATE)
    candidate = baseline + speech.random.poisson(0.005 * speech.lengths)
    pairs = zip(speech.samples(baseline), speech.samples(candidate), strict=True)
    assert np.mean([compare(*pair).non_inferior for pair in pairs]) < 0.045


@pytest.fixture(scope="module")
def recorded() -> dict:
    """Transcripts of base on the test-other excerpt by recipe, as runs."""
    found = Store(PROJECT / "cache").runs()
    wanted = "base", "test-other-excerpt", "accuracy", STUDY
    return {
        run.spec.recipe.name: run
        for run in found
        if (run.model, run.eval_set, run.measures, run.spec.protocol) == wanted
    }


def words(run, side: str) -> list[list[str]]:
    ordered = sorted(run.utterances, key=lambda u: u.id)
    return [normalizer(u.language).apply(getattr(u, side)).split() for u in ordered]


def unknown_speakers(run) -> ErrorCounts:
    found = paired_comparisons.error_counts(run)
    return replace(found, speakers=(None,) * len(found.speakers))


@pytest.mark.parametrize("name", ["fp32", "torch-int8", "quanto-int8", "hqq-int4-g64"])
def test_intervals_are_those_of_kaldialign(recorded, name):
    run = recorded[name]
    reference, hypothesis = words(run, "reference"), words(run, "hypothesis")
    sample = unknown_speakers(run)
    edits = kaldialign.batch_error_rate(reference, hypothesis)
    assert sample.rate == pytest.approx(100 * edits["err_rate"], rel=1e-12)

    # Theirs is the mean of the resamples ± 1.96 of their standard deviations. What a sample of
    # resamples may be off by, here and below, is five of its own standard deviations.
    theirs = kaldialign.bootstrap_wer_ci(reference, hypothesis, replications=RESAMPLES)
    deviation = 100 * theirs["ci95"] / 1.96
    assert 100 * theirs["wer"] == pytest.approx(
        sample.rate, abs=5 * deviation / math.sqrt(RESAMPLES)
    )

    # Ours is of percentiles, and wider by what few blocks ask for; a quantile's sampling error is
    # √(tail (1 − tail) / resamples) over the density there, and a half-width is half of two.
    ours, n = rate(sample), len(reference)
    wider = math.sqrt(n / (n - 1)) * stats.t.ppf(0.975, n - 1) / 1.96
    tail = stats.norm.cdf(-1.96 * wider)
    of_quantiles = math.sqrt(tail / 2) / stats.norm.pdf(1.96 * wider) / math.sqrt(RESAMPLES)
    of_theirs = 1.96 * wider / math.sqrt(2 * RESAMPLES)
    noise = 5 * math.hypot(of_quantiles, of_theirs) * deviation
    half_width = (ours.high - ours.low) / 2
    assert half_width == pytest.approx(1.96 * wider * deviation, abs=noise)
    # A normal would be symmetrical; a rate has a longer tail upwards, by a tenth of it here.
    assert 0 < (ours.high + ours.low) / 2 - ours.value < 0.15 * half_width


@pytest.mark.parametrize("name", ["torch-int8", "quanto-int8", "hqq-int4-g64", "torchao-int8"])
def test_the_confidence_in_a_lower_rate_is_near_kaldialigns_share_of_resamples(recorded, name):
    base, run = recorded["fp32"], recorded[name]
    reference = words(base, "reference")
    first, second = words(base, "hypothesis"), words(run, "hypothesis")

    def improves(a, b):
        found = kaldialign.bootstrap_wer_ci(reference, a, b, replications=RESAMPLES)
        return found["p_s2_improv_over_s1"]

    better, worse = improves(first, second), improves(second, first)
    found = compare(unknown_speakers(base), unknown_speakers(run))
    expected = better + (1 - better - worse) / 2
    noise = 5 * math.sqrt(2 * expected * (1 - expected) / RESAMPLES)
    # Ours is of Student's t, whose tails are wider than those of resamples.
    assert found.p_better == pytest.approx(expected, abs=noise + 0.03)
    [a, b] = (kaldialign.batch_error_rate(reference, heard) for heard in (first, second))
    assert found.difference.value == pytest.approx(100 * (b["err_rate"] - a["err_rate"]), rel=1e-9)


def test_the_standard_error_of_a_difference_is_that_worked_out_on_paper():
    # 0, 2, 4 and 6 errors more in 100 words each: a variance of 20/3, over four.
    found = compare(made([10] * 4), made([10, 12, 14, 16]))
    assert found.standard_error == pytest.approx(math.sqrt(20 / 3 / 4))


# 0.005 × 4 = 0.02; 0.01 × 3 = 0.03; 0.03 × 2 = 0.06; 0.04 × 1, but no less than the one before.
def test_holm_is_that_worked_out_on_paper_in_the_order_given():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


@pytest.mark.parametrize(
    ("p_values", "adjusted"),
    [
        ([], []),
        ([0.2], [0.2]),
        ([0.02, 0.02, 0.02], [0.06, 0.06, 0.06]),
        ([0.5, 0.01, 0.01], [0.5, 0.03, 0.03]),
        ([0.9, 0.6], [1.0, 1.0]),
    ],
)
def test_holm_of_ties_of_few_and_of_large_ones(p_values, adjusted):
    assert holm(p_values) == pytest.approx(adjusted)


def test_holm_keeps_the_order_and_lies_between_no_correction_and_bonferronis():
    random = np.random.default_rng(7)
    for p in random.uniform(0, 1, (100, 8)) ** 3:
        adjusted = np.array(holm(list(p)))
        assert (np.diff(adjusted[np.argsort(p)]) >= 0).all()
        assert (adjusted >= p).all() and (adjusted <= np.minimum(8 * p, 1)).all()
        assert adjusted.min() == pytest.approx(min(8 * p.min(), 1))


KINDS = {"=": "equal", "s": "substitute", "d": "delete", "i": "insert"}


def edits(*utterances: str) -> list[list[str]]:
    return [[KINDS[sign] for sign in utterance] for utterance in utterances]


@pytest.mark.parametrize(
    ("baseline", "candidate", "segments"),
    [
        (["===="], ["===="], 0),
        (["s=s"], ["==="], 1),
        (["s==s"], ["===="], 2),
        (["s==s"], ["==s="], 1),
        (["s==="], ["===s"], 2),
        (["s=i=s"], ["===="], 1),
        (["s=i==s"], ["====="], 2),
        (["s==is"], ["===="], 2),
        (["i==s"], ["==="], 2),
        (["s==i"], ["==="], 2),
        (["i"], [""], 1),
        (["s", "s"], ["=", "="], 2),
        (["s=", "=s"], ["==", "=="], 2),
        ([], [], 0),
    ],
)
def test_two_words_that_both_have_right_end_a_segment(baseline, candidate, segments):
    assert mapsswe(edits(*baseline), edits(*candidate)).segments == segments
    assert mapsswe(edits(*candidate), edits(*baseline)).segments == segments


# Segments, baseline's errors : candidate's. First line 1 : 0 and 1 : 2, second 3 : 0, third 0 : 2,
# fourth none. So −1, 1, −3 and 2: mean −1/4, variance (15 − 4/16) / 3 = 59/12.
PAPER = [("s==d====", "====ss=="), ("s=i=s==", "======"), ("===", "==di"), ("===", "===")]


def test_mapsswe_is_that_worked_out_on_paper():
    baseline, candidate = (edits(*side) for side in zip(*PAPER, strict=True))
    found = mapsswe(baseline, candidate)
    assert (found.segments, found.mean) == (4, -0.25)
    assert found.z == pytest.approx(-0.25 / math.sqrt(59 / 12 / 4))
    assert found.z == pytest.approx(-0.2255, abs=5e-5)
    assert found.p == pytest.approx(0.8216, abs=5e-5)


def test_mapsswe_finds_no_difference_between_equals():
    both = edits("s==d", "=i=s")
    found = mapsswe(both, both)
    assert (found.segments, found.mean, found.z, found.p) == (3, 0.0, 0.0, 1.0)
    assert mapsswe([], []).p == 1.0


def test_mapsswe_of_segments_that_all_differ_alike_is_mcnemars():
    # A variance of zero says nothing; nine to nothing has z = (9 − 0) / √(9 + 0).
    found = mapsswe(edits(*["=="] * 9), edits(*["=s"] * 9))
    assert (found.mean, found.z) == (1.0, 3.0)
    assert found.p == pytest.approx(0.0027, abs=1e-5)
    assert mapsswe(edits("=="), edits("ss")).p == pytest.approx(0.3173, abs=5e-5)


def test_mapsswe_refuses_alignments_to_other_references():
    with pytest.raises(ValueError, match="same references"):
        mapsswe(edits("==="), edits("=="))
    with pytest.raises(ValueError):
        mapsswe(edits("==="), [])


def segments_by_pattern(first: str, second: str) -> list[tuple[int, int]]:
    """Errors of both in each segment, found in a text of steps that is cut by a pattern."""
    gaps = zip(re.split("[=x]", first), re.split("[=x]", second), strict=True)
    spoken = [*zip(re.findall("[=x]", first), re.findall("[=x]", second), strict=True), ("", "")]
    steps = [step for pair in zip(gaps, spoken, strict=True) for step in pair]
    text = "".join(f"{a}|{b};" for a, b in steps if a or b)
    pieces = [re.findall(r"(.*?)\|(.*?);", part) for part in re.split(r"(?:=\|=;){2,}", text)]
    sides = [zip(*piece, strict=True) for piece in pieces if piece]
    counts = [tuple(len("".join(side).replace("=", "")) for side in both) for both in sides]
    return [pair for pair in counts if any(pair)]


@pytest.mark.parametrize("name", ["torch-int8", "quanto-int8", "hqq-int4-g64", "quanto-int2"])
def test_mapsswe_of_real_transcripts_is_that_of_another_implementation(recorded, name):
    signs = {"equal": "=", "substitute": "x", "delete": "x", "insert": "i"}

    def signed(run):
        ordered = sorted(run.utterances, key=lambda u: u.id)
        aligned = [error_rates.align(u.reference, u.hypothesis, u.language) for u in ordered]
        return ["".join(signs[edit.kind] for edit in one) for one in aligned]

    both = signed(recorded["fp32"]), signed(recorded[name])
    pairs = [pair for each in zip(*both, strict=True) for pair in segments_by_pattern(*each)]
    lost = [b - a for a, b in pairs]
    found = paired_comparisons.segment_test(recorded["fp32"], recorded[name])
    assert found.segments == len(pairs) > 50
    assert sum(lost) == recorded[name].words.errors - recorded["fp32"].words.errors
    test = stats.ttest_1samp(lost, 0)
    assert (found.mean, found.z) == pytest.approx((np.mean(lost), test.statistic))
    assert found.p == pytest.approx(2 * stats.norm.sf(abs(test.statistic)))

    swapped = paired_comparisons.segment_test(recorded[name], recorded["fp32"])
    assert (swapped.segments, swapped.z) == (found.segments, pytest.approx(-found.z))
    assert swapped.p == pytest.approx(found.p)


HEARD = [10, 14, 8, 20, 12, 9, 16, 11, 13, 15]
VERDICTS = {
    Verdict.BETTER: [-3, -4, -2, -6, -3, -3, -5, -2, -4, -3],
    Verdict.WORSE: [3, 4, 2, 6, 3, 3, 5, 2, 4, 3],
    Verdict.NO_WORSE: [0, 0, -1, 0, 0, -1, 0, 0, 0, 0],
    Verdict.INCONCLUSIVE: [5, -4, 6, -3, -5, 4, 0, 1, -6, 3],
}


@pytest.mark.parametrize(("verdict", "gained"), VERDICTS.items(), ids=VERDICTS)
def test_each_verdict_has_a_case(verdict, gained):
    found = compare(made(HEARD), made(np.add(HEARD, gained)))
    assert found.verdict == verdict
    assert found.difference.value == pytest.approx(sum(gained) / 10)
    assert found.difference.low < found.difference.value < found.difference.high
    assert (found.difference.blocks, found.difference.block) == (10, "speaker")
    assert (found.minutes_needed(9) is None) == (verdict != Verdict.INCONCLUSIVE)


def random_comparisons(seed: int, count: int):
    random = np.random.default_rng(seed)
    for _ in range(count):
        speakers = random.integers(2, 16)
        baseline = random.poisson(random.uniform(0, 12), speakers)
        lost = random.poisson(random.choice([0.1, 1, 4]), speakers)
        kept = random.binomial(baseline, random.choice([0.5, 0.9, 1.0]))
        yield made(baseline), made(kept + lost)


def test_a_verdict_says_what_its_interval_and_its_p_values_say():
    seen = set()
    for baseline, candidate in random_comparisons(8, 300):
        found = compare(baseline, candidate)
        low, high = found.difference.low, found.difference.high
        if found.verdict == Verdict.BETTER:
            assert high < 0 and found.p_difference < 0.05
        elif found.verdict == Verdict.WORSE:
            assert low > 0 and found.p_difference < 0.05
        elif found.verdict == Verdict.NO_WORSE:
            assert high < found.margin and found.p_inferior < 0.025
        assert 0 <= found.p_difference <= 1 and 0 <= found.p_inferior <= 1
        seen.add(found.verdict)
    assert seen == {Verdict.BETTER, Verdict.WORSE, Verdict.NO_WORSE, Verdict.INCONCLUSIVE}


def test_the_other_way_round_better_is_worse():
    other = {Verdict.BETTER: Verdict.WORSE, Verdict.WORSE: Verdict.BETTER}
    for baseline, candidate in random_comparisons(9, 150):
        found, swapped = compare(baseline, candidate), compare(candidate, baseline)
        low, high = swapped.difference.low, swapped.difference.high
        # A rate is never below 0, where an interval is cut.
        if low > -candidate.rate + 1e-9 and found.difference.low > -baseline.rate + 1e-9:
            assert (-high, -low) == pytest.approx(
                (found.difference.low, found.difference.high), abs=1e-9, nan_ok=True
            )
        if found.p_better != 0.5:
            assert swapped.p_better == pytest.approx(1 - found.p_better)
        assert swapped.p_difference == pytest.approx(found.p_difference)
        if found.verdict in other:
            assert swapped.verdict == other[found.verdict]


def test_one_block_decides_nothing():
    found = compare(made([50]), made([0]))
    assert found.difference.value == -50.0
    assert math.isnan(found.difference.low) and math.isnan(found.difference.high)
    assert (found.verdict, found.p_difference, found.p_inferior) == (Verdict.INCONCLUSIVE, 1.0, 1.0)
    assert found.minutes_needed(1) is None
    alone = rate(made([5]))
    assert (alone.value, alone.blocks) == (5.0, 1)
    assert math.isnan(alone.low) and math.isnan(alone.high)


@pytest.mark.parametrize(
    ("speakers", "blocks", "block"),
    [("aabbc", 3, "speaker"), ("aaaaa", 5, "utterance"), ("aabb" + "\0", 5, "utterance")],
    ids=["three", "one", "one unknown"],
)
def test_blocks_are_speakers_where_all_are_known_and_there_are_two(speakers, blocks, block):
    who = tuple(None if s == "\0" else s for s in speakers)
    found = rate(made([1, 2, 3, 4, 5], speakers=who))
    assert (found.value, found.blocks, found.block) == (3.0, blocks, block)


def test_blocks_do_not_depend_on_the_order_of_utterances():
    errors, who = [1, 2, 3, 4, 5, 6], ("a", "a", "b", "b", "c", "c")
    mixed = [4, 0, 2, 5, 1, 3]
    found = rate(made(errors, speakers=who))
    other = rate(made([errors[i] for i in mixed], speakers=tuple(who[i] for i in mixed)))
    assert (other.value, other.blocks) == (found.value, found.blocks)
    assert (other.low, other.high) == pytest.approx((found.low, found.high), abs=0.1)


@pytest.mark.parametrize("errors", [[0, 0, 0], [1, 0, 2]])
def test_without_a_word_of_reference_there_is_no_rate_and_no_decision(errors):
    silent, quiet = made(errors, [0, 0, 0]), made([0, 0, 0], [0, 0, 0])
    found = rate(silent)
    assert math.isnan(found.value) and math.isnan(found.low) and math.isnan(found.high)
    compared = compare(quiet, silent)
    assert math.isnan(compared.difference.value)
    assert (compared.verdict, compared.minutes_needed(1)) == (Verdict.INCONCLUSIVE, None)


def test_a_block_without_reference_words_counts_its_insertions():
    found = rate(made([3, 5, 5], [0, 100, 100]))
    assert found.value == 6.5
    assert 1.0 <= found.low < 6.5 < found.high < math.inf


def test_no_utterances_have_no_rate():
    nothing = made([1, 2]).only(np.array([False, False]))
    assert nothing.speakers == ()
    assert math.isnan(rate(nothing).value) and rate(nothing).blocks == 0
    assert compare(nothing, nothing).verdict == Verdict.INCONCLUSIVE


def test_identical_transcripts_differ_by_nothing_but_not_for_certain():
    found = compare(made(HEARD), made(HEARD))
    # 1000 words: one word is 0.1 points; 1.96² words of loss may not have come up.
    assert found.difference.value == 0.0
    assert (found.difference.low, found.difference.high) == pytest.approx(
        (-0.3841, 0.3841), abs=1e-4
    )
    assert found.p_within_margin == pytest.approx(1 - found.p_inferior)
    assert (found.standard_error, found.p_better, found.p_difference) == (0.1, 0.5, 1.0)
    # A loss of the margin would be 5 words; that none shows has z = 5 / √5.
    assert found.p_inferior == pytest.approx(stats.norm.sf(math.sqrt(5)))
    assert found.verdict == Verdict.NO_WORSE


def test_identical_transcripts_of_few_words_are_undecided():
    found = compare(made([1] * 10, [30] * 10), made([1] * 10, [30] * 10))
    assert found.p_inferior == pytest.approx(stats.norm.sf(math.sqrt(1.5)))
    assert found.verdict == Verdict.INCONCLUSIVE


def test_one_error_more_for_each_of_four_speakers_is_not_certain():
    # All resamples say the same; that is four coins that fell alike, no proof.
    found = compare(made([0] * 4), made([1] * 4))
    assert found.difference.value == 1.0
    assert 0.05 < found.p_difference < 0.5
    assert found.verdict == Verdict.INCONCLUSIVE
    assert compare(made([0] * 12), made([2] * 12)).verdict == Verdict.WORSE


def test_without_a_margin_no_worse_is_never_said_of_equals():
    assert compare(made(HEARD), made(HEARD), margin=0).verdict == Verdict.INCONCLUSIVE
    better = compare(made(HEARD), made(np.add(HEARD, VERDICTS[Verdict.BETTER])), margin=0)
    assert better.non_inferior and better.verdict == Verdict.BETTER


def test_a_wider_margin_decides_more():
    pair = made(HEARD), made(np.add(HEARD, VERDICTS[Verdict.INCONCLUSIVE]))
    p_values = [compare(*pair, margin=margin).p_inferior for margin in (0.5, 2, 8)]
    assert p_values == sorted(p_values, reverse=True)
    assert compare(*pair, margin=8).verdict == Verdict.NO_WORSE


def test_other_references_are_refused():
    with pytest.raises(ValueError, match="same references"):
        compare(made([1, 2]), made([1, 2], [100, 90]))


def undecided(value: float, standard_error: float, blocks: int, **changes) -> Comparison:
    difference = Estimate(value, value - 9, value + 9, blocks, "speaker")
    fields = {"p_better": 0.5, "p_difference": 0.5, "p_inferior": 0.5, "margin": 0.5}
    return Comparison(difference, standard_error, **fields | changes)


def test_minutes_needed_are_those_of_the_formula():
    # To no difference 2 points, against 1.5 to the margin; t is 2.262 at nine degrees of freedom.
    found = undecided(2.0, 1.0, 10)
    assert found.minutes_needed(60) == pytest.approx(60 * (2.2622 + 0.8416) ** 2 / 4, rel=1e-3)
    # To the margin, one point.
    found = undecided(-0.5, 1.0, 10)
    assert found.minutes_needed(60) == pytest.approx(60 * (2.2622 + 0.8416) ** 2, rel=1e-3)


def test_minutes_needed_grow_with_the_square_of_the_standard_error():
    once, twice = (undecided(0.2, error, 10).minutes_needed(9) for error in (1.0, 2.0))
    assert twice == pytest.approx(4 * once)
    assert undecided(0.2, 1.0, 10).minutes_needed(18) == pytest.approx(2 * once)


def test_minutes_needed_are_more_among_many_and_where_chance_asks_for_more():
    alone = undecided(0.0, 0.2, 10)
    assert replace(alone, level=0.05 / 20).minutes_needed(9) > alone.minutes_needed(9)
    assert replace(alone, margin_error=0.3).minutes_needed(9) > alone.minutes_needed(9)


def test_minutes_needed_are_never_fewer_than_there_were():
    counted = [compare(*pair).minutes_needed(9) for pair in random_comparisons(11, 200)]
    found = [minutes for minutes in counted if minutes is not None]
    assert len(found) > 20
    assert min(found) >= 9.0
    assert sum(minutes > 9.0 for minutes in found) > 0.9 * len(found)


# Losses of 1.8 points, worse, and of none, no worse; the rarer errors of the third show Poisson's.
@pytest.mark.parametrize(
    ("extra", "regained", "speakers"), [(0.03, 0.1, 12), (0.006, 0.05, 12), (0.001, 1 / 120, 6)]
)
def test_as_many_minutes_decide_it_with_about_the_chance_promised(extra, regained, speakers):
    def pairs(seed, sets, speakers):
        speech = Speech(seed, sets, speakers, utterances=5)
        baseline = speech.heard(RATE)
        candidate = baseline - speech.corrected(baseline, regained) + speech.heard(extra)
        return zip(speech.samples(baseline), speech.samples(candidate), strict=True)

    pilots = [compare(*pair) for pair in pairs(12, 400, speakers)]
    pilot = undecided(
        100 * (extra - regained * RATE),
        float(np.std([p.difference.value for p in pilots])),
        speakers,
        margin_error=float(np.mean([p.margin_error for p in pilots])),
    )
    needed = round(pilot.minutes_needed(speakers))
    assert needed > speakers
    decided = np.mean([compare(*p).verdict != Verdict.INCONCLUSIVE for p in pairs(13, 150, needed)])
    assert POWER - 0.15 < decided < POWER + 0.15
