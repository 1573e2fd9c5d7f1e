"""What a report says: results that may stand in one table, and their answer in sentences."""

import shlex
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from whisperq_core.analyze import paired_comparisons, pareto_front, results_table
from whisperq_core.analyze.verdicts import MARGIN, Verdict
from whisperq_core.errors import EvalSetError, InputError
from whisperq_core.evaluate.records import AccuracyRun, SpeedRun
from whisperq_core.speech import evaluation_sets
from whisperq_core.whisper.protocols import STUDY, short_name

COMMAND = "python -m whisperq_core"


@dataclass(frozen=True)
class Section:
    """Results of one model, speech, protocol, device and machine; the newest of each recipe.

    runs: in the order of the frame's rows, by WER. frame: the columns of `results_table.rows` and
    of `pareto_front.with_verdicts`, and wer_without_loops_pct, machine and versions.
    baseline_machine: the machine of the baseline's run, where this section's machine has none.
    superseded: how many results newer ones of the same recipe replace. timed_elsewhere: how many
    recipes have their speed measured on another machine only.
    """

    runs: tuple[AccuracyRun, ...]
    frame: pd.DataFrame
    baseline: str
    margin: float
    baseline_machine: str | None
    superseded: int
    timed_elsewhere: int

    @property
    def newest(self) -> AccuracyRun:
        """The run measured last; what all runs share is read from it."""
        return max(self.runs, key=lambda run: run.created_at)

    @cached_property
    def eval_set(self) -> evaluation_sets.EvalSet | None:
        """The shipped set that this is, whatever it was called."""
        try:
            known = evaluation_sets.shipped_sets().values()
        except EvalSetError:
            return None
        digest = self.newest.spec.eval_set_digest
        return next((s for s in known if s.digest == digest), None)

    @property
    def title(self) -> str:
        """Model and speech."""
        run = self.newest
        return f"{run.model} on {self.eval_set.title if self.eval_set else run.eval_set}"

    @property
    def minutes(self) -> float:
        """Length of the speech."""
        return self.newest.minutes

    @property
    def speakers(self) -> int:
        """How many are known by name."""
        return len({u.speaker for u in self.newest.utterances} - {None})

    @property
    def command(self) -> str:
        """What measures these results again."""
        run = self.newest
        arguments = {
            "models": run.model,
            "recipes": ",".join(r.spec.recipe.name for r in self.runs),
            "sets": run.eval_set,
            "threads": str(run.spec.threads),
        }
        if run.spec.device != "cpu":
            arguments["device"] = run.spec.device
        if run.spec.protocol.name != STUDY.name:
            arguments["protocol"] = short_name(run.spec.protocol.name)
        return _command("run", arguments)

    @property
    def compared(self) -> pd.DataFrame:
        """The rows that have a verdict beside the baseline."""
        return self.frame[self.frame["verdict"].isin(tuple(Verdict))]

    @property
    def recommended(self) -> pd.Series | None:
        """The smallest that is decided to be no worse than the baseline; None where none is."""
        fine = self.compared[self.compared["verdict"].isin((Verdict.BETTER, Verdict.NO_WORSE))]
        return None if fine.empty else _smallest(fine)

    @property
    def closest_to_conclusion(self) -> pd.Series | None:
        """The undecided one that the least speech would decide; None where that is not known."""
        needed = self.compared[self.compared["verdict"] == Verdict.INCONCLUSIVE].dropna(
            subset=["minutes_needed"]
        )
        return None if needed.empty else needed.sort_values("minutes_needed").iloc[0]

    @cached_property
    def answer(self) -> list[str]:
        """What is decided, in two or three sentences."""
        return list(_answer(self))


def _command(name: str, arguments: dict[str, str]) -> str:
    parts = (f"--{option} {shlex.quote(value)}" for option, value in arguments.items())
    return " ".join((COMMAND, name, *parts))


def report_command(sections: Iterable[Section], suffix: str = ".html") -> str:
    """What writes a report of these sections again."""
    sections = list(sections)
    found = {
        "models": [s.newest.model for s in sections],
        "sets": [s.newest.eval_set for s in sections],
        "recipes": [run.spec.recipe.name for s in sections for run in s.runs],
    }
    arguments = {"out": f"report{suffix}"}
    arguments |= {option: ",".join(dict.fromkeys(names)) for option, names in found.items()}
    used = {s.newest.spec.protocol.name for s in sections}
    if len(used) == 1:
        arguments["protocol"] = short_name(used.pop())
    first = sections[0]
    arguments |= {"baseline": first.baseline, "margin": f"{first.margin:g}"}
    return _command("report", arguments)


def report_title(found: list[Section]) -> str:
    """What a report of these sections is called, where nobody names it."""
    models = join_unique(s.newest.model for s in found)
    names = {run.spec.recipe.name for s in found for run in s.runs} - {found[0].baseline}
    ways = f"{len(names)} {'recipe' if len(names) == 1 else 'recipes'}"
    return f"Quantizing Whisper {models}: {ways} beside {found[0].baseline}"


def join_unique(texts: Iterable[str]) -> str:
    """Distinct texts in their order, with commas."""
    return ", ".join(dict.fromkeys(texts))


def library_versions(found: list[Section]) -> dict[str, str]:
    """Libraries of all runs; where runs differ, all versions."""
    used: dict[str, list[str]] = {}
    for run in (run for s in found for run in s.runs):
        for name, version in run.spec.versions.items():
            used.setdefault(name, []).append(version)
    return {name: join_unique(sorted(versions)) for name, versions in sorted(used.items())}


def select_runs(
    runs: Iterable,
    models: Collection[str] = (),
    sets: Collection[str] = (),
    recipes: Collection[str] = (),
    protocols: Collection[str] = (),
    baseline: str = "fp32",
) -> list[AccuracyRun | SpeedRun]:
    """Runs of these models, sets, recipes and protocols (by name), and the baseline's; none is all.

    Raises InputError where a name has no result, or nothing has all of them.
    """
    runs = [run for run in runs if isinstance(run, AccuracyRun | SpeedRun)]
    accuracy = [run for run in runs if isinstance(run, AccuracyRun)]
    asked = (
        (models, {run.model for run in accuracy}),
        (sets, {run.eval_set for run in accuracy}),
        (recipes, {run.spec.recipe.name for run in accuracy}),
        (protocols, {run.spec.protocol.name for run in accuracy}),
    )
    unknown = [name for names, known in asked for name in names if name not in known]
    if unknown:
        raise InputError(
            f"There is no result of {', '.join(unknown)}. `{COMMAND} results` lists all there are."
        )

    def wanted(run: AccuracyRun | SpeedRun) -> bool:
        name = run.spec.recipe.name
        return (
            (not models or run.model in models)
            and (not recipes or name in recipes or name == baseline)
            and (not protocols or run.spec.protocol.name in protocols)
            and (not sets or run.eval_set in sets or isinstance(run, SpeedRun))
        )

    found = [run for run in runs if wanted(run)]
    if not any(isinstance(run, AccuracyRun) for run in found):
        raise InputError(f"No result matches. `{COMMAND} results` lists all there are.")
    return found


def build_sections(
    runs: Iterable[AccuracyRun | SpeedRun], baseline: str = "fp32", margin: float = MARGIN
) -> list[Section]:
    """The runs, each in its section, by model, set and protocol.

    Each run is compared with the baseline's newest of its machine, or of any machine where its own
    has none: transcripts do not depend on the processor.
    """
    runs = list(runs)
    accuracy = [run for run in runs if isinstance(run, AccuracyRun)]
    speed = [run for run in runs if isinstance(run, SpeedRun)]
    groups = defaultdict(list)
    for run in sorted(accuracy, key=lambda run: (run.created_at, run.key)):
        groups[paired_comparisons.condition(run), run.machine.kind].append(run)
    found = [_section(group, accuracy, speed, baseline, margin) for group in groups.values()]
    return sorted(
        found, key=lambda s: (s.title, s.newest.spec.protocol.name, s.newest.machine.kind)
    )


def _section(group, accuracy, speed, baseline: str, margin: float) -> Section:
    own = {run.spec.recipe.name: run for run in group}
    runs = {run.key: run for run in own.values()}
    machine = group[0].machine.kind
    pool, baseline_machine = list(runs.values()), None
    if baseline not in own:
        base = paired_comparisons.baseline_run(group[0], accuracy, baseline)
        if base:
            pool.append(base)
            baseline_machine = base.machine.kind
    frame = results_table.rows([*runs.values(), *(s for s in speed if s.machine.kind == machine)])
    anywhere = results_table.rows([*runs.values(), *speed])
    frame = pareto_front.with_verdicts(frame, pool, baseline, margin)
    frame = frame.sort_values(["wer_pct", "recipe"], kind="stable", ignore_index=True)
    ordered = tuple(runs[key] for key in frame["key"])
    frame = frame.assign(
        wer_without_loops_pct=[paired_comparisons.without_loops(run).value for run in ordered],
        protocol=[run.spec.protocol.name for run in ordered],
        machine=machine,
        versions=[" ".join(f"{k} {v}" for k, v in r.spec.versions.items()) for r in ordered],
    )
    return Section(
        runs=ordered,
        frame=frame,
        baseline=baseline,
        margin=margin,
        baseline_machine=baseline_machine,
        superseded=len(group) - len(runs),
        timed_elsewhere=int(anywhere["speed_key"].notna().sum() - frame["speed_key"].notna().sum()),
    )


def _answer(section: Section) -> Iterator[str]:
    frame, base = section.frame, section.baseline
    others = section.compared
    if others.empty:
        compared = (frame["verdict"] == pareto_front.NOT_COMPARED).any()
        where = "was not measured on this speech in this way" if compared else "alone was measured"
        yield f"Nothing is compared: {base} {where}."
        return
    fine = others[others["verdict"].isin((Verdict.BETTER, Verdict.NO_WORSE))]
    criterion = f"decided to be no worse than {base} by {section.margin:g} points of WER"
    if fine.empty:
        subject = "The one recipe is not" if len(others) == 1 else "No recipe is"
        yield f"{subject} {criterion}."
    else:
        yield from _first(fine, len(others), criterion)
    yield from _rest(section)


def _first(fine: pd.DataFrame, of: int, criterion: str) -> Iterator[str]:
    """The smallest and the fastest of the recipes that are decided to be no worse."""
    small = _smallest(fine)
    which = "The one recipe" if len(fine) == 1 else f"The smallest of the {len(fine)} recipes"
    yield f"{which} (of {of}) {criterion} is {small['recipe']}: {_facts(small)}."
    timed = fine.dropna(subset=["rtf_ratio"])
    if timed.empty:
        yield "Speed beside fp32 was not measured for any of them."
        return
    fast = timed.sort_values(["rtf_ratio", "weights_bytes", "recipe"]).iloc[0]
    times = (
        f"{fast['rtf_ratio']:.2f} × fp32's time"
        f" ({fast['rtf_ratio_low']:.2f} to {fast['rtf_ratio_high']:.2f} in repeated passes)"
    )
    slower = ", which is no faster than fp32" if fast["rtf_ratio_high"] >= 1 else ""
    them = "them" if len(timed) == len(fine) else "those that were timed"
    if fast["key"] != small["key"]:
        yield f"The fastest of {them} is {fast['recipe']}, at {times}{slower}: {_facts(fast)}."
    elif len(fine) == 1:
        yield f"It takes {times}{slower}."
    else:
        yield f"It is also the fastest of {them}, at {times}{slower}."


def _smallest(fine: pd.DataFrame) -> pd.Series:
    return fine.sort_values(["weights_bytes", "wer_pct", "recipe"]).iloc[0]


def _facts(row: pd.Series) -> str:
    smaller = row["size_reduction_pct"]
    size = f", {smaller:.0f} % smaller than fp32" if smaller >= 0.5 else ""
    return (
        f"{row['weights_bytes'] / 1e6:.0f} MB{size}, WER {row['wer_pct']:.2f} %"
        f" ({format_signed(row['difference_points'])} points, 95% interval"
        f" {format_signed(row['difference_low'])} to {format_signed(row['difference_high'])})"
        + ", calibrated on a tenth of this very speech"
        * (row["calibration"] == "evaluation-10%")
    )


def _rest(section: Section) -> Iterator[str]:
    """What is decided of the others, and what it would take to decide more."""
    others, near = section.compared, section.closest_to_conclusion
    worse, undecided = (
        int((others["verdict"] == v).sum()) for v in (Verdict.WORSE, Verdict.INCONCLUSIVE)
    )
    parts = []
    if worse:
        have = "has" if worse == 1 else "have"
        parts.append(f"{worse} {have} a decidedly higher WER than {section.baseline}")
    if undecided:
        parts.append(f"{undecided} {'is' if undecided == 1 else 'are'} undecided")
        if near is not None:
            parts[-1] += (
                f", and the nearest to a decision, {near['recipe']}, would need about"
                f" {near['minutes_needed']:.0f} minutes of such speech"
            )
    if parts:
        of = "recipes" if worse + undecided == len(others) else "others"
        yield f"Of the {of}, {'; '.join(parts)}."


def format_signed(value: float) -> str:
    """A difference with its sign, a minus that is a minus, and a dash where it is missing."""
    if pd.isna(value):
        return "–"
    shown = f"{value:+.2f}" if abs(value) < 100 else f"{value:+.0f}"
    return shown.replace("-", "−") if float(shown) else "0.00"
