"""What is stored of a family is what is computed, to the last bit, and never that of another."""

from dataclasses import replace

import numpy as np
import pytest

from whisperq_core.analyze import family_cache, paired_tests
from whisperq_core.analyze.family_cache import compare_family
from whisperq_core.analyze.significance import ErrorCounts
from whisperq_core.derived_values import DerivedValues


def counts(seed: int, speakers: int = 12, unit="words") -> ErrorCounts:
    random = np.random.default_rng(seed)
    utterances = 4 * speakers
    return ErrorCounts(
        random.poisson(2.0, utterances).astype(float),
        np.full(utterances, 20.0),
        tuple(str(i % speakers) for i in range(utterances)),
        unit,
        tuple("ab"[i % 2] for i in range(utterances)),
    )


BASELINE, *CANDIDATES = (counts(seed) for seed in range(6))


@pytest.fixture
def derived(tmp_path) -> DerivedValues:
    return DerivedValues(tmp_path)


@pytest.mark.parametrize("speakers", [12, 2], ids=["resampled", "too few for intervals"])
def test_what_is_stored_is_what_is_computed(derived, new_process, speakers):
    baseline, *candidates = (counts(seed, speakers) for seed in range(6))
    computed = compare_family(baseline, candidates, 0.5, derived)
    assert repr(computed) == repr(
        tuple(paired_tests.compare_family(baseline, candidates, 0.5))
    )  # as text, since NaN is not equal to itself
    new_process(may_resample=False)
    assert repr(compare_family(baseline, candidates, 0.5, derived)) == repr(computed)


def changed(**changes) -> tuple:
    return replace(BASELINE, **changes), CANDIDATES, 0.5


@pytest.mark.parametrize(
    "other",
    [
        (BASELINE, CANDIDATES, 0.6),
        (BASELINE, CANDIDATES[:-1], 0.5),
        (BASELINE, CANDIDATES[::-1], 0.5),
        changed(errors=BASELINE.errors + 1),
        changed(speakers=BASELINE.speakers[::-1]),
        changed(strata=()),
        changed(unit="characters"),
    ],
    ids=["margin", "fewer", "order", "errors", "speakers", "strata", "unit"],
)
def test_other_comparisons_are_computed_anew(derived, new_process, other):
    compare_family(BASELINE, CANDIDATES, 0.5, derived)
    new_process(may_resample=True)
    compared = compare_family(*other, derived)
    assert list(compared) == paired_tests.compare_family(*other)


def test_other_code_computes_anew(derived, new_process, monkeypatch):
    compare_family(BASELINE, CANDIDATES, 0.5, derived)
    new_process(may_resample=False)
    monkeypatch.setattr(family_cache, "code_digest", lambda *modules: "other code")
    with pytest.raises(pytest.fail.Exception, match="resampled again"):
        compare_family(BASELINE, CANDIDATES, 0.5, derived)


def test_an_altered_value_is_computed_anew(derived, new_process):
    computed = compare_family(BASELINE, CANDIDATES, 0.5, derived)
    content = derived.path.read_bytes()
    digit = content.index(b'"value": ') + len(b'"value": ')
    derived.path.write_bytes(content[:digit] + b"9" + content[digit + 1 :])
    new_process(may_resample=True)
    assert compare_family(BASELINE, CANDIDATES, 0.5, derived) == computed


def test_other_references_are_refused_though_all_else_is_stored(derived, new_process):
    compare_family(BASELINE, CANDIDATES, 0.5, derived)
    other = replace(CANDIDATES[0], lengths=CANDIDATES[0].lengths + 1)
    with pytest.raises(ValueError, match="same references"):
        compare_family(BASELINE, [other, *CANDIDATES[1:]], 0.5, derived)


def test_another_margin_needs_no_new_resamples(derived, new_process):
    compare_family(BASELINE, CANDIDATES, 0.5)
    resampled = family_cache._test.cache_info().misses
    compare_family(BASELINE, CANDIDATES, 1.5)
    assert family_cache._test.cache_info().misses == resampled
