"""Requirements, the configurations that meet them, and the evidence for it."""

import pandas as pd
import streamlit as st

from pages._buttons import button
from pages._column_help import with_help
from pages._navigation import open_in_app, utterances_url
from pages._session import all_runs, user_session
from pages._view import View
from whisperq_core.analyze import advisor
from whisperq_core.analyze.configurations import Configuration
from whisperq_core.analyze.pareto_front import BASELINE, NOT_COMPARED
from whisperq_core.analyze.results_table import without_formulas
from whisperq_core.analyze.user_requirements import Candidate, Requirements, Status
from whisperq_core.analyze.verdicts import MARGIN
from whisperq_core.evaluate.records import AccuracyRun
from whisperq_core.present import advisor_text, glossary, markup
from whisperq_core.present.labels import protocol_label, verdict_label
from whisperq_core.quantize import model_export
from whisperq_core.serve import job_queue
from whisperq_core.serve.job_queue import JobState
from whisperq_core.serve.tasks import ExportTask
from whisperq_core.serve.user_session import UserSession
from whisperq_core.whisper import protocols

SPEECH = {"all": "All English sets", "hard": "Difficult (noisy, accented)", "clean": "Clean"}
PRIORITIES = {"smallest": "Size", "fastest": "Speed", "most accurate": "Accuracy"}
BADGES = {
    Status.MET: ":green-badge[:material/check: met]",
    Status.INCONCLUSIVE: ":orange-badge[:material/question_mark: inconclusive]",
    Status.NOT_MET: ":red-badge[:material/close: not met]",
}
ICONS = {
    Status.MET: ":green[:material/check:]",
    Status.NOT_MET: ":red[:material/close:]",
    Status.INCONCLUSIVE: ":orange[:material/question_mark:]",
    Status.NOT_MEASURED: ":orange[:material/pending:]",
}
CARDS = 3


def requirements_form(view: View, models: list[str], protocol_names: list[str]) -> Requirements:
    """The form of requirements; its defaults suit most users."""
    with st.container(border=True, horizontal=True, vertical_alignment="bottom"):
        how = {"width": 165}
        default = ["base"] if "base" in models else models[:1]
        chosen = view.several("Model", models, "need_model", default, placeholder="any", **how)
        speech = view.one_of(
            "Audio",
            list(SPEECH),
            "need_speech",
            "all",
            format_func=SPEECH.get,
            help=(
                "All: every English set that a configuration and fp32 were both evaluated on."
                " Difficult: LibriSpeech test-other. Clean: test-clean and dev-clean."
            ),
            **how,
        )
        priority = view.one_of(
            "Optimise for",
            list(PRIORITIES),
            "need_priority",
            "smallest",
            format_func=PRIORITIES.get,
            **how,
        )
        rise = view.number(
            "Maximum WER increase (points)",
            *(0.1, 20.0, MARGIN, 0.1),
            "need_rise",
            format="%.1f",
            help="Relative to fp32 of the same model under the Study protocol. Smaller margins need"
            " more test data.",
            **how,
        )
        size = view.number(
            "Maximum size (MB)",
            *(1.0, None, None, 10.0),
            "need_mb",
            format="%.0f",
            placeholder="any",
            help=glossary.definition("Size"),
            **how,
        )
        time = view.number(
            "Maximum relative latency (× fp32)",
            *(0.05, None, 1.0, 0.05),
            "need_time",
            may_be_empty=True,
            placeholder="any",
            help="1: as fast as fp32. 0.5: twice as fast. Leave empty for no limit.",
            **how,
        )
        rtf = view.number(
            "Maximum RTF",
            *(0.01, None, None, 0.05),
            "need_rtf",
            placeholder="any",
            help="Processing time divided by audio duration, on the machine that was measured."
            " 0.1: six seconds per minute of audio.",
            **how,
        )
        device = view.one_of(
            "Device",
            ["cpu", "cuda", "mps"],
            "need_device",
            "cpu",
            help=glossary.definition("device"),
            **how,
        )
        wanted = []
        if len(protocol_names) > 1 or view.has("need_protocol"):
            wanted = view.several(
                "Protocol",
                protocol_names,
                "need_protocol",
                [],
                placeholder="any",
                format_func=protocol_label,
                help="  \n".join(
                    f"**{markup.escape_markdown(each.label)}**:"
                    f" {markup.escape_markdown(each.summary)}"
                    for each in protocols.PROTOCOLS.values()
                ),
                **how,
            )
    return Requirements(
        device=device,
        max_weights_bytes=None if size is None else round(size * 1e6),
        max_rtf_ratio=time,
        max_rtf=rtf,
        max_wer_rise_points=rise or MARGIN,
        speech=speech,
        models=tuple(chosen),
        priority=priority,
        protocols=tuple(wanted),
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
    others = [text for text in (advisor_text.alternative(advice), *advisor_text.notes(advice))]
    st.caption(markup.escape_markdown(" ".join(others)))


def show_card(option: Candidate, session: UserSession) -> None:
    configuration = option.configuration
    with st.container(border=True, height="stretch"):
        st.markdown(BADGES[option.status])
        st.header(markup.escape_markdown(advisor_text.full_name(configuration)), anchor=False)
        st.markdown(
            markup.escape_markdown(
                f"{advisor_text.figures(configuration)}, WER {configuration.rate_pct:.2f} %"
                f" (fp32: {configuration.reference_rate_pct:.2f} %)"
            )
        )
        lines = (
            f"{ICONS[c.status]} {markup.escape_markdown(advisor_text.named_check_text(c))}"
            for c in option.checks
        )
        st.markdown("  \n".join(lines))
        st.caption(markup.escape_markdown(advisor_text.evaluated_on(configuration)))
        st.markdown(f"[Per-utterance results]({utterances_url(configuration.run)})")
        with st.popover("Use it", icon=":material/code:"):
            st.code(advisor_text.snippet(configuration), language="python", wrap_lines=True)
            st.code(advisor_text.command_line(configuration), language="bash", wrap_lines=True)
            export(configuration, session)


def export(option: Configuration, session: UserSession) -> None:
    spec = option.run.spec
    if reason := model_export.unexportable_reason(spec.recipe):
        st.caption(markup.escape_markdown(reason))
        return
    button(
        "Export model",
        f"export-{spec.key}",
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
        st.code("\n".join(measurement.commands), language="bash", wrap_lines=True)


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
    st.dataframe(
        without_formulas(pd.DataFrame([table_row(option) for option in advice.candidates])),
        hide_index=True,
        column_config=with_help(
            {
                **{name: name for name in ("Model", "Recipe", "Verdict")},
                "Size (MB)": number(format="%.0f"),
                **{
                    name: number(format="%.2f") for name in ("Relative latency (× fp32)", "WER (%)")
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
        " utterances. Low and high: 95 % interval, simultaneous over everything compared. WER is"
        " over the sets that the row names. A latency limit is met if all repeated passes are"
        " within it."
    )


def main(view: View) -> None:
    stored = all_runs()
    accuracy_runs = [run for run in stored if isinstance(run, AccuracyRun)]
    models = sorted({run.model for run in accuracy_runs})
    protocol_names = sorted(
        {run.spec.protocol.name for run in accuracy_runs} & protocols.PROTOCOLS.keys()
    )
    if not models:
        st.info(
            "No results yet. Open **Run evaluations** and evaluate fp32 and a few recipes, or run"
            " `python -m whisperq_core run --models base --recipes"
            " fp32,quanto-int8 --sets test-other-25-speakers`."
        )
        return
    session = user_session()
    answer = st.container()
    advice = advisor.advise(requirements_form(view, models, protocol_names), stored)
    with answer:
        show_answer(advice)
    if advice.candidates:
        shown = [o for o in advice.candidates if o.status != Status.NOT_MET] or advice.candidates
        for column, option in zip(st.columns(CARDS), shown[:CARDS], strict=False):
            with column:
                show_card(option, session)
    if all(job.is_over for job in exports(session)):
        show_exports(session)
    else:
        watch_exports(session)
    if advice.next_measurement:
        show_next(advice.next_measurement, advice.requirements.priority)
    if advice.candidates:
        show_table(advice)


open_in_app("advisor.py")
st.title("Advisor")
st.markdown(
    "Enter your requirements to see which configurations meet them, and how strong the evidence is."
)
with View("advisor") as shown:
    main(shown)
