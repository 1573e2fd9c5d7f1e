"""The results selected on the Report page as slides: large type, one message each."""

from html import escape

import streamlit as st

from pages._arrow_keys import on_arrow
from pages._figures import draw
from pages._navigation import open_in_app
from pages._report_selection import from_url, query
from pages._session import user_store
from whisperq_core.errors import InputError
from whisperq_core.evaluate.records import AccuracyRun
from whisperq_core.present import markup, report_sections, slides
from whisperq_core.present.report_sections import Section

SLIDES = 5
# Without the sidebar and the header, and readable from the back of a room.
STYLE = """<style>
[data-testid="stSidebar"], [data-testid="stExpandSidebarButton"], [data-testid="stHeader"] {
  display: none; }
[data-testid="stMainBlockContainer"] { padding: clamp(1rem, 3vh, 3rem) clamp(1rem, 4vw, 5rem); }
.wq-topic { font-size: clamp(1rem, 1.6vw, 1.6rem); opacity: 0.8; margin: 0; }
.wq-message { font-size: clamp(1.7rem, 4.2vw, 4rem); line-height: 1.15; font-weight: 700;
  margin: 0.2em 0 0.5em; overflow-wrap: anywhere; padding: 0; }
.wq-facts { display: flex; flex-wrap: wrap; gap: clamp(1rem, 3vw, 3rem); margin: 0 0 1.2em; }
.wq-fact { flex: 1 1 14rem; border-left: 6px solid #0072B2; padding-left: 1rem; }
.wq-value { font-size: clamp(1.8rem, 4.4vw, 4.2rem); font-weight: 700; line-height: 1.1; }
.wq-label { font-size: clamp(1.1rem, 1.9vw, 1.9rem); }
.wq-note { font-size: clamp(0.95rem, 1.4vw, 1.4rem); opacity: 0.85; }
.wq-sentence { font-size: clamp(1.1rem, 2vw, 2rem); line-height: 1.4; margin: 0 0 0.6em; }
</style>"""


# So that a key press shows the next slide at once.
@st.cache_resource(max_entries=8, show_spinner=False)
def sections_of(_runs: list, keys: tuple[str, ...], baseline: str, margin: float) -> list[Section]:
    return report_sections.build_sections(_runs, baseline=baseline, margin=margin)


@st.cache_data(max_entries=16, show_spinner="Preparing the slides")
def slides_of(_section: Section, identity: tuple) -> list[slides.Slide]:
    return slides.build_slides(_section)


def slide_in_url() -> int:
    """The slide's number from 1; the first, and a warning, where there is no such slide."""
    text = st.query_params.get("screen", "1")
    if text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= SLIDES:
        return int(text)
    st.warning(f"There is no slide with that number; there are {SLIDES}. The first is shown.")
    return 1


def go(step: int) -> None:
    text = st.query_params.get("screen", "1")
    now = int(text[:9]) if text.isascii() and text.isdigit() else 1
    st.query_params["screen"] = str(min(SLIDES, max(1, now + step)))


def controls(number: int, sections: list[Section], link: str) -> Section:
    """Back, next, the slide's number, links to other pages; returns the section chosen."""
    with st.container(horizontal=True, vertical_alignment="center"):
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
        chosen = 0
        if len(sections) > 1:
            titles = {
                place: f"{section.title}, {section.newest.spec.protocol.label}"
                for place, section in enumerate(sections)
            }
            chosen = st.selectbox(
                "Results",
                list(titles),
                format_func=titles.get,
                key="presented",
                label_visibility="collapsed",
                width=420,
            )
        st.markdown(f"[Report](./report?{link}) · [All results](./)", width="content")
    return sections[chosen]


def show(slide: slides.Slide, key: str) -> None:
    facts = "".join(
        f'<div class="wq-fact"><div class="wq-value">{escape(fact.value)}</div>'
        f'<div class="wq-label">{escape(fact.label)}</div>'
        f'<div class="wq-note">{escape(fact.note)}</div></div>'
        for fact in slide.facts
    )
    sentences = "".join(f'<p class="wq-sentence">{escape(text)}</p>' for text in slide.sentences)
    st.html(
        f'<p class="wq-topic">{escape(slide.topic)}</p>'
        f'<h1 class="wq-message">{escape(slide.message)}</h1>'
        + (f'<div class="wq-facts">{facts}</div>' if facts else "")
    )
    if slide.figure is not None:
        draw(slide.figure, slide.message, slide.alt, key=key)
    if sentences:
        st.html(sentences)


def main() -> None:
    open_in_app("presentation.py")
    runs = user_store().runs()
    measured = [run for run in runs if isinstance(run, AccuracyRun)]
    if not measured:
        st.title("Presentation")
        st.info(
            "No results yet. Open **Run evaluations** and evaluate fp32 and a few recipes. Then"
            " select results on the **Report** page and press **Present**."
        )
        return
    try:
        chosen, margin = from_url(measured)
        selected = report_sections.select_runs(runs, **chosen)
    except InputError as error:
        st.title("Presentation")
        why = markup.escape_markdown(str(error))
        st.info(f"{why} Select results on the **Report** page and press **Present**.")
        return
    st.html(STYLE)
    keys = tuple(run.key for run in selected)
    sections = sections_of(selected, keys, chosen["baseline"], margin)
    on_arrow(go)
    number = slide_in_url()
    section = controls(number, sections, query(chosen, margin))
    identity = tuple(run.key for run in section.runs), section.baseline, margin
    show(slides_of(section, identity)[number - 1], f"slide-{number}-{section.newest.key}")


main()
