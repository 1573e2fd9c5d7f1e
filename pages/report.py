"""A report: what to use, and the selected results; its figures here, the whole to download."""

from functools import partial

import streamlit as st

from pages._code import draw_code
from pages._figures import draw
from pages._navigation import open_in_app, open_point
from pages._report_selection import query
from pages._session import all_configurations, all_runs, user_store
from pages._utterance_view import set_title
from pages._view import View
from whisperq_core.analyze.configurations import Configuration
from whisperq_core.analyze.verdicts import MARGIN
from whisperq_core.errors import InputError
from whisperq_core.evaluate import records
from whisperq_core.evaluate.records import AccuracyRun
from whisperq_core.plurals import counted
from whisperq_core.present import (
    advisor_text,
    glossary,
    interval_charts,
    markup,
    report,
    report_sections,
)
from whisperq_core.present.answer import Answer, answer_of
from whisperq_core.present.labels import protocol_label
from whisperq_core.present.report_sections import Section, Selection
from whisperq_core.quantize.recipes import CATALOGUE
from whisperq_core.whisper.protocols import STUDY

MIMES = {".html": "text/html", ".csv": "text/csv", ".json": "application/json"}
LABELS = {".html": "Download HTML", ".csv": "Download CSV", ".json": "Download JSON"}
PREVIEW_PX = 900
DEFAULT_SET = "test-other-excerpt"


def choose_models(view: View, runs: list[AccuracyRun]) -> tuple[tuple[str, ...], float]:
    """The sidebar's first part: which models, and the margin. They decide the answer."""
    with st.sidebar:
        models = sorted({run.model for run in runs})
        chosen = several(view, "Model", models, "base", "report_model")
        margin = view.number(
            "Margin (points)",
            *(0.1, 20.0, MARGIN, 0.1),
            "report_margin",
            format="%.1f",
            help=glossary.definition("margin"),
        )
    return tuple(chosen), margin or MARGIN


def choose_results(
    view: View,
    runs: list[AccuracyRun],
    models: tuple[str, ...],
    recommended: Configuration | None,
) -> tuple[Selection, str]:
    """The sidebar's second part: which results are listed, and the baseline's name.

    At first those of the recommended configuration's longest set, under its protocol.
    """
    first_set = recommended.run.eval_set if recommended else DEFAULT_SET
    first_protocol = recommended.protocol.name if recommended else STUDY.name
    runs = [run for run in runs if not models or run.model in models]
    with st.sidebar:
        sets = sorted({run.eval_set for run in runs})
        how = {"format_func": set_title}
        chosen_sets = several(view, "Evaluation set", sets, first_set, "report_set", **how)
        runs = [run for run in runs if run.eval_set in (chosen_sets or sets)]
        names = sorted({run.spec.protocol.name for run in runs})
        protocols: tuple[str, ...] = ()
        if len(names) > 1 or view.has("report_protocol"):
            how = {"format_func": protocol_label, "help": glossary.definition("protocol")}
            protocol = one_of(view, "Protocol", names, first_protocol, "report_protocol", **how)
            protocols = (protocol,)
            runs = [run for run in runs if run.spec.protocol.name == protocol]
        order = list(CATALOGUE)
        names = sorted(
            {run.spec.recipe.name for run in runs},
            key=lambda n: (order.index(n) if n in order else len(order), n),
        )
        recipes = several(view, "Recipes", names, None, "report_recipes")
        how = {"help": glossary.definition("baseline")}
        baseline = one_of(view, "Baseline", names, "fp32", "report_baseline", **how)
    return Selection(models, tuple(chosen_sets), tuple(recipes), protocols), baseline


def several(view: View, label: str, options: list[str], default: str | None, key: str, **how):
    """Any of the options; none of them is all."""
    default = [default] if default in options else []
    how["placeholder"] = "all"
    return view.several(label, options, key, default, **how)


def one_of(view: View, label: str, options: list[str], default: str, key: str, **how) -> str:
    """One of the options; the default where it is one, else the first."""
    return view.one_of(label, options, key, default if default in options else options[0], **how)


def downloads(make) -> None:
    """A button for each format; the file is written when it is pressed."""
    for suffix in report.SUFFIXES:
        st.download_button(
            LABELS[suffix],
            partial(make, suffix),
            f"whisperq-report{suffix}",
            MIMES[suffix],
            icon=":material/download:",
            type="primary" if suffix == ".html" else "secondary",
            on_click="ignore",
        )


def show_answer(answer: Answer) -> None:
    """What to use, how to use it, and how sure that is."""
    with st.container(border=True):
        st.header(markup.escape_markdown(answer.headline), anchor=False)
        if answer.facts:
            for column, fact in zip(st.columns(len(answer.facts)), answer.facts, strict=True):
                with column:
                    st.markdown(f"### {markup.escape_markdown(fact.value)}")
                    st.markdown(markup.escape_markdown(fact.label))
                    st.caption(markup.escape_markdown(fact.note))
        if answer.recommended is None:  # else the facts say it
            st.markdown(markup.escape_markdown(advisor_text.explanation(answer.advice)))
        if text := advisor_text.alternative(answer.advice):
            st.markdown(markup.escape_markdown(text))
        if answer.python:
            draw_code(answer.python, "python")
            draw_code(answer.command, "command")
        sure, settle = st.columns(2)
        with sure:
            st.markdown("**How sure is that?**")
            st.markdown(markup.escape_markdown(" ".join(answer.how_sure)))
        with settle:
            st.markdown("**What would settle more?**")
            st.markdown(markup.escape_markdown(" ".join(answer.to_settle)))


def show(section: Section) -> None:
    """The answer, and the figure that it is read from."""
    st.subheader(markup.escape_markdown(section.title))
    protocol = section.newest.spec.protocol
    utterances = counted(len(section.newest.utterances), "utterance")
    st.caption(
        markup.escape_markdown(
            f"{section.minutes:.1f} minutes, {utterances} · {protocol.label}: {protocol.summary} ·"
            f" {section.newest.machine.cpu}"
        )
    )
    with st.container(border=True, gap="xxsmall"):
        for sentence in section.answer:
            st.markdown(markup.escape_markdown(sentence))
    figure = interval_charts.difference_figure(section.frame, section.margin, section.baseline)
    if figure.data:
        title = f"{section.rate} difference from {section.baseline}"
        st.markdown(f"**{markup.escape_markdown(title)}**")
        clicked = draw(
            figure,
            f"{section.title}: {title}",
            key=f"differences_{section.newest.key}",
            on_select="rerun",
            selection_mode="points",
            alt=f"{title} with 95 % intervals; the report's table has the values.",
        )
        st.caption("Click a point to see its utterances.")
        open_point(clicked)


def main(view: View) -> None:
    runs = all_runs()
    accuracy = [run for run in runs if isinstance(run, AccuracyRun)]
    if not accuracy:
        st.info(
            "No results yet. Open **Run evaluations** and evaluate fp32 and a few recipes, or run"
            " `python -m whisperq_core run --models base --recipes"
            " fp32,quanto-int8 --sets test-other-excerpt`."
        )
        return
    models, margin = choose_models(view, accuracy)
    measured = all_configurations(margin)
    answer = answer_of(measured, models, margin)
    selection, baseline = choose_results(view, accuracy, models, answer.recommended)
    how = {"baseline": baseline, "margin": margin, "selection": selection}
    try:
        report_sections.select_runs(runs, selection, baseline)
    except InputError as error:
        st.info(markup.escape_markdown(str(error)))
        return
    make = partial(
        report.render,
        runs,
        date=records.utc_now(),
        measured=measured,
        notes=user_store().notes(),
        **how,
    )
    if answer.has_results:
        show_answer(answer)
    with st.container(horizontal=True):
        downloads(make)
        st.link_button(
            "Present",
            f"./presentation?{query(models, margin)}",
            icon=":material/slideshow:",
            help="The answer as five slides. Use the arrow keys to move between them.",
        )
    if view.flag("Preview the full report", False, "report_whole"):
        st.iframe(make(".html").decode(), height=PREVIEW_PX)
        return
    if answer.has_results:
        st.header("Each evaluation set by itself", anchor=False)
        st.caption(markup.escape_markdown(report_sections.ALONE))
    for section in report_sections.build_sections(runs, **how):
        show(section)


open_in_app("report.py")
st.title("Report")
st.markdown(
    "What to use, and the results selected in the sidebar, as one file to share. The file prints to"
    " PDF."
)
with View("report") as shown:
    main(shown)
