"""Values of widgets as texts in a URL and back; what is invalid is named, and nothing raises."""

import pytest

from pages import _url_codecs as codecs
from pages._url_codecs import Decoded

CODECS = {
    "choice": codecs.choice(["fp32", 4, None], "fp32"),
    "optional choice": codecs.choice(["a", "b"]),
    "choices": codecs.choices(["fp32", "bf16", 4], ["fp32"]),
    "number": codecs.number(0.1, 20.0, 0.5, 0.1, optional=False),
    "whole number": codecs.number(1, 256, 2, 1, optional=False),
    "optional number": codecs.number(1.0, None, None, 10.0, optional=True),
    "range": codecs.number_range(0.0, 30.5),
    "flag": codecs.flag(True),
    "text": codecs.text(),
    "page": codecs.page_number(9),
}
VALUES = {
    "choice": [4, "fp32"],
    "optional choice": ["b", None],
    "choices": [[], ["fp32"], [4, "bf16"]],
    "number": [0.1, 0.5, 20.0, 0.1 + 0.2],
    "whole number": [1, 2, 256],
    "optional number": [None, 1.0, 1234567.0, 1234567.8],
    "range": [(0.0, 30.5), (0.5, 1.5)],
    "flag": [True, False],
    "text": ["", "group size"],
    "page": [1, 9],
}
HOSTILE = ["nope", "nan", "inf", "-1e400", "9" * 5000, "x" * 10_000, "\x00\u202e", "½", "-1"]


@pytest.mark.parametrize("name", CODECS)
def test_a_value_is_the_same_after_the_url(name):
    codec = CODECS[name]
    for value in VALUES[name]:
        texts = codec.to_query(value)
        assert (texts is None) == (value == codec.default)
        assert codec.decode(texts or []) == Decoded(pytest.approx(value))


@pytest.mark.parametrize("name", CODECS)
def test_nothing_in_the_url_is_the_default(name):
    assert CODECS[name].decode([]) == Decoded(CODECS[name].default)


@pytest.mark.parametrize("name", sorted(CODECS.keys() - {"text"}))
@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_invalid_texts_are_named_and_the_default_is_used(name, text):
    codec = CODECS[name]
    assert codec.decode([text]) == Decoded(codec.default, (text,))
    assert isinstance(codec.label(codec.default), str)


def test_options_are_found_by_older_links_that_have_labels():
    labels = {"rtf": "RTF", "wer_pct": "WER (%)"}
    codec = codecs.choice(labels, "rtf", labels.get)
    assert codec.decode(["WER (%)"]) == codec.decode(["wer_pct"]) == Decoded("wer_pct")
    assert codec.label("wer_pct") == "WER (%)"


def test_valid_choices_are_kept_next_to_invalid_ones():
    codec = codecs.choices(["a", "b"], ["a"])
    assert codec.decode(["b", "gone", "b", "", "gone"]) == Decoded(["b"], ("gone",))
    assert codec.decode([""]) == Decoded([])
    assert codec.label(["a", "b"]) == "a, b" and codec.label([]) == "all"


def test_new_options_are_those_that_can_be_typed():
    codec = codecs.choices(["a"], accept_new=True)
    assert codec.decode(["mixed-82", "\x00", "x" * 1001]) == Decoded(
        ["mixed-82"], ("\x00", "x" * 1001)
    )


@pytest.mark.parametrize("texts", [["1"], ["1", "2", "3"], ["2", "1"], ["0", "31"], ["a", "b"]])
def test_a_range_has_two_ends_in_order_and_inside(texts):
    assert codecs.number_range(0.0, 30.5).decode(texts) == Decoded((0.0, 30.5), (texts[-1],))


@pytest.mark.parametrize("text", ["0", "257", "2.5", "", " "])
def test_a_whole_number_is_whole_and_within_its_limits(text):
    assert CODECS["whole number"].decode([text]) == Decoded(2, (text,))
    assert isinstance(CODECS["whole number"].decode(["3"]).value, int)


def test_a_text_has_what_can_be_typed():
    assert codecs.text().decode(["\x00"]) == Decoded("", ("\x00",))
    assert codecs.text().decode(["x" * 1001]).invalid
    assert codecs.text().decode(["<b>`~"]) == Decoded("<b>`~")
