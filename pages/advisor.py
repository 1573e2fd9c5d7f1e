"""Requirements, the configurations that meet them, and the evidence for it."""

import itertools
from typing import Any

import pandas as pd
import streamlit as st

from pages._buttons import button
from pages._code import draw_code
from pages._column_help import with_help
from pages._navigation import open_in_app, recordings_url, utterances_url
from pages._session import all_configurations, all_runs, user_session
from pages._tables import draw_table
from pages._view import View
from whisperq_core.analyze import advisor, results_table
from whisperq_core.analyze.configurations import Configuration
from whisperq_core.analyze.pareto_front import BASELINE, NOT_COMPARED
from whisperq_core.analyze.user_requirements import (
    ALL_SPEECH,
    SETS_OF_SPEECH,
    Candidate,
    Requirements,
    Status,
)
from whisperq_core.analyze.verdicts import CONFIDENCE, MARGIN
from whisperq_core.errors import WhisperQError
from whisperq_core.evaluate.records import AccuracyRun
from whisperq_core.present import advisor_text, glossary, markup
from whisperq_core.present.labels import protocol_label, verdict_label
from whisperq_core.quantize import model_export
from whisperq_core.serve import job_queue
from whisperq_core.serve.job_queue import JobState
from whisperq_core.serve.tasks import ExportTask
from whisperq_core.serve.user_session import UserSession
from whisperq_core.speech import evaluation_sets
from whisperq_core.whisper import protocols

SPEECH = {ALL_SPEECH: "All English sets", "hard": "Difficult", "clean": "Clean"}
PRIORITIES = {"smallest": "Size", "fastest": "Speed", "most accurate": "Accuracy"}
CONFIDENCES = (80, 90, 95, 99)
ICONS = {
    Status.MET: ":green[:material/check:]",
    Status.NOT_MET: ":red[:material/close:]",
    Status.INCONCLUSIVE: ":orange[:material/question_mark:]",
    Status.NOT_MEASURED: ":orange[:material/pending:]",
}
BADGES = {
    Status.MET: ":green-badge[:material/check: met]",
    Status.INCONCLUSIVE: ":orange-badge[:material/question_mark: inconclusive]",
    Status.NOT_MET: ":red-badge[:material/close: not met]",
}
CARDS = 3
WIDTH = {"width": 190}


def requirements_form(view: View, runs: list[AccuracyRun], machines: list[str]) -> Requirements:
    """The form of requirements; its defaults suit most users, and most of it is folded away."""
    models = sorted({run.model for run in runs})
    with st.container(border=True):
        with st.container(horizontal=True, vertical_alignment="bottom"):
            default = ["base"] if "base" in models else models[:1]
            chosen = view.several(
                "Model", models, "need_model", default, placeholder="any", **WIDTH
            )
            speech = choose_speech(view, runs)
            priority = view.one_of(
                "Optimise for",
                list(PRIORITIES),
                "need_priority",
                "smallest",
                format_func=PRIORITIES.get,
                **WIDTH,
            )
            rise = view.number(
                "Maximum WER increase (points)",
                *(0.1, 20.0, MARGIN, 0.1),
                "need_rise",
                format="%.1f",
                help="Relative to fp32 of the same model under the Study protocol. Smaller margins"
                " need more test data.",
                **WIDTH,
            )
        with st.expander(
            "More limits: confidence, size, memory, speed, device, protocol",
            icon=":material/tune:",
            key="need_more",
        ):
            limits = more_limits(view, runs, machines)
    return Requirements(
        max_wer_rise_points=rise or MARGIN,
        speech=speech,
        models=tuple(chosen),
        priority=priority,
        **limits,
    )


def choose_speech(view: View, runs: list[AccuracyRun]) -> str:
    """The kind of speech, or an evaluation set of one's own."""
    counted = {*evaluation_sets.EVALUATION_SETS, *itertools.chain(*SETS_OF_SPEECH.values())}
    own = sorted({run.eval_set for run in runs} - counted)
    return view.one_of(
        "Speech",
        [*SPEECH, *own],
        "need_speech",
        ALL_SPEECH,
        format_func=lambda name: SPEECH.get(name, name),
        help=(
            "All English sets: every one that a configuration and fp32 were both evaluated on."
            " Difficult: LibriSpeech test-other (noise, accents). Clean: test-clean and dev-clean."
            " Your own evaluation sets are listed by name once they are evaluated."
        ),
        **WIDTH,
    )


def more_limits(view: View, runs: list[AccuracyRun], machines: list[str]) -> dict[str, Any]:
    """The less common requirements, as fields of Requirements."""
    limits: dict[str, Any] = {}
    with st.container(horizontal=True, vertical_alignment="bottom"):
        confidence = view.one_of(
            "Confidence",
            list(CONFIDENCES),
            "need_confidence",
            round(100 * CONFIDENCE),
            format_func=lambda percent: f"{percent} %",
            help="That the WER increase is below the maximum. From 95 % on it is corrected for all"
            " configurations that were compared. Below 95 % it is the confidence in one"
            " configuration alone, not corrected.",
            **WIDTH,
        )
        for label, key, field, help in (
            ("Maximum size (MB)", "need_mb", "max_weights_bytes", glossary.definition("Size")),
            (
                "Maximum peak memory (MB)",
                "need_memory",
                "max_memory_bytes",
                "Of quantizing and transcribing, on the machine that was measured.",
            ),
        ):
            how = {"format": "%.0f", "placeholder": "any", "help": help, **WIDTH}
            megabytes = view.number(label, *(1.0, None, None, 10.0), key, **how)
            limits[field] = None if megabytes is None else round(megabytes * 1e6)
        limits["max_rtf_ratio"] = view.number(
            "Maximum relative latency (× fp32)",
            *(0.05, None, 1.0, 0.05),
            "need_time",
            may_be_empty=True,
            placeholder="any",
            help="1: as fast as fp32. 0.5: twice as fast. Leave empty for no limit.",
            **WIDTH,
        )
        limits["max_rtf"] = view.number(
            "Maximum RTF",
            *(0.01, None, None, 0.05),
            "need_rtf",
            placeholder="any",
            help="Processing time divided by audio duration, on the machine that was measured."
            " 0.1: six seconds per minute of audio.",
            **WIDTH,
        )
        limits["device"] = view.one_of(
            "Device",
            ["cpu", "cuda", "mps"],
            "need_device",
            "cpu",
            help=glossary.definition("device"),
            **WIDTH,
        )
        limits["protocols"] = choose_protocols(view, runs)
        if len(machines) > 1 or view.has("need_machine"):
            limits["machine"] = view.one_of(
                "Speed measured on",
                machines,
                "need_machine",
                machines[0] if machines else None,
                help="Speeds are comparable only on the same CPU, core count and operating system.",
                width=2 * WIDTH["width"],
            )
    return limits | {"confidence": confidence / 100}


def choose_protocols(view: View, runs: list[AccuracyRun]) -> tuple[str, ...]:
    names = sorted({run.spec.protocol.name for run in runs} & protocols.PROTOCOLS.keys())
    if len(names) < 2 and not view.has("need_protocol"):
        return ()
    described = (
        f"**{markup.escape_markdown(each.label)}**: {markup.escape_markdown(each.summary)}"
        for each in protocols.PROTOCOLS.values()
    )
    return tuple(
        view.several(
            "Protocol",
            names,
            "need_protocol",
            [],
            placeholder="any",
            format_func=protocol_label,
            help="  \n".join(described),
            **WIDTH,
        )
    )


def show_answer(advice: advisor.Advice) -> None:
    if not advice.candidates:
        box, icon = st.info, ":material/info:"
    elif advice.best and not advice.best.configuration.is_reference:
        box, icon = st.success, ":material/check_circle:"
    else:
        box, icon = st.warning, ":material/help:"
    first, rest = advisor_text.headline(advice), advisor_text.explanation(advice)
    box(f"**{markup.escape_markdown(first)}.** {markup.escape_markdown(rest)}", icon=icon)
    if here := advisor_text.on_this_machine(advice):
        st.warning(markup.escape_markdown(here))
    for text in (advisor_text.alternative(advice), advisor_text.second_choice(advice)):
        if text:
            name, _, rest = text.partition(": ")
            st.markdown(f"**{markup.escape_markdown(name)}:** {markup.escape_markdown(rest)}")
    notes = (advisor_text.limits_text(advice.requirements), *advisor_text.notes(advice))
    st.caption(markup.escape_markdown(" ".join(notes)))


def show_use(configuration: Configuration, session: UserSession) -> None:
    """How to use what the answer names: in Python, by a command, as a file, on a recording."""
    st.header(markup.escape_markdown(f"Use {configuration.recipe}"), anchor=False)
    show_code(configuration, place="answer")
    with st.container(horizontal=True, vertical_alignment="center"):
        export(configuration, session)
        st.markdown(
            f"[:material/graphic_eq: Try it on my recording]({recordings_url(configuration)})",
            width="content",
        )
        st.markdown(
            f"[:material/hearing: Per-utterance results]({utterances_url(configuration.run)})",
            width="content",
        )


def show_code(configuration: Configuration, place: str) -> None:
    key = f"{place}_{configuration.run.key}"
    draw_code(advisor_text.snippet(configuration), f"python_{key}")
    draw_code(advisor_text.command_line(configuration), f"command_{key}")


def cards(advice: advisor.Advice) -> list[tuple[str, Candidate]]:
    """What is worth a closer look, the answer first, each with its part in it."""
    roles = [("Recommended", advice.best), ("Second", advice.second)]
    if advice.named is advice.probable:
        roles = [("Probable", advice.probable), ("Shown to meet the limits", advice.best)]
    roles += [("Less certain", advice.probable), ("Closest", advice.closest)]
    shown: dict[int, tuple[str, Candidate]] = {}
    for role, candidate in roles:
        if candidate is not None:
            shown.setdefault(id(candidate), (role, candidate))
    for candidate in advice.candidates:
        if candidate.status is not Status.NOT_MET:
            role = "Reference" if candidate.configuration.is_reference else "Also measured"
            shown.setdefault(id(candidate), (role, candidate))
    return list(shown.values())[:CARDS]


def show_card(role: str, option: Candidate, session: UserSession) -> None:
    configuration = option.configuration
    with st.container(border=True, height="stretch"):
        st.markdown(f"{role} {BADGES[option.status]}")
        st.subheader(markup.escape_markdown(advisor_text.full_name(configuration)), anchor=False)
        st.markdown(markup.escape_markdown(advisor_text.figures(configuration)))
        st.markdown(markup.escape_markdown(advisor_text.rates_text(configuration)))
        lines = (
            f"{ICONS[c.status]} {markup.escape_markdown(advisor_text.named_check_text(c))}"
            for c in option.checks
        )
        st.markdown("  \n".join(lines))
        st.markdown(f"[Per-utterance results]({utterances_url(configuration.run)})")
        with st.popover("Use it", icon=":material/code:"):
            show_code(configuration, place="card")
            st.markdown(f"[Try it on my recording]({recordings_url(configuration)})")
            export(configuration, session, place="card")


def show_stricter(stricter: list[advisor.StricterAnswer]) -> None:
    """What each more demanding wish would lead to, where that is something else."""
    if not stricter:
        return
    st.header("What more demanding limits would cost")
    lines = [
        (advisor_text.wish_text(one.wish, one.advice.requirements), *advisor_text.price_of(one))
        for one in stricter
        if one.changes
    ]
    if lines:
        frame = pd.DataFrame(lines, columns=["Limit", "What you would get", "Evidence"])
        st.table(frame.map(markup.escape_markdown).set_index("Limit"))
    if unchanged := advisor_text.unchanged_text(stricter):
        st.caption(markup.escape_markdown(unchanged))


def export(option: Configuration, session: UserSession, place: str = "answer") -> None:
    spec = option.run.spec
    if reason := model_export.unexportable_reason(spec.recipe):
        st.caption(markup.escape_markdown(reason))
        return
    button(
        "Export model",
        f"export-{place}-{spec.key}",
        start_export,
        session,
        option,
        icon=":material/download:",
        help="Saves a self-contained quantized model.",
    )


def start_export(session: UserSession, option: Configuration) -> None:
    spec = option.run.spec
    session.export(option.model, spec.recipe, spec.device, spec.protocol)


def exports(session: UserSession) -> list[job_queue.Job]:
    return [job for job in session.all() if isinstance(job.task, ExportTask)]


def show_exports(session: UserSession) -> None:
    for job in exports(session):
        label = markup.escape_markdown(job.label)
        if job.state == JobState.DONE:
            size = job.result.weights_bytes / 1e6
            st.success(
                f"**{label}** is saved in `{job.task.folder}` ({size:.0f} MB). Use it on the"
                " **Compare recordings** page, or in Python:"
                f' `whisperq_core.load("{job.task.folder}").transcribe("speech.wav").text`',
                icon=":material/download_done:",
            )
        elif job.is_over:
            st.error(f"**{label}** could not be exported. {markup.escape_markdown(job.message)}")
        else:
            st.caption(f":material/progress_activity: Exporting {label}: {job.state} …")


@st.fragment(run_every=1.0)
def watch_exports(session: UserSession) -> None:
    show_exports(session)
    if all(job.is_over for job in exports(session)):
        # Redrawing the whole page ends the polling.
        st.rerun()


def show_next(measurement: advisor.NextMeasurement, priority: str) -> None:
    st.header("Recommended next measurement")
    st.markdown(markup.escape_markdown(advisor_text.next_measurement(measurement, priority)))
    if measurement.commands:
        draw_code("\n".join(measurement.commands), "next_measurement")


def table_row(option: Candidate) -> dict[str, object]:
    configuration = option.configuration
    comparison, latency = configuration.comparison, configuration.latency
    verdict = BASELINE if configuration.is_reference else NOT_COMPARED
    return {
        "Status": option.status,
        "Model": configuration.model,
        "Recipe": configuration.recipe,
        "Protocol": protocol_label(configuration.protocol.name),
        "Size (MB)": configuration.weights_bytes / 1e6,
        "Relative latency (× fp32)": latency.value if latency else None,
        "WER (%)": configuration.rate_pct,
        "fp32's WER (%)": configuration.reference_rate_pct,
        "WER difference from fp32": comparison.difference.value if comparison else None,
        "Low": comparison.difference.low if comparison else None,
        "High": comparison.difference.high if comparison else None,
        "Verdict": verdict_label(comparison.verdict if comparison else verdict),
        "Requirements not met": advisor_text.unmet_text(option),
        "Evaluated on": advisor_text.evaluated_on(configuration),
        "Per-utterance results": utterances_url(configuration.run),
    }


def show_table(advice: advisor.Advice) -> None:
    st.header("All results")
    number = st.column_config.NumberColumn
    draw_table(
        pd.DataFrame([table_row(option) for option in advice.candidates]),
        column_config=with_help(
            {
                **{name: name for name in ("Model", "Recipe", "Verdict")},
                "Size (MB)": number(format="%.0f"),
                **{
                    name: number(format="%.2f")
                    for name in ("Relative latency (× fp32)", "WER (%)", "fp32's WER (%)")
                },
                **{
                    name: number(format="%+.2f")
                    for name in ("WER difference from fp32", "Low", "High")
                },
                "Per-utterance results": st.column_config.LinkColumn(display_text="open"),
            }
        ),
    )
    st.caption(
        "Every difference is from fp32 of the same model under the Study protocol, on the same"
        " utterances. Low and high: 95 % interval, simultaneous over everything compared. WER and"
        " fp32's WER are of the sets that the row names, so compare them within a row only. A"
        " latency limit is met if all repeated passes are"
        " within it."
    )


def measured(requirements: Requirements) -> list[Configuration]:
    """All configurations, with the margin, speech and machine of the requirements."""
    return all_configurations(
        requirements.max_wer_rise_points,
        sets=requirements.sets,
        language=requirements.language,
        machine=requirements.machine,
    )


def main(view: View) -> None:
    stored = all_runs()
    accuracy_runs = [run for run in stored if isinstance(run, AccuracyRun)]
    if not accuracy_runs:
        st.info(
            "No results yet. Open **Run evaluations** and evaluate fp32 and a few recipes, or run"
            " `python -m whisperq_core run --models base --recipes"
            " fp32,quanto-int8 --sets test-other-25-speakers`."
        )
        return
    session = user_session()
    answer = st.container()
    requirements = requirements_form(view, accuracy_runs, results_table.machines(stored))
    advice = advisor.advise_on(requirements, measured(requirements))
    with answer:
        show_answer(advice)
    if advice.usable and not advice.usable.configuration.is_reference:
        show_use(advice.usable.configuration, session)
    show_all_exports(session)
    chosen = cards(advice)
    if chosen:
        st.header("Compared with the alternatives")
    for column, (role, option) in zip(st.columns(CARDS), chosen, strict=False):
        with column:
            show_card(role, option, session)
    stricter = st.container()
    if advice.next_measurement:
        show_next(advice.next_measurement, requirements.priority)
    if advice.candidates:
        show_table(advice)
    # Last, for other margins compare everything again.
    with stricter:
        show_stricter(advisor.stricter_answers(advice, measured))


def show_all_exports(session: UserSession) -> None:
    if all(job.is_over for job in exports(session)):
        show_exports(session)
    else:
        watch_exports(session)


open_in_app("advisor.py")
st.title("Advisor")
st.markdown("**Which configuration meets my limits?** Change them below; the answer follows.")
try:
    with View("advisor") as shown:
        main(shown)
except WhisperQError as error:
    st.error(markup.escape_markdown(str(error)))
