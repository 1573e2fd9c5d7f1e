"""All pairs at once are what each pair is by itself."""

import numpy as np
import pytest

from whisperq_core.analyze.all_pairs import AllPairs, holm_columns
from whisperq_core.analyze.multiple_testing import holm
from whisperq_core.analyze.paired_tests import compare
from whisperq_core.analyze.significance import ErrorCounts
from whisperq_core.analyze.verdicts import MARGIN

WORDS = np.array([20.0, 35.0, 8.0, 14.0, 27.0, 11.0, 40.0, 22.0, 9.0, 31.0])
SPEAKERS = tuple("aabbccddee")


def samples(speakers=SPEAKERS, many=9) -> list[ErrorCounts]:
    """Results from hardly any errors to nearly all wrong; the last two are the same."""
    random = np.random.default_rng(3)
    chances = [0.05, 0.06, 0.1, 0.1, 0.12, 0.15, 0.3, 0.9][: many - 1]
    counts = [random.binomial(WORDS.astype(int), chance).astype(float) for chance in chances]
    return [ErrorCounts(count, WORDS, speakers) for count in [*counts, counts[-1]]]


@pytest.mark.parametrize("speakers", [SPEAKERS, (None,) * len(WORDS), tuple("aaaaaaaabc")])
@pytest.mark.parametrize("margin", [MARGIN, 3.0, 0.0])
def test_every_pair_is_compared_as_it_is_alone(speakers, margin):
    made = samples(speakers)
    pairs = AllPairs(made)
    for i, candidate in enumerate(made):
        for j, baseline in enumerate(made):
            alone = compare(baseline, candidate, margin)
            assert pairs.difference[i, j] == pytest.approx(alone.difference.value, abs=1e-9)
            assert pairs.p_difference[i, j] == pytest.approx(alone.p_difference, rel=1e-6)
            assert pairs.p_inferior(margin)[i, j] == pytest.approx(alone.p_inferior, rel=1e-6)


@pytest.mark.parametrize(("speakers", "words"), [(("a",), [9.0]), (tuple("ab"), [0.0, 0.0])])
def test_nothing_is_decidable_without_blocks_or_words(speakers, words):
    one = ErrorCounts(np.zeros(len(words)), np.array(words), speakers)
    assert not AllPairs([one, one]).has_intervals


def test_holm_in_columns_is_holm_of_each():
    p = np.random.default_rng(0).uniform(0, 0.2, (6, 4))
    family = np.random.default_rng(1).random((6, 4)) < 0.7
    family[:, 3] = False
    found = holm_columns(p, family)
    for j in range(4):
        assert found[family[:, j], j] == pytest.approx(holm(p[family[:, j], j]))
        assert (found[~family[:, j], j] == 1).all()
