import pytest

from tests.support.sample_runs import accuracy_run
from whisperq_core.study.evidence import Evidence
from whisperq_core.study.robustness_gaps import robustness_gaps
from whisperq_core.whisper.protocols import STUDY

WORDS = "alpha bravo charlie delta echo foxtrot golf hotel india juliett"


def run(recipe: str, wrong_words: int, eval_set: str = "test-other-excerpt"):
    """Twelve speakers with an utterance of ten words each, so many of them wrong."""
    hypothesis = " ".join(["x"] * wrong_words + WORDS.split()[wrong_words:])
    speakers = [str(i) for i in range(12)]
    return accuracy_run(recipe, [(WORDS, hypothesis)] * 12, eval_set=eval_set, speakers=speakers)


def test_figure_1_has_a_bar_for_every_recipe_on_both_sets():
    runs = [
        run("fp32", 1, "test-clean-excerpt"),
        run("fp32", 3),
        run("torch-int8", 2),
    ]
    bars = robustness_gaps(Evidence(runs), "base", STUDY.name)
    assert [bar.recipe for bar in bars] == ["fp32"]
    assert bars[0].points.value == pytest.approx(20.0)
    assert bars[0].points.low <= 20.0 <= bars[0].points.high


def test_figure_1_takes_the_sets_that_most_of_the_study_s_recipes_ran_on():
    recipes = ("fp32", "torch-int8", "bf16")
    excerpts = [run(r, 1, f"test-{split}-excerpt") for r in recipes for split in ("clean", "other")]
    larger = [run("fp32", 1, name) for name in ("test-clean-34-speakers", "test-other-25-speakers")]
    bars = robustness_gaps(Evidence([*excerpts, *larger]), "base", STUDY.name)
    assert {bar.eval_sets for bar in bars} == {("test-other-excerpt", "test-clean-excerpt")}
    larger += [run("torch-int8", 2, one.eval_set) for one in larger]
    bars = robustness_gaps(Evidence([*excerpts, *larger]), "base", STUDY.name)
    assert {bar.eval_sets for bar in bars} == {("test-other-25-speakers", "test-clean-34-speakers")}
    assert {bar.recipe for bar in bars} == {"fp32", "torch-int8"}
