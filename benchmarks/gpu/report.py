"""The results of `python -m benchmarks.gpu` as one page: `report.md` in their folder."""

import sys
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.gpu.measure import DONE, PROFILES, RECIPES, STATUS, rows
from whisperq_core.evaluate.records import AccuracyRun, DivergenceRun, Run, SpeedRun
from whisperq_core.evaluate.store import Store
from whisperq_core.whisper.protocols import batch_size_of, short_name

_HEADER = (
    *("recipe : protocol", "size, MB", "WER, %", "transcripts as fp32's", "divergence, mnat"),
    *("tokens changed, %", "launches a token", "share of time in kernels, %"),
)


def write(folder: Path) -> str:
    """Writes the page and returns its text."""
    runs = Store(folder).runs()
    parts = [_machine(runs), _table(folder, runs), _times(runs), _not_measured(folder)]
    text = "\n\n".join(part for part in parts if part) + "\n"
    (folder / "report.md").write_text(text, encoding="utf-8")
    return text


def _machine(runs: list[Run]) -> str:
    """Where it was measured, and with which libraries."""
    if not runs:
        return "Nothing was measured."
    last = runs[-1]
    versions = {name: version for run in runs for name, version in run.spec.versions.items()}
    listed = ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))
    return f"{last.model} on {last.machine_kind}; Python {last.machine.python}, {listed}"


def _table(folder: Path, runs: list[Run]) -> str:
    """Accuracy, divergence and launches of each recipe under each protocol."""
    profiles = {(p["recipe"], p["protocol"]): p for p in rows(folder / PROFILES)}
    divergences = {r.spec.recipe.name: r for r in runs if isinstance(r, DivergenceRun)}
    accuracy = {
        (r.spec.protocol.name, r.spec.recipe.name): r for r in runs if isinstance(r, AccuracyRun)
    }
    lines = []
    for (protocol, name), run in sorted(accuracy.items(), key=lambda item: _order(item[0])):
        fp32 = accuracy.get((protocol, "fp32"))
        cells = [
            f"{name} : {short_name(protocol)}",
            f"{run.weights_bytes / 1e6:.0f}",
            "–" if run.words.rate is None else f"{run.words.rate:.2f}",
            _same_transcripts(run, fp32) if fp32 else "–",
            *_divergence_cells(divergences.get(name)),
            *_profile_cells(profiles.get((name, protocol))),
        ]
        lines.append(cells)
    return _markdown(_HEADER, lines)


def _order(key: tuple[str, str]) -> tuple[str, int]:
    protocol, name = key
    return protocol, RECIPES.index(name) if name in RECIPES else len(RECIPES)


def _same_transcripts(run: AccuracyRun, fp32: AccuracyRun) -> str:
    pairs = list(zip(run.by_id, fp32.by_id, strict=True))
    return f"{sum(a.hypothesis == b.hypothesis for a, b in pairs)} of {len(pairs)}"


def _divergence_cells(run: DivergenceRun | None) -> tuple[str, str]:
    if run is None:
        return "–", "–"
    return f"{1000 * run.sums.nats_per_token:.3g}", f"{100 * run.sums.changed_share:.1f}"


def _profile_cells(profile: dict[str, Any] | None) -> tuple[str, str]:
    if profile is None or not profile["tokens"]:
        return "–", "–"
    launches = f"{profile['launches'] / profile['tokens']:.1f}"
    busy = profile["device_s"]
    return launches, "–" if busy is None else f"{100 * busy / profile['wall_s']:.0f}"


def _times(runs: list[Run]) -> str:
    """Time relative to fp32's and to bf16's, and memory, of each batch size."""
    speeds = [run for run in runs if isinstance(run, SpeedRun)]
    by_key = {(_batches(run), run.spec.recipe.name): run for run in speeds}
    lines = []
    for (batches, name), run in sorted(by_key.items(), key=lambda item: _order_of_times(item[0])):
        bf16 = by_key.get((batches, "bf16"))
        relative = median(run.ratios())
        memory = run.peak_memory_bytes
        lines.append(
            [
                f"{name} : {batches[0]}",
                str(batches[1]),
                f"{median(run.rtfs()):.5f}",
                f"{relative:.3f} ({min(run.ratios()):.3f} to {max(run.ratios()):.3f})",
                f"{relative / median(bf16.ratios()):.3f}" if bf16 else "–",
                "–" if memory is None else f"{memory / 1e6:.0f}",
            ]
        )
    header = ("recipe : protocol", "batch", "RTF", "× fp32", "× bf16", "peak memory, MB")
    return _markdown(header, lines)


def _batches(run: SpeedRun) -> tuple[str, int]:
    """The short name of the protocol, and the size of its batches."""
    protocol = run.spec.protocol
    return short_name(protocol.name), batch_size_of(protocol) or protocol.batch_size


def _order_of_times(key: tuple[tuple[str, int], str]) -> tuple[Any, ...]:
    (protocol, size), name = key
    return protocol, size, RECIPES.index(name) if name in RECIPES else len(RECIPES)


def _not_measured(folder: Path) -> str:
    """Recipes that were refused, failed, or not reached, with the reason."""
    last = {row["recipe"]: row for row in rows(folder / STATUS)}
    lines = [
        f"- {name}: {row['state']}. {row.get('reason', '')}"
        for name, row in last.items()
        if row["state"] != DONE
    ]
    return "Not measured, or not all of it:\n\n" + "\n".join(lines) if lines else ""


def _markdown(header: tuple[str, ...], lines: list[list[str]]) -> str:
    if not lines:
        return ""
    table = [list(header), ["---"] * len(header), *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in table)


if __name__ == "__main__":
    print(write(Path(sys.argv[1])))
