import hashlib
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.support.small_sets import librispeech_split, recordings_folder, shortest, write_jsonl
from whisperq_core.errors import AudioError, EvalSetError
from whisperq_core.speech import decode, evaluation_sets
from whisperq_core.speech.evaluation_sets import by_name, read_audio, shipped_sets

JFK = shipped_sets()["jfk"].utterances[0]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return recordings_folder(tmp_path)


@pytest.fixture
def split(tmp_path: Path) -> Path:
    return librispeech_split(tmp_path)


class TestShipped:
    def test_names_and_sizes(self):
        assert {name: len(s.utterances) for name, s in shipped_sets().items()} == {
            "quick-look": 8,
            "test-clean-34-speakers": 72,
            "test-other-25-speakers": 261,
            "test-other-15-minutes": 135,
            "test-clean-excerpt": 22,
            "test-other-excerpt": 74,
            "dev-clean-excerpt": 13,
            "jfk": 1,
            "fleurs-de-example": 1,
            "quick-look-32": 32,
        }
        assert all(name == s.name for name, s in shipped_sets().items())
        assert {*evaluation_sets.EVALUATION_SETS, evaluation_sets.CALIBRATION_SET} <= set(
            shipped_sets()
        )

    def test_manifest_tells_the_truth(self):
        for evaluation_set in shipped_sets().values():
            for u in evaluation_set.utterances:
                content = u.audio.read_bytes()
                assert hashlib.sha256(content).hexdigest() == u.sha256, u.id
                assert soundfile.info(u.audio).duration == pytest.approx(u.duration_s, abs=1e-3)
                assert u.reference.strip() == u.reference != ""

    def test_every_recording_is_in_the_manifest(self):
        manifest = (evaluation_sets.SPEECH / "manifest.jsonl").read_text("utf-8").splitlines()
        listed = Counter(json.loads(line)["file"] for line in manifest)
        here = {
            p.relative_to(evaluation_sets.SPEECH).as_posix()
            for p in evaluation_sets.SPEECH.rglob("*.flac")
        }
        assert set(listed) == here and set(listed.values()) == {1}

    def test_quick_look_is_typical_and_varied(self):
        quick = shipped_sets()["quick-look"]
        assert len({u.speaker for u in quick.utterances}) == 8
        assert all(5 <= u.duration_s <= 9 for u in quick.utterances)
        assert quick.audio_s == pytest.approx(56, abs=1)
        for name in ("test-clean-excerpt", "test-other-excerpt"):
            assert len(set(quick.utterances) & set(shipped_sets()[name].utterances)) == 4

    def test_the_set_for_large_batches_is_typical_too(self):
        large = shipped_sets()["quick-look-32"]
        assert all(5 <= u.duration_s <= 9 for u in large.utterances)
        assert len(large.speakers) >= 25

    def test_balanced_sets_have_all_speakers_alike(self):
        clean, other = (
            shipped_sets()[n] for n in ("test-clean-34-speakers", "test-other-25-speakers")
        )
        assert (len(clean.speakers), len(other.speakers)) == (34, 25)
        spoken_s: Counter[str | None] = Counter()
        for u in sorted(other.utterances, key=lambda u: [int(part) for part in u.id.split("-")]):
            # A speaker's next utterance is taken while there are less than 75 s of theirs.
            assert spoken_s[u.speaker] < 75
            spoken_s[u.speaker] += u.duration_s
        assert other.audio_s / 60 == pytest.approx(29.6, abs=0.1)
        assert sum(s >= 75 for s in spoken_s.values()) == 22
        # Whisper's window holds every one, so that each protocol decodes it in one go.
        assert max(u.duration_s for u in clean.utterances + other.utterances) < 30

    def test_calibration_is_apart_from_evaluation(self):
        held_out = {u.sha256 for u in shipped_sets()[evaluation_sets.CALIBRATION_SET].utterances}
        speakers = {u.speaker for u in shipped_sets()[evaluation_sets.CALIBRATION_SET].utterances}
        for name in evaluation_sets.EVALUATION_SETS:
            assert held_out.isdisjoint(u.sha256 for u in shipped_sets()[name].utterances)
            assert speakers.isdisjoint(u.speaker for u in shipped_sets()[name].utterances)

    def test_languages_and_attribution(self):
        assert shipped_sets()["fleurs-de-example"].languages == ("de",)
        assert shipped_sets()["quick-look"].languages == ("en",)
        for name, evaluation_set in shipped_sets().items():
            assert "CC BY 4.0" in evaluation_set.attribution or name == "jfk"


class TestDigest:
    def test_names_paths_and_order_do_not_count(self, tmp_path):
        original = shipped_sets()["test-clean-excerpt"]
        moved = tuple(replace(u, audio=tmp_path / "x") for u in reversed(original.utterances))
        assert replace(original, name="other", utterances=moved).digest == original.digest

    @pytest.mark.parametrize("key", ["id", "reference", "language", "sha256"])
    def test_data_counts(self, key):
        altered = replace(JFK, **{key: "changed"})
        assert (
            replace(shipped_sets()["jfk"], utterances=(altered,)).digest
            != shipped_sets()["jfk"].digest
        )

    def test_unknown_hash_is_computed(self):
        unhashed = replace(JFK, sha256=None)
        assert (
            replace(shipped_sets()["jfk"], utterances=(unhashed,)).digest
            == shipped_sets()["jfk"].digest
        )

    def test_sets_need_distinct_utterances(self):
        with pytest.raises(EvalSetError, match="no recordings"):
            replace(shipped_sets()["jfk"], utterances=())
        with pytest.raises(EvalSetError, match="the id jfk twice"):
            replace(shipped_sets()["jfk"], utterances=(JFK, JFK))


class TestReadAudio:
    def test_samples(self):
        samples = read_audio(JFK)
        assert samples.shape == (11 * 16_000,) and samples.dtype == np.float32

    def test_altered_file(self, tmp_path):
        path = tmp_path / "jfk.flac"
        path.write_bytes(shortest(1)[0].audio.read_bytes())
        with pytest.raises(EvalSetError, match=r"jfk\.flac was altered"):
            read_audio(replace(JFK, audio=path))
        assert len(read_audio(replace(JFK, audio=path, sha256=None)))

    def test_missing_file_and_limits(self, tmp_path):
        with pytest.raises(AudioError, match="does not exist"):
            read_audio(replace(JFK, audio=tmp_path / "gone.flac"))
        with pytest.raises(AudioError, match="longer than"):
            read_audio(JFK, decode.Limits(max_duration_s=10))


class TestByName:
    def test_shipped(self):
        assert by_name("quick-look") is shipped_sets()["quick-look"]

    def test_folders(self, folder, split):
        write_jsonl(folder, {"audio": "a.flac", "text": "hello"})
        assert by_name(str(folder)).name == "mine"
        assert by_name(str(split)).name == "librispeech-test-clean"

    def test_not_downloaded(self):
        with pytest.raises(EvalSetError, match="test-other is not on this computer"):
            by_name("test-other")

    @pytest.mark.parametrize("name", ["", "nonsense", "/no/such/folder"])
    def test_unknown(self, name):
        with pytest.raises(EvalSetError, match=r"quick-look.*test-other"):
            by_name(name)
