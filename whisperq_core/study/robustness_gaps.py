"""WER on test-other minus WER on test-clean: the bars of the study's Figure 1."""

from dataclasses import dataclass

from whisperq_core.analyze import paired_comparisons
from whisperq_core.analyze.significance import Estimate
from whisperq_core.study.evidence import Evidence
from whisperq_core.study.measures import counterpart_recipe
from whisperq_core.study.published import STUDY_RECIPES


@dataclass(frozen=True)
class RobustnessGap:
    """WER on test-other minus WER on test-clean of one recipe, in points: a bar of Figure 1.

    keys: of the runs on test-other and on test-clean. eval_sets: their names.
    """

    model: str
    recipe: str
    points: Estimate
    keys: tuple[str, str]
    eval_sets: tuple[str, str]


def robustness_gaps(evidence: Evidence, model: str, protocol: str) -> list[RobustnessGap]:
    """The bars of Figure 1 for every recipe measured on both sets, smallest first.

    Of each split one set, so that recipes share their speech: see `Evidence.common_set`.
    """
    recipes = [counterpart_recipe(r, protocol) for r in ("fp32", *STUDY_RECIPES)]
    other_set, clean_set = (
        evidence.common_set(split, model, protocol, recipes) for split in ("other", "clean")
    )
    gaps = []
    for recipe in evidence.recipes(model, protocol):
        harder = evidence.accuracy(model, recipe, other_set, protocol)
        easier = evidence.accuracy(model, recipe, clean_set, protocol)
        if harder and easier:
            points = paired_comparisons.robustness_gap(harder, easier)
            keys, sets = (harder.key, easier.key), (other_set, clean_set)
            gaps.append(RobustnessGap(model, recipe, points, keys, sets))
    return sorted(gaps, key=lambda gap: gap.points.value)
