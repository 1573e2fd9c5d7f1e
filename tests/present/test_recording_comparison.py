"""Sums over recordings and the files of a comparison."""

import csv
import io
from dataclasses import replace

import pytest

from whisperq_core.present.recording_comparison import (
    ALL,
    ComparedTranscript,
    as_csv,
    as_html,
    summary,
)

ONE = ComparedTranscript(
    "a.wav", "fp32", "en", "Anna paid $12.", "Then Anna paid twelve.", None, 290_000_000, 3.0, 0.5
)


@pytest.fixture
def transcripts():
    return [
        ONE,
        replace(ONE, recipe="int8", text="Then Anna paid thirteen.", baseline=ONE.text),
        replace(ONE, recording="b.wav", text="one two three", reference=""),
        replace(
            ONE,
            recording="b.wav",
            recipe="int8",
            text="one two",
            reference="",
            baseline="one two three",
        ),
    ]


def test_recordings_are_scored_where_they_have_a_reference(transcripts):
    sums = summary(transcripts)
    assert sums["Recording"].tolist() == ["a.wav", "b.wav", ALL, ALL]
    assert sums["Measure"].str.startswith("WER").tolist() == [True, False, True, False]
    assert sums["int8"].tolist()[0] == sums["int8"].tolist()[2] == 25.0
    assert sums["fp32"].isna().tolist() == [False, True, False, True]


def test_files_hold_every_transcript_and_no_formula_or_markup(transcripts):
    wrong = replace(ONE, recipe="=1+1", text="<script>alert(1)</script> Anna paid 13.")
    rows = list(csv.DictReader(io.StringIO(as_csv([*transcripts, wrong]).decode())))
    assert [row["transcript"] for row in rows][:2] == [ONE.text, "Then Anna paid thirteen."]
    assert rows[-1]["recipe"] == "'=1+1"
    assert rows[1]["key_words"] == "wrong: 1 of 1 number, 0 of 1 name"
    page = as_html([*transcripts, wrong], ["Model base."])
    assert "<script>" not in page and "&lt;script&gt;" in page
    assert (
        "Model base." in page
        and "WER 25.0 %" in page
        and "http" not in page.replace("http-equiv", "")
    )
