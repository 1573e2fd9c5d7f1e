import re
from html.parser import HTMLParser

import pytest

from whisperq_core.present.markup import (
    alignment_html,
    alignment_legend_html,
    escape_markdown,
    labelled_html,
)
from whisperq_core.scoring.error_rates import Edit, align

EVIL = "<script>alert('x')</script>&"


class Tags(HTMLParser):
    def __init__(self, html: str):
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data

    def style(self, tag: str) -> str:
        return next(attrs["style"] for name, attrs in self.tags if name == tag)


@pytest.mark.parametrize("kind", ["equal", "substitute", "delete", "insert"])
def test_words_are_escaped(kind):
    edit = Edit(kind, "" if kind == "insert" else EVIL, "" if kind == "delete" else EVIL)
    page = Tags(alignment_html([edit]))
    assert "script" not in {tag for tag, _ in page.tags}
    assert EVIL in page.text


def test_deletions_are_struck_through():
    page = Tags(alignment_html([Edit("delete", "gone", "")]))
    assert "line-through" in page.style("del")
    assert "background" in page.style("del")


def test_insertions_are_underlined():
    page = Tags(alignment_html([Edit("insert", "", "extra")]))
    assert "underline" in page.style("ins")
    assert "background" in page.style("ins")


def test_substitutions_show_what_was_heard_and_what_was_said():
    assert "heard→said" in Tags(alignment_html([Edit("substitute", "said", "heard")])).text


def test_right_words_have_no_mark():
    assert [tag for tag, _ in Tags(alignment_html([Edit("equal", "a", "a")])).tags] == ["div"]


def test_no_text_colour_of_its_own():
    html = alignment_html(align("a cat sat", "a hat sat down")) + alignment_legend_html()
    colours = [part for part in html.split(";") if part.strip().startswith("color:")]
    assert set(colours) == {"color:inherit"}


def test_words_stand_in_reading_order():
    page = Tags(alignment_html(align("the cat sat", "the hat sat down")))
    assert page.text == "the hat→cat sat down"


def test_nothing_said_and_nothing_heard():
    assert Tags(alignment_html([])).text == "no words"


def test_legend_shows_every_kind():
    assert {"span", "del", "ins"} <= {tag for tag, _ in Tags(alignment_legend_html()).tags}


def test_lines_are_escaped_on_both_sides():
    page = Tags(labelled_html([(EVIL, EVIL)]))
    assert "script" not in {tag for tag, _ in page.tags}
    assert page.text.count(EVIL) == 2


@pytest.mark.parametrize("address", ["https://a.example", "www.a.example", "a@b.example"])
def test_addresses_are_no_links(address):
    # Streamlit's renderer makes links of addresses in plain text, escaped or not.
    shown = escape_markdown(f"see {address}").replace("\\", "")
    assert shown.replace("\u2060", "") == f"see {address}"
    assert not re.search(r"https?://|www\.|@\w", shown)


def test_markdown_is_taken_literally():
    assert escape_markdown("a_b*c [d](e) :red[f]") == r"a\_b\*c \[d\]\(e\) \:red\[f\]"
