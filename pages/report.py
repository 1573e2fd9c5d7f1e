"""A report of chosen results for people who decide, to look at and to take away."""

from functools import partial

import streamlit as st

from pages._entry import shared_store, through_app
from pages._utterances import shipped_sets
from whisperq_core import forest, markup, protocols, recipes, records, report, sections
from whisperq_core.errors import InputError
from whisperq_core.records import AccuracyRun
from whisperq_core.sections import Section
from whisperq_core.significance import MARGIN

MIMES = {".html": "text/html", ".csv": "text/csv", ".json": "application/json"}
LABELS = {".html": "HTML, to read or print", ".csv": "CSV", ".json": "JSON"}
PREVIEW_PX = 900


def title_of(name: str) -> str:
    return shipped_sets()[name].title if name in shipped_sets() else name


def choose(runs: list[AccuracyRun]) -> dict:
    """The sidebar: what the report is about, as `sections.select` takes it."""
    with st.sidebar:
        models = sorted({run.model for run in runs})
        chosen = {"models": several("Model", models, "base", "report_model")}
        runs = [run for run in runs if run.model in (chosen["models"] or models)]
        sets = sorted({run.eval_set for run in runs})
        how = {"format_func": title_of}
        chosen["sets"] = several("Evaluation set", sets, "test-other-excerpt", "report_set", **how)
        runs = [run for run in runs if run.eval_set in (chosen["sets"] or sets)]
        known = sorted({run.spec.protocol.name for run in runs})
        if len(known) > 1:
            protocol = one_of("Protocol", known, protocols.STUDY.name, "report_protocol")
            chosen["protocols"] = [protocol]
            runs = [run for run in runs if run.spec.protocol.name == protocol]
        order = list(recipes.CATALOGUE)
        found = {run.spec.recipe.name for run in runs}
        names = sorted(found, key=lambda n: (order.index(n) if n in order else len(order), n))
        chosen["recipes"] = several("Recipes", names, None, "report_recipes")
        chosen["baseline"] = one_of("Compare with", names, "fp32", "report_baseline")
    return chosen


def several(label: str, options: list[str], default: str | None, key: str, **how) -> list[str]:
    """Any of the options; none of them is all."""
    default = [default] if default in options else []
    how |= {"bind": "query-params", "placeholder": "all that were measured"}
    return st.multiselect(label, options, default, key=key, **how)


def one_of(label: str, options: list[str], default: str, key: str) -> str:
    index = options.index(default) if default in options else 0
    return st.selectbox(label, options, index, key=key, bind="query-params")


def choose_margin() -> float:
    return st.sidebar.number_input(
        "Margin (points of WER)",
        *(0.1, 20.0, MARGIN, 0.1),
        format="%.1f",
        key="report_margin",
        bind="query-params",
        help="A recipe that is decided to lose less than this counts as no worse.",
    )


def downloads(make) -> None:
    """A button for each format; the file is written when it is pressed."""
    with st.container(horizontal=True):
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


def show(section: Section) -> None:
    """The answer, and the figure that it is read from."""
    st.subheader(markup.plain_markdown(section.title))
    protocol = section.newest.spec.protocol
    st.caption(
        markup.plain_markdown(
            f"{section.minutes:.1f} minutes, {len(section.newest.utterances)} utterances ·"
            f" {protocol.name}: {protocol.summary} · {section.newest.machine.cpu}"
        )
    )
    with st.container(border=True, gap="xxsmall"):
        for sentence in section.answer:
            st.markdown(markup.plain_markdown(sentence))
    figure = forest.differences(section.frame, section.margin)
    if figure.data:
        st.markdown(f"**WER minus that of {markup.plain_markdown(section.baseline)}**")
        st.plotly_chart(
            figure,
            key=f"differences_{section.newest.key}",
            config={"displayModeBar": False},
            alt="Differences in WER with their 95% intervals; the report's table has them.",
        )


def main() -> None:
    through_app("report.py")
    st.title("Report")
    st.markdown(
        "The results chosen in the sidebar as one file, to send to whoever decides: figures, table,"
        " verdicts, and how all of it was measured."
    )
    runs = shared_store().runs()
    measured = [run for run in runs if isinstance(run, AccuracyRun)]
    if not measured:
        st.info(
            "There is nothing to report yet. Open **Run evaluations** and measure fp32 and a few"
            " recipes, or run `python -m whisperq_core run --models base --recipes"
            " fp32,quanto-int8 --sets test-other-excerpt`."
        )
        return
    try:
        chosen = choose(measured)
        how = {"baseline": chosen["baseline"], "margin": choose_margin()}
        selected = sections.select(runs, **chosen)
    except InputError as error:
        st.info(str(error))
        return
    make = partial(report.as_file, selected, date=records.now(), **how)
    downloads(make)
    if st.toggle("Show the whole report", key="report_whole"):
        st.iframe(make(".html").decode(), height=PREVIEW_PX)
        return
    for section in sections.sections(selected, **how):
        show(section)


main()
