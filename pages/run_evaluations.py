"""Choose models, recipes and speech; see what would run; run it and watch."""

from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
import streamlit as st

from pages._buttons import button
from pages._column_help import with_help
from pages._navigation import open_in_app
from pages._session import all_configurations, all_runs, user_session
from pages._tables import draw_table
from pages._view import View
from whisperq_core import machine
from whisperq_core.analyze import advisor, results_table
from whisperq_core.analyze.configurations import REFERENCE_RECIPE
from whisperq_core.errors import InputError, WhisperQError
from whisperq_core.evaluate import planner
from whisperq_core.evaluate.history import format_duration
from whisperq_core.evaluate.requests import SPEED_REPEATS, Request, requests_for
from whisperq_core.evaluate.store import Store
from whisperq_core.plurals import counted
from whisperq_core.present import condition_text, glossary, markup
from whisperq_core.present.labels import protocol_label
from whisperq_core.quantize import recipes
from whisperq_core.serve import job_queue
from whisperq_core.serve.job_queue import JobState
from whisperq_core.serve.tasks import EvaluationTask
from whisperq_core.serve.user_session import UserSession
from whisperq_core.serve.user_sets import UserSets
from whisperq_core.speech import conditions, evaluation_sets, librispeech
from whisperq_core.speech.evaluation_sets import SetPreview
from whisperq_core.whisper import model_sources, protocols

STATUS_ICONS = {
    JobState.QUEUED: ":material/schedule:",
    JobState.RUNNING: ":material/progress_activity:",
    JobState.DONE: ":material/check_circle:",
    JobState.FAILED: ":material/error:",
    JobState.STOPPED: ":material/stop_circle:",
}


@st.cache_data(ttl=60, show_spinner=False)
def offline_models() -> list[str]:
    return model_sources.offline_names()


@dataclass(frozen=True)
class Defaults:
    """What is chosen at first."""

    model: str = "tiny.en"
    recipes: tuple[str, ...] = ("fp32", "torch-int8", "bnb-nf4")
    protocol: str = protocols.STUDY.name


def defaults() -> Defaults:
    """fp32 and what the app recommends to run here; a fast first evaluation without any."""
    measured = all_configurations()
    advice = advisor.advise_on(advisor.default_requirements(measured), measured)
    candidates = [one.configuration for one in (advice.usable, advice.probable) if one]
    runs_here = (c for c in candidates if c.unavailable_reason is None)
    configuration = next((c for c in runs_here if c.recipe != REFERENCE_RECIPE), None)
    if configuration is None:
        return Defaults()
    recipe, protocol = configuration.recipe, configuration.protocol.name
    is_known = recipe in recipes.CATALOGUE and protocol in protocols.PROTOCOLS
    if configuration.model not in model_sources.NAMES or not is_known:
        return Defaults()
    return Defaults(configuration.model, (REFERENCE_RECIPE, recipe), protocol)


def show_catalogue(models: list[str]) -> None:
    """Every recipe with its size on each chosen model, where it was measured, and description."""
    # Some protocols tie the output projection, which makes a model smaller: they count last.
    runs = sorted(all_runs(), key=lambda run: run.spec.protocol.name == protocols.STUDY.name)
    sizes = {(run.model, run.spec.recipe.name): run.weights_bytes for run in runs}
    columns = {
        f"Size on {model} (MB)": [
            sizes[model, name] / 1e6 if (model, name) in sizes else None
            for name in recipes.CATALOGUE
        ]
        for model in models
        if any(of == model for of, _ in sizes)
    }
    with st.expander("All recipes, with sizes and descriptions"):
        described = [recipe.description for recipe in recipes.CATALOGUE.values()]
        frame = pd.DataFrame(
            {"Recipe": list(recipes.CATALOGUE), **columns, "Description": described}
        )
        number = st.column_config.NumberColumn(format="%.0f")
        draw_table(frame, column_config=dict.fromkeys(columns, number))


def choose_models(view: View, default: str) -> list[str]:
    names = view.several(
        "Models",
        list(model_sources.NAMES),
        "models",
        [default],
        accept_new_options=True,
        help="A name, a hub id such as distil-whisper/distil-small.en@revision, or a folder in"
        " Transformers' or CTranslate2's format. Type to add your own.",
    )
    here = offline_models()
    if to_download := [name for name in names if name in model_sources.NAMES and name not in here]:
        foreign = markup.escape_markdown(", ".join(to_download))
        st.caption(f"Will be downloaded from the model hub: {foreign}.")
    return names


def choose_recipes(view: View, default: tuple[str, ...]) -> list[recipes.Recipe]:
    catalogue = recipes.CATALOGUE
    names = view.several(
        "Recipes",
        list(catalogue),
        "recipes",
        list(default),
        accept_new_options=True,
        help="How the model is quantized. fp32 is the unquantized baseline."
        " Type other sizes, such as mixed-82 or hqq-int4-g32.",
    )
    sized = {name for name in names if name in catalogue and catalogue[name].backend == "hqq"}
    if sized or view.has("group_size"):
        size = view.one_of(
            "HQQ group size",
            recipes.HQQ_GROUP_SIZES,
            "group_size",
            64,
            st.select_slider,
            help=glossary.definition("group size"),
        )
    chosen = []
    for name in names:
        try:
            recipe = recipes.recipe(name)
        except WhisperQError as error:
            # Only this one is left out; the other choices remain.
            st.error(markup.escape_markdown(str(error)))
            continue
        chosen.append(recipes.with_group_size(recipe, size) if name in sized else recipe)
        st.caption(f"**{chosen[-1].name}**: {recipe.description} {recipe.batch_note}")
    return chosen


def choose_protocol(view: View, default: str) -> protocols.Protocol:
    every = protocols.PROTOCOLS
    name = view.one_of(
        "Protocol",
        list(every),
        "run_protocol",
        default,
        format_func=protocol_label,
        help="  \n".join(f"**{p.label}**: {p.description}" for p in every.values()),
    )
    return every[name]


def choose_sets(session: UserSession, view: View) -> list[str]:
    own = UserSets(session.store.root)
    chosen = view.several(
        "Evaluation sets",
        [*evaluation_sets.EVALUATION_SETS, *librispeech.SPLITS, *own.names()],
        "sets",
        ["quick-look"],
        accept_new_options=True,
        help="The excerpts come with WhisperQ. test-clean and test-other are the full LibriSpeech"
        " sets; download them below. Create your own sets on Compare recordings.",
    )
    shipped = evaluation_sets.shipped_sets()
    for eval_set in (shipped[name] for name in chosen if name in shipped):
        st.caption(
            f"**{eval_set.name}**: {eval_set.title},"
            f" {counted(len(eval_set.utterances), 'utterance')},"
            f" {eval_set.audio_s / 60:.1f} minutes"
        )
    if chosen == ["quick-look"]:
        st.caption(
            "A first check that everything runs here. Whether a recipe increases WER takes more"
            " speech, such as test-other-25-speakers."
        )
    chosen = [own.path_of(name) for name in chosen]
    if session.is_private:
        return chosen
    folder = view.text(
        "Your own evaluation set: a folder on this machine",
        "run_folder",
        placeholder="/path/to/folder",
        help="Audio with a manifest.jsonl or manifest.csv (columns audio, text), with a .txt file"
        " for each recording, or a LibriSpeech split in OpenSLR's layout.",
    )
    if not folder.strip():
        return chosen
    try:
        for sentence in SetPreview.of(evaluation_sets.by_name(folder)).sentences:
            st.caption(markup.escape_markdown(sentence))
    except WhisperQError as error:
        st.error(markup.escape_markdown(str(error)))
        return chosen
    return [*chosen, folder.strip()]


def choose_conditions(view: View, sets: list[str]) -> list[str]:
    """The sets as they are, and each of them under each condition that is chosen."""
    names = view.several(
        "Conditions",
        conditions.common(),
        "run_conditions",
        format_func=condition_text.condition_label,
        accept_new_options=True,
        placeholder="None: as recorded",
        help="Noise, a room, a telephone or a codec, put on the same speech. The sets are evaluated"
        " as recorded, too, so that Noise can compare. Type others, such as noise:train@15dB."
        " joined:5min makes long recordings of the set's utterances.",
    )
    suffixes, joining = [""], set()
    for name in names:
        try:
            parsed = conditions.parse(name)
        except WhisperQError as error:
            st.error(markup.escape_markdown(str(error)))
            continue
        suffixes.append("".join(f"+{one.name}" for one in parsed))
        if parsed[0].joined_min:
            joining.add(suffixes[-1])
    chosen = []
    for eval_set in sets:
        for suffix in dict.fromkeys(suffixes):
            try:
                if suffix in joining:
                    evaluation_sets.by_name(f"{eval_set}{suffix}")
                chosen.append(f"{eval_set}{suffix}")
            except WhisperQError as error:  # too little speech in it
                st.error(markup.escape_markdown(str(error)))
    return chosen


def download_sets() -> None:
    with st.expander("Download the full LibriSpeech test sets"):
        st.caption(
            "About 350 MB each, from OpenSLR; LibriSpeech, Panayotov et al. 2015, CC BY 4.0."
        )
        for split in librispeech.SPLITS:
            if not st.button(f"Download {split}"):
                continue
            bar = st.progress(0.0, f"Downloading {split}")

            def report(done: int, total: int, bar=bar, split=split) -> None:
                share = min(1.0, done / total) if total else 0.0
                bar.progress(share, f"{split}: {done / 1e6:.0f} of {total / 1e6:.0f} MB")

            try:
                eval_set = evaluation_sets.download_librispeech(
                    split, librispeech.data_folder(), report
                )
                st.success(f"Downloaded {split}: {len(eval_set.utterances)} utterances.")
            except WhisperQError as error:
                st.error(markup.escape_markdown(str(error)))


def choose(session: UserSession, view: View) -> list[Request]:
    # A link that names what to run means the Study protocol unless it names another.
    default = defaults()
    if any(view.has(key) for key in ("models", "recipes")):
        default = replace(default, protocol=protocols.STUDY.name)
    left, right = st.columns(2, gap="large")
    with left:
        names = choose_models(view, default.model)
        chosen = choose_recipes(view, default.recipes)
    with right:
        sets = choose_sets(session, view)
        only_quick = sets == ["quick-look"]
        sets = choose_conditions(view, sets)
        protocol = choose_protocol(view, default.protocol)
        with st.container(horizontal=True):
            device = view.one_of(
                "Device",
                machine.devices(),
                "run_device",
                machine.devices()[0],
                width=140,
                help=glossary.definition("device"),
            )
            threads = view.number(
                "Threads",
                *(1, 256, machine.default_threads(), 1),
                "run_threads",
                width=140,
                help=glossary.definition("threads"),
            )
        speed = choose_measurement(
            view,
            "Measure speed relative to fp32",
            "run_speed",
            only_quick,
            help=(
                f"{SPEED_REPEATS} passes over the quick-look set, alternating between fp32 and"
                " the recipe, so that other load on the machine affects both alike. When off,"
                " speed is from the single pass that produced the transcripts."
            ),
        )
        divergence = choose_measurement(
            view,
            "Measure divergence from fp32",
            "run_divergence",
            only_quick,
            help=glossary.definition("divergence"),
        )
        download_sets()
    if not (names and chosen and sets):
        return []
    return requests_for(
        names,
        chosen,
        sets,
        speed=speed,
        divergence=divergence,
        protocol=protocol,
        device=device,
        threads=threads,
    )


def choose_measurement(view: View, label: str, key: str, only_quick: bool, help: str) -> bool:
    """A switch for a further measurement.

    Its default depends on the sets, so the quick look has a switch of its own; `key` in a link sets
    either.
    """
    if not only_quick:
        return view.flag(label, True, key, help=help)
    if requested := view.requested(key):
        view.imply(f"{key}_quick", requested)
    return view.flag(label, False, f"{key}_quick", help=help)


def show_plan(planned: list[planner.PlannedRun]) -> list[planner.PlannedRun]:
    to_run = [item for item in planned if item.status == "to run"]
    cached = sum(item.status == "cached" for item in planned)
    refused = sum(item.status == "refused" for item in planned)
    st.header("Plan")
    parts = [f"**{len(to_run)} to run**"]
    if to_run:
        parts[0] += f", about {format_duration(sum(item.estimate_s for item in to_run))}"
    parts += [f"{cached} already measured"] if cached else []
    parts += [f"{refused} cannot run here"] if refused else []
    st.markdown(" · ".join(parts))
    frame = pd.DataFrame(
        {
            "Model": [item.request.model for item in planned],
            "Recipe": [item.request.recipe.name for item in planned],
            "Evaluation set": [Path(item.request.eval_set).name for item in planned],
            "Measures": [item.request.measures for item in planned],
            "Status": [item.status for item in planned],
            "Estimated time": [
                format_duration(i.estimate_s) if i.status == "to run" else "" for i in planned
            ],
            "Reason": [item.reason or "" for item in planned],
        }
    )
    if not refused:
        frame = frame.drop(columns="Reason")
    draw_table(frame, height=min(38 + 35 * len(frame), 320))
    return to_run


def start(session: UserSession, to_run: list[planner.PlannedRun], choices: dict) -> None:
    """Queues the plan if the choices are still those that it was shown for."""
    if any(st.session_state.get(key, value) != value for key, value in choices.items()):
        raise InputError(
            "The choices changed while you pressed Start, so nothing was started. Check the plan"
            " and press Start again."
        )
    session.evaluate(to_run)


def evaluations(session: UserSession) -> list[job_queue.Job]:
    return [job for job in session.all() if isinstance(job.task, EvaluationTask)]


def show_jobs(session: UserSession) -> None:
    jobs, queue = evaluations(session), session.queue
    if not jobs:
        return
    st.header("Progress")
    left_s = sum(queue.remaining_s(job) for job in jobs)
    over = sum(job.is_over for job in jobs)
    text = f"{over} of {len(jobs)} finished"
    st.progress(
        over / len(jobs), text if over == len(jobs) else f"{text}, {format_duration(left_s)} left"
    )
    for job in reversed(jobs[-30:]):
        show_job(queue, job)
    with st.container(horizontal=True):
        if over < len(jobs):
            st.button("Stop all", icon=":material/stop_circle:", on_click=stop_all, args=(session,))
        if over:
            how = {"on_click": queue.forget, "args": (jobs,)}
            st.button("Clear finished", icon=":material/clear_all:", **how)
    finished = [job.task.planned.key for job in jobs if job.state == JobState.DONE]
    show_results(session.store, finished)


def stop_all(session: UserSession) -> None:
    for job in evaluations(session):
        session.queue.stop(job)


def show_job(queue: job_queue.JobQueue, job: job_queue.Job) -> None:
    done, total = queue.progress(job)
    with st.container(horizontal=True, vertical_alignment="center"):
        text = f"{STATUS_ICONS[job.state]} {markup.escape_markdown(job.label)} · {job.state}"
        if job.state == JobState.RUNNING:
            if done < total:
                text += f", {done} of {total} steps, {format_duration(queue.remaining_s(job))} left"
            st.progress(done / max(1, total), text)
            st.button("Stop", key=f"stop-{job.id}", on_click=queue.stop, args=(job,))
        elif job.state in (JobState.FAILED, JobState.STOPPED):
            st.markdown(f"{text}. {markup.escape_markdown(job.message)}")
        else:
            st.markdown(text)


def show_results(store: Store, keys: list[str | None]) -> None:
    runs = [run for run in store.runs() if run.key in keys or run.measures == "speed"]
    machines = [run.machine_kind for run in runs if run.key in keys]
    if not machines:
        return
    # Of the machine that ran the last of them: this one or a cluster's.
    frame = results_table.rows(runs, machines[-1])
    if frame.empty:
        return
    st.header("Results")
    columns = ["model", "recipe", "set", "wer_pct", "cer_pct", "rtf", "rtf_ratio"]
    columns += ["size_reduction_pct", "loops", "protocol"]
    draw_table(
        frame[columns].assign(protocol=frame["protocol"].map(protocol_label)),
        column_config=with_help(
            {
                name: results_table.LABELS[name]
                for name in ("model", "recipe", "set", "loops", "protocol")
            }
            | {
                "wer_pct": st.column_config.NumberColumn("WER (%)", format="%.2f"),
                "cer_pct": st.column_config.NumberColumn("CER (%)", format="%.2f"),
                "rtf": st.column_config.NumberColumn("RTF", format="%.3f"),
                "rtf_ratio": st.column_config.NumberColumn(
                    "Relative latency (× fp32)", format="%.2f"
                ),
                "size_reduction_pct": st.column_config.NumberColumn(
                    "Size reduction (%)", format="%.1f"
                ),
            }
        ),
    )
    st.page_link(
        "pages/tradeoffs.py", label="Show them with all results", icon=":material/scatter_plot:"
    )


open_in_app("run_evaluations.py")
st.title("Run evaluations")
st.markdown("Choose models, recipes and evaluation sets. Stored results are not measured again.")
session = user_session()
try:
    with View("run_evaluations") as shown:
        requests = choose(session, shown)
    if requests:
        to_run = show_plan(session.plan(requests))
        how = {"type": "primary", "icon": ":material/play_arrow:", "disabled": not to_run}
        button("Start", "start", start, session, to_run, shown.state(), **how)
    else:
        st.info("Choose at least one model, one recipe and one evaluation set.")
    show_catalogue(st.session_state["models"])
except WhisperQError as error:
    st.error(markup.escape_markdown(str(error)))
busy = not all(job.is_over for job in session.all())
# When all jobs are over, the sidebar's progress redraws the page with the new results.
st.fragment(run_every=1.0 if busy else None)(show_jobs)(session)
