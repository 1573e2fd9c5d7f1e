"""Results that come with the project, for tests that need real transcripts."""

from whisperq_core.evaluate.records import AccuracyRun
from whisperq_core.evaluate.store import Store
from whisperq_core.settings import SHIPPED_CACHE
from whisperq_core.whisper.protocols import STUDY


def runs_of(model: str) -> dict[str, AccuracyRun]:
    """The model's results on the test-other excerpt by the study's protocol, by recipe."""
    return {
        run.spec.recipe.name: run
        for run in Store(SHIPPED_CACHE).runs()
        if isinstance(run, AccuracyRun)
        and (run.model, run.eval_set) == (model, "test-other-excerpt")
        and run.spec.protocol.name == STUDY.name
    }
