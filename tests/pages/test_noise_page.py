"""The page of noise, run by Streamlit's own test harness."""

import io

import numpy as np
import pytest
import soundfile

from tests.support.opened_pages import by_label, changed, codes, everything, opened
from tests.support.sample_runs import accuracy_run, divergence_run
from whisperq_core.analyze.condition_effects import condition_effects
from whisperq_core.evaluate.records import DivergenceRun
from whisperq_core.present import condition_charts
from whisperq_core.speech.evaluation_sets import by_name, read_audio

SET = "test-other-15-minutes"
CONDITIONS = ("", "+noise:rain@20dB", "+noise:rain@0dB", "+telephone")
SPOKEN = by_name(SET).utterances[:40]
LOSSES = {"fp32": (0, 1, 2, 1), "bf16": (0, 1, 2, 1), "hqq-int4-g64": (1, 3, 9, 3)}


def runs() -> list:
    """fp32 and two recipes; the second loses more words with each condition."""
    made = []
    for name, losses in LOSSES.items():
        for condition, lost in zip(CONDITIONS, losses, strict=True):
            eval_set = SET + condition
            digest = by_name(eval_set).digest
            texts = [
                (u.reference, " ".join(u.reference.split()[lost + i % 2 :]))
                for i, u in enumerate(SPOKEN)
            ]
            made.append(
                accuracy_run(
                    name,
                    texts,
                    eval_set=eval_set,
                    eval_set_digest=digest,
                    ids=[u.id for u in SPOKEN],
                    speakers=[u.speaker for u in SPOKEN],
                )
            )
            if name != "fp32":
                nats = [0.01 * (1 + lost) * (1 + i % 3) for i in range(len(SPOKEN))]
                speakers = [u.speaker for u in SPOKEN]
                run = divergence_run(name, nats, speakers, eval_set=eval_set)
                spec = run.spec.model_copy(update={"eval_set_digest": digest})
                made.append(run.model_copy(update={"spec": spec}))
    return made


@pytest.fixture
def measured(store):
    for run in runs():
        store.put(run)
    return store


def test_it_answers_and_shows_every_change(measured):
    app = opened("noise")
    assert "2 of 2 recipes cost more under some condition" in everything(app)
    assert "hqq\\-int4\\-g64, rain at 0 dB" in everything(app)
    table = app.dataframe[0].value
    assert len(table) == 6 and set(table["Recipe"]) == {"bf16", "hqq-int4-g64"}
    assert table["Change (factor)"].max() == pytest.approx(5)
    app = changed(by_label(app.segmented_control, "Measure"), "WER")
    table = app.dataframe[0].value.set_index(["Recipe", "Condition"])
    assert table.loc[("bf16", "rain at 0 dB"), "Change (points)"] == pytest.approx(0)
    assert table.loc[("hqq-int4-g64", "rain at 0 dB"), "Verdict"] == "costs more"
    assert "1 of 2 recipes cost more under some condition, 1 too close to call" in everything(app)


def test_each_level_can_be_heard_with_its_transcripts(measured):
    app = opened("noise", noise_recipe="hqq-int4-g64", noise_utterance=SPOKEN[0].id)
    assert [s.value for s in app.subheader] == ["Quiet", "rain at 20 dB", "rain at 0 dB"]
    assert len(app.get("audio")) == 3
    words = SPOKEN[0].reference.split()
    assert f"hqq-int4-g64: {' '.join(words[9:])}" in [m.value for m in app.markdown]


def test_only_recipes_with_transcripts_can_be_chosen(store):
    for run in runs():
        if run.spec.recipe.name == "fp32" or isinstance(run, DivergenceRun):
            store.put(run)
    app = opened("noise")
    assert not any(box.label == "Recipe" for box in app.selectbox)
    assert f"fp32: {SPOKEN[0].reference}" in [m.value for m in app.markdown]


def test_words_where_nobody_speaks_are_counted(store):
    texts = [("", "thank you")] + [("", "")] * 5
    sources = ["silence", "rain", "city"] * 2
    store.put(accuracy_run("fp32", texts, speakers=sources, eval_set="no-speech-15-minutes"))
    table = opened("noise").dataframe[0].value
    assert list(table["Words a minute"]) == pytest.approx([2])
    assert list(table["Recordings with words"]) == [1]


def test_what_is_played_is_what_was_transcribed():
    from pages._utterance_view import playable

    utterance = by_name(f"{SET}+noise:rain@0dB").utterances[0]
    played, _ = soundfile.read(io.BytesIO(playable(utterance)), dtype="float32")
    assert np.array_equal(played, read_audio(utterance))


def test_without_results_it_says_how_to_measure(store):
    app = opened("noise")
    assert "No recipe has been evaluated both in quiet" in app.info[0].value
    assert "benchmarks.conditions" in codes(app)[0]


def test_curves_begin_in_quiet_and_channels_have_a_panel_of_their_own():
    effects = condition_effects(runs(), "divergence")
    figure = condition_charts.curves(effects)
    titles = [annotation.text for annotation in figure.layout.annotations]
    assert titles == ["rain", "Rooms, telephone and codecs"]
    rain = next(line for line in figure.data if line.name == "hqq-int4-g64")
    assert list(rain.x) == ["quiet", "20 dB", "0 dB"]
    assert list(rain.y) == pytest.approx([e * rain.y[0] for e in (1, 2, 5)])
