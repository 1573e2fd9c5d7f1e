"""The answer as five slides: large type, one message each, each as high as the screen."""

import streamlit as st

from pages._arrow_keys import on_arrow
from pages._figures import INK, draw
from pages._navigation import open_in_app
from pages._report_selection import from_url, query
from pages._session import all_configurations, all_runs
from whisperq_core.errors import InputError
from whisperq_core.evaluate import records
from whisperq_core.evaluate.records import AccuracyRun
from whisperq_core.present import markup, slides
from whisperq_core.present.answer import Answer, answer_of

SLIDES = 5
# Without the sidebar and the header; the slide fills what the controls leave of the screen.
STYLE = """
[data-testid="stSidebar"], [data-testid="stExpandSidebarButton"], [data-testid="stHeader"] {
  display: none; }
:root { --controls: 3.6rem; }
@media (max-width: 600px) { :root { --controls: 6.6rem; } }
.st-key-slide {
  position: fixed; inset: 0 0 var(--controls) 0; overflow: auto; gap: 0; z-index: 1;
  padding: clamp(.8rem, 3.5vh, 3rem) clamp(1rem, 4vw, 5rem) 0; flex-wrap: nowrap; }
.st-key-slide > [data-testid="stElementContainer"]:first-child:nth-last-child(2) { flex: 1 1 0; }
.st-key-slide > [data-testid="stElementContainer"]:first-child:nth-last-child(2) > div {
  height: 100%; }
.st-key-controls { position: fixed; left: 0; right: 0; bottom: 0; z-index: 2; gap: .5rem 1rem;
  height: var(--controls); padding: 0 clamp(1rem, 4vw, 5rem); align-content: center; }
"""


# So that a key press shows the next slide at once.
@st.cache_data(max_entries=16, show_spinner="Preparing the slides")
def slides_of(_answer: Answer, identity: tuple) -> list[slides.Slide]:
    return slides.build_slides(_answer)


def slide_in_url() -> int:
    """The slide's number from 1; the first, and a warning, where there is no such slide."""
    text = st.query_params.get("screen", "1")
    if text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= SLIDES:
        return int(text)
    st.toast(f"There is no slide with that number; there are {SLIDES}. The first is shown.")
    return 1


def go(step: int) -> None:
    text = st.query_params.get("screen", "1")
    now = int(text[:9]) if text.isascii() and text.isdigit() else 1
    st.query_params["screen"] = str(min(SLIDES, max(1, now + step)))


def controls(number: int, answer: Answer, link: str) -> None:
    """Back, next, the slide's number, the download, links to other pages."""
    with st.container(horizontal=True, vertical_alignment="center", key="controls"):
        st.button(
            "Back", icon=":material/arrow_back:", on_click=go, args=(-1,), disabled=number == 1
        )
        st.button(
            "Next",
            icon=":material/arrow_forward:",
            on_click=go,
            args=(1,),
            disabled=number == SLIDES,
        )
        st.markdown(f"{number} of {SLIDES}", width="content")
        st.download_button(
            "Download",
            lambda: slides.to_html(answer, records.utc_now()),
            "whisperq-slides.html",
            "text/html",
            icon=":material/download:",
            help="All slides as one file that opens offline and prints to PDF.",
            on_click="ignore",
        )
        st.markdown(f"[Report](./report?{link}) · [All results](./)", width="content")


def show(slide: slides.Slide, key: str) -> None:
    with st.container(key="slide"):
        st.html(slides.head_html(slide))
        if slide.figure is not None:
            ink = INK.get(st.context.theme.type)
            slide.figure.update_annotations(font_color=ink)
            slide.figure.update_traces(textfont_color=ink, selector={"mode": "text"})
            draw(slide.figure, slide.message, slide.alt, key=key, height="stretch", savable=False)
        st.html(slides.notes_html(slide))


def explain(text: str) -> None:
    st.title("Presentation")
    st.info(text)


def main() -> None:
    open_in_app("presentation.py")
    measured = [run for run in all_runs() if isinstance(run, AccuracyRun)]
    if not measured:
        explain(
            "No results yet. Open **Run evaluations** and evaluate fp32 and a few recipes. Then"
            " present what to use."
        )
        return
    try:
        models, margin = from_url(measured)
    except InputError as error:
        why = markup.escape_markdown(str(error))
        explain(f"{why} Select results on the **Report** page and press **Present**.")
        return
    configurations = all_configurations(margin)
    answer = answer_of(configurations, models, margin)
    if not answer.has_results:
        headline = markup.escape_markdown(answer.headline)
        explain(f"{headline}. Open **Run evaluations** and evaluate fp32 and a few recipes.")
        return
    st.html(f"<style>{slides.style()}{STYLE}</style>")
    on_arrow(go)
    number = slide_in_url()
    identity = tuple(c.configuration.keys for c in answer.advice.candidates), margin
    show(slides_of(answer, identity)[number - 1], f"slide-{number}-{models}")
    controls(number, answer, query(models, margin))


main()
