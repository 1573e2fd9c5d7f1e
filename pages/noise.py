"""What noise, rooms, telephones and codecs do to quantized models, with the audio to play."""

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from pages._code import draw_code
from pages._figures import draw
from pages._navigation import open_in_app
from pages._session import all_runs, user_store
from pages._tables import draw_table
from pages._utterance_view import playable, public_utterances
from pages._view import View
from whisperq_core.analyze import hallucinations
from whisperq_core.analyze.condition_effects import MEASURES, ConditionEffect, condition_effects
from whisperq_core.evaluate.records import AccuracyRun, Run
from whisperq_core.plurals import counted
from whisperq_core.present import condition_charts, condition_text, markup
from whisperq_core.speech import conditions
from whisperq_core.whisper.protocols import protocol_label

COMMAND = "python -m benchmarks.conditions"
EXAMPLE = (
    "python -m whisperq_core run --models base --recipes fp32,bnb-nf4 --protocol fitted"
    " --sets test-other-15-minutes,test-other-15-minutes+noise:coffee-shop@5dB"
)
NO_SPEECH_COMMAND = (
    "python -m whisperq_core run --models base --recipes fp32,bnb-nf4 --protocol fitted"
    " --sets no-speech-15-minutes --only accuracy"
)
MEASURE_NAMES = {"divergence": "Divergence from fp32", "WER": "WER"}


@st.cache_resource(max_entries=2, show_spinner="Comparing conditions with quiet")
def all_effects(state: tuple, _runs: list) -> list[ConditionEffect]:
    return [effect for measure in MEASURES for effect in condition_effects(_runs, measure)]


def choose_effects(view: View, effects: list[ConditionEffect]) -> list[ConditionEffect]:
    """Those of one measure and of one model, protocol and set."""
    places = {
        f"{e.model} · {protocol_label(e.protocol)} · {e.eval_set}": (
            e.model,
            e.protocol,
            e.eval_set,
        )
        for e in effects
    }
    with st.container(horizontal=True, vertical_alignment="bottom"):
        measures = [m for m in MEASURES if any(e.measure == m for e in effects)]
        measure = view.one_of(
            "Measure",
            measures,
            "noise_measure",
            measures[0],
            st.segmented_control,
            required=True,
            format_func=MEASURE_NAMES.__getitem__,
        )
        own = [e for e in effects if e.measure == measure]
        names = [n for n, p in places.items() if any(_place(e) == p for e in own)]
        most = max(names, key=lambda n: sum(_place(e) == places[n] for e in own))
        name = view.one_of("Model, protocol and speech", names, "noise_set", most, width=460)
    return [e for e in own if _place(e) == places[name]]


def _place(effect: ConditionEffect) -> tuple[str, str, str]:
    return effect.model, effect.protocol, effect.eval_set


def show_table(effects: Sequence[ConditionEffect]) -> None:
    of_divergence = effects[0].measure == "divergence"
    change = "Change (factor)" if of_divergence else "Change (points)"
    rows = pd.DataFrame(
        [
            {
                "Recipe": e.recipe,
                "Condition": condition_text.condition_label(e.condition),
                "In quiet": e.in_quiet,
                "Under it": e.under_condition,
                change: e.change.value,
                "95 % interval": f"{e.change.low:.2f} to {e.change.high:.2f}",
                "Verdict": condition_text.verdict_text(e),
            }
            for e in effects
        ]
    )
    number = st.column_config.NumberColumn(format="%.2f")
    names = [c for c in rows.columns if rows[c].dtype.kind == "f"]
    draw_table(rows, column_config=dict.fromkeys(names, number))
    costs = "mnat per token from fp32" if of_divergence else "points of WER more than fp32"
    st.caption(
        f"Costs: {costs}. Intervals are simultaneous over {effects[0].family} changes;"
        f" {counted(effects[0].change.blocks, effects[0].change.block)},"
        f" {effects[0].minutes:.0f} minutes of speech."
    )


def listen(view: View, effects: Sequence[ConditionEffect], runs: Sequence[AccuracyRun]) -> None:
    """One utterance in quiet and at each level, with what fp32 and a recipe transcribed."""
    st.header("Listen")
    place = effects[0]
    panels = condition_charts.panels(effects)
    own_runs = _runs_at(runs, place)
    # Divergence is measured on fp32's transcripts: a recipe may have none of its own.
    transcribed = {run.spec.recipe.name for run in own_runs}
    recipes = [r for r in dict.fromkeys(e.recipe for e in effects) if r in transcribed]
    quiet = public_utterances(place.eval_set)
    if not quiet:
        st.info("The recordings of this set are not part of WhisperQ, so they cannot be played.")
        return
    with st.container(horizontal=True, vertical_alignment="bottom"):
        panel = view.one_of("Condition", list(panels), "noise_panel", next(iter(panels)), width=300)
        names = ["fp32"]
        if recipes:
            names.append(view.one_of("Recipe", recipes, "noise_recipe", recipes[0], width=240))
        id = view.one_of("Utterance", sorted(quiet), "noise_utterance", min(quiet), width=240)
    st.markdown(f"Spoken: {markup.escape_markdown(quiet[id].reference)}")
    own = sorted(panels[panel], key=lambda e: (-(e.level_db or 0), e.condition))
    suffixes = list(dict.fromkeys(["", *(f"+{e.condition}" for e in own)]))
    texts = _transcripts(own_runs, id)
    for suffix in suffixes:
        spoken = public_utterances(place.eval_set + suffix).get(id)
        if spoken is None:
            continue
        label = condition_text.condition_label(suffix[1:]) if suffix else "Quiet"
        st.subheader(markup.escape_markdown(label))
        st.audio(playable(spoken))
        for name in names:
            if (text := texts.get((name, suffix))) is not None:
                st.markdown(f"{name}: {markup.escape_markdown(text) or '(nothing)'}")


def _runs_at(runs: Sequence[AccuracyRun], place: ConditionEffect) -> list[AccuracyRun]:
    """Those of the effect's model, protocol and speech, in quiet and under every condition."""
    return [
        run
        for run in runs
        if (
            run.model,
            run.spec.protocol.name,
            conditions.split_from_recordings(run.eval_set)[0],
        )
        == _place(place)
    ]


def _transcripts(runs: Sequence[AccuracyRun], id: str) -> dict[tuple[str, str], str]:
    """What each recipe transcribed of the utterance, by recipe and condition."""
    return {
        (run.spec.recipe.name, conditions.split_from_recordings(run.eval_set)[1]): u.hypothesis
        for run in runs
        for u in run.utterances
        if u.id == id
    }


def show_hallucinations(runs: Sequence[Run]) -> None:
    """Words a minute where nobody speaks, of each recipe and protocol."""
    frame = hallucinations.table(hallucinations.hallucinations(runs))
    st.header("Where nobody speaks")
    if frame.empty:
        st.markdown("No set without speech has been evaluated yet:")
        draw_code(NO_SPEECH_COMMAND, "no_speech_command")
        return
    intervals = zip(frame["low"], frame["high"], strict=True)
    draw_table(
        pd.DataFrame(
            {
                "Model": frame["model"],
                "Recipe": frame["recipe"],
                "Protocol": frame["protocol"].map(protocol_label),
                "Speech": frame["set"],
                "Words a minute": frame["words_a_minute"],
                "95 % interval": [f"{low:.2f} to {high:.2f}" for low, high in intervals],
                "Recordings with words": frame["with_words"],
                "Recordings": frame["recordings"],
                "Minutes": frame["minutes"],
            }
        ),
        column_config={
            "Words a minute": st.column_config.NumberColumn(format="%.2f"),
            "Minutes": st.column_config.NumberColumn(format="%.0f"),
        },
    )
    st.caption("Every word is hallucinated. Intervals: bootstrap over sources of noise.")


def main(view: View) -> None:
    runs = all_runs()
    show_conditions(view, runs)
    show_hallucinations(runs)


def show_conditions(view: View, runs: Sequence[Run]) -> None:
    effects = all_effects(user_store().state, runs)
    if not effects:
        st.info(f"{condition_text.NOT_MEASURED} One condition, or a grid of many:")
        draw_code(f"{EXAMPLE}\n{COMMAND}", "command")
        return
    for sentence in condition_text.summary(effects):
        st.markdown(f"**{markup.escape_markdown(sentence)}**")
    shown = choose_effects(view, effects)
    draw(
        condition_charts.curves(shown),
        "Cost of quantization under conditions",
        key="conditions",
        alt="Cost of each recipe in quiet and under each condition, as in the table below.",
    )
    st.caption(
        "Levels: by how much the speech is louder than the noise. Filled: a change from quiet that"
        " is shown. Open: too close to call."
    )
    show_table(shown)
    listen(view, shown, [run for run in runs if isinstance(run, AccuracyRun)])
    st.header("Measure more")
    st.markdown("One condition, or a grid of many; both continue where they were stopped:")
    draw_code(f"{EXAMPLE}\n{COMMAND}", "command")


open_in_app("noise.py")
st.title("Noise")
st.markdown(
    "**Does quantization cost more in noise, in a room, on a telephone or after a lossy codec?**"
    " The same utterances in quiet and under each condition: what a recipe costs compared with"
    " fp32, and whether that cost changes."
)
with View("noise") as page:
    main(page)
