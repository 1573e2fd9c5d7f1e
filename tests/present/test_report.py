"""Reports as text: what stands in them, what must not, and that the numbers are the records'."""

import csv
import io
import json
import math
import re
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser

import pytest

from tests.support.sample_runs import (
    accuracy_run,
    divergence_run,
    renamed,
    speed_run,
    tiny_english,
)
from tests.support.spoken_runs import ALIKE, MANY, NOISY, NONE, SOME, in_language, run_with
from whisperq_core.analyze import paired_comparisons
from whisperq_core.cli.main import main
from whisperq_core.errors import InputError
from whisperq_core.evaluate.notes import Note
from whisperq_core.evaluate.records import AccuracyRun, SpeedRun
from whisperq_core.machine import Machine
from whisperq_core.present import interval_charts, report, report_html, report_sections
from whisperq_core.present.report_sections import Selection
from whisperq_core.quantize.recipes import recipe
from whisperq_core.whisper.protocols import FITTED, STUDY

DATE = datetime(2026, 3, 1, tzinfo=UTC)
HOSTILE = "=cmd|'/C calc'!A1</script><img src=x onerror=alert(1)>&\""
# Enough speech to decide on the margin: eighty speakers, 1600 words.
DECIDED = {"fp32": SOME * 4, "bf16": SOME * 4, "torch-int8": MANY * 4, "quanto-int8": NOISY * 4}
OPEN = {"fp32": SOME, "torch-int8": ALIKE, "quanto-int8": NOISY}


@pytest.fixture(autouse=True)
def short_plotly(monkeypatch):
    """Plotly's five megabytes are parsed in one test only."""
    monkeypatch.setattr(report_html, "get_plotlyjs", lambda: "/* plotly.js v0 */")


class Page(HTMLParser):
    """What a browser would see: tags with attributes, scripts, and the text outside of them."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.texts: list[str] = []
        self.scripts: list[str] = []
        self.inside = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.inside = tag

    def handle_endtag(self, tag):
        self.inside = ""

    def handle_data(self, data):
        if self.inside == "script":
            self.scripts.append(data)
        elif self.inside != "style":
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    @property
    def data(self) -> list[dict]:
        """The figures."""
        kinds = [a.get("type") for tag, a in self.tags if tag == "script"]
        found = zip(kinds, self.scripts, strict=True)
        return [json.loads(text) for kind, text in found if kind == "application/json"]


def runs_of(errors: dict[str, list[int]]) -> list:
    """Accuracy and speed of the recipes."""
    found = []
    for place, (name, wrong) in enumerate(errors.items()):
        size = 200_000_000 if name == "fp32" else 100_000_000 - place
        found.append(run_with(name, wrong, weights_bytes=size, minutes=place))
        found.append(speed_run(name, [1.0, 1.1, 1.2], [2.0, 2.2, 2.4], minutes=place))
    return found


def page(runs, **how) -> Page:
    return Page(report.to_html(runs, date=DATE, **how))


def hostile(run, name: str = HOSTILE):
    changed = run.spec.model_copy(update={"recipe": replace(run.spec.recipe, name=name)})
    return run.model_copy(update={"spec": changed, "model": name, "eval_set": name})


def test_figures_table_and_answer_of_decided_results():
    seen = page(runs_of(DECIDED))
    assert len(seen.data) == 5
    assert sum(tag == "table" for tag, _ in seen.tags) == 3
    assert (
        "One of 3 configurations is shown to be no worse than fp32 (margin: 0.5 points)"
        in seen.text
    )
    assert ": bf16 – 100 MB, 50 % smaller than fp32, WER 10.00 %" in seen.text
    assert 'model = wq.quantize("base", "bf16")' in seen.text
    assert "Relative latency 0.50 × fp32 (repeated passes: 0.50 to 0.50)." in seen.text
    assert "1 has a significantly higher WER than fp32; 1 is too close to call" in seen.text
    for fact in ("13.3 minutes", "80 utterances", "80 speakers", "A CPU", "Study protocol"):
        assert fact in seen.text
    assert STUDY.summary in seen.text


def test_the_page_opens_with_the_advisors_answer():
    text = page(runs_of(DECIDED)).text
    answer = "Use bf16 on base, Study protocol"
    command = "transcribe speech.wav --model base --recipes bf16"
    places = [text.index(part) for part in (answer, 'wq.quantize("base", "bf16")', command)]
    places += [text.index(part) for part in ("How sure is that?", "What would settle more?")]
    places += [text.index("Recipes 4, named in the tables"), text.index("quanto-int8")]
    assert places == sorted(places)


def test_the_answer_is_from_all_results_and_names_the_protocol():
    runs = runs_of({"fp32": SOME * 4, "torch-int8": MANY * 4})
    runs.append(run_with("bf16", SOME * 4, weights_bytes=80_000_000, protocol=FITTED))
    runs.append(speed_run("bf16", [0.5, 0.5], [1.0, 1.0], protocol=FITTED))
    chosen = Selection(recipes=("torch-int8",), protocols=(STUDY.name,))
    text = page(runs, selection=chosen).text
    assert "Use bf16 on base, Fitted window" in text
    assert 'model.transcribe("speech.wav", protocol="fitted")' in text
    assert "--recipes bf16 --protocol fitted" in text
    content = json.loads(report.to_json(runs, date=DATE, selection=chosen))
    assert content["answer"]["recipe"] == "bf16" and len(content["sections"]) == 1


def test_a_report_of_a_model_answers_for_that_model():
    runs = [*runs_of(DECIDED), *(tiny_english(run) for run in runs_of(OPEN))]
    assert "Keep tiny.en in fp32" in page(runs, selection=Selection(models=("tiny.en",))).text


def test_no_selection_changes_a_verdict_or_an_interval():
    runs = runs_of(DECIDED)

    def of_bf16(**selected) -> dict:
        (section,) = report_sections.build_sections(runs, selection=Selection(**selected))
        columns = ["difference_points", "difference_low", "difference_high", "verdict"]
        frame = section.frame
        return frame.loc[frame["recipe"] == "bf16", columns].iloc[0].to_dict()

    assert of_bf16(recipes=("bf16",)) == of_bf16() == of_bf16(recipes=("bf16", "quanto-int8"))
    assert "corrected for 3 comparisons" in page(runs, selection=Selection(recipes=("bf16",))).text


def test_divergence_is_shown_where_it_was_measured():
    runs = runs_of(DECIDED)
    assert "Divergence (mnat per token)" not in page(runs).text.split("All configurations")[0]
    speakers = [str(i) for i in range(80)]
    measured = divergence_run("bf16", [0.1] * 80, speakers)
    (section,) = report_sections.build_sections([*runs, measured])
    row = section.frame.set_index("recipe").loc["bf16"]
    assert row["divergence_mnat"] == pytest.approx(10.0)
    text = page([*runs, measured]).text
    assert "Divergence (mnat per token)" in text.split("All configurations")[0]
    found = list(csv.DictReader(io.StringIO(report.to_csv([*runs, measured]).decode())))
    (of_bf16,) = [row["divergence_mnat"] for row in found if row["recipe"] == "bf16"]
    assert float(of_bf16) == pytest.approx(10.0)


def test_verdicts_are_those_of_the_comparisons():
    runs = [r for r in runs_of(DECIDED) if isinstance(r, AccuracyRun)]
    verdicts = paired_comparisons.verdicts(runs)
    (section,) = report_sections.build_sections(runs)
    shown = dict(zip(section.frame["key"], section.frame["verdict"], strict=True))
    assert {key: shown[key] for key in verdicts} == {k: v.verdict for k, v in verdicts.items()}


def test_undecided_is_never_called_better():
    seen = page(runs_of(OPEN))
    assert "No configuration is shown to be no worse than fp32 (margin: 0.5 points)." in seen.text
    assert "wq.quantize" not in seen.text
    assert "too close to call (closest to a conclusion: " in seen.text
    assert not re.search(r"\bbetter\b", seen.text, re.IGNORECASE)
    assert not any("better" in json.dumps(figure).lower() for figure in seen.data)


def test_better_is_said_where_it_is_decided():
    assert "better" in page(runs_of({"fp32": MANY, "torch-int8": NONE})).text


def test_nothing_is_compared_without_the_baseline():
    seen = page(runs_of({"torch-int8": SOME, "quanto-int8": ALIKE}))
    assert "No comparison: fp32 was not measured under these conditions." in seen.text
    assert len(seen.data) == 3
    assert "No comparison: only fp32 was measured." in page(runs_of({"fp32": SOME})).text


def test_a_report_of_fp32_alone_says_so_in_its_title():
    text = report.to_html(runs_of({"fp32": SOME}), date=DATE)
    assert "<title>Whisper base: fp32</title>" in text


def test_a_single_utterance_has_no_interval_and_no_verdict():
    seen = page([accuracy_run("fp32"), accuracy_run("torch-int8")])
    assert "The one configuration compared is not shown to be no worse" in seen.text
    assert "nan" not in seen.text.lower()


def test_a_recipe_calibrated_on_the_speech_says_so():
    runs = runs_of({"fp32": SOME, "quanto-int8-float8-eval10": NONE})
    assert "calibrated on a tenth of the evaluated speech" in page(runs).text


def test_slower_recipes_are_not_called_fast():
    runs = [run_with("fp32", SOME * 4), run_with("bf16", SOME * 4)]
    runs.append(speed_run("bf16", [3.0, 3.1, 3.2], [2.0, 2.0, 2.0]))
    assert "not faster than fp32" in page(runs).text
    assert "Its relative latency was not measured" in page(runs[:2]).text


def test_protocols_sets_and_models_stand_apart_and_machines_do_not():
    base = runs_of({"fp32": SOME, "torch-int8": ALIKE})
    other = Machine(cpu="Another", cores=8, memory_bytes=1, system="Linux", python="3.11")
    protocol = replace(renamed("corrected"), batch_size=1)
    apart = [
        *base,
        *(tiny_english(run) for run in base),
        run_with("fp32", SOME, eval_set="test-clean-excerpt"),
        run_with("fp32", SOME * 4, protocol=protocol),
        run_with("bf16", SOME * 4, protocol=protocol).model_copy(update={"machine": other}),
    ]
    found = report_sections.build_sections(apart)
    assert len(found) == 4
    seen = page(apart)
    assert sum(tag == "section" for tag, _ in seen.tags) == 4 + 4
    assert "Corrected (Whisper's own fallback)" in seen.text
    # Transcripts do not depend on the processor: runs of two machines are compared.
    both = next(s for s in found if s.elsewhere)
    assert set(both.frame["verdict"]) == {"baseline", "no worse"}
    assert "1 result: transcribed on another machine" in seen.text


ANOTHER = Machine(cpu="Another", cores=8, memory_bytes=1, system="Linux", python="3.11")


def timed_on_another(recipe, seconds) -> SpeedRun:
    run = speed_run(recipe, seconds, [2.0], cpu=ANOTHER.cpu)
    return run.model_copy(update={"machine": ANOTHER})


def test_speed_of_another_machine_is_left_out_and_said():
    runs = [run_with(name, SOME) for name in ("fp32", "bf16", "quanto-int8")]
    here = [speed_run(name, [1.0], [2.0]) for name in ("fp32", "bf16")]
    runs += [*here, timed_on_another("quanto-int8", [0.5])]
    assert "1 result: speed was measured on another machine" in page(runs).text
    (section,) = report_sections.build_sections(runs)
    timed = section.frame.dropna(subset="rtf_ratio")
    assert set(timed["recipe"]) == {"fp32", "bf16"} and section.machine != ANOTHER


def test_speed_is_shown_where_it_was_measured_though_transcripts_are_of_another_machine():
    runs = [run_with("fp32", SOME), run_with("bf16", SOME), timed_on_another("bf16", [1.0])]
    (section,) = report_sections.build_sections(runs)
    assert section.machine == ANOTHER and section.elsewhere == 2
    assert section.frame.set_index("recipe")["rtf_ratio"]["bf16"] == 0.5


def test_results_with_other_threads_are_sections_of_their_own_and_compared_with_one_baseline():
    runs = [
        run_with("fp32", SOME),
        run_with("bf16", SOME, threads=8),
        speed_run("bf16", [1.0, 1.0], [2.0, 2.0], threads=8),
    ]
    two, eight = report_sections.build_sections(runs)
    assert two.frame["recipe"].tolist() == ["fp32"] and "8 threads" in eight.machine_text
    [row] = eight.frame.to_dict("records")
    assert row["rtf_ratio"] == 0.5 and row["verdict"] != "not compared"


def test_the_newest_result_of_a_recipe_counts():
    runs = [
        run_with("fp32", SOME),
        run_with("bf16", MANY, versions={"torch": "1"}),
        run_with("bf16", SOME, minutes=9),
    ]
    (section,) = report_sections.build_sections(runs)
    assert section.frame["wer_pct"].tolist() == [10.0, 10.0]
    assert "1 result: replaced by a newer result of the same recipe" in page(runs).text


def test_names_are_data():
    runs = [hostile(run_with("torch-int8", SOME)), hostile(run_with("fp32", ALIKE), "fp32<b>")]
    text = report.to_html(runs, date=DATE, title=HOSTILE, baseline="fp32<b>")
    seen = Page(text)
    assert not [tag for tag, _ in seen.tags if tag in ("img", "b")]
    assert not [a for _, attributes in seen.tags for a in attributes if a.startswith("on")]
    assert HOSTILE in seen.text
    # Three of our own scripts' kinds: the data of each figure, Plotly, and what draws.
    scripts = [a.get("type") for tag, a in seen.tags if tag == "script"]
    assert scripts == ["application/json"] * len(seen.data) + [None, None]
    assert "<img" not in json.dumps(seen.data)


def test_notes_on_listed_runs_are_shown_as_text():
    runs = runs_of(DECIDED)
    base, others = runs[0], run_with("hqq-int8-g64", SOME, eval_set="elsewhere")
    notes = [
        Note(run=base.key, comment="<b>odd</b>", utterance="utterance-3", author="ann@example.org"),
        Note(run=base.key, starred=True, author="ben"),
        Note(run=others.key, comment="not listed"),
    ]
    seen = page(runs, notes=notes)
    assert "<b>odd</b> fp32 · base · test-other-excerpt · Study protocol · utterance-3 — ann," in (
        seen.text
    )
    assert "★" in seen.text and "ben," in seen.text
    assert "not listed" not in seen.text and "example.org" not in seen.text
    content = json.loads(report.to_json(runs, date=DATE, notes=notes))
    assert [(n["comment"], n["author"]) for n in content["notes"]] == [
        ("<b>odd</b>", "ann"),
        ("", "ben"),
    ]


def test_nothing_is_loaded_from_anywhere(monkeypatch):
    monkeypatch.undo()
    text = report.to_html(runs_of(DECIDED), date=DATE)
    seen = Page(text)
    addresses = [a[k] for _, a in seen.tags for k in ("src", "href", "srcset", "data") if k in a]
    assert not [address for address in addresses if not address.startswith("#")]
    assert not [tag for tag, _ in seen.tags if tag in ("link", "img", "iframe", "object", "base")]
    style = text[text.index("<style>") : text.index("</style>")]
    assert "url(" not in style and "@import" not in style
    policy = next(a["content"] for t, a in seen.tags if a.get("http-equiv"))
    assert "default-src 'none'" in policy and "http" not in policy
    plotly = [script for script in seen.scripts if "plotly.js v" in script[:500]]
    assert len(plotly) == 1 and len(plotly[0]) > 1_000_000


def test_the_same_runs_and_date_give_the_same_page():
    runs = runs_of(DECIDED)
    assert report.to_html(runs, date=DATE) == report.to_html(runs[::-1], date=DATE)


def test_commands_reproduce_it():
    runs = [*runs_of(DECIDED), run_with("fp32", SOME, eval_set="my set; rm -rf")]
    text = page(runs).text
    assert (
        "python -m whisperq_core run --models base --recipes fp32,bf16,quanto-int8,torch-int8"
        " --sets test-other-excerpt --threads 2" in text.replace("bf16,fp32", "fp32,bf16")
    )
    assert "--sets 'my set; rm -rf'" in text
    corrected = run_with("fp32", SOME, protocol=replace(renamed("corrected"), batch_size=1))
    text = page([corrected], margin=1.5).text
    assert "--threads 2 --protocol corrected" in text
    assert "report --out report.html --models base" in text
    assert "--protocol corrected --baseline fp32 --margin 1.5" in text


def test_json_has_the_records_numbers():
    runs = runs_of(DECIDED)
    content = json.loads(report.to_json(runs, date=DATE))
    (section,) = content["sections"]
    assert content["date"] == "2026-03-01T00:00:00+00:00"
    assert section["machine"]["cpu"] == "A CPU"
    assert section["protocol"]["batch_size"] == 8
    assert section["versions"] == {"torch": "2.13.0"}
    assert section["command"].startswith("python -m whisperq_core run")
    assert len(section["answer"]) == 3
    accuracy = {run.key: run for run in runs if isinstance(run, AccuracyRun)}
    assert {row["key"] for row in section["results"]} == set(accuracy)
    for row in section["results"]:
        run = accuracy[row["key"]]
        estimate = paired_comparisons.estimate(run)
        assert list(row) == list(report.COLUMNS)
        assert row["wer_pct"] == run.words.rate
        assert row["cer_pct"] == run.characters.rate
        assert (row["wer_low_pct"], row["wer_high_pct"]) == (estimate.low, estimate.high)
        assert row["weights_bytes"] == run.weights_bytes
        assert row["rtf_ratio"] == 0.5
        assert row["verdict"] in ("baseline", "no worse", "worse", "inconclusive")
    baseline = next(row for row in section["results"] if row["recipe"] == "fp32")
    assert baseline["difference_points"] is None


def test_csv_has_the_same_columns_and_no_formulas():
    runs = [hostile(run_with("torch-int8", SOME)), *runs_of({"fp32": SOME, "bf16": ALIKE})]
    lines = list(csv.DictReader(io.StringIO(report.to_csv(runs).decode())))
    assert list(lines[0]) == list(report.COLUMNS)
    assert len(lines) == 3
    assert not [cell for line in lines for cell in line.values() if cell[:1] in tuple("=@\t\r")]
    assert {line["recipe"] for line in lines} == {"'" + HOSTILE, "fp32", "bf16"}
    wers = {line["recipe"]: float(line["wer_pct"]) for line in lines}
    assert math.isclose(wers["bf16"], 10.0)


@pytest.mark.parametrize("sign", ["=", "+", "-", "@", "\t"])
def test_every_sign_of_a_formula_is_neutralised(sign):
    found = report.to_csv([hostile(run_with("torch-int8", SOME), f"{sign}1")])
    line = next(csv.DictReader(io.StringIO(found.decode())))
    assert line["recipe"] == line["model"] == line["set"] == f"'{sign}1"


def test_select_keeps_the_baseline():
    runs = [*runs_of(DECIDED), *(tiny_english(r) for r in runs_of({"fp32": SOME}))]
    chosen = Selection(models=("base",), recipes=("bf16",), sets=("test-other-excerpt",))
    found = report_sections.select_runs(runs, chosen)
    assert sorted(r.spec.recipe.name for r in found) == ["bf16", "fp32"]
    assert {r.model for r in found} == {"base"}
    (section,) = report_sections.build_sections(runs, selection=chosen)
    assert section.frame.set_index("recipe").loc["bf16", "rtf_ratio"] == 0.5
    everything = [run for run in runs if isinstance(run, AccuracyRun)]
    assert report_sections.select_runs(runs) == everything


@pytest.mark.parametrize(
    "asked, baseline, words",
    [
        (Selection(models=("large",)), "fp32", "no result of large"),
        (Selection(recipes=("bf16", "int5")), "fp32", "no result of int5"),
        (Selection(protocols=("corrected",)), "fp32", "no result of corrected"),
        (Selection(models=("tiny.en",), recipes=("bf16",)), "bf16", "No result matches"),
    ],
)
def test_what_has_no_result_is_named(asked, baseline, words):
    runs = [*runs_of(DECIDED), tiny_english(run_with("fp32", SOME))]
    with pytest.raises(InputError, match=words):
        report_sections.select_runs(runs, asked, baseline)


def test_files_by_suffix():
    runs = runs_of(DECIDED)
    assert report.render(runs, ".html", date=DATE).startswith(b"<!DOCTYPE html>")
    assert report.render(runs, ".csv", date=DATE) == report.to_csv(runs)
    assert json.loads(report.render(runs, ".json", date=DATE))["baseline"] == "fp32"
    for suffix in (".pdf", ""):
        with pytest.raises(InputError, match=r"\.html, \.csv, \.json"):
            report.render(runs, suffix, date=DATE)
    with pytest.raises(InputError, match="no result"):
        report.to_html([], date=DATE)


def test_what_is_off_the_chart_is_named():
    runs = [*runs_of(OPEN), run_with("hqq-int2-g64", [20] * 20)]
    assert "Not drawn, beyond the axis: hqq-int2-g64 (100.00 %)" in page(runs).text
    rates, differences = page(runs).data[1:3]
    assert [a["text"] for a in rates["layout"]["annotations"]] == ["100"]
    assert [a["text"] for a in differences["layout"]["annotations"]] == ["90"]


def test_long_tables_may_be_cut_between_rows_and_short_ones_not():
    names = [f"hqq-int{b}-g{g}" for b in (2, 3, 4, 8) for g in (16, 32, 64, 128)]
    names += ["fp32", "bf16", "fp16", "torch-int8", "quanto-int8", "quanto-int4", "bnb-nf4"]
    names += ["bnb-fp4", "bnb-int8"]
    assert {recipe(name).name for name in names} == set(names)
    long = [a for t, a in page([run_with(n, SOME) for n in names]).tags if t == "table"]
    assert {a.get("class") for a in long} == {"long"}
    short = [a for t, a in page(runs_of(DECIDED)).tags if t == "table"]
    assert {a.get("class") for a in short} == {None}


def test_another_device_is_in_the_command():
    run = run_with("fp32", SOME, device="cuda")
    assert report_sections.build_sections([run])[0].command.endswith("--threads 2 --device cuda")


@pytest.mark.parametrize("suffix", report.SUFFIXES)
def test_the_command_line_writes_each_format(store, tmp_path, capsys, suffix):
    for run in runs_of(OPEN):
        store.put(run)
    out = tmp_path / f"report{suffix}"
    arguments = ["report", "--out", str(out), "--models", "base", "--recipes", "torch-int8"]
    arguments += ["--protocol", "study", "--baseline", "quanto-int8", "--margin", "2"]
    assert main(arguments) == 0
    text = out.read_text()
    assert "torch-int8" in text and "quanto-int8" in text
    sections = text.split("All configurations")[0] if suffix == ".html" else text
    assert ">fp32<" not in sections and '"fp32"' not in sections
    assert str(out) in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--out", "report.pdf"], "ends in .html, .csv, .json"),
        (["--out", "/nowhere/report.csv"], "cannot be written"),
        (["--recipes", "int5"], "no result of int5"),
        (["--protocol", "corrected"], "no result of corrected"),
    ],
)
def test_the_command_line_says_what_is_wrong(
    store, tmp_path, monkeypatch, capsys, arguments, words
):
    monkeypatch.chdir(tmp_path)
    for run in runs_of(OPEN):
        store.put(run)
    assert main(["report", *arguments]) == 1
    assert words in capsys.readouterr().err


def test_an_empty_store_is_an_error(store, capsys):
    assert main(["report", "--out", "report.html"]) == 1
    assert "There is no result to report" in capsys.readouterr().err


def test_reports_on_languages_without_spaces_are_of_the_character_error_rate():
    made = [
        in_language(one, "ja") if isinstance(one, AccuracyRun) else one for one in runs_of(DECIDED)
    ]
    text = "\n".join(page(made).texts)
    assert "CER difference from fp32 with 95 % intervals" in text
    assert "significantly higher CER than the baseline" in text
    assert "Probability of a lower CER" in text and "Difference (points of CER)" in text
    for wrong in ("WER difference", "lower WER", "higher WER", "points of WER", "comparing WER"):
        assert wrong not in text
    (section,) = report_sections.build_sections(made)
    assert section.rate == "CER"
    figures = [
        interval_charts.difference_figure(section.frame, 0.5),
        interval_charts.rate_figure(section.frame, "fp32"),
    ]
    assert [figure.layout.xaxis.title.text for figure in figures] == [
        "CER difference from fp32 (points)",
        "CER (%)",
    ]
    assert "WER without loops" not in text and "CER without loops (%)" in text
