"""Speech under conditions in the report: one section, and no section for each noisy set."""

import json
from datetime import UTC, datetime

import pytest

from tests.support.spoken_runs import ALIKE, MANY, SOME, run_with
from whisperq_core.errors import InputError
from whisperq_core.present import report, report_html
from whisperq_core.present.report_sections import Selection, build_sections
from whisperq_core.present.site import Site

NOISE = "first+noise:<b>rain</b>@0dB"
DATE = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def runs(monkeypatch) -> list:
    monkeypatch.setattr(report_html, "get_plotlyjs", lambda: "/* plotly.js */")
    cells = (("fp32", SOME, SOME), ("bf16", ALIKE, MANY), ("bnb-nf4", ALIKE, ALIKE))
    return [
        run_with(name, wrong, eval_set=eval_set, eval_set_digest=eval_set)
        for name, *both in cells
        for eval_set, wrong in zip(("first", NOISE), both, strict=True)
    ]


def test_the_report_has_one_section_on_conditions(runs):
    page = report.to_html(runs, date=DATE)
    assert "In noise, rooms, on telephones and after codecs" in page
    assert "by WER: 1 of 2 recipes cost more under some condition" in page
    assert "<b>rain</b>" not in page
    assert '<a href="#conditions">In noise' not in page  # one section: nothing to choose from
    assert '<span class="verdict worse">costs more</span>' in page
    assert [s.newest.eval_set for s in build_sections(runs)] == ["first"]
    one_recipe = report.to_html(runs, date=DATE, selection=Selection(recipes=("bnb-nf4",)))
    assert "by WER: 0 of 1 recipe cost more under some condition" in one_recipe


def test_a_published_site_has_the_same_section(runs):
    pages = dict(Site(tuple(runs), DATE).files())
    page = pages["report.html"].decode()
    assert "In noise, rooms, on telephones and after codecs" in page
    assert "by WER: 1 of 2 recipes cost more under some condition" in page
    assert "by condition" in page and "<b>rain</b>" not in page
    # Its figures draw with the site's one copy of Plotly.
    assert page.count('class="plot"') > 0
    of_one = Site(tuple(runs), DATE, selection=Selection(recipes=("bnb-nf4",)))
    assert "0 of 1 recipe cost more" in dict(of_one.files())["report.html"].decode()


def test_without_noisy_results_there_is_none(runs):
    page = report.to_html([r for r in runs if not r.condition], date=DATE)
    assert "after codecs" not in page


def test_a_noisy_set_has_a_section_where_it_is_named(runs):
    [section] = build_sections(runs, selection=Selection(sets=(NOISE,)))
    assert section.newest.eval_set == NOISE
    with pytest.raises(InputError, match="No result matches"):
        build_sections([r for r in runs if r.condition])


def test_programs_get_every_change(runs):
    content = json.loads(report.to_json(runs, date=DATE))
    by_recipe = {row["recipe"]: row for row in content["conditions"]}
    assert by_recipe["bf16"]["verdict"] == "costs more"
    assert by_recipe["bf16"]["minutes_needed"] is None
    assert by_recipe["bnb-nf4"]["change"] == pytest.approx(0)
