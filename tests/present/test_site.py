"""A published site as files: every link leads somewhere, and hostile texts are text."""

import json
import re
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urldefrag

import pytest

from tests.support.sample_runs import accuracy_run, speed_run
from tests.support.spoken_runs import ALIKE, MANY, SOME, run_with
from whisperq_core.cli.main import main
from whisperq_core.errors import InputError, StoreError
from whisperq_core.evaluate.notes import Note
from whisperq_core.evaluate.store import Store
from whisperq_core.present import site, site_runs
from whisperq_core.present.site import MARKER, Site
from whisperq_core.scoring import error_rates
from whisperq_core.settings import SHIPPED_CACHE

DATE = datetime(2026, 3, 1, tzinfo=UTC)
HOSTILE = "</script><img src=x onerror=alert(1)>\u2028'\"&"
RUNS = [
    run_with("fp32", SOME * 4, minutes=1),
    run_with("bf16", ALIKE * 4, weights_bytes=90_000_000),
    run_with("torch-int8", MANY * 4, weights_bytes=80_000_000),
    *(speed_run(name, [1.0, 1.1], [2.0, 2.2]) for name in ("fp32", "bf16", "torch-int8")),
]


class Links(HTMLParser):
    """Addresses that a page refers to, and the ids in it."""

    def __init__(self, page: str):
        super().__init__()
        self.addresses: list[str] = []
        self.ids: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.addresses += [values[name] for name in ("href", "src") if values.get(name)]
        self.ids |= {values["id"]} if "id" in values else set()


def broken_links(folder: Path) -> list[str]:
    pages = {page: Links(page.read_text("utf-8")) for page in folder.rglob("*.html")}
    broken = []
    for page, links in pages.items():
        for address in links.addresses:
            file, fragment = urldefrag(address)
            target = (page.parent / file).resolve() if file else page
            if address.startswith("data:"):
                continue
            is_there = target.is_file() and target.is_relative_to(folder)
            if not is_there or (fragment and fragment not in pages[target].ids):
                broken.append(f"{page.name}: {address}")
    return broken


def published(folder: Path, runs, **how) -> Path:
    site.write(folder / "site", Site(tuple(runs), DATE, **how).files())
    return folder / "site"


def speech(folder: Path) -> dict:
    [file] = (folder / "speech").iterdir()
    return json.loads(file.read_text().removeprefix("const speech = ").removesuffix(";\n"))


def run_data(folder: Path, run) -> dict:
    page = (folder / "runs" / f"{run.key}.html").read_text()
    return json.loads(re.search(r'id="run">(.*?)</script>', page)[1])


def test_every_run_has_a_page_and_every_link_leads_there(tmp_path):
    folder = published(tmp_path, RUNS)
    assert broken_links(folder) == []
    keys = {run.key for run in RUNS[:3]}
    assert {page.stem for page in (folder / "runs").iterdir()} == keys
    for name in ("index", "runs", "report"):
        links = Links((folder / f"{name}.html").read_text()).addresses
        assert keys <= {Path(link).stem for link in links if link.startswith("runs/")}
    assert len(list(folder.rglob("plotly.js"))) == 1
    assert (folder / "assets" / "plotly.js").stat().st_size > 4e6
    # The report's answer is the first page.
    assert "Use bf16 on base" in (folder / "index.html").read_text()
    assert "Use bf16 on base" not in (folder / "report.html").read_text()


@pytest.mark.slow
def test_the_shipped_results_fit_ten_megabytes(store, tmp_path, capsys):
    store.results.parent.mkdir(parents=True)
    store.results.symlink_to(SHIPPED_CACHE / "results")
    assert main(["publish", str(tmp_path / "site")]) == 0
    assert "MB" in capsys.readouterr().out
    size = sum(p.stat().st_size for p in (tmp_path / "site").rglob("*") if p.is_file())
    assert size <= 10e6
    assert broken_links(tmp_path / "site") == []
    accuracy = [run for run in Store(SHIPPED_CACHE).runs() if run.measures == "accuracy"]
    assert len(list((tmp_path / "site" / "runs").iterdir())) > 0.9 * len(accuracy)
    assert "In noise, rooms" in (tmp_path / "site" / "report.html").read_text()
    assert labels_outside(tmp_path / "site" / "index.html") == []


def labels_outside(overview: Path) -> list[str]:
    """Labels of the Overview's plot that reach into the ticks below it, or above it."""
    figures = re.findall(r'<script type="application/json">(.*?)</script>', overview.read_text())
    layout = json.loads(figures[-1])["layout"]
    height = layout["height"] - layout["margin"]["t"] - layout["margin"]["b"]
    low, high = layout["yaxis"]["range"]
    outside = []
    for label in layout["annotations"]:
        middle = height * (high - label["y"]) / (high - low) + label["ay"]
        half = 17 / 2 * (1 + label["text"].count("<br>"))
        if not -4 <= middle - half <= middle + half <= height + 4:
            outside.append(label["text"])
    return outside


TEXTS = [
    ("a cat sat down", "a big bad cat sat up"),
    ("one two three", "one three"),
    ("yes", "yes yes yes"),
    ("", "thank you"),
    ("hello there", "hello there"),
]


def test_an_alignment_is_rebuilt_from_the_references_and_the_edits(tmp_path):
    """What run.js does, so that the transcript that is shown is the one that was scored."""
    run = accuracy_run("bf16", TEXTS)
    folder = published(tmp_path, [accuracy_run("fp32", TEXTS), run])
    words, data = speech(folder)["words"], run_data(folder, run)
    for place, utterance in enumerate(run.by_id):
        rebuilt, reference = [], words[place].split()
        edits = data["edits"].get(str(place), [])
        for index in range(len(reference) + 1):
            here = [edit for edit in edits if edit[0] == index]
            rebuilt += [edit[2] for edit in here if edit[1] in "is" and edit[1] == "i"]
            replaced = [edit for edit in here if edit[1] != "i"]
            rebuilt += [edit[2] for edit in replaced if edit[1] == "s"]
            rebuilt += reference[index : index + 1] if not replaced else []
        expected = error_rates.align(utterance.hypothesis, utterance.hypothesis)
        assert " ".join(rebuilt) == " ".join(edit.reference for edit in expected)
        assert len(reference) == utterance.score.words.reference_length
        counted = {kind: 0 for kind in "sdi"}
        for edit in edits:
            counted[edit[1]] += edit[3] if edit[1] == "i" else 1
        score = utterance.score.words
        assert list(counted.values()) == [score.substitutions, score.deletions, score.insertions]
    worst = max(run.utterances, key=lambda u: u.score.words.errors)
    assert run.by_id[data["order"][0]].id == worst.id


def test_languages_without_spaces_are_shown_by_character():
    utterance = (
        accuracy_run("bf16")
        .utterances[0]
        .model_copy(
            update={
                "language": "ja",
                "reference": "今日は",
                "hypothesis": "今日わ",
                "score": error_rates.score("今日は", "今日わ", "ja"),
            }
        )
    )
    run = accuracy_run("bf16").model_copy(update={"utterances": (utterance,)})
    script = site_runs.speech_script(run, {}).decode()
    content = json.loads(script.removeprefix("const speech = ").removesuffix(";\n"))
    assert content["joint"] == "" and content["words"] == ["今 日 は"]
    assert site_runs._edits(utterance) == [[2, "s", "わ"]]


def test_hostile_texts_are_text(tmp_path):
    speakers, ids = [HOSTILE, "b", "c"], [HOSTILE, "b", "c"]
    texts = [(HOSTILE, f"{HOSTILE} evil"), ("a", "b"), ("c", "c")]
    runs = [
        accuracy_run(recipe, texts, ids=ids, speakers=speakers, model=HOSTILE, eval_set=HOSTILE)
        for recipe in ("fp32", "bf16")
    ]
    note = Note(run=runs[1].key, utterance=HOSTILE, comment=HOSTILE, author=HOSTILE[:100])
    of_run = Note(run=runs[1].key, comment=HOSTILE, author=HOSTILE[:100])
    folder = published(tmp_path, runs, notes=(note, of_run))
    for page in folder.rglob("*.html"):
        text = page.read_text("utf-8")
        assert "<img" not in text and HOSTILE not in text, page
        # Each script ends once.
        assert text.count("<script") == text.count("</script>")
        assert "default-src &#39;none&#39;; script-src &#39;self&#39;;" in text
    [script] = (folder / "speech").iterdir()
    assert script.read_bytes().isascii()
    assert speech(folder)["ids"][0] == HOSTILE or HOSTILE in speech(folder)["ids"]
    assert run_data(folder, runs[1])["notes"][HOSTILE][0]["comment"] == HOSTILE
    assert broken_links(folder) == []


def test_recordings_are_published_only_when_they_are_asked_for(store, tmp_path, capsys):
    recipes = ("fp32", "bf16", "quanto-int8")
    for run in Store(SHIPPED_CACHE).runs():
        of_set = (run.model, run.eval_set) == ("tiny.en", "test-clean-excerpt")
        if of_set and run.spec.recipe.name in recipes:
            store.put(run)
    out = tmp_path / "site"
    assert main(["publish", str(out)]) == 0
    assert not (out / "audio").exists() and not any(speech(out)["audio"])
    assert main(["publish", str(out), "--audio", "--recipes", "quanto-int8"]) == 0
    content = speech(out)
    assert len(content["audio"]) == 22 == len(list((out / "audio").iterdir()))
    assert all((out / path).is_file() for path in content["audio"])
    assert "LibriSpeech" in (out / "index.html").read_text()


def test_results_on_own_speech_are_published_only_by_name(store, tmp_path, capsys):
    for recipe in ("fp32", "bf16"):
        store.put(accuracy_run(recipe, [("secret words", "secret")] * 3))
        store.put(accuracy_run(recipe, [("my secret", "my")] * 3, eval_set="calls"))
    out = tmp_path / "site"
    assert main(["publish", str(out)]) == 0
    assert "Left out, since they are your own sets: calls." in capsys.readouterr().err
    assert len(list((out / "runs").iterdir())) == 2
    assert "my secret" not in "".join(p.read_text() for p in (out / "speech").iterdir())
    assert main(["publish", str(out), "--sets", "calls"]) == 0
    assert capsys.readouterr().err == ""  # a public set that is not named is no own set
    assert "my secret" in "".join(p.read_text() for p in (out / "speech").iterdir())
    assert main(["publish", str(out), "--sets", "other"]) == 1
    assert "There is no result on other" in capsys.readouterr().err


def test_a_site_replaces_a_site_and_nothing_else(tmp_path):
    published(tmp_path, RUNS)
    out = tmp_path / "site"
    (out / "runs" / "stale.html").write_text("old")
    published(tmp_path, RUNS)
    assert not (out / "runs" / "stale.html").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["site"]
    other = tmp_path / "photos"
    other.mkdir()
    (other / "cat.jpg").write_text("cat")
    with pytest.raises(InputError, match="something else than a published site"):
        site.write(other, [])
    assert (other / "cat.jpg").read_text() == "cat"


def test_a_site_that_cannot_be_finished_leaves_the_earlier_one(tmp_path):
    out = published(tmp_path, RUNS)

    def files():
        yield "index.html", b"half"
        raise OSError(28, "No space left on device")

    with pytest.raises(StoreError, match="No space left"):
        site.write(out, files())
    assert (out / MARKER).is_file() and b"half" not in (out / "index.html").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["site"]


def test_no_results_is_a_sentence(store, tmp_path, capsys):
    assert main(["publish", str(tmp_path / "site")]) == 1
    assert "There is no result to report" in capsys.readouterr().err
    assert not (tmp_path / "site").exists()
