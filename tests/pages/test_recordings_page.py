"""Compare recordings and My speech, on real recordings; the browser test runs the work itself."""

import io
import zipfile

import numpy as np
import pytest
import soundfile
from streamlit.testing.v1 import AppTest

from pages import _recording_settings as settings
from pages._recording_jobs import by_turn, in_order
from pages._recording_progress import remaining_s
from tests.support.opened_pages import again, by_label, changed, left_at, opened
from tests.support.sample_runs import accuracy_run
from whisperq_core.analyze import advisor
from whisperq_core.analyze.user_requirements import Requirements
from whisperq_core.evaluate.requests import Request
from whisperq_core.evaluate.resolution import resolve
from whisperq_core.evaluate.store import Store
from whisperq_core.present.markup import escape_markdown
from whisperq_core.quantize import backends, model_export
from whisperq_core.quantize.file_transcription import Transcription, TranscriptionConfig
from whisperq_core.quantize.recipes import recipe
from whisperq_core.quantize.spoken_language import SpokenLanguage
from whisperq_core.scoring.divergence import Divergence
from whisperq_core.serve import job_queue
from whisperq_core.serve.recording_store import Recording, RecordingStore
from whisperq_core.serve.tasks import TranscriptionTask
from whisperq_core.serve.user_sets import UserSets
from whisperq_core.settings import SHIPPED_CACHE
from whisperq_core.speech import evaluation_sets
from whisperq_core.whisper.protocols import STUDY
from whisperq_core.whisper.word_timestamps import TimedWord

NO_MODEL = "none, exported models only"
MANIFEST = "audio,text\na.flac,ask not what your country\n"


def listener(name: str) -> TranscriptionConfig:
    return TranscriptionConfig("tiny.en", recipe(name), "en")


def recordings(**query) -> AppTest:
    """The page with the configurations of `listener`."""
    usual = {"model": "tiny.en", "recipes": ["torch-int8", "bnb-nf4"]}
    return opened("recordings", **(usual | {"protocol": STUDY.name} | query))


def heard(text: str, **other) -> Transcription:
    facts = {"language": "en", "detected": False, "audio_s": 11.0, "wall_s": 1.1}
    facts |= {"weights_bytes": 5_000_000, "fp32_bytes": 9, "silent": False, "looped": False}
    return Transcription(text=text, **{"words": ()} | facts | other)


@pytest.fixture
def shelf(store) -> RecordingStore:
    return RecordingStore(store.root)


@pytest.fixture
def kept(shelf, jfk):
    """On the shelf, heard by fp32 and by another recipe that errs."""
    (one,) = shelf.add([("jfk.flac", jfk.audio.read_bytes())])
    shelf.put_transcription(one.id, listener("fp32"), heard(jfk.reference))
    wrong = jfk.reference.replace("COUNTRY", "COUNTY", 1)
    shelf.put_transcription(
        one.id, listener("torch-int8"), heard(f"{wrong} {'go ' * 9}", looped=True)
    )
    return one


def drawn(app: AppTest) -> dict:
    """What the component was given."""
    import json

    (found,) = [e for e in app.main if e.type == "bidi_component"] or app.get("bidi_component")
    return json.loads(found.proto.json)


def test_recordings_wait_for_a_recording(store):
    app = recordings()
    assert by_label(app.button, "Transcribe").disabled
    assert "No recordings yet" in app.info[0].value
    assert by_label(app.selectbox, "Language").options == ["English"]


def test_a_multilingual_model_offers_languages_and_translation(store):
    app = recordings()
    app = changed(by_label(app.selectbox, "Model"), "base")
    assert by_label(app.selectbox, "Language").options[:2] == ["Detect automatically", "English"]
    assert "Translate to English" in by_label(app.selectbox, "Task").options
    recipes = by_label(app.multiselect, "Recipes").options
    assert "fp32" not in recipes and not any("eval10" in name for name in recipes)


def test_the_recommendation_and_the_runner_up_are_compared_by_default(monkeypatch):
    monkeypatch.setattr("whisperq_core.machine.cpu_flags", lambda: frozenset({"avx512_bf16"}))
    # Without the page: comparing all shipped results takes longer than its harness waits.
    runs = [run for run in Store(SHIPPED_CACHE).runs() if run.model == "base"]
    advice = advisor.advise(Requirements(models=("base",)), runs)
    chosen = settings.best_recipes(advice)
    assert chosen[0] == advice.best.configuration.recipe and len(set(chosen)) == 2
    assert not any(recipe(name).calibrates for name in chosen)  # that would take minutes
    assert settings.recommended_protocol(advice) == advice.best.configuration.protocol.name
    nothing = advisor.advise(Requirements(models=("base",)), [])
    assert len(settings.best_recipes(nothing)) == 2
    assert settings.recommended_protocol(nothing) == STUDY.name


def test_a_sample_is_tried_with_one_click(store, shelf, jfk, monkeypatch):
    asked = []
    queue = job_queue.shared_queue(store.root)
    monkeypatch.setattr(queue, "transcribe", lambda one, config, *_: asked.append(config.name))
    monkeypatch.setattr(queue, "submit", lambda *_: [])
    app = recordings()
    app = by_label(app.button, "Kennedy").click().run()
    (one,) = shelf.all()
    # The first recipe's transcript, which is the recommended one's, comes first.
    assert one.reference == jfk.reference and asked == ["torch-int8", "fp32", "bnb-nf4"]
    assert by_label(app.multiselect, "Recordings").value == [one.id]


def test_a_draft_from_fp32_is_not_scored_until_it_is_saved(kept, shelf):
    app = recordings()
    app = by_label(app.button, "Start from fp32").click().run()
    assert not app.exception and shelf.get(kept.id).reference == ""
    assert [column["name"] for column in drawn(app)["columns"]] == ["fp32", "torch-int8"]
    assert by_label(app.expander, "Reference").proto.expanded
    app = changed(by_label(app.text_area, "Draft"), "ask not what your country can do")
    assert shelf.get(kept.id).draft == "ask not what your country can do"
    app = recordings()  # a reload keeps it
    app = by_label(app.button, "Save as reference").click().run()
    saved = shelf.get(kept.id)
    assert (saved.reference, saved.draft) == ("ask not what your country can do", "")
    assert saved.reference_from == "fp32"
    assert any("Started from fp32's transcript" in c.value for c in app.caption)
    assert by_label(app.expander, "Reference").proto.expanded


def test_a_recording_in_another_language_is_named_with_what_to_do(kept, shelf):
    german = SpokenLanguage(language="de", probability=0.98, model="base")
    shelf.put_spoken_language(kept.id, german)
    app = recordings()
    (error,) = app.error
    assert "in German" in error.value
    assert "tiny.en transcribes English only" in error.value.replace("\\", "")
    app = by_label(app.button, "Use base and detect").click().run()
    assert by_label(app.selectbox, "Model").value == "base" and not app.error
    app = changed(by_label(app.selectbox, "Language"), "en")
    assert "the language is set to English" in app.error[0].value
    app = changed(by_label(app.selectbox, "Language"), "de")
    assert not app.error


def test_recordings_are_listed_in_their_browser_and_by_a_link(shelf, jfk):
    (other,) = shelf.add([("secret.flac", jfk.audio.read_bytes())], owner="f" * 32)
    app = recordings()
    assert not app.multiselect[0].label.startswith("Recordings")
    assert "Only this browser lists them" in app.markdown[0].value
    app = recordings(recordings=other.id)
    assert by_label(app.multiselect, "Recordings").value == [other.id]
    assert not [b for b in app.button if b.label == "Delete it"]


def test_a_time_of_a_busy_machine_is_said_to_be_one(kept, shelf, jfk):
    for load, said in ((0.5, False), (99.0, True)):
        transcription = heard(jfk.reference, load_average=load)
        shelf.put_transcription(kept.id, listener("fp32"), transcription)
        facts = drawn(recordings())["columns"][0]["facts"]
        assert "This clip, once, without loading: 1.10 s, RTF 0.10" in facts
        assert any("machine was busy" in fact for fact in facts) == said


def test_what_is_transcribed_first_is_loaded_while_the_user_chooses(store, warmed_up):
    recordings()
    assert warmed_up == ["torch-int8"]


def test_recordings_are_transcribed_recipe_by_recipe_and_long_ones_one_by_one(kept):
    configs = [listener(name) for name in ("fp32", "torch-int8", "bnb-nf4")]
    short = [(one, config) for one in (kept, with_id(kept, "1")) for config in configs]
    names = [(one.id, config.name) for one, config in in_order(short, configs)]
    assert [name for _, name in names] == ["torch-int8"] * 2 + ["fp32"] * 2 + ["bnb-nf4"] * 2
    # Quantizing with calibration takes a minute, and so does converting for a runtime.
    slow = [listener(name) for name in ("fp32", "openvino-int8", "mixed-84", "torch-int8")]
    turns = [config.name for config in by_turn(slow)]
    assert turns == ["torch-int8", "fp32", "openvino-int8", "mixed-84"]
    hour = with_id(kept, "2", duration_s=3600.0)
    both = [(one, config) for one in (hour, kept) for config in configs]
    names = [(one.id, config.name) for one, config in in_order(both, configs)]
    assert [id for id, _ in names] == [hour.id] * 3 + [kept.id] * 3
    assert [name for _, name in names] == ["torch-int8", "fp32", "bnb-nf4"] * 2


def with_id(recording: Recording, digit: str, **sound) -> Recording:
    update = {"id": digit * 16, "sound": recording.sound.model_copy(update=sound)}
    return recording.model_copy(update=update)


def test_what_runs_late_lengthens_what_waits(kept, store):
    def job(**times) -> job_queue.Job:
        task = TranscriptionTask(kept, listener("fp32"), store)
        return job_queue.Job(task, **times)

    running, queued = (job(started_at=100.0), 10.0), (job(), 10.0)
    assert remaining_s([running, queued], [], now=104.0) == pytest.approx(16)
    # Late: the others are expected to take as long, and of it alone nothing is known.
    assert remaining_s([running, queued], [], now=140.0) == pytest.approx(40)
    assert remaining_s([running], [], now=140.0) == pytest.approx(0)
    over = (job(started_at=80.0, finished_at=100.0), 10.0)
    assert remaining_s([running, queued], [over], now=104.0) == pytest.approx(36)


def test_loading_is_shown_apart_and_without_a_reference_what_is_probably_wrong(kept, shelf, jfk):
    text = "ask not what your county"
    words = [
        TimedWord(text=word, start_s=i, end_s=i + 1, probability=p)
        for i, (word, p) in enumerate(zip(text.split(), (0.9, 0.9, 0.9, None, 0.02), strict=True))
    ]
    transcription = heard(text, words=words, load_s=2.13, divergence=Divergence(20, 0.5, 1))
    shelf.put_transcription(kept.id, listener("torch-int8"), transcription)
    shelf.put_transcription(kept.id, listener("fp32"), heard(jfk.reference, load_s=0.01))
    data = drawn(recordings())
    fp32, other = (column["facts"] for column in data["columns"])
    assert "Loading: none, it was in memory" in fp32 and "Loading: 2.1 s" in other
    assert "Improbable words: 1 of 5" in other
    assert "Divergence from fp32: 25 mnat per token" in other
    chances = [
        word[2]
        for line in data["phrases"]
        for slot in line["slots"]
        for word in slot["words"]
        if word
    ]
    assert [chance for chance in chances if chance is not None] == [0.02]


def test_uploads_before_the_page_is_drawn_to_its_end_are_all_chosen(shelf, jfk, monkeypatch):
    other = evaluation_sets.shipped_sets()["quick-look"].utterances[0]
    with monkeypatch.context() as leaving:
        left_at(leaving, "whisperq_core.whisper.model_sources.offline_names")
        app = recordings()
    files = [(f"{u.id}.flac", u.audio.read_bytes(), "audio/flac") for u in (jfk, other)]
    app = changed(by_label(app.file_uploader, "Recordings"), files)
    chosen = by_label(app.multiselect, "Recordings").value
    assert set(chosen) == {one.id for one in shelf.all()} and len(chosen) == 2


def test_several_recordings_are_summed_up_and_exported(kept, shelf, jfk):
    utterance = evaluation_sets.shipped_sets()["quick-look"].utterances[0]
    (other,) = shelf.add([("other.flac", utterance.audio.read_bytes())])
    shelf.set_reference(other.id, utterance.reference)
    for name in ("fp32", "torch-int8"):
        shelf.put_transcription(other.id, listener(name), heard(utterance.reference))
    app = recordings(recordings=[kept.id, other.id])
    sums = app.dataframe[-1].value
    assert sums["Recording"].tolist() == ["jfk.flac", "other.flac"] + ["All recordings"] * 2
    assert sums["torch-int8"].round(1).tolist() == [45.5, 0.0, 0.0, 45.5]


def test_text_without_speech_is_said_to_be_invented(store, shelf, jfk):
    (one,) = shelf.add([("noise.flac", jfk.audio.read_bytes())])
    words = [TimedWord(text="go.", start_s=1, end_s=2)]
    words += [TimedWord(text=t, start_s=9, end_s=9.5, over_speech=False) for t in ("Thank", "you.")]
    text = "go. Thank you."
    shelf.put_transcription(one.id, listener("fp32"), heard(text, words=words, speech_s=2.0))
    app = recordings()
    assert not app.warning
    (warning,) = drawn(app)["columns"][-1]["warnings"]
    assert warning == "Probably hallucinated, no speech at 9.0 s: “Thank you.”"
    shelf.put_transcription(one.id, listener("fp32"), heard(text, words=words, speech_s=0.0))
    (warning,) = again(app).warning
    assert "probably has no speech: the words below are hallucinated" in warning.value


def test_exported_models_can_be_columns_with_no_other_model(store, tiny, tmp_path):
    folder = (
        store.root / model_export.FOLDER / model_export.folder_name("tiny.en", recipe("torch-int8"))
    )
    model_export.export_quantized(
        tiny, backends.quantize(tiny.torch_model, recipe("torch-int8")), folder
    )
    app = recordings()
    assert by_label(app.multiselect, "Exported models").options == ["tiny.en_torch-int8"]
    app = changed(by_label(app.multiselect, "Exported models"), [str(folder)])
    app = changed(by_label(app.selectbox, "Model"), NO_MODEL)
    assert by_label(app.multiselect, "Recipes").disabled and not app.error
    app = changed(by_label(app.multiselect, "Exported models"), [str(tmp_path)])
    assert "not an exported model" in app.error[0].value


def test_what_was_heard_before_is_there_after_a_reload(kept):
    app = recordings()
    data = drawn(app)
    assert [column["name"] for column in data["columns"]] == ["fp32", "torch-int8"]
    assert any("word difference from fp32" in fact for fact in data["columns"][1]["facts"])
    assert data["columns"][1]["warnings"] == ["Repeats itself: a decoding loop."]
    assert any("nf4: not transcribed yet" in c.value for c in app.caption)
    kinds = [
        w[1] for line in data["phrases"] for slot in line["slots"] for w in slot["words"][1:] if w
    ]
    assert kinds.count("sub") == 1 and kinds.count("ins") == 9


def test_a_reference_is_scored_as_soon_as_it_is_typed(kept, shelf, jfk):
    app = recordings()
    app = changed(by_label(app.text_area, "Reference"), jfk.reference)
    assert shelf.get(kept.id).reference == jfk.reference
    columns = drawn(app)["columns"]
    assert [column["name"] for column in columns] == ["Reference", "fp32", "torch-int8"]
    assert "WER 0.0 %, CER 0.0 %" in columns[1]["facts"]
    assert columns[2]["facts"][0].startswith("WER 45.5 %")  # 10 errors in 22 words


@pytest.mark.parametrize(
    ("language", "reference", "text", "fact"),
    [
        ("en", "It’s a dog’s life", "It's a dog's life", "WER 0.0 %"),
        ("en", "at ten thirty a.m. on june third", "at 10:30 AM on June 3", "WER 0.0 %"),
        ("ar", "مُحَمَّدٌ", "محمد", "WER 0.0 %"),
        ("hi", "नमस्ते हिन्दी में दुनिया", "नमस्ते हिन्दी में", "WER 25.0 %"),
        ("zh", "今天天气很好我们去公园", "今天天气很好我们去花园", "CER 9.1 %"),
    ],
)
def test_typing_habits_and_scripts_are_scored_as_in_evaluations(
    shelf, jfk, language, reference, text, fact
):
    (one,) = shelf.add([("a.flac", jfk.audio.read_bytes())])
    config = TranscriptionConfig("base", recipe("fp32"), language)
    shelf.put_transcription(one.id, config, heard(text, language=language))
    app = recordings(model="base", recipes="fp32", language=language)
    changed(by_label(app.text_area, "Reference"), reference)
    assert fact in drawn(app)["columns"][1]["facts"][0]


def test_who_leaves_at_once_loses_nothing_typed_or_pressed(kept, shelf, store, jfk, monkeypatch):
    given = []
    queue = job_queue.shared_queue(store.root)
    monkeypatch.setattr(queue, "transcribe", lambda kept, one, *_: given.append(one.name))
    monkeypatch.setattr(queue, "submit", lambda tasks, _: [given.append(t.label) for t in tasks])
    app = recordings()
    left_at(monkeypatch, "whisperq_core.whisper.model_sources.offline_names")
    by_label(app.button, "Transcribe").click()
    changed(by_label(app.text_area, "Reference"), jfk.reference)
    assert given == ["bnb-nf4", "jfk.flac · bnb-nf4, divergence from fp32"]
    assert shelf.get(kept.id).reference == jfk.reference


def test_a_recording_goes_into_a_set_and_away(kept, shelf, store, jfk):
    shelf.set_reference(kept.id, "ask")
    app = recordings()
    by_label(app.button, "Add").click().run()
    assert "Name the evaluation set" in app.error[0].value and not UserSets(store.root).names()
    by_label(app.text_input, "Name of the new evaluation set").input("calls")
    by_label(app.text_input, "Speaker (optional)").input("Kennedy")
    by_label(app.button, "Add").click().run()
    assert "is in calls" in app.success[0].value
    # The set is offered from now on; a recording that is in it gets its new reference.
    shelf.set_reference(kept.id, jfk.reference)
    assert by_label(app.selectbox, "Evaluation set").value == "calls"
    by_label(app.button, "Add").click().run()
    assert "is in calls" in app.success[0].value
    (utterance,) = UserSets(store.root).get("calls").utterances
    assert utterance.reference == jfk.reference and utterance.speaker == "Kennedy"
    by_label(app.button, "Delete it").click().run()
    assert not shelf.all() and "No recordings yet" in app.info[0].value
    assert UserSets(store.root).names() == ["calls"]  # a set has a copy of its own


def test_a_silent_recording_is_said_to_be_silent(shelf):
    import numpy as np

    from whisperq_core.speech import decode

    shelf.add([("silence.wav", decode.encode_wav(np.zeros(16_000, np.float32)))])
    app = recordings()
    assert "silent" in app.warning[0].value


def test_recordings_of_every_kind_are_uploaded_with_what_was_done_to_them(shelf, jfk):
    samples, rate_hz = soundfile.read(jfk.audio, dtype="float32")
    faint = samples / np.abs(samples).max() * 10 ** (-66 / 20)
    for name, written, kind, subtype, note in (
        ("scaled.wav", samples * 2**15, "WAV", "FLOAT", "on the scale of 16-bit integers"),
        ("faint.wav", faint, "WAV", "PCM_24", "very quiet"),
        ("a.au", samples, "AU", "ULAW", ""),
        ("a.caf", samples, "CAF", "PCM_16", ""),
        ("a.sph", samples, "NIST", "PCM_16", ""),
        ("cut.mp3", np.tile(samples, 3), "MP3", "MPEG_LAYER_III", ""),
    ):
        data = io.BytesIO()
        soundfile.write(data, written, rate_hz, format=kind, subtype=subtype)
        content = data.getvalue()
        content = content[: len(content) // 3] if name == "cut.mp3" else content
        app = recordings()
        shown = changed(by_label(app.file_uploader, "Recordings"), [(name, content, "audio/x")])
        (one,) = shelf.all()
        assert one.name == name and one.sound.duration_s == pytest.approx(11, abs=0.5)
        shelf.put_transcription(one.id, listener("fp32"), heard("Ask not."))
        shown = again(shown)
        assert not shown.error and note in " ".join(c.value for c in shown.caption).replace(
            "\\", ""
        )
        assert not any("silent" in warning.value for warning in shown.warning)
        shelf.delete(one.id)


def test_what_is_known_of_a_recording_is_shown(shelf, store, jfk):
    samples, rate_hz = soundfile.read(jfk.audio, dtype="float32")
    two = io.BytesIO()
    soundfile.write(two, np.stack([samples, -samples], 1), rate_hz, format="WAV")
    (one,) = shelf.add([("call.wav", two.getvalue())])
    note = escape_markdown(*one.sound.notes)
    estimated = "Word times are estimates: a translation's words have no places in the speech."
    shelf.put_transcription(one.id, listener("fp32"), heard("Ask not.", words_note=estimated))
    app = recordings()
    assert any(note in caption.value for caption in app.caption)
    assert estimated in drawn(app)["columns"][0]["facts"]
    one = shelf.set_reference(one.id, jfk.reference)
    UserSets(store.root).add("calls", one, shelf.original_path(one.id), "en")
    assert any(note in caption.value for caption in opened("my_speech").caption)
    shelf.delete(one.id)
    assert not any(note in caption.value for caption in opened("my_speech").caption)


def test_an_archive_is_previewed_before_it_is_imported(store, jfk):
    files = {"x/a.flac": jfk.audio.read_bytes(), "x/b.flac": b"", "x/manifest.csv": MANIFEST}
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    app = opened("my_speech")
    upload = by_label(app.file_uploader, "ZIP archive")
    app = changed(upload, ("x.zip", data.getvalue(), "application/zip"))
    sentences = UserSets(store.root).preview_zip(data.getvalue()).sentences
    assert len(sentences) == 2 and "b.flac" in sentences[1]
    assert [caption.value for caption in app.caption] == [escape_markdown(s) for s in sentences]
    assert UserSets(store.root).names() == []
    by_label(app.button, "Import").click().run()
    assert UserSets(store.root).names() == ["x"] and not app.exception


def test_an_archive_that_is_none_is_a_sentence_before_it_is_imported(store):
    app = opened("my_speech")
    app = changed(by_label(app.file_uploader, "ZIP"), ("x.zip", b"PK", "application/zip"))
    assert "not an exported set" in app.error[0].value
    assert not [button for button in app.button if button.label == "Import"]


@pytest.fixture
def own(store, shelf, jfk):
    """A set of two recordings and two runs on it that differ in one of them."""
    sets = UserSets(store.root)
    for place, utterance in enumerate(
        [jfk, evaluation_sets.shipped_sets()["quick-look"].utterances[0]]
    ):
        (one,) = shelf.add([(f"call {place}.flac", utterance.audio.read_bytes())])
        one = shelf.set_reference(one.id, utterance.reference)
        sets.add("calls", one, shelf.original_path(one.id), "en")
    return sets


def put_runs(store, sets) -> None:
    for name, wrong in (("fp32", ""), ("bf16", " and more")):
        request = Request("tiny.en", recipe(name), sets.path_of("calls"))
        made = accuracy_run(name)
        spoken = [
            made.utterances[0].model_copy(
                update={"id": u.id, "hypothesis": u.reference + (wrong if place else "")}
            )
            for place, u in enumerate(sets.get("calls").utterances)
        ]
        changes = {"spec": resolve(request).spec, "utterances": tuple(spoken)}
        store.put(made.model_copy(update=changes))


def test_without_a_set_my_speech_says_what_to_do(store):
    assert "Add to a set" in opened("my_speech").info[0].value


def test_a_set_can_be_looked_at_and_thinned_out(own):
    app = opened("my_speech", set="calls")
    assert "2 recordings" in app.markdown[1].value and "unknown speakers" in app.markdown[1].value
    by_label(app.button, "Remove from set").click().run()
    assert len(own.get("calls").utterances) == 1 and not app.exception
    by_label(app.button, "Delete the set").click().run()
    assert own.names() == [] and "No set yet" in app.info[0].value


def test_a_link_to_no_set_is_a_sentence(own):
    app = opened("my_speech", set="<script>alert(1)</script>")
    assert "script" in app.warning[0].value and by_label(app.selectbox, "Eval").value == "calls"


def test_a_vote_counts_once_and_also_of_who_leaves_at_once(own, store, monkeypatch):
    put_runs(store, own)
    # The second stands for a double click, too: both are of the same two transcripts.
    tabs = [opened("my_speech"), opened("my_speech")]
    left_at(monkeypatch, "whisperq_core.serve.blind_test.pending_trials")
    for app in tabs:
        by_label(app.button, "A reads better").click()
        again(app)
    assert [vote.chosen for vote in own.votes("calls")] == ["left"]


def test_a_blind_test_shows_no_names_and_keeps_the_tally(own, store):
    assert "needs results of two recipes" in opened("my_speech").info[0].value
    put_runs(store, own)
    app = opened("my_speech")
    assert "1 left to compare" in [c.value for c in app.caption]
    shown = " ".join(m.value for m in app.markdown)
    assert "**A**" in shown and "and more" in shown and "bf16" not in shown
    by_label(app.button, "No difference").click().run()
    assert "compared all transcripts" in app.success[0].value
    (vote,) = own.votes("calls")
    assert vote.chosen == "same" and {vote.left_name, vote.right_name} == {
        "base bf16",
        "base fp32",
    }
    assert app.dataframe[0].value["No difference"].tolist() == [1]
