"""Requirements, the configurations that meet them, and the evidence for it."""

import pandas as pd
import streamlit as st

from pages._buttons import button
from pages._column_help import with_help
from pages._navigation import open_in_app, utterances_url
from pages._session import all_runs, user_session
from pages._view import View
from whisperq_core.analyze import advisor
from whisperq_core.analyze.pareto_front import BASELINE
from whisperq_core.analyze.results_table import without_formulas
from whisperq_core.analyze.user_requirements import Configuration, Requirements, Status
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

SPEECH = {"hard": "Difficult (noisy, accented)", "clean": "Clean"}
PRIORITIES = {"smallest": "Size", "fastest": "Speed"}
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
ENDS = ("WER, low", "WER, high")


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
            "hard",
            format_func=SPEECH.get,
            help=(
                "Difficult: LibriSpeech test-other. Clean: test-clean. Where the full set was not"
                " evaluated, its excerpt is used."
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
            help="Relative to fp32 of the same model. Smaller margins need more test data.",
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
        protocol = protocols.STUDY.name
        if len(protocol_names) > 1 or view.has("need_protocol"):
            protocol = view.one_of(
                "Protocol",
                protocol_names,
                "need_protocol",
                protocol if protocol in protocol_names else protocol_names[0],
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
        protocol=protocol,
    )


def show_answer(advice: advisor.Advice) -> None:
    if not advice.configurations:
        box, icon = st.info, ":material/info:"
    elif advice.best and advice.best.recipe != "fp32":
        box, icon = st.success, ":material/check_circle:"
    else:
        box, icon = st.warning, ":material/help:"
    first, _, rest = advisor_text.answer(advice).partition(". ")
    box(
        f"**{markup.escape_markdown(first)}.** {markup.escape_markdown(rest)}"
        if rest
        else f"**{markup.escape_markdown(first)}**",
        icon=icon,
    )
    st.caption(markup.escape_markdown(" ".join(advisor_text.notes(advice))))


def show_card(option: Configuration, session: UserSession) -> None:
    wer = option.wer
    interval = "" if pd.isna(wer.low) else f" ({wer.low:.2f} to {wer.high:.2f})"
    with st.container(border=True, height="stretch"):
        st.markdown(BADGES[option.status])
        st.header(markup.escape_markdown(f"{option.recipe} on {option.model}"), anchor=False)
        st.markdown(
            markup.escape_markdown(
                f"{advisor_text.figures(option)}, WER {wer.value:.2f} %{interval}"
            )
        )
        lines = (
            f"{ICONS[c.status]} {markup.escape_markdown(advisor_text.named_check_text(c))}"
            for c in option.checks
        )
        st.markdown("  \n".join(lines))
        st.caption(markup.escape_markdown(advisor_text.evaluated_on(option)))
        st.markdown(f"[Per-utterance results]({utterances_url(option.run)})")
        with st.popover("Use it", icon=":material/code:"):
            st.code(advisor_text.snippet(option), language="python", wrap_lines=True)
            export(option, session)


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


def show_table(advice: advisor.Advice) -> None:
    st.header("All results")
    rows = [
        {
            "Status": option.status,
            "Model": option.model,
            "Recipe": option.recipe,
            "Size (MB)": option.row["weights_bytes"] / 1e6,
            "Relative latency (× fp32)": option.row["rtf_ratio"],
            "WER (%)": option.wer.value,
            "WER, low": option.wer.low,
            "WER, high": option.wer.high,
            "WER difference from fp32": option.comparison.difference.value
            if option.comparison
            else None,
            "Verdict": verdict_label(option.comparison.verdict if option.comparison else BASELINE),
            "Requirements not met": advisor_text.unmet_text(option),
            "Evaluated on": advisor_text.evaluated_on(option),
            "Per-utterance results": utterances_url(option.run),
        }
        for option in advice.configurations
    ]
    number = st.column_config.NumberColumn
    st.dataframe(
        without_formulas(pd.DataFrame(rows)),
        hide_index=True,
        column_config=with_help(
            {
                **{name: name for name in ("Model", "Recipe", "Verdict")},
                "Size (MB)": number(format="%.0f"),
                **{
                    name: number(format="%.2f")
                    for name in ("Relative latency (× fp32)", "WER (%)", *ENDS)
                },
                "WER difference from fp32": number(format="%+.2f"),
                "Per-utterance results": st.column_config.LinkColumn(display_text="open"),
            }
        ),
    )
    st.caption(
        "WER, low and high: 95 % confidence interval. Verdicts compare WER with fp32 of the same"
        " model on the same utterances, corrected for multiple comparisons (all recipes of that"
        " model). A latency limit is met if all repeated passes are within it."
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
            " fp32,quanto-int8 --sets test-other-excerpt`."
        )
        return
    session = user_session()
    answer = st.container()
    advice = advisor.advise(requirements_form(view, models, protocol_names), stored)
    with answer:
        show_answer(advice)
    if advice.configurations:
        shown = [
            o for o in advice.configurations if o.status != Status.NOT_MET
        ] or advice.configurations
        for column, option in zip(st.columns(CARDS), shown[:CARDS], strict=False):
            with column:
                show_card(option, session)
    if all(job.is_over for job in exports(session)):
        show_exports(session)
    else:
        watch_exports(session)
    if advice.next_measurement:
        show_next(advice.next_measurement, advice.requirements.priority)
    if advice.configurations:
        show_table(advice)


open_in_app("advisor.py")
st.title("Advisor")
st.markdown(
    "Enter your requirements to see which configurations meet them, and how strong the evidence is."
)
with View("advisor") as shown:
    main(shown)
