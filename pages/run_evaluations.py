"""Choose models, recipes and speech; see what would run; run it and watch."""

import pandas as pd
import streamlit as st

from pages._entry import through_app
from whisperq_core import eval_sets, evaluate, jobs, machine, models, protocols, recipes, table
from whisperq_core.errors import WhisperQError
from whisperq_core.store import Store

STATUS_ICONS = {
    jobs.QUEUED: ":material/schedule:",
    jobs.RUNNING: ":material/progress_activity:",
    jobs.DONE: ":material/check_circle:",
    jobs.FAILED: ":material/error:",
    jobs.STOPPED: ":material/stop_circle:",
}


def spoken(seconds: float) -> str:
    """A duration as one would say it."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes / 60:.1f} h"


@st.cache_data(ttl=60, show_spinner=False)
def offline_models() -> list[str]:
    return models.offline_names()


def model_label(name: str) -> str:
    here = name in offline_models() or name not in models.NAMES
    return name if here else f"{name} (fetched from the hub)"


def set_label(name: str) -> str:
    found = eval_sets.shipped().get(name)
    if found is None:
        return name
    return f"{found.title} · {len(found.utterances)} utterances, {found.audio_s / 60:.1f} min"


def choose_recipes() -> list[recipes.Recipe]:
    names = st.multiselect(
        "Recipes",
        list(recipes.CATALOGUE),
        ["fp32", "torch-int8", "bnb-nf4"],
        format_func=lambda name: name,
        help="How the model is quantized. fp32 is the baseline that everything is compared with.",
        key="recipes",
    )
    chosen = [recipes.recipe(name) for name in names]
    if any(recipe.backend == "hqq" for recipe in chosen):
        size = st.select_slider(
            "HQQ group size",
            recipes.HQQ_GROUP_SIZES,
            64,
            help="Weights that share a scale and a zero point. Smaller groups are more accurate"
            " and larger on disk.",
        )
        chosen = [
            recipes.with_group_size(recipe, size) if recipe.backend == "hqq" else recipe
            for recipe in chosen
        ]
    for recipe in chosen:
        st.caption(f"**{recipe.name}**: {recipe.description}")
    return chosen


def choose_protocol() -> protocols.Protocol:
    every = protocols.PROTOCOLS
    name = st.selectbox(
        "Protocol",
        list(every),
        help="  \n".join(f"**{name}**: {p.description}" for name, p in every.items()),
        key="protocol",
    )
    return every[name]


def choose_sets() -> list[str]:
    offered = [*eval_sets.EVALUATION, *eval_sets.LIBRISPEECH]
    chosen = st.multiselect(
        "Speech",
        offered,
        ["quick-look"],
        format_func=set_label,
        help="The excerpts come with WhisperQ. test-clean and test-other are the full LibriSpeech"
        " sets, downloaded below.",
        key="sets",
    )
    folder = st.text_input(
        "Your own speech: a folder on this machine",
        placeholder="/path/to/folder",
        help="Audio with a manifest.jsonl or manifest.csv (columns audio, text), with a .txt file"
        " beside each recording, or a LibriSpeech split in OpenSLR's layout.",
    )
    return [*chosen, folder.strip()] if folder.strip() else chosen


def download_sets() -> None:
    with st.expander("Download the full LibriSpeech test sets"):
        st.caption(
            "About 350 MB each, from OpenSLR; LibriSpeech, Panayotov et al. 2015, CC BY 4.0."
        )
        for split in eval_sets.LIBRISPEECH:
            if not st.button(f"Download {split}"):
                continue
            bar = st.progress(0.0, f"Downloading {split}")

            def report(done: int, total: int, bar=bar, split=split) -> None:
                share = min(1.0, done / total) if total else 0.0
                bar.progress(share, f"{split}: {done / 1e6:.0f} of {total / 1e6:.0f} MB")

            try:
                found = eval_sets.download_librispeech(split, eval_sets.DATA_FOLDER, report)
                st.success(f"{split} is here: {len(found.utterances)} utterances.")
            except WhisperQError as error:
                st.error(str(error))


def choose() -> list[evaluate.Request]:
    left, right = st.columns(2, gap="large")
    with left:
        names = st.multiselect(
            "Models",
            list(models.NAMES),
            ["tiny.en"],
            format_func=model_label,
            accept_new_options=True,
            help="A name, a hub id such as distil-whisper/distil-small.en@revision, or a folder in"
            " Transformers' or CTranslate2's format. Type to add your own.",
            key="models",
        )
        chosen = choose_recipes()
    with right:
        sets = choose_sets()
        protocol = choose_protocol()
        with st.container(horizontal=True):
            device = st.selectbox("Device", machine.devices(), width=140)
            threads = st.number_input(
                "Threads", 1, 256, machine.default_threads(), width=140, help="CPU threads."
            )
        only_quick = sets == ["quick-look"]
        speed = st.toggle(
            "Measure speed beside fp32",
            not only_quick,
            help=f"{evaluate.SPEED_REPEATS} passes over the quick look, fp32 and the recipe in"
            " turn, so that a noisy machine disturbs both alike. Without it, the time is that of"
            " the one pass that gave the transcripts.",
        )
        download_sets()
    return evaluate.requests_for(
        names,
        chosen,
        sets,
        speed=speed,
        protocol=protocol,
        device=device,
        threads=int(threads),
    )


def show_plan(planned: list[evaluate.Planned]) -> list[evaluate.Planned]:
    to_run = [item for item in planned if item.status == "to run"]
    cached = sum(item.status == "cached" for item in planned)
    refused = sum(item.status == "refused" for item in planned)
    st.header("What will happen")
    parts = [f"**{len(to_run)} to run**"]
    if to_run:
        parts[0] += f", about {spoken(sum(item.estimate_s for item in to_run))}"
    parts += [f"{cached} already measured"] if cached else []
    parts += [f"{refused} cannot run here"] if refused else []
    st.markdown(" · ".join(parts))
    frame = pd.DataFrame(
        {
            "model": [item.request.model for item in planned],
            "recipe": [item.request.recipe.name for item in planned],
            "speech": [item.request.eval_set for item in planned],
            "measures": [item.request.measures for item in planned],
            "status": [item.status for item in planned],
            "about": [spoken(i.estimate_s) if i.status == "to run" else "" for i in planned],
            "why not": [item.reason or "" for item in planned],
        }
    )
    if not refused:
        frame = frame.drop(columns="why not")
    st.dataframe(frame, hide_index=True, height=min(38 + 35 * len(frame), 320))
    return to_run


@st.fragment(run_every=1.0)
def show_jobs(queue: jobs.Jobs) -> None:
    found = [job for job in queue.all() if job.planned is not None]
    if not found:
        return
    st.header("Progress")
    left_s = sum(queue.remaining_s(job) for job in found)
    over = sum(job.is_over for job in found)
    text = f"{over} of {len(found)} finished"
    st.progress(over / len(found), text if over == len(found) else f"{text}, {spoken(left_s)} left")
    for job in reversed(found[-30:]):
        show_job(queue, job)
    with st.container(horizontal=True):
        if over < len(found) and st.button("Stop all", icon=":material/stop_circle:"):
            for job in found:
                queue.stop(job)
            st.rerun(scope="fragment")
        if over and st.button("Clear finished", icon=":material/clear_all:"):
            queue.forget_finished()
            st.rerun(scope="fragment")
    finished = [job.planned.key for job in found if job.status == jobs.DONE]
    show_results(queue.store, finished)


def show_job(queue: jobs.Jobs, job: jobs.Job) -> None:
    done, total = queue.progress(job)
    with st.container(horizontal=True, vertical_alignment="center"):
        text = f"{STATUS_ICONS[job.status]} {job.label} · {job.status}"
        if job.status == jobs.RUNNING:
            if done < total:
                text += f", {done} of {total} pieces, {spoken(queue.remaining_s(job))} left"
            st.progress(done / max(1, total), text)
            if st.button("Stop", key=f"stop-{job.id}"):
                queue.stop(job)
        elif job.status in (jobs.FAILED, jobs.STOPPED):
            st.markdown(f"{text}. {job.message}")
        else:
            st.markdown(text)


def show_results(store: Store, keys: list[str | None]) -> None:
    runs = [run for run in store.runs() if run.key in keys or run.measures == "speed"]
    frame = table.rows(runs)
    if frame.empty:
        return
    st.header("Results")
    columns = ["model", "recipe", "set", "wer_pct", "cer_pct", "rtf", "rtf_ratio"]
    columns += ["size_reduction_pct", "loops", "protocol"]
    st.dataframe(
        frame[columns],
        hide_index=True,
        column_config={
            "wer_pct": st.column_config.NumberColumn("WER %", format="%.2f"),
            "cer_pct": st.column_config.NumberColumn("CER %", format="%.2f"),
            "rtf": st.column_config.NumberColumn("RTF", format="%.3f"),
            "rtf_ratio": st.column_config.NumberColumn("time / fp32", format="%.2f"),
            "size_reduction_pct": st.column_config.NumberColumn("smaller by %", format="%.1f"),
        },
    )
    st.page_link(
        "pages/tradeoffs.py", label="See them among all results", icon=":material/scatter_plot:"
    )


through_app("run_evaluations.py")
st.title("Run evaluations")
st.markdown("Choose what to compare. What was measured before is not run again.")
queue = jobs.shared(Store().root)
try:
    requests = choose()
    if requests:
        to_run = show_plan(evaluate.plan(requests, queue.store))
        if st.button("Start", type="primary", icon=":material/play_arrow:", disabled=not to_run):
            with st.spinner("Starting the worker process"):
                queue.evaluate(to_run)
    else:
        st.info("Choose at least one model, one recipe and some speech.")
except WhisperQError as error:
    st.error(str(error))
show_jobs(queue)
