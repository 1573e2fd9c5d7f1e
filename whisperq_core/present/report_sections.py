"""Sections of a report: results that can share a table, and the answer they give, in sentences."""

import shlex
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from whisperq_core.analyze import paired_comparisons, pareto_front, results_table
from whisperq_core.analyze.condition_effects import MEASURES, ConditionEffect, condition_effects
from whisperq_core.analyze.verdicts import MARGIN, Verdict
from whisperq_core.errors import InputError
from whisperq_core.evaluate.notes import Note
from whisperq_core.evaluate.records import AccuracyRun, DivergenceRun, Run, SpeedRun
from whisperq_core.machine import Machine
from whisperq_core.plurals import capitalized, counted
from whisperq_core.speech import evaluation_sets
from whisperq_core.whisper.protocols import STUDY, batch_size_of, short_name

COMMAND = "python -m whisperq_core"
# Why a section may leave open what the answer says.
ALONE = (
    "A section has the speech of one set only, so its intervals are wider than the answer's. Its"
    " baseline runs under the section's own protocol, the answer's under the Study protocol."
)


@dataclass(frozen=True)
class Selection:
    """Names of what a report lists besides the baseline; of a kind without names, everything.

    Sets under a condition, such as noise, are listed by themselves only where they are named.
    """

    models: tuple[str, ...] = ()
    sets: tuple[str, ...] = ()
    recipes: tuple[str, ...] = ()
    protocols: tuple[str, ...] = ()

    def matches(self, run: AccuracyRun, baseline: str) -> bool:
        """Whether the run is listed, with that recipe as the baseline."""
        recipe = run.spec.recipe.name
        return (
            (not self.models or run.model in self.models)
            and (run.eval_set in self.sets if self.sets else not run.condition)
            and (not self.recipes or recipe in self.recipes or recipe == baseline)
            and (not self.protocols or run.spec.protocol.name in self.protocols)
        )


EVERYTHING = Selection()


def effects_under_conditions(runs: Iterable[Run], selection: Selection) -> list[ConditionEffect]:
    """What conditions, such as noise, change in the cost of the selected models and recipes."""
    runs = list(runs)
    effects = [effect for measure in MEASURES for effect in condition_effects(runs, measure)]
    return [
        effect
        for effect in effects
        if (not selection.models or effect.model in selection.models)
        and (not selection.recipes or effect.recipe in selection.recipes)
    ]


@dataclass(frozen=True)
class Section:
    """Results of one model, speech, protocol, device and threads; the newest of each recipe.

    runs: in the order of the frame's rows, by the rate. frame: the columns of `results_table.rows`,
    of `pareto_front.with_verdicts`, and wer_without_loops_pct, cer_without_loops_pct, machine and
    versions.
    machine: where the speed of most recipes was measured, or else where most runs were made; all
    times are its. elsewhere: how many runs were made on other machines. superseded: how many
    results newer ones of the same recipe replace.
    timed_elsewhere: how many recipes have their speed measured on another machine only.
    compared_with: how many comparisons verdicts and intervals are corrected for, listed or not.
    """

    runs: tuple[AccuracyRun, ...]
    frame: pd.DataFrame
    baseline: str
    margin: float
    machine: Machine
    elsewhere: int
    superseded: int
    timed_elsewhere: int
    compared_with: int

    @property
    def newest(self) -> AccuracyRun:
        """The newest run, to read what all runs of the section share."""
        return max(self.runs, key=lambda run: run.created_at)

    @cached_property
    def eval_set(self) -> evaluation_sets.EvalSet | None:
        """The shipped evaluation set with this digest, under whatever name; None for others."""
        run = self.newest
        try:
            return evaluation_sets.shipped_with_digest(run.eval_set, run.spec.eval_set_digest)
        except InputError:
            return None

    @property
    def title(self) -> str:
        """Model and evaluation set."""
        return f"Whisper {self.newest.model} on {self.set_title}"

    @property
    def set_title(self) -> str:
        """The title of a shipped evaluation set, the name of any other."""
        return self.eval_set.title if self.eval_set else self.newest.eval_set

    @property
    def machine_text(self) -> str:
        """Processor, cores, device and threads."""
        spec, machine = self.newest.spec, self.machine
        cores, threads = counted(machine.cores, "core"), counted(spec.threads, "thread")
        return f"{machine.cpu}, {cores}; device: {spec.device}, {threads}"

    @property
    def minutes(self) -> float:
        """Length of the evaluation set's audio."""
        return self.newest.minutes

    @property
    def speakers(self) -> int:
        """How many speakers are known by name."""
        return len(set(self.newest.columns.speakers) - {None})

    @property
    def speakers_text(self) -> str:
        """How many speakers, in words."""
        return counted(self.speakers, "speaker") if self.speakers else "unknown speakers"

    @property
    def command(self) -> str:
        """The command that reproduces these results."""
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
        if size := batch_size_of(run.spec.protocol):
            arguments["batch-size"] = str(size)
        return _command("run", arguments)

    @cached_property
    def rate(self) -> str:
        """What verdicts and differences are of: WER, or CER where words have no spaces."""
        return results_table.compared_rate(self.frame)

    @property
    def compared(self) -> pd.DataFrame:
        """The rows that are compared with the baseline."""
        return self.frame[self.frame["verdict"].isin(tuple(Verdict))]

    @property
    def closest_to_conclusion(self) -> pd.Series | None:
        """The inconclusive one that needs the least audio for a conclusion; None if unknown."""
        needed = self.compared[self.compared["verdict"] == Verdict.INCONCLUSIVE].dropna(
            subset=["minutes_needed"]
        )
        return None if needed.empty else needed.sort_values("minutes_needed").iloc[0]

    @cached_property
    def answer(self) -> list[str]:
        """The result in two or three sentences."""
        return list(_answer(self))


def _command(name: str, arguments: dict[str, str]) -> str:
    parts = (f"--{option} {shlex.quote(value)}" for option, value in arguments.items())
    return " ".join((COMMAND, name, *parts))


def report_command(
    sections: Iterable[Section], selection: Selection = EVERYTHING, suffix: str = ".html"
) -> str:
    """The command that writes a report of these sections."""
    sections = list(sections)
    names = {
        "models": [s.newest.model for s in sections],
        "sets": [s.newest.eval_set for s in sections],
        "recipes": selection.recipes,
    }
    arguments = {"out": f"report{suffix}"}
    arguments |= {option: ",".join(dict.fromkeys(of)) for option, of in names.items() if of}
    protocols = {s.newest.spec.protocol.name for s in sections}
    if len(protocols) == 1:
        arguments["protocol"] = short_name(protocols.pop())
    first = sections[0]
    arguments |= {"baseline": first.baseline, "margin": f"{first.margin:g}"}
    return _command("report", arguments)


def notes_on(sections: Iterable[Section], notes: Iterable[Note]) -> list[Note]:
    """The notes on the runs of these sections."""
    listed = {run.key for section in sections for run in section.runs}
    return [note for note in notes if note.run in listed]


def report_title(sections: list[Section]) -> str:
    """The default title of a report of these sections."""
    models = join_unique(s.newest.model for s in sections)
    baseline = sections[0].baseline
    count = len({run.spec.recipe.name for s in sections for run in s.runs} - {baseline})
    if not count:
        return f"Whisper {models}: {baseline}"
    configurations = counted(count, "configuration")
    return f"Quantizing Whisper {models}: {configurations} compared with {baseline}"


def join_unique(texts: Iterable[str]) -> str:
    """Distinct texts in their order, with commas."""
    return ", ".join(dict.fromkeys(texts))


def library_versions(sections: list[Section]) -> dict[str, str]:
    """Version of each library, by name; several versions where runs differ."""
    used: dict[str, list[str]] = {}
    for run in (run for s in sections for run in s.runs):
        for name, version in run.spec.versions.items():
            used.setdefault(name, []).append(version)
    return {name: join_unique(sorted(versions)) for name, versions in sorted(used.items())}


def select_runs(
    runs: Iterable[Run], selection: Selection = EVERYTHING, baseline: str = "fp32"
) -> list[AccuracyRun]:
    """The accuracy runs that match, and the baseline's.

    Raises InputError where a name has no result, or no result matches.
    """
    accuracy = [run for run in runs if isinstance(run, AccuracyRun)]
    if not accuracy:
        raise InputError("There is no result to report. Run an evaluation first.")
    filters = (
        (selection.models, {run.model for run in accuracy}),
        (selection.sets, {run.eval_set for run in accuracy}),
        (selection.recipes, {run.spec.recipe.name for run in accuracy}),
        (selection.protocols, {run.spec.protocol.name for run in accuracy}),
    )
    unknown = [name for names, available in filters for name in names if name not in available]
    if unknown:
        raise InputError(
            f"There is no result of {', '.join(unknown)}. `{COMMAND} results` lists all there are."
        )
    selected = [run for run in accuracy if selection.matches(run, baseline)]
    if not selected:
        raise InputError(f"No result matches. `{COMMAND} results` lists all there are.")
    return selected


def build_sections(
    runs: Iterable[Run],
    baseline: str = "fp32",
    margin: float = MARGIN,
    selection: Selection = EVERYTHING,
) -> list[Section]:
    """The selected runs in sections that can be compared, ordered by title and protocol.

    Pass all runs there are: verdicts and intervals are corrected for everything that was measured
    on a section's speech, so that no selection changes them. Transcripts do not depend on the
    processor but for rounding, so runs of several machines are compared; times are of one machine.
    Raises InputError as `select_runs` does.
    """
    runs = list(runs)
    selected = {run.key for run in select_runs(runs, selection, baseline)}
    accuracy = [run for run in runs if isinstance(run, AccuracyRun)]
    others = [run for run in runs if isinstance(run, SpeedRun | DivergenceRun)]
    groups: dict[Hashable, list[AccuracyRun]] = defaultdict(list)
    for run in sorted(accuracy, key=lambda run: (run.created_at, run.key)):
        groups[paired_comparisons.condition(run)].append(run)
    built = []
    for group in groups.values():
        listed = [run for run in group if run.key in selected]
        for threads in sorted({run.spec.threads for run in listed}):
            of_threads = [run for run in listed if run.spec.threads == threads]
            built.append(_section(group, of_threads, others, baseline, margin))
    return sorted(built, key=lambda s: (s.title, s.newest.spec.protocol.name))


def _section(
    group: list[AccuracyRun],
    listed: list[AccuracyRun],
    others: list[SpeedRun | DivergenceRun],
    baseline: str,
    margin: float,
) -> Section:
    """group: everything measured under the section's condition, the oldest first.

    listed: the selected ones with one number of threads, on which times depend.
    """
    newest = {run.spec.recipe.name: run for run in listed}
    runs = {run.key: run for run in newest.values()}
    speeds = [run for run in others if isinstance(run, SpeedRun)]
    transcribed_on = Counter(run.machine_kind for run in runs.values())
    tables = {
        kind: results_table.rows([*runs.values(), *others], kind)
        for kind in (*results_table.machines(speeds), *transcribed_on)
    }
    timed_on = {
        kind: set(table.dropna(subset="speed_key")["key"]) for kind, table in tables.items()
    }
    kind = max(tables, key=lambda kind: (len(timed_on[kind]), transcribed_on[kind]))
    frame = tables[kind]
    machine = next(run.machine for run in (*runs.values(), *speeds) if run.machine_kind == kind)
    comparisons = paired_comparisons.verdicts(group, baseline, margin)
    frame = pareto_front.with_verdicts(frame, group, baseline, margin)
    rate = results_table.rate_column(results_table.compared_rate(frame))
    frame = frame.sort_values([rate, "recipe"], kind="stable", ignore_index=True)
    ordered = tuple(runs[key] for key in frame["key"])
    frame = frame.assign(
        wer_without_loops_pct=[paired_comparisons.without_loops(run).value for run in ordered],
        cer_without_loops_pct=[
            paired_comparisons.without_loops(run, "characters").value for run in ordered
        ],
        protocol=[run.spec.protocol.name for run in ordered],
        machine=[run.machine_kind for run in ordered],
        versions=[" ".join(f"{k} {v}" for k, v in r.spec.versions.items()) for r in ordered],
    )
    return Section(
        runs=ordered,
        frame=frame,
        baseline=baseline,
        margin=margin,
        machine=machine,
        elsewhere=len(runs) - transcribed_on[kind],
        superseded=len(listed) - len(runs),
        timed_elsewhere=len(set().union(*timed_on.values()) - timed_on[kind]),
        compared_with=max((c.family for c in comparisons.values()), default=0),
    )


def _answer(section: Section) -> Iterator[str]:
    frame, base = section.frame, section.baseline
    others = section.compared
    if others.empty:
        missing = (frame["verdict"] == pareto_front.NOT_COMPARED).any()
        why = (
            f"{base} was not measured under these conditions"
            if missing
            else f"only {base} was measured"
        )
        yield f"No comparison: {why}."
        return
    passing = others[others["verdict"].isin((Verdict.BETTER, Verdict.NO_WORSE))]
    criterion = f"shown to be no worse than {base} (margin: {section.margin:g} points)"
    if passing.empty:
        yield (
            f"The one configuration compared is not {criterion}."
            if len(others) == 1
            else f"No configuration is {criterion}."
        )
    else:
        yield from _recommendation(passing, len(others), criterion, base)
    yield from _remaining(section)


def _recommendation(
    passing: pd.DataFrame, compared: int, criterion: str, baseline: str
) -> Iterator[str]:
    """The smallest and the fastest of the configurations that are better or no worse."""
    small = _smallest(passing)
    if len(passing) == 1:
        of = f"One of {compared} configurations" if compared > 1 else "The one configuration"
        yield f"{of} is {criterion}: {small['recipe']} – {_facts(small, baseline)}."
    else:
        yield (
            f"{len(passing)} of {compared} configurations are {criterion}."
            f" Smallest: {small['recipe']} – {_facts(small, baseline)}."
        )
    timed = passing.dropna(subset=["rtf_ratio"])
    if timed.empty:
        of = "Its relative latency" if len(passing) == 1 else "Their relative latency"
        yield f"{of} was not measured."
        return
    fast = timed.sort_values(["rtf_ratio", "weights_bytes", "recipe"]).iloc[0]
    slower = "; not faster than fp32" if fast["rtf_ratio_high"] >= 1 else ""
    latency = (
        f"relative latency {fast['rtf_ratio']:.2f} × fp32 (repeated passes:"
        f" {fast['rtf_ratio_low']:.2f} to {fast['rtf_ratio_high']:.2f}{slower})"
    )
    untimed = "" if len(timed) == len(passing) else " of those timed"
    if fast["key"] != small["key"]:
        yield f"Fastest{untimed}: {fast['recipe']} – {latency}, {_facts(fast, baseline)}."
    elif len(passing) == 1:
        yield f"{capitalized(latency)}."
    else:
        yield f"It is also the fastest{untimed}: {latency}."


def _smallest(passing: pd.DataFrame) -> pd.Series:
    rate = results_table.rate_column(results_table.compared_rate(passing))
    return passing.sort_values(["weights_bytes", rate, "recipe"]).iloc[0]


def _facts(row: pd.Series, baseline: str) -> str:
    rate = row["verdict_rate"]
    rate_pct = row[results_table.rate_column(rate)]
    smaller = row["size_reduction_pct"]
    size = f", {smaller:.0f} % smaller than fp32" if smaller >= 0.5 else ""
    calibrated = ", calibrated on a tenth of the evaluated speech"
    return (
        f"{row['weights_bytes'] / 1e6:.0f} MB{size}, {rate} {rate_pct:.2f} %"
        f" ({format_signed(row['difference_points'])} points from {baseline}, 95 % interval"
        f" {format_signed(row['difference_low'])} to {format_signed(row['difference_high'])})"
        f"{calibrated if row['calibration'] == 'evaluation-10%' else ''}"
    )


def _remaining(section: Section) -> Iterator[str]:
    """What is shown of the others, and how much audio a further conclusion needs."""
    others, closest = section.compared, section.closest_to_conclusion
    worse, inconclusive = (
        int((others["verdict"] == v).sum()) for v in (Verdict.WORSE, Verdict.INCONCLUSIVE)
    )
    are_others = worse + inconclusive < len(others)

    def subject(count: int) -> str:
        return str(count) if are_others or parts else counted(count, "configuration")

    parts: list[str] = []
    if worse:
        have = "has" if worse == 1 else "have"
        parts.append(
            f"{subject(worse)} {have} a significantly higher {section.rate} than {section.baseline}"
        )
    if inconclusive:
        be = "is" if inconclusive == 1 else "are"
        parts.append(f"{subject(inconclusive)} {be} too close to call")
        if closest is not None:
            parts[-1] += (
                f" (closest to a conclusion: {closest['recipe']}, with an estimated"
                f" {closest['minutes_needed']:.0f} minutes of test audio in total)"
            )
    if parts:
        yield f"{'Of the others, ' * are_others}{'; '.join(parts)}."


def format_signed(value: float) -> str:
    """A difference with its sign (a typographic minus); a dash where it is missing."""
    if pd.isna(value):
        return "–"
    shown = f"{value:+.2f}" if abs(value) < 100 else f"{value:+.0f}"
    return shown.replace("-", "−") if float(shown) else "0.00"
