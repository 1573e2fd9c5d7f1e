"""What transcribes the recordings: model, recipes, language, protocol, and what is known of it."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd
import streamlit as st

from pages._column_help import with_help
from pages._session import all_configurations, all_runs, user_store
from pages._tables import draw_table
from pages._view import View
from whisperq_core import machine
from whisperq_core.analyze import advisor
from whisperq_core.analyze.advisor import Advice
from whisperq_core.analyze.configurations import Configuration
from whisperq_core.analyze.user_requirements import Requirements, Status
from whisperq_core.present import advisor_text, markup
from whisperq_core.present.labels import protocol_label
from whisperq_core.quantize import backends, pipeline, recipes
from whisperq_core.quantize.file_transcription import AUTO, TranscriptionConfig
from whisperq_core.quantize.recipes import Recipe
from whisperq_core.serve.user_session import UserSession
from whisperq_core.whisper import model_sources, protocols

LANGUAGES = {
    AUTO: "Detect automatically",
    "en": "English",
    "de": "German",
    "es": "Spanish",
    "fr": "French",
    "it": "Italian",
    "pt": "Portuguese",
    "nl": "Dutch",
    "pl": "Polish",
    "ru": "Russian",
    "ja": "Japanese",
    "zh": "Chinese",
    "ar": "Arabic",
    "hi": "Hindi",
}
NO_MODEL = "none, exported models only"
# What is compared where nothing was measured.
_USUAL = ("whole-int8-dynamic", "torch-int8")
_COMPARED = 2
_REFERENCE = "fp32"

Configs = list[TranscriptionConfig]


def language_name(code: str) -> str:
    return LANGUAGES.get(code, code)


def possible_recipes() -> list[str]:
    """Recipes that can transcribe a recording, fp32 aside."""
    return [
        name
        for name, recipe in recipes.CATALOGUE.items()
        if recipe.calibration != "evaluation-10%" and name != _REFERENCE
    ]


def advice_for(model: str) -> Advice:
    """The Advisor's ranking for a model, with its default requirements."""
    return _advice(user_store().state, model, all_configurations())


@st.cache_resource(max_entries=16, show_spinner=False)
def _advice(state: tuple, model: str, _measured: list[Configuration]) -> Advice:
    return advisor.advise_on(Requirements(models=(model,)), _measured)


def best_recipes(advice: Advice) -> list[str]:
    """The recommended recipe and the runner-up, of those that run here and start at once."""
    shown = [c for c in advice.candidates if c.status is Status.MET]
    probable = [advice.probable] if advice.probable else []
    others = [c for c in advice.candidates if c.status is Status.INCONCLUSIVE]
    ranked = [c.configuration.recipe for c in (*shown, *probable, *others)]
    possible = set(possible_recipes())
    starting = [
        name
        for name in dict.fromkeys((*ranked, *_USUAL))
        if name in possible
        and not recipes.recipe(name).calibrates
        and backends.unavailable_reason(recipes.recipe(name), "cpu") is None
    ]
    return starting[:_COMPARED]


def measured_of(model: str, recipe: str, protocol: str, device: str) -> Configuration | None:
    """What was measured of it under exactly this protocol. protocol: its stored name."""
    return next(
        (
            c
            for c in all_configurations()
            if (c.model, c.recipe, c.protocol.name, c.run.spec.device)
            == (model, recipe, protocol, device)
        ),
        None,
    )


@st.cache_data(max_entries=16, show_spinner=False)
def _sizes(state: tuple, model: str, protocol: str, _runs: list) -> dict[str, int]:
    # Some protocols tie the output projection, which makes a model smaller: its own come last.
    own = sorted(
        (run for run in _runs if run.model == model),
        key=lambda run: run.spec.protocol.name == protocol,
    )
    return {run.spec.recipe.name: run.weights_bytes for run in own}


def sizes_of(model: str, protocol: str) -> Mapping[str, int]:
    """Bytes of the model's weights after each recipe that was measured.

    Under the protocol where it was measured there, else under another.
    """
    return _sizes(user_store().state, model, protocol, all_runs())


def choose_exported_models(session: UserSession, view: View) -> list[str]:
    manifests = session.exported_models()
    typed = [folder for folder in st.session_state.get("exported", []) if folder not in manifests]
    chosen = view.several(
        "Exported models",
        [*manifests, *typed],
        "exported",
        format_func=lambda folder: Path(folder).name,
        accept_new_options=True,
        placeholder="none",
        help="Quantized models exported on the Advisor page or by"
        " `python -m whisperq_core export`; they are self-contained. Type a folder to add one.",
    )
    for folder in chosen:
        manifest = manifests.get(folder) or session.exported_model(folder)
        if others := manifest.other_versions():
            st.caption(
                markup.escape_markdown(
                    f"{manifest.label} was exported with other library versions:"
                    f" {'; '.join(others)}."
                )
            )
    return chosen


def choose_model(view: View) -> str:
    offline = model_sources.offline_names()
    names = [*offline, *(name for name in model_sources.NAMES if name not in offline), NO_MODEL]
    usual = advisor.DEFAULT_MODEL if advisor.DEFAULT_MODEL in offline else names[0]
    return view.one_of(
        "Model",
        names,
        "model",
        usual,
        format_func=lambda n: n if n in (*offline, NO_MODEL) else f"{n} (will be downloaded)",
    )


def choose_recipes(view: View, model: str, advice: Advice) -> list[str]:
    protocol = st.session_state.get("protocol", recommended_protocol(advice))
    sizes = sizes_of(model, protocol)

    def label(name: str) -> str:
        return f"{name} · {sizes[name] / 1e6:.0f} MB" if name in sizes else name

    return view.several(
        "Recipes to compare with fp32",
        possible_recipes(),
        "recipes",
        best_recipes(advice),
        format_func=label,
        disabled=model == NO_MODEL,
    )


def recommended_protocol(advice: Advice) -> str:
    """Name of the protocol that is recommended with the best recipe."""
    use = advice.usable
    return use.configuration.protocol.name if use else protocols.STUDY.name


def choose_configs(session: UserSession, view: View) -> Configs:
    """The models and recipes that are compared, fp32 first."""
    first, second = st.columns([1, 2], gap="large")
    with first:
        model = choose_model(view)
    advice = advice_for(model)
    with second:
        chosen = choose_recipes(view, model, advice)
    folders = choose_exported_models(session, view)
    multilingual = not model.endswith(".en")
    languages = list(LANGUAGES) if multilingual else ["en"]
    tasks = {"transcribe": "Transcribe", "translate": "Translate to English"}
    offered = list(tasks) if multilingual else ["transcribe"]
    how = {"width": 220}
    for key, options in (("language", languages), ("task", offered)):
        if st.session_state.get(key, options[0]) not in options:
            st.session_state[key] = options[0]
    with st.container(horizontal=True):
        settings = {
            "language": view.one_of(
                "Language", languages, "language", languages[0], format_func=LANGUAGES.get, **how
            ),
            "task": view.one_of("Task", offered, "task", offered[0], format_func=tasks.get, **how),
            "device": view.one_of("Device", machine.devices(), "device", "cpu", **how),
        }
        protocol = view.one_of(
            "Protocol",
            list(protocols.PROTOCOLS),
            "protocol",
            recommended_protocol(advice),
            format_func=protocol_label,
            help="  \n".join(f"**{p.label}**: {p.summary}" for p in protocols.PROTOCOLS.values()),
            **how,
        )
    settings["protocol"] = protocols.short_name(protocol)
    configs = []
    if model != NO_MODEL:
        allowed = [recipes.recipe(name) for name in [_REFERENCE, *chosen]]
        configs = [
            TranscriptionConfig(model, recipe, **settings)
            for recipe in without_conflicts(allowed, protocol, settings["device"])
        ]
        show_recipes(model, chosen, protocol, settings["device"], advice)
    return configs + [TranscriptionConfig(folder, None, **settings) for folder in folders]


def without_conflicts(chosen: Iterable[Recipe], protocol: str, device: str) -> list[Recipe]:
    """The recipes that run under the protocol here; the others are named, with why."""
    possible = []
    for recipe in chosen:
        reason = pipeline.unsupported_reason(recipe, protocols.PROTOCOLS[protocol], device)
        if reason is None:
            possible.append(recipe)
        else:
            st.warning(markup.escape_markdown(f"{recipe.name} is left out: {reason}"))
    return possible


def show_recipes(model: str, chosen: list[str], protocol: str, device: str, advice: Advice) -> None:
    """A line for each chosen recipe, and a table of all."""
    use = advice.usable
    best = use.configuration.recipe if use else ""
    for name in chosen:
        measured = measured_of(model, name, protocol, device)
        mark = " (recommended)" if name == best else ""
        facts = (
            f"{advisor_text.gain(measured)} {advisor_text.cost(measured)}"
            if measured
            else "Not measured under this protocol."
        )
        description = recipes.recipe(name).description.rstrip(".")
        st.caption(
            f"**{markup.escape_markdown(name)}{mark}**: {markup.escape_markdown(description)}."
            f" {markup.escape_markdown(facts)}"
        )
    with st.expander("All recipes: size, speed, accuracy"):
        draw_table(
            recipe_table(model, protocol, device),
            column_config=with_help(
                {
                    "Recipe": "Recipe",
                    "Size (MB)": st.column_config.NumberColumn(format="%.0f"),
                    "Relative latency (× fp32)": st.column_config.NumberColumn(format="%.2f"),
                    "WER difference from fp32": st.column_config.NumberColumn(format="%+.2f"),
                }
            ),
        )
        st.caption(
            f"Measured on {model}, {protocol_label(protocol)}. Differences are from"
            f" {advisor_text.REFERENCE}. Empty: not measured under this protocol."
        )


def recipe_table(model: str, protocol: str, device: str) -> pd.DataFrame:
    sizes = sizes_of(model, protocol)
    measured = {
        c.recipe: c
        for c in all_configurations()
        if (c.model, c.protocol.name, c.run.spec.device) == (model, protocol, device)
    }
    rows = []
    for name in (_REFERENCE, *possible_recipes()):
        found = measured.get(name)
        comparison = found.comparison if found else None
        reason = backends.unavailable_reason(recipes.recipe(name), device)
        rows.append(
            {
                "Recipe": name,
                "Size (MB)": sizes[name] / 1e6 if name in sizes else None,
                "Relative latency (× fp32)": (
                    found.latency.value if found and found.latency else None
                ),
                "WER difference from fp32": comparison.difference.value if comparison else None,
                "What it does": recipes.recipe(name).description,
                "Runs here": "yes" if reason is None else reason,
            }
        )
    frame = pd.DataFrame(rows)
    return frame.sort_values("Size (MB)", kind="stable", na_position="last")
