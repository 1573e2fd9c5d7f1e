"""The command line: `python -m whisperq_core …`, over the same functions as the pages."""

import argparse
import sys
import time
import warnings

from whisperq_core import backends, eval_sets, models, protocols, recipes, table
from whisperq_core.errors import WhisperQError
from whisperq_core.evaluate import default_threads, plan, requests_for, rescore, run
from whisperq_core.store import Store


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m whisperq_core", description=__doc__)
    parser.add_argument("--cache", help="folder of results (default: cache/ beside the app)")
    commands = parser.add_subparsers(dest="command", required=True)
    run_command = commands.add_parser("run", help="evaluate models × recipes × sets")
    run_command.add_argument("--models", type=_names, default=["base"], metavar="A,B")
    run_command.add_argument(
        "--recipes",
        type=_names,
        default=["fp32", "torch-int8"],
        metavar="A,B",
        help="recipe names, or “all” for every recipe this device can run",
    )
    run_command.add_argument(
        "--sets",
        type=_names,
        default=["quick-look"],
        metavar="A,B",
        help="shipped sets, test-clean or test-other once downloaded, or folders",
    )
    run_command.add_argument("--device", default="cpu", choices=["cpu", "cuda", "mps"])
    run_command.add_argument("--threads", type=int, default=0, help="default: all cores")
    run_command.add_argument("--only", choices=["accuracy", "speed"], help="one measurement only")
    run_command.add_argument("--plan", action="store_true", help="say what would run, and stop")
    commands.add_parser("results", help="the table of stored results")
    commands.add_parser("rescore", help="score stored transcripts again; runs no model")
    commands.add_parser("recipes", help="the recipes, and where each runs")
    commands.add_parser("models", help="model names, and which are here")
    commands.add_parser("sets", help="the shipped evaluation sets")
    download = commands.add_parser("download", help="fetch a LibriSpeech split from OpenSLR")
    download.add_argument("split", choices=["test-clean", "test-other"])
    return parser


def _run(arguments: argparse.Namespace, store: Store) -> int:
    names = arguments.recipes
    if names == ["all"]:
        chosen = [
            recipe
            for recipe in recipes.CATALOGUE.values()
            if backends.reason_against(recipe, arguments.device) is None
        ]
    else:
        chosen = [recipes.recipe(name) for name in names]
    requests = requests_for(
        arguments.models,
        chosen,
        arguments.sets,
        speed=arguments.only != "accuracy",
        device=arguments.device,
        threads=arguments.threads or default_threads(),
        protocol=protocols.STUDY,
    )
    if arguments.only == "speed":
        requests = [request for request in requests if request.measures == "speed"]
    for name in arguments.models:
        models.find(name)
    planned = plan(requests, store)
    failed = 0
    for number, item in enumerate(planned, 1):
        head = f"[{number}/{len(planned)}] {item.request.label}"
        if item.status == "refused":
            print(f"{head}: refused. {item.reason}")
        elif arguments.plan:
            print(f"{head}: {item.status}" + f", about {item.estimate_s:.0f} s" * (not item.key))
        else:
            failed += not _run_one(item, store, head)
    return 1 if failed else 0


def _run_one(item, store: Store, head: str) -> bool:
    start = time.perf_counter()

    def progress(done: int, total: int) -> None:
        if sys.stderr.isatty():
            print(f"\r{head}: {done}/{total} ", end="", file=sys.stderr, flush=True)

    try:
        result = run(item.request, store, progress)
    except WhisperQError as error:
        print(f"{head}: failed. {error}", file=sys.stderr)
        return False
    took = time.perf_counter() - start
    if result.measures == "accuracy":
        figures = f"WER {result.words.rate:.2f}%, CER {result.characters.rate:.2f}%"
        figures += f", {result.loops} loops" if result.loops else ""
        figures += f", RTF {result.rtf:.3f}" if result.rtf else ""
    else:
        ratios = sorted(result.ratios())
        figures = f"{ratios[len(ratios) // 2]:.2f} of fp32's time"
        figures += f" ({ratios[0]:.2f} to {ratios[-1]:.2f})"
    print(f"{head}: {figures}, −{result.size_reduction_pct:.1f}% size [{took:.0f} s]", flush=True)
    return True


def _results(store: Store) -> int:
    frame = table.rows(store.runs())
    if frame.empty:
        print("No results yet. Start with: python -m whisperq_core run")
        return 0
    columns = ["model", "recipe", "set", "wer_pct", "cer_pct", "loops", "rtf", "rtf_ratio"]
    columns += ["weights_bytes", "size_reduction_pct"]
    print(frame[columns].to_string(index=False, float_format=lambda value: f"{value:.3f}"))
    return 0


def _download(split: str) -> int:
    def progress(done: int, total: int) -> None:
        print(f"\r{done / 1e6:.0f} of {total / 1e6:.0f} MB ", end="", file=sys.stderr, flush=True)

    found = eval_sets.download_librispeech(split, eval_sets.DATA_FOLDER, progress)
    print(f"\n{split}: {len(found.utterances)} utterances in {eval_sets.DATA_FOLDER}")
    return 0


def main(argv: list[str] | None = None) -> int:
    """Runs one command; returns the exit code. Errors are one sentence on standard error."""
    arguments = _parser().parse_args(argv)
    store = Store(arguments.cache)
    try:
        match arguments.command:
            case "run":
                return _run(arguments, store)
            case "results":
                return _results(store)
            case "rescore":
                print(f"{rescore(store)} results changed")
            case "download":
                return _download(arguments.split)
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
                for found in eval_sets.shipped().values():
                    print(f"{found.name:22s} {len(found.utterances):4d} utterances  {found.title}")
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
