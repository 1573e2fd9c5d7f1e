import json
import re
import warnings
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydantic import ValidationError

from tests.support.sample_runs import accuracy_run, renamed, speed_run
from whisperq_core.errors import InputError, SchemaTooNew, StoreError
from whisperq_core.evaluate import records
from whisperq_core.evaluate.records import AccuracyRun, Pass, RunSpec, SpeedRun, parse
from whisperq_core.quantize.recipes import Recipe, recipe
from whisperq_core.scoring.error_rates import Counts
from whisperq_core.settings import PROJECT
from whisperq_core.whisper.protocols import (
    CORRECTED,
    FITTED,
    PROTOCOLS,
    SHORT_NAMES,
    STUDY,
    Protocol,
    batch_size_of,
    short_name,
    with_batch_size,
)

SPEC = RunSpec(
    measures="accuracy",
    weights_digest="5025e89907c935064d272ca652508b9e7b0797243c74309328a15fbad21fd1d1",
    recipe=recipe("hqq-int4-g64"),
    eval_set_digest="0" * 64,
    protocol=STUDY,
    kernels="library",
    device="cpu",
    threads=2,
    versions={"hqq": "0.2.8", "torch": "2.13.0", "transformers": "5.0.0"},
    pipeline=1,
)

OTHER_FIELDS = {
    "measures": "speed",
    "weights_digest": "1" * 64,
    "recipe": recipe("hqq-int4-g32"),
    "eval_set_digest": "1" * 64,
    "calibration_digest": "1" * 64,
    "protocol": replace(STUDY, batch_size=1),
    "kernels": "dequantized",
    "device": "cuda",
    "threads": 4,
    "versions": {"hqq": "0.2.8", "torch": "2.13.1", "transformers": "5.0.0"},
    "cpu": "A CPU",
    "gpu": "A GPU",
    "repeats": 3,
    "pipeline": 2,
    "code_version": 2,
    "cutting": 1,
}
OTHER_AXES = {
    "backend": "quanto",
    "weights": "int3",
    "scheme": "dynamic",
    "method": "symmetric",
    "granularity": "channel",
    "group_size": 128,
    "activations": "int8",
    "activation_granularity": "row",
    "double_quant": True,
    "calibration": "held-out",
    "modules": "all-linear",
    "embeddings": "fp16",
    "rest": "fp16",
    "attention": "bf16",
    "smaller_pct": 84,
    "layers": (("proj_out", "int5"),),
    "full_range": True,
    "compute": "bf16",
    "compiled": True,
}
OTHER_DECODING = {
    "batch_size": 1,
    "beams": 5,
    "temperatures": (0.0, 0.2),
    "window": "as long as the utterance",
    "task": "translate",
    "language": "en",
    "timestamps": True,
    "margin_s": 4.0,
    "fold": 8,
    "merge_at": 0.5,
}


def changed(**update) -> RunSpec:
    return RunSpec(**{name: getattr(SPEC, name) for name in RunSpec.model_fields} | update)


def altered(run, *path, to) -> str:
    """The run's JSON with one value replaced; a KeyError says that the path is no more."""
    content = json.loads(run.model_dump_json())
    inner = content
    for step in path[:-1]:
        inner = inner[step]
    assert inner[path[-1]] != to
    inner[path[-1]] = to
    return json.dumps(content)


def test_the_key_is_pinned():
    # Results that are stored under cache/results, here and by others, are found by their keys. When
    # this fails, every one of them is lost to its owner: a field was added, renamed or written
    # differently. Undo that, or raise PIPELINE_VERSION because results really change, and pin the
    # new key.
    assert SPEC.key == "88ce299c15c72bd3"


def test_the_key_with_new_fields_is_pinned():
    assert changed(gpu=None, code_version=1, cutting=None).key == SPEC.key
    assert changed(gpu="A GPU", code_version=2).key == "fe1d6cd83505a1f2"


@pytest.mark.parametrize("name", RunSpec.model_fields)
def test_every_field_changes_the_key(name):
    assert changed(**{name: OTHER_FIELDS[name]}).key != SPEC.key


LABELS = ("name", "description", "devices")


@pytest.mark.parametrize("axis", [f.name for f in fields(Recipe) if f.name not in LABELS])
def test_every_axis_of_the_recipe_changes_the_key(axis):
    other = replace(SPEC.recipe, **{axis: OTHER_AXES[axis]})
    assert changed(recipe=other).key != SPEC.key


@pytest.mark.parametrize(
    "field", [f.name for f in fields(Protocol) if f.name not in ("name", "tied")]
)
def test_every_field_of_the_protocol_changes_the_key(field):
    other = replace(STUDY, **{field: OTHER_DECODING[field]})
    assert changed(protocol=other).key != SPEC.key


def test_a_version_of_one_more_library_changes_the_key():
    assert changed(versions=SPEC.versions | {"numpy": "2.0"}).key != SPEC.key


@pytest.mark.parametrize(
    "other",
    [
        {"recipe": replace(SPEC.recipe, name="another")},
        {"recipe": replace(SPEC.recipe, description="Another.")},
        {"recipe": replace(SPEC.recipe, devices=("cpu",))},
        {"protocol": renamed("another")},
        {"protocol": replace(STUDY, tied=True)},
        {"versions": dict(reversed(SPEC.versions.items()))},
        {"protocol": replace(STUDY, temperatures=(0,))},
    ],
    ids=str,
)
def test_labels_order_and_spelling_do_not_change_the_key(other):
    assert changed(**other).key == SPEC.key


def test_the_key_survives_json():
    read = RunSpec.model_validate_json(SPEC.model_dump_json())
    assert read == SPEC
    assert read.key == SPEC.key
    assert re.fullmatch("[0-9a-f]{16}", read.key)


@pytest.mark.parametrize(
    "foreign",
    [
        {"device": object()},
        {"recipe": replace(SPEC.recipe, group_size=Path("64"))},
        {"protocol": replace(STUDY, temperatures=(float("nan"),))},
    ],
    ids=lambda foreign: next(iter(foreign)),
)
def test_what_is_not_json_has_no_key(foreign):
    # A default=str would give it one, and with an address in it another one each time.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pydantic's word on it would hide that json has none
        with pytest.raises((TypeError, ValueError)):
            _ = SPEC.model_copy(update=foreign).key


def test_specs_are_frozen_and_strange_fields_are_refused():
    with pytest.raises(ValidationError, match="frozen"):
        SPEC.threads = 8
    with pytest.raises(ValidationError, match="colour"):
        changed(colour="red")


ACCURACY = accuracy_run("quanto-int8", [("a cat sat", "a bat sat"), ("yes", "yes yes"), ("", "")])
SPEED = speed_run("quanto-int8", [2.0, 3.0], [4.0, 5.0])
each_run = pytest.mark.parametrize("run", [ACCURACY, SPEED], ids=["accuracy", "speed"])


@each_run
def test_a_round_trip_through_json_changes_nothing(run):
    text = run.model_dump_json(indent=1)
    for stored in (text, text.encode()):
        read = parse(stored)
        assert type(read) is type(run)
        assert read == run
        assert (read.key, read.slug) == (run.key, run.slug)
    assert parse(text).model_dump_json(indent=1) == text


@each_run
def test_a_result_of_an_unknown_library_is_refused(run):
    text = run.model_dump_json().replace('"backend":"', '"backend":"of-tomorrow-')
    with pytest.raises(StoreError, match=r"has no library 'of-tomorrow-.*Update WhisperQ"):
        parse(text)


@each_run
def test_a_newer_schema_is_refused_with_what_to_do(run):
    newer = altered(run, "schema_version", to=records.SCHEMA_VERSION + 1)
    with pytest.raises(SchemaTooNew, match=f"schema {records.SCHEMA_VERSION + 1}.*Update WhisperQ"):
        parse(newer)
    # Its fields may be others; the schema is what decides.
    with pytest.raises(SchemaTooNew):
        parse(json.dumps({"schema_version": 99, "anything": []}))


@each_run
def test_a_record_cut_anywhere_is_refused(run):
    text = run.model_dump_json().encode()
    for end in range(0, len(text), max(1, len(text) // 50)):
        with pytest.raises(StoreError, match="cut or altered"):
            parse(text[:end])


@pytest.mark.parametrize(
    ("path", "to"),
    [
        (("schema_version",), "1"),
        (("schema_version",), None),
        (("measures",), "beauty"),
        (("measures",), "speed"),
        (("created_at",), "yesterday"),
        (("weights_bytes",), 1.5),
        (("machine",), {}),
        (("spec", "kernels"), "wishful"),
        (("spec", "recipe", "scheme"), "guess"),
        (("spec", "recipe", "devices"), ["abacus"]),
        (("spec", "protocol", "batch_size"), "many"),
        (("utterances", 0, "score", "words", "hits"), "two"),
        (("utterances", 0, "duration_s"), None),
        (("batches",), None),
    ],
    ids=str,
)
def test_an_altered_record_is_refused(path, to):
    with pytest.raises(StoreError, match="cut or altered") as refusal:
        parse(altered(ACCURACY, *path, to=to))
    assert not isinstance(refusal.value, SchemaTooNew)


@pytest.mark.parametrize(
    ("path", "required"),
    [
        ((), "machine"),
        (("spec",), "weights_digest"),
        (("utterances", 0), "reference"),
        (("utterances", 0, "score"), "looped"),
        (("batches", 0), "wall_s"),
    ],
    ids=str,
)
def test_strange_fields_and_missing_ones_are_refused(path, required):
    whole = json.loads(ACCURACY.model_dump_json())
    part = whole
    for step in path:
        part = part[step]
    part["colour"] = "red"
    with pytest.raises(StoreError):
        parse(json.dumps(whole))
    del part["colour"]
    assert parse(json.dumps(whole)) == ACCURACY
    del part[required]
    with pytest.raises(StoreError):
        parse(json.dumps(whole))


@pytest.mark.parametrize(
    "alien",
    (
        *("", "null", "1", "[]", "{}", '"schema_version"', "<html></html>", "\0" * 64),
        *('{"schema_version": 1}', '{"schema_version": {}}', '{"schema_version": NaN}'),
        *(b"\xff\xfe\x00", b"PK\x03\x04", "[" * 100_000),
    ),
    ids=lambda alien: repr(alien[:20]),
)
def test_alien_files_are_refused(alien):
    with pytest.raises(StoreError, match="not a WhisperQ result"):
        parse(alien)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize(
    "path",
    [("utterances", 0, "duration_s"), ("batches", 0, "wall_s"), ("load_average",), ("quantize_s",)],
    ids=str,
)
def test_numbers_that_are_none_are_refused(path, number):
    with pytest.raises(StoreError):
        parse(altered(ACCURACY, *path, to=number))


def test_a_time_that_is_no_number_cannot_be_recorded():
    with pytest.raises(ValidationError, match="finite"):
        Pass(subject="recipe", repeat=0, audio_s=1.0, wall_s=float("nan"))


STRANGE_NAMES = [
    "../../etc/passwd",
    "/home/me/my models/whisper small",
    "a b/c@d",
    "a" * 5000,
    "whisper." + "b" * 39,
    "whisper-" + "b" * 39,
    "模型/ü*?[x]\0\n",
    ".hidden",
    "..",
    "C:\\models\\base|new",
]


@pytest.mark.parametrize("name", STRANGE_NAMES, ids=ascii)
def test_the_slug_is_a_safe_file_name(name):
    for run in (
        ACCURACY.model_copy(update={"model": name}),
        ACCURACY.model_copy(update={"eval_set": name}),
    ):
        assert re.fullmatch(r"[A-Za-z0-9._-]+_[0-9a-f]{16}", run.slug)
        assert run.slug.endswith(f"_{run.key}")
        assert not run.slug.startswith((".", "-"))
        assert len(f".{run.slug}.json.01234567.tmp") <= 255


def test_the_slug_is_readable():
    assert ACCURACY.slug == f"base_quanto-int8_test-other-excerpt_accuracy_{ACCURACY.key}"
    assert SPEED.slug == f"base_quanto-int8_quick-look_speed_{SPEED.key}"
    hub = ACCURACY.model_copy(update={"model": "distil-whisper/distil-small.en@main"})
    assert hub.slug.startswith("distil-whisper-distil-small.en-main_quanto-int8_")


def test_counts_of_a_run_are_sums_and_its_rate_is_theirs():
    assert ACCURACY.words == Counts(3, 1, 0, 1)
    assert ACCURACY.words.rate == 50.0
    assert ACCURACY.characters == Counts(11, 1, 0, 4)
    assert ACCURACY.loops == 0
    assert accuracy_run("fp32", [("no", "so" * 99), ("yes", "yes")]).loops == 1


def test_words_where_nothing_is_spoken_are_invented():
    silence = accuracy_run("fp32", [("", "thank you"), ("", "")])
    assert parse(silence.model_dump_json()) == silence
    assert (silence.words.insertions, silence.words.reference_length) == (2, 0)
    assert silence.words.rate is silence.characters.rate is None
    speech = accuracy_run("fp32", [("", "thank you"), ("a cat sat down", "a cat sat down")])
    assert speech.words.rate == 50.0  # they count among the errors of a set with speech


def test_size_reduction_is_percent_of_fp32():
    assert ACCURACY.size_reduction_pct == 50.0


def test_dequantized_weights_have_no_rtf_of_their_own():
    timed = ACCURACY.batches[0]
    run = ACCURACY.model_copy(
        update={"batches": (timed, timed.model_copy(update={"wall_s": 4.0, "audio_s": 90.0}))}
    )
    assert run.rtf == (2.0 + 4.0) / (30.0 + 90.0)
    spec = run.spec.model_copy(update={"kernels": "dequantized"})
    assert run.model_copy(update={"spec": spec}).rtf is None


def test_a_busy_machine_gives_no_rtf():
    run = accuracy_run("torch-int8", wall_s=2.0)
    idle, unknown, busy = (
        run.model_copy(update={"load_average": load}) for load in (3.0, None, 3.1)
    )
    assert run.machine.cores == 2 and idle.rtf == unknown.rtf == 0.2
    assert busy.machine_was_busy and busy.rtf is None


def test_ratios_compare_the_passes_of_one_repeat():
    assert SPEED.rtfs() == [0.2, 0.3]
    assert SPEED.rtfs("fp32") == [0.4, 0.5]
    assert SPEED.ratios() == pytest.approx([2 / 4, 3 / 5])
    assert speed_run("fp32", [2.0, 3.0]).ratios() == [1.0, 1.0]


def test_ratios_go_by_repeat_in_whatever_order_passes_ran():
    first, second, *recipe_passes = SPEED.passes
    mixed = SPEED.model_copy(update={"passes": (second, *recipe_passes, first)})
    assert mixed.ratios() == pytest.approx([2 / 4, 3 / 5])


def test_a_repeat_without_its_baseline_is_no_ratio():
    assert speed_run("quanto-int8", [2.0, 3.0], [4.0]).ratios() == [0.5]


def test_kinds_of_runs_are_told_apart():
    assert (type(ACCURACY), ACCURACY.measures) == (AccuracyRun, "accuracy")
    assert (type(SPEED), SPEED.measures) == (SpeedRun, "speed")
    assert ACCURACY.key == ACCURACY.spec.key != SPEED.key


def test_now_is_utc_to_the_second():
    now = records.utc_now()
    assert (now.utcoffset(), now.microsecond) == (timedelta(0), 0)
    assert abs(datetime.now(UTC) - now) < timedelta(seconds=10)


def test_protocols_are_found_by_name_and_say_what_they_do():
    assert all(name == protocol.name for name, protocol in PROTOCOLS.items())
    assert "batches of 3 " in replace(STUDY, batch_size=3).summary
    assert STUDY.summary == "greedy, fixed 30 s window, batches of 8 sorted by length"
    for words in ("temperature fallback", "no-speech detection", "tied projection"):
        assert words in CORRECTED.summary
    assert "held-out audio only" in CORRECTED.description
    assert "part of the evaluation set" in STUDY.description
    assert (STUDY.has_fallback, CORRECTED.has_fallback) == (False, True)


@pytest.fixture(scope="module")
def shipped():
    """A record of schema 1 of each kind, as they were written."""
    folder = PROJECT / "cache" / "results"
    return {
        kind: next(
            text
            for text in (path.read_text() for path in sorted(folder.glob(f"base_*_{kind}_*.json")))
            if json.loads(text)["schema_version"] == 1
        )
        for kind in ("accuracy", "speed")
    }


def test_a_record_of_schema_1_is_read_as_it_is(shipped):
    accuracy, speed = parse(shipped["accuracy"]), parse(shipped["speed"])
    assert accuracy.schema_version == speed.schema_version == 1 < records.SCHEMA_VERSION
    assert parse(accuracy.model_dump_json()) == accuracy
    assert accuracy.fallbacks == 0 and not accuracy.spec.protocol.tied
    assert speed.encoder_share() is speed.first_token_s() is speed.tokens_per_s() is None
    for text, run in ((shipped["accuracy"], accuracy), (shipped["speed"], speed)):
        assert "tied" not in json.loads(text)["spec"]["protocol"]
        assert run.slug.endswith(run.key) and run.slug in {
            path.stem for path in (PROJECT / "cache" / "results").glob("*.json")
        }


def test_fallbacks_are_utterances_accepted_above_temperature_0():
    hot = [u.model_copy(update={"temperature": 0.2 * i}) for i, u in enumerate(ACCURACY.utterances)]
    assert ACCURACY.fallbacks == 0
    assert ACCURACY.model_copy(update={"utterances": tuple(hot)}).fallbacks == 2


def test_parts_of_the_time_are_medians_of_the_passes():
    assert SPEED.encoder_share() == SPEED.encoder_share("fp32") == 0.25
    assert (SPEED.first_token_s(), SPEED.first_token_s("fp32")) == (1.25, 2.25)
    assert SPEED.tokens_per_s() == pytest.approx((30 / 1.5 + 30 / 2.25) / 2)
    unknown = {"encoder_s": None, "first_token_s": None, "tokens": None}
    old = [p.model_copy(update=unknown) for p in SPEED.passes]
    partly = SPEED.model_copy(update={"passes": (*old[:-1], SPEED.passes[-1])})
    assert (partly.encoder_share(), partly.first_token_s()) == (0.25, 1.5)
    assert partly.encoder_share("fp32") is partly.tokens_per_s("fp32") is None


def test_protocols_have_short_names_for_the_command_line():
    assert {short_name(name): PROTOCOLS[name] for name in PROTOCOLS} == SHORT_NAMES
    assert short_name("of a record from elsewhere") == "of a record from elsewhere"


def test_batches_of_another_size_are_in_the_protocol_s_name_and_identity():
    assert with_batch_size(STUDY, None) is STUDY and with_batch_size(STUDY, 8) is STUDY
    alone = with_batch_size(STUDY, 1)
    assert alone.label == "Study protocol, batches of 1" and alone.identity() != STUDY.identity()
    assert (short_name(alone.name), batch_size_of(alone)) == ("study", 1)
    assert batch_size_of(STUDY) is batch_size_of(FITTED) is None
    with pytest.raises(InputError, match="1 or more"):
        with_batch_size(STUDY, 0)
