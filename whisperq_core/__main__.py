"""The command line: `python -m whisperq_core …`, over the same functions as the pages."""

import argparse
import logging
import os
import sys
import time
import warnings
from collections import Counter
from pathlib import Path

from whisperq_core.analyze import advisor, paired_comparisons, results_table
from whisperq_core.analyze.requirements import SPEECH, Needs
from whisperq_core.analyze.significance import MARGIN
from whisperq_core.errors import StoreError, WhisperQError
from whisperq_core.evaluate import history, records
from whisperq_core.evaluate.runner import (
    Planned,
    plan,
    requests_for,
    rescore,
    run,
    work_of,
)
from whisperq_core.evaluate.sizes import measure
from whisperq_core.evaluate.store import Store
from whisperq_core.present import report, report_sections
from whisperq_core.quantize import (
    backends,
    model_export,
    pipeline,
    recipes,
    sensitivity_measurement,
)
from whisperq_core.serve import cluster, diagnostics
from whisperq_core.serve.job_queue import DONE, Jobs
from whisperq_core.serve.recording_transcription import AUTO, TranscriptionConfig, transcribe_file
from whisperq_core.serve.user_sets import OwnSets
from whisperq_core.speech import evaluation_sets
from whisperq_core.study import claims, evidence
from whisperq_core.whisper import models, protocols
from whisperq_core.whisper.protocols import SHORT_NAMES

_LOOK_EVERY_S = 0.5


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m whisperq_core", description=__doc__)
    parser.add_argument("--cache", help="folder of results (default: cache/ beside the app)")
    parser.add_argument(
        "--results",
        metavar="URL",
        help="where results lie instead, a folder or s3://…, gs://… (default: $WHISPERQ_RESULTS)",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    run_command = commands.add_parser("run", help="evaluate models × recipes × sets")
    run_command.add_argument("--models", type=_names, default=["base"], metavar="A,B")
    run_command.add_argument(
        "--recipes",
        type=_names,
        default=["fp32", "torch-int8"],
        metavar="A,B",
        help="recipe names, or “all” for every recipe this device and protocol can run",
    )
    run_command.add_argument(
        "--sets",
        type=_names,
        default=["quick-look"],
        metavar="A,B",
        help="shipped sets, your own, test-clean or test-other once downloaded, or folders",
    )
    run_command.add_argument("--protocol", default="study", choices=list(SHORT_NAMES))
    run_command.add_argument("--device", default="cpu", choices=["cpu", "cuda", "mps"])
    run_command.add_argument("--threads", type=int, default=0, help="default: all cores")
    run_command.add_argument("--only", choices=["accuracy", "speed"], help="one measurement only")
    run_command.add_argument(
        "--scheduler",
        metavar="ADDRESS",
        help="a Dask scheduler whose workers do it: tls://host:8786, or the file it writes"
        " (default: $WHISPERQ_SCHEDULER, else this process)",
    )
    run_command.add_argument(
        "--tls", type=Path, metavar="FOLDER", help="the cluster's certificate (or $WHISPERQ_TLS)"
    )
    run_command.add_argument("--plan", action="store_true", help="say what would run, and stop")
    commands.add_parser("results", help="the table of stored results")
    commands.add_parser("history", help="who ran what on this machine, when, and for how long")
    report_command = commands.add_parser(
        "report", help="stored results as one file for people who decide"
    )
    report_command.add_argument(
        "--out",
        type=Path,
        default=Path("report.html"),
        metavar="FILE",
        help="ends in .html (opens without a network, prints to PDF), .csv or .json",
    )
    for what in ("models", "sets", "recipes"):
        report_command.add_argument(
            f"--{what}", type=_names, default=[], metavar="A,B", help="default: all with results"
        )
    report_command.add_argument("--protocol", choices=list(SHORT_NAMES), help="default: all")
    report_command.add_argument("--baseline", default="fp32", help="what all are compared with")
    report_command.add_argument(
        "--margin", type=float, default=MARGIN, help="points of WER one may lose and be no worse"
    )
    claims_command = commands.add_parser(
        "claims", help="the study's claims, and what the stored results say of each"
    )
    claims_command.add_argument("--verdict", choices=list(evidence.VERDICTS), help="only these")
    sizes = commands.add_parser("sizes", help="sizes of quantized models, on random weights")
    sizes.add_argument("--models", type=_names, default=["tiny", "base", "small"], metavar="A,B")
    sizes.add_argument("--recipes", type=_names, default=["all"], metavar="A,B")
    sizes.add_argument("--protocol", default="study", choices=list(SHORT_NAMES))
    layers = commands.add_parser(
        "sensitivity", help="what each layer loses when it alone is quantized, for mixed recipes"
    )
    layers.add_argument("--models", type=_names, default=["base"], metavar="A,B")
    advise_command = commands.add_parser("advise", help="which recipe meets your needs")
    advise_command.add_argument("--models", type=_names, default=["base"], metavar="A,B")
    advise_command.add_argument("--device", default="cpu", choices=["cpu", "cuda", "mps"])
    advise_command.add_argument("--max-mb", type=float, help="largest size")
    advise_command.add_argument("--max-time", type=float, help="slowest time, over fp32's")
    advise_command.add_argument("--max-rtf", type=float, help="slowest time, over the audio's")
    advise_command.add_argument(
        "--max-rise", type=float, default=MARGIN, help="points of WER it may lose to fp32"
    )
    advise_command.add_argument("--protocol", default="study", choices=list(SHORT_NAMES))
    advise_command.add_argument("--speech", default="hard", choices=list(SPEECH))
    advise_command.add_argument("--priority", default="smallest", choices=["smallest", "fastest"])
    compare_command = commands.add_parser(
        "compare", help="two stored runs of the same speech: where the second's WER stands"
    )
    compare_command.add_argument("baseline", metavar="KEY", help="first digits of a record's key")
    compare_command.add_argument("candidate", metavar="KEY")
    compare_command.add_argument("--margin", type=float, default=MARGIN, help="points of WER")
    export_command = commands.add_parser(
        "export", help="a quantized model as a folder, which loads without the fp32 weights"
    )
    export_command.add_argument("--model", default="base")
    export_command.add_argument("--recipe", required=True)
    export_command.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    export_command.add_argument("--protocol", default="study", choices=list(SHORT_NAMES))
    export_command.add_argument("--device", default="cpu", choices=["cpu", "cuda", "mps"])
    transcribe_command = commands.add_parser(
        "transcribe", help="recordings, heard by several recipes side by side"
    )
    transcribe_command.add_argument("files", nargs="+", type=Path, metavar="FILE")
    transcribe_command.add_argument("--model", default="base")
    transcribe_command.add_argument("--recipes", type=_names, default=["fp32"], metavar="A,B")
    transcribe_command.add_argument("--language", default=AUTO, help="a code; else it is detected")
    transcribe_command.add_argument(
        "--task", default="transcribe", choices=["transcribe", "translate"]
    )
    transcribe_command.add_argument("--words", action="store_true", help="when each word is said")
    certificate = commands.add_parser(
        "certificate",
        help="what lets the machines of a cluster in, and nobody else",
    )
    certificate.add_argument("folder", type=Path, metavar="FOLDER")
    commands.add_parser("machine", help="what this machine has, and what is missing")
    commands.add_parser("rescore", help="score stored transcripts again; runs no model")
    commands.add_parser("recipes", help="the recipes, and where each runs")
    commands.add_parser("models", help="model names, and which are here")
    commands.add_parser("sets", help="the shipped evaluation sets, and your own")
    download = commands.add_parser("download", help="fetch a LibriSpeech split from OpenSLR")
    download.add_argument("split", choices=["test-clean", "test-other"])
    return parser


def _recipes(names: list[str], device: str, protocol: protocols.Protocol) -> list[recipes.Recipe]:
    """The recipes of these names; “all” leaves out what the device or the protocol refuses."""
    if names != ["all"]:
        return [recipes.recipe(name) for name in names]
    every = recipes.CATALOGUE.values()
    return [recipe for recipe in every if pipeline.reason_against(recipe, protocol, device) is None]


def _run(arguments: argparse.Namespace, store: Store) -> int:
    protocol = SHORT_NAMES[arguments.protocol]
    chosen = _recipes(arguments.recipes, arguments.device, protocol)
    requests = requests_for(
        arguments.models,
        chosen,
        [OwnSets(store.root).path_of(name) for name in arguments.sets],
        speed=arguments.only != "accuracy",
        device=arguments.device,
        threads=arguments.threads,
        protocol=protocol,
    )
    if arguments.only == "speed":
        requests = [request for request in requests if request.measures == "speed"]
    for name in arguments.models:
        models.find(name)
    elsewhere = cluster.from_environment()
    if arguments.scheduler:
        tls = arguments.tls or (elsewhere.tls if elsewhere else None)
        elsewhere = cluster.Cluster(arguments.scheduler, tls)
    queue = Jobs(store, elsewhere=elsewhere) if elsewhere else None
    planned = queue.plan(requests) if queue else plan(requests, store)
    heads = [f"[{n}/{len(planned)}] {item.request.label}" for n, item in enumerate(planned, 1)]
    todo = []
    for item, head in zip(planned, heads, strict=True):
        if item.status == "refused":
            print(f"{head}: refused. {item.reason}")
        elif arguments.plan:
            print(f"{head}: {item.status}" + f", about {item.estimate_s:.0f} s" * (not item.key))
        else:
            todo.append((item, head))
    if queue:
        return _run_elsewhere(queue, todo)
    return 0 if all([_run_one(item, store, head) for item, head in todo]) else 1


def _run_elsewhere(queue: Jobs, todo: list[tuple[Planned, str]]) -> int:
    """The evaluations of a grid on a cluster's workers; says each as it ends."""
    # What becomes of a job is said here, in a sentence.
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    start, failed = time.perf_counter(), 0
    for item, head in todo:
        if item.status == "cached":
            print(f"{head}: {_figures(queue.store.get(item.key))} [cached]", flush=True)
    heads = {id(item): head for item, head in todo}
    waiting = queue.evaluate([item for item, _ in todo])
    try:
        while waiting:
            time.sleep(_LOOK_EVERY_S)
            queue.all()
            for job in [job for job in waiting if job.is_over]:
                waiting.remove(job)
                head, took_s = heads[id(job.planned)], time.perf_counter() - start
                if job.status == DONE:
                    figures = _figures(queue.store.get(job.value))
                    print(f"{head}: {figures} [{took_s:.0f} s since the start]", flush=True)
                else:
                    failed += 1
                    print(f"{head}: {job.status}. {job.message}", file=sys.stderr)
    except KeyboardInterrupt:
        for job in waiting:
            queue.stop(job)
        raise
    finally:
        queue.close()
    return 1 if failed else 0


def _run_one(item: Planned, store: Store, head: str) -> bool:
    start = time.perf_counter()

    def progress(done: int, total: int) -> None:
        if sys.stderr.isatty():
            print(f"\r{head}: {done}/{total} ", end="", file=sys.stderr, flush=True)

    try:
        result = _run_and_record(item, store, progress)
    except WhisperQError as error:
        print(f"{head}: failed. {error}", file=sys.stderr)
        return False
    took = time.perf_counter() - start
    print(f"{head}: {_figures(result)} [{took:.0f} s]", flush=True)
    return True


def _figures(result: records.AccuracyRun | records.SpeedRun) -> str:
    if result.measures == "accuracy":
        figures = f"WER {result.words.rate:.2f}%, CER {result.characters.rate:.2f}%"
        figures += f", {result.loops} loops" if result.loops else ""
        figures += f", {result.fallbacks} fallbacks" if result.fallbacks else ""
        figures += f", RTF {result.rtf:.3f}" if result.rtf else ""
    else:
        ratios = sorted(result.ratios())
        figures = f"{ratios[len(ratios) // 2]:.2f} of fp32's time"
        figures += f" ({ratios[0]:.2f} to {ratios[-1]:.2f})"
    return f"{figures}, −{result.size_reduction_pct:.1f}% size"


def _run_and_record(
    item: Planned, store: Store, progress
) -> records.AccuracyRun | records.SpeedRun:
    if item.status == "cached":
        return run(item.request, store, progress)
    with history.recorded(store.root, work_of(item.request)) as note:
        result = run(item.request, store, progress)
        note.key = result.key
    return result


def _results(store: Store) -> int:
    frame = results_table.rows(store.runs())
    if frame.empty:
        print("No results yet. Start with: python -m whisperq_core run")
        return 0
    columns = ["model", "recipe", "set", "protocol", "wer_pct", "cer_pct", "loops", "rtf"]
    columns += ["rtf_ratio", "weights_bytes", "size_reduction_pct"]
    print(frame[columns].to_string(index=False, float_format=lambda value: f"{value:.3f}"))
    return 0


def _transcribe(arguments: argparse.Namespace) -> int:
    chosen = [recipes.recipe(name) for name in arguments.recipes]
    for recipe in chosen:
        listener = TranscriptionConfig(arguments.model, recipe, arguments.language, arguments.task)
        for file in arguments.files:
            heard = transcribe_file(file, listener)
            print(f"{file.name} · {recipe.name} · {heard.language} · RTF {heard.rtf:.2f}")
            print(heard.text)
            for word in heard.words if arguments.words else ():
                print(f"{word.start_s:8.2f} s  {word.text}")
    return 0


def _report(arguments: argparse.Namespace, store: Store) -> int:
    protocol = arguments.protocol
    selected = report_sections.select(
        store.runs(),
        models=arguments.models,
        sets=arguments.sets,
        recipes=[] if arguments.recipes == ["all"] else arguments.recipes,
        protocols=[SHORT_NAMES[protocol].name] if protocol else [],
        baseline=arguments.baseline,
    )
    content = report.as_file(
        selected,
        arguments.out.suffix.lower(),
        date=records.now(),
        baseline=arguments.baseline,
        margin=arguments.margin,
    )
    try:
        arguments.out.write_bytes(content)
    except OSError as error:
        raise StoreError(f"{arguments.out} cannot be written ({error.strerror}).") from error
    print(f"{arguments.out}: {len(content) / 1e3:.0f} kB")
    return 0


def _claims(store: Store, wanted: str | None) -> int:
    judgements = claims.judge(store.runs())
    for judgement in judgements:
        if wanted in (None, judgement.verdict):
            _print_claim(judgement)
    counts = Counter(judgement.verdict for judgement in judgements)
    summary = ", ".join(f"{counts[verdict]} {verdict}" for verdict in evidence.VERDICTS)
    print(f"{summary} of {len(judgements)} claims")
    return 0


def _print_claim(judgement: claims.Judgement) -> None:
    on = f" on {', '.join(judgement.rests_on)}" if judgement.rests_on else ""
    print(f"{judgement.claim.id}: {judgement.verdict.upper()}{on}")
    print(f"  {judgement.claim.wording} ({judgement.claim.place})")
    for finding in judgement.findings:
        for part in finding.parts:
            if part.effect is not None:
                where = f"{part.model}, {part.protocol}"
                print(f"    {where}: {part.question}: {part.shown} → {part.verdict}")
                print(f"      {part.sample}")
    if judgement.commands:
        why = f" ({judgement.why_not})" if judgement.why_not else ""
        print(f"    not measured here{why}; run:")
        for command in judgement.commands:
            print(f"      {command}")
    print()


def _compare(arguments: argparse.Namespace, store: Store) -> int:
    heard = [one for one in store.runs() if one.measures == "accuracy"]
    pair = [_by_key(heard, prefix) for prefix in (arguments.baseline, arguments.candidate)]
    for one in pair:
        found = paired_comparisons.estimate(one)
        print(
            f"{one.slug}, {one.spec.protocol.name}: WER {found.value:.2f}%"
            f" ({found.low:.2f} to {found.high:.2f}), {one.loops} loops"
        )
    compared = paired_comparisons.compare_runs(*pair, margin=arguments.margin)
    print(paired_comparisons.in_words(compared, pair[0].spec.recipe.name, pair[0].minutes))
    return 0


def _by_key(runs: list, prefix: str) -> records.AccuracyRun:
    """The one run whose key starts so; raises StoreError where there is none or several."""
    found = [run for run in runs if run.key.startswith(prefix)]
    if len(found) != 1:
        count = "No stored run has" if not found else f"{len(found)} stored runs have"
        raise StoreError(f"{count} a key that starts with {prefix}. Keys end the files' names.")
    return found[0]


def _sizes(arguments: argparse.Namespace, store: Store) -> int:
    protocol = SHORT_NAMES[arguments.protocol]
    chosen = _recipes(arguments.recipes, "cpu", protocol)
    if arguments.recipes == ["all"]:  # other runtimes want a whole model, with real weights
        chosen = [recipe for recipe in chosen if not recipe.has_own_runtime]
    for model in arguments.models:
        for recipe in chosen:
            found = measure(model, recipe, store, protocol)
            print(
                f"{model:8s} {recipe.name:26s} {found.weights_bytes / 1e6:8.1f} MB"
                f"  −{found.size_reduction_pct:.1f}%",
                flush=True,
            )
    return 0


def _sensitivity(names: list[str], store: Store) -> int:
    def progress(done: int, total: int) -> None:
        if sys.stderr.isatty():
            print(f"\r{name}: {done}/{total} layers ", end="", file=sys.stderr, flush=True)

    for name in names:
        found = sensitivity_measurement.measure(name, store, progress)
        total = sum(layer.losses["int4"].nats for layer in found.layers)
        print(
            f"{name}: {len(found.layers)} layers, {found.tokens} tokens of {found.eval_set},"
            f" {found.measured_s:.0f} s"
        )
        for layer in sorted(found.layers, key=lambda one: -one.losses["int4"].nats)[:10]:
            loss = layer.losses["int4"]
            print(
                f"  {layer.module:44s} int4: {loss.nats:.5f} nats a token"
                f" ({100 * loss.nats / total:.0f}%)"
            )
        for check in found.checks:
            print(
                f"  {check.name:18s} −{check.smaller_pct:.1f}%: predicted"
                f" {check.predicted_nats:.4f}, measured {check.measured.nats:.4f} nats a token,"
                f" {100 * check.measured.changed:.1f}% of tokens changed"
            )
    return 0


def _advise(arguments: argparse.Namespace, store: Store) -> int:
    size = arguments.max_mb
    needs = Needs(
        device=arguments.device,
        max_weights_bytes=None if size is None else round(size * 1e6),
        max_rtf_ratio=arguments.max_time,
        max_rtf=arguments.max_rtf,
        max_wer_rise_points=arguments.max_rise,
        speech=arguments.speech,
        models=tuple(arguments.models),
        priority=arguments.priority,
        protocol=SHORT_NAMES[arguments.protocol].name,
    )
    print(advisor.as_text(advisor.advise(needs, store.runs())))
    return 0


def _export(arguments: argparse.Namespace, store: Store) -> int:
    folder, recipe = arguments.out, recipes.recipe(arguments.recipe)
    protocol = SHORT_NAMES[arguments.protocol]
    work = history.Work(
        kind=history.EXPORT,
        model=arguments.model,
        recipe=recipe.name,
        protocol=protocol.name,
        device=arguments.device,
    )
    with history.recorded(store.root, work):
        made = model_export.export(arguments.model, recipe, folder, arguments.device, protocol)
    size, promised = model_export.size_on_disk(folder), made.weights_bytes
    print(f"{folder}: {made.label}, for {made.device}, sha256 {model_export.digest(folder)}")
    print(
        f"{size / 1e6:.1f} MB of weights on disk, {promised / 1e6:.1f} MB promised"
        f" ({100 * (size / promised - 1):+.2f} %), fp32 {made.fp32_bytes / 1e6:.1f} MB"
    )
    print(
        "from whisperq_core.quantize import model_export;"
        f" model_export.load({str(folder)!r}).transcribe(…)"
    )
    return 0


def _download(split: str) -> int:
    def progress(done: int, total: int) -> None:
        print(f"\r{done / 1e6:.0f} of {total / 1e6:.0f} MB ", end="", file=sys.stderr, flush=True)

    found = evaluation_sets.download_librispeech(split, evaluation_sets.data_folder(), progress)
    print(f"\n{split}: {len(found.utterances)} utterances in {evaluation_sets.data_folder()}")
    return 0


def main(argv: list[str] | None = None) -> int:
    """Runs one command; returns the exit code. Errors are one sentence on standard error."""
    arguments = _parser().parse_args(argv)
    try:
        # The environment is the one place where settings live: workers inherit it.
        if arguments.cache:
            os.environ["WHISPERQ_CACHE"] = arguments.cache
        if arguments.results:
            os.environ["WHISPERQ_RESULTS"] = arguments.results
        store = Store()
        match arguments.command:
            case "run":
                return _run(arguments, store)
            case "results":
                return _results(store)
            case "certificate":
                cluster.make_certificate(arguments.folder)
                print(f"Copy {arguments.folder} to each machine of the cluster, and to none else.")
            case "machine":
                print(diagnostics.as_text(diagnostics.inventory(store.root)))
            case "history":
                print(history.as_text(history.read(store.root)))
            case "report":
                return _report(arguments, store)
            case "claims":
                return _claims(store, arguments.verdict)
            case "sizes":
                return _sizes(arguments, store)
            case "sensitivity":
                return _sensitivity(arguments.models, store)
            case "advise":
                return _advise(arguments, store)
            case "compare":
                return _compare(arguments, store)
            case "export":
                return _export(arguments, store)
            case "rescore":
                print(f"{rescore(store)} results changed")
            case "download":
                return _download(arguments.split)
            case "transcribe":
                return _transcribe(arguments)
            case "recipes":
                for recipe in recipes.CATALOGUE.values():
                    print(f"{recipe.name:26s} {recipe.description}")
                    for device in ("cpu", "cuda", "mps"):
                        if reason := backends.reason_against(recipe, device):
                            print(f"{'':26s}   not on {device}: {reason}")
            case "models":
                for name in models.NAMES:
                    here = models.find(name).is_here
                    print(f"{name:16s} {'here' if here else 'to be fetched from the hub'}")
            case "sets":
                for found in evaluation_sets.shipped().values():
                    print(f"{found.name:22s} {len(found.utterances):4d} utterances  {found.title}")
                own = OwnSets(store.root)
                for name in own.names():
                    print(f"{name:22s} {len(own.rows(name)):4d} utterances  your own recordings")
        return 0
    except WhisperQError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped; finished pieces are kept and the same command goes on.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    sys.exit(main())
