"""The public API: what `import whisperq_core as wq` offers.

The command line and the app use the same functions below it. Nothing heavy is imported here; the
first call of a function imports what it needs.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from whisperq_core.quantize.recipes import CATALOGUE, Recipe
from whisperq_core.whisper.protocols import ProtocolName as ProtocolName

if TYPE_CHECKING:
    import pandas as pd

    from whisperq_core.analyze.advisor import Advice
    from whisperq_core.analyze.configurations import Configuration
    from whisperq_core.analyze.user_requirements import Priority
    from whisperq_core.evaluate.merging import MergeReport
    from whisperq_core.evaluate.records import Run
    from whisperq_core.quantize.quantized_model import QuantizedModel

DeviceName = Literal["cpu", "cuda", "mps"]


class Results:
    """Runs, as data: to filter, to compare, to take into pandas. Iterates over the runs."""

    def __init__(self, runs: Iterable["Run"]):
        self._runs = tuple(runs)

    def __iter__(self) -> Iterator["Run"]:
        return iter(self._runs)

    def __len__(self) -> int:
        return len(self._runs)

    def __repr__(self) -> str:
        return f"<Results: {len(self)} runs>"

    def filter(
        self,
        *,
        model: str | None = None,
        recipe: str | None = None,
        eval_set: str | None = None,
        protocol: ProtocolName | None = None,
    ) -> "Results":
        """Those of this model, recipe, evaluation set or protocol; None is any.

        Runs that measured speed are of no set of their own: eval_set leaves them in, so that a
        table still has times.
        """
        from whisperq_core.evaluate.records import AccuracyRun
        from whisperq_core.whisper.protocols import SHORT_NAMES

        return Results(
            run
            for run in self._runs
            if model in (None, run.model)
            and recipe in (None, run.spec.recipe.name)
            and (eval_set in (None, run.eval_set) or not isinstance(run, AccuracyRun))
            and (protocol is None or SHORT_NAMES[protocol].name == run.spec.protocol.name)
        )

    def to_frame(self) -> "pd.DataFrame":
        """One row for each accuracy run, with its times where they were measured.

        Columns end in their unit: wer_pct, rtf, weights_bytes, …
        """
        from whisperq_core.analyze import results_table
        from whisperq_core.evaluate.records import SizeRun

        return results_table.rows(run for run in self._runs if not isinstance(run, SizeRun))

    def compare(self, baseline: str = "fp32", margin: float = 0.5) -> "pd.DataFrame":
        """Each recipe against the baseline on the same utterances, at 95 %.

        Columns: model, recipe, set, protocol; difference, low, high (points of WER); verdict:
        "better", "no worse", "worse" or "inconclusive". margin: points of WER that a recipe may
        lose and be no worse. Verdicts and intervals are simultaneous over the recipes of a model,
        set and protocol: all of them hold with 95 %.

        Raises NotComparable where no accuracy run is of the baseline.
        """
        import pandas as pd

        from whisperq_core.analyze import paired_comparisons
        from whisperq_core.errors import NotComparable
        from whisperq_core.evaluate.records import AccuracyRun

        runs = [run for run in self._runs if isinstance(run, AccuracyRun)]
        if not any(run.spec.recipe.name == baseline for run in runs):
            raise NotComparable(f"There is no accuracy run of {baseline}. Evaluate it as well.")
        compared = paired_comparisons.verdicts(runs, baseline, margin)
        lines = [
            {
                "model": run.model,
                "recipe": run.spec.recipe.name,
                "set": run.eval_set,
                "protocol": run.spec.protocol.name,
                "difference": compared[run.key].difference.value,
                "low": compared[run.key].difference.low,
                "high": compared[run.key].difference.high,
                "verdict": str(compared[run.key].verdict),
            }
            for run in runs
            if run.key in compared
        ]
        columns = ["model", "recipe", "set", "protocol", "difference", "low", "high", "verdict"]
        return pd.DataFrame(lines, columns=columns)

    def evidence(self, margin: float = 0.5) -> "pd.DataFrame":
        """Each model, recipe and protocol against fp32 over all English sets together.

        fp32 is that of the same model under the Study protocol, which is how Transformers runs it
        by default. One row each, the smallest first: size, latency relative to that, difference,
        low and high (points of WER), within_margin_pct (the confidence that the increase is below
        the margin), verdict, minutes, speakers, sets. Call it on `wq.results()`: intervals are
        simultaneous over all results passed.
        """
        from whisperq_core.analyze import evidence_table
        from whisperq_core.analyze.configurations import configurations

        return evidence_table.evidence(configurations(self._runs, margin=margin))

    def conditions(self) -> "pd.DataFrame":
        """What each condition, such as noise, changes in the cost of each recipe.

        One row for each measure ("WER", "divergence"), model, recipe and condition that both fp32
        and the recipe were evaluated under and in quiet: in_quiet and under_condition (points of
        WER more than fp32's, or mnat per token from fp32), change (points, or the factor for
        divergence) with low and high, verdict, p, minutes and minutes_needed. Call it on
        `wq.results()`: intervals are simultaneous over all results passed.
        """
        from whisperq_core.analyze import condition_effects

        runs, of_measure = list(self._runs), condition_effects.condition_effects
        effects = [e for measure in condition_effects.MEASURES for e in of_measure(runs, measure)]
        return condition_effects.table(effects)

    def hallucinations(self) -> "pd.DataFrame":
        """Words transcribed a minute on sets without speech, such as no-speech.

        One row for each model, recipe, protocol and set: words_a_minute with low and high (95 %,
        over sources of noise), words, minutes, recordings, with_words (recordings with any), loops.
        """
        from whisperq_core.analyze import hallucinations

        return hallucinations.table(hallucinations.hallucinations(self._runs))


class Recommendation:
    """The Advisor's answer: printed, it is text.

    configuration: the recommended one, or None where none is shown to meet the limits. advice: all
    of it as data, the alternatives and what to measure next included.
    """

    def __init__(self, advice: "Advice"):
        self.advice = advice
        self.configuration: Configuration | None = (
            None if advice.best is None else advice.best.configuration
        )

    def __str__(self) -> str:
        from whisperq_core.present import advisor_text

        return advisor_text.as_text(self.advice)

    __repr__ = __str__


def recipes() -> list[Recipe]:
    """Every recipe, in the order of the catalogue."""
    return list(CATALOGUE.values())


def quantize(
    model: str,
    recipe: str | Recipe,
    device: DeviceName = "cpu",
    protocol: ProtocolName = "study",
) -> "QuantizedModel":
    """Loads a Whisper model and quantizes it; the result transcribes and can be saved.

    model: a name such as "base", or a folder. recipe: a name such as "hqq-int4-g64", or a Recipe.
    protocol: only matters for recipes that calibrate, and for "corrected", which keeps the output
    projection tied; how to decode is said in `transcribe(..., protocol=...)`.

    Raises RecipeError for an unknown recipe, RecipeUnsupported or LibraryMissing for one that
    cannot run here, ModelError for weights that cannot be found or used.
    """
    from whisperq_core.quantize import quantized_model

    return quantized_model.quantize(model, recipe, device, protocol)


def load(folder: str | Path) -> "QuantizedModel":
    """A model that `save` or `whisperq export` wrote; no fp32 weights are needed.

    Raises ExportError for a folder that holds no such model, or one that was cut or altered.
    """
    from whisperq_core.quantize import quantized_model

    return quantized_model.load(folder)


def evaluate(
    model: str,
    recipes: Sequence[str | Recipe],
    eval_set: str = "quick-look",
    *,
    protocol: ProtocolName = "study",
    batch_size: int | None = None,
    speed: bool = False,
    divergence: bool = False,
    device: DeviceName = "cpu",
    threads: int = 0,
    progress: Callable[[str, int, int], None] | None = None,
) -> Results:
    """Measures each recipe on an evaluation set; what is stored already is reused.

    eval_set: a shipped set, one of your own, a downloaded LibriSpeech split, or a folder.
    batch_size: utterances per batch; None is the protocol's own. speed: also times each recipe
    against fp32 on the quick look. divergence: also measures how far its predictions are from
    fp32's, which shows losses too small for a WER. threads: 0 is all cores. progress: called with a
    label, pieces done and pieces in all. An interrupted call resumes where it was.

    Raises RecipeError, ModelError or EvalSetError before anything runs; results are kept in the
    cache (WHISPERQ_CACHE).
    """
    from whisperq_core.evaluate import requests, runner
    from whisperq_core.evaluate.store import Store
    from whisperq_core.quantize.recipes import recipe as recipe_named
    from whisperq_core.serve.user_sets import UserSets
    from whisperq_core.whisper.protocols import SHORT_NAMES, with_batch_size

    store = Store()
    planned = requests.requests_for(
        [model],
        [recipe_named(one) if isinstance(one, str) else one for one in recipes],
        [UserSets(store.root).path_of(eval_set)],
        speed=speed,
        divergence=divergence,
        protocol=with_batch_size(SHORT_NAMES[protocol], batch_size),
        device=device,
        threads=threads,
    )

    def report(request: requests.Request, done: int, total: int) -> None:
        if progress:
            progress(request.label, done, total)

    return Results(runner.run_all(planned, store, report))


def results() -> Results:
    """Every stored result of the cache (WHISPERQ_CACHE), oldest first."""
    from whisperq_core.evaluate.store import Store

    return Results(Store().runs())


def merge(location: str | Path) -> "MergeReport":
    """Adds results that were measured elsewhere to the cache, each checked first.

    location: a cache folder, a folder of result files, or the URL of one. Nothing that is here is
    changed. The report says what was added, and why a file was refused.

    Raises InputError where there are no results, StoreError where they cannot be reached.
    """
    from whisperq_core.evaluate import merging
    from whisperq_core.evaluate.store import Store

    return merging.merge(str(location), Store())


def advise(
    *,
    max_mb: float | None = None,
    max_memory_mb: float | None = None,
    max_time: float | None = 1.0,
    max_rtf: float | None = None,
    max_rise: float = 0.5,
    confidence: float = 0.95,
    models: Sequence[str] = ("base",),
    speech: str = "all",
    priority: "Priority" = "smallest",
    protocols: Sequence[ProtocolName] = (),
    device: DeviceName = "cpu",
) -> "Recommendation":
    """The configuration that meets these limits, and how strong the evidence is.

    The result prints as text; `configuration` and `advice` have it as data. A configuration is a
    model with a recipe and a protocol.

    max_mb: size. max_memory_mb: peak memory. max_time: latency relative to fp32 under the Study
    protocol; 1 is as fast, None any. max_rtf: real-time factor on the machine measured. max_rise:
    increase of WER over that fp32, in points. confidence: that WER rises by less; from 0.95 on,
    corrected for everything that was compared. speech: "all" English sets, "clean", "hard", or the
    name of an evaluation set. protocols: none are any.

    Raises:
        InputError: limits that nothing can meet.
        ModelError: a model without results that there is not.
    """
    from whisperq_core.analyze import advisor
    from whisperq_core.analyze.user_requirements import Requirements
    from whisperq_core.evaluate.store import Store
    from whisperq_core.whisper import model_sources
    from whisperq_core.whisper.protocols import SHORT_NAMES

    limits = Requirements(
        device=device,
        max_weights_bytes=None if max_mb is None else round(max_mb * 1e6),
        max_memory_bytes=None if max_memory_mb is None else round(max_memory_mb * 1e6),
        max_rtf_ratio=max_time,
        max_rtf=max_rtf,
        max_wer_rise_points=max_rise,
        confidence=confidence,
        speech=speech,
        models=tuple(models),
        protocols=tuple(SHORT_NAMES[name].name for name in protocols),
        priority=priority,
    )
    store = Store()
    runs = store.runs()
    for name in {*models} - {run.model for run in runs}:
        model_sources.find(name)
    return Recommendation(advisor.advise(limits, runs, store.derived))
