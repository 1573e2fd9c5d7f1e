"""The code transcribes today what the shipped records say: one batch of one record a backend."""

import pytest

from whisperq_core.evaluate.pieces import RunPieces
from whisperq_core.evaluate.prepared_model import PreparedModel
from whisperq_core.evaluate.records import AccuracyRun
from whisperq_core.evaluate.requests import Request
from whisperq_core.evaluate.resolution import resolve
from whisperq_core.evaluate.store import Store
from whisperq_core.machine import this_machine
from whisperq_core.quantize import backends
from whisperq_core.quantize.backends import BACKENDS
from whisperq_core.scoring import error_rates
from whisperq_core.settings import PROJECT
from whisperq_core.whisper.protocols import STUDY

SHIPPED = Store(PROJECT / "cache")
# No ggml file comes with WhisperQ, nor from where its other weights come.
WITHOUT_RECORD = {"whisper.cpp"}
# A CPU with other kernels, or another number of threads, rounds differently, which changes a word
# now and then; the shortest batch has 37. On the CPU of the record every letter has to be the same.
MAX_WER_PCT_ELSEWHERE = 20.0


def shipped_run(backend: str) -> AccuracyRun:
    """The newest record of the backend that today's code, libraries and speech would reuse."""
    for run in reversed(SHIPPED.runs()):
        if (
            isinstance(run, AccuracyRun)
            and run.spec.recipe.backend == backend
            and run.spec.protocol == STUDY
            and (run.model, run.eval_set) == ("tiny.en", "test-clean-excerpt")
            and run.words.rate < 50  # a recipe that garbles everything shows nothing
            and backends.unavailable_reason(run.spec.recipe, "cpu") is None
        ):
            return run
    raise AssertionError(f"There is no shipped record of {backend}.")


@pytest.mark.slow
@pytest.mark.model
@pytest.mark.usefixtures("emulated_bf16")  # as on the CPUs of the records
@pytest.mark.parametrize("backend", sorted(BACKENDS.keys() - WITHOUT_RECORD))
def test_the_shortest_batch_is_transcribed_as_it_is_stored(backend, store, opened_runtimes):
    run = shipped_run(backend)
    spec = run.spec
    request = Request(
        run.model, spec.recipe, run.eval_set, threads=spec.threads, kernels=spec.kernels
    )
    resolved = resolve(request)
    assert resolved.key == run.key, "Other libraries or code: run the shipped results again."
    batch = min(
        range(len(resolved.batches)), key=lambda i: sum(u.duration_s for u in resolved.batches[i])
    )
    model = PreparedModel(resolved, RunPieces(store, resolved.key, request.label, 1))
    shared = spec.recipe.has_own_runtime and spec.threads == opened_runtimes.threads
    runtime = opened_runtimes[spec.recipe.name].runtime if shared else model.runtime
    hypotheses = model.transcribe(runtime, batch).texts
    stored = {u.id: u.hypothesis for u in run.utterances}
    if run.machine.cpu == this_machine().cpu:
        assert list(hypotheses) == [stored[u.id] for u in resolved.batches[batch]]
    counts = error_rates.total(
        error_rates.score(stored[u.id], text, u.language).words
        for u, text in zip(resolved.batches[batch], hypotheses, strict=True)
    )
    assert counts.rate <= MAX_WER_PCT_ELSEWHERE
