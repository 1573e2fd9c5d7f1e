import pytest

from whisperq_core.errors import RecipeUnsupported
from whisperq_core.memory import SingleItemCache
from whisperq_core.quantize import calibration
from whisperq_core.quantize.calibration import calibrate_on, digest, utterances_for
from whisperq_core.quantize.recipes import recipe
from whisperq_core.speech import evaluation_sets
from whisperq_core.whisper.protocols import STUDY


def test_calibration_is_held_out_unless_the_study_is_followed():
    test_set = evaluation_sets.by_name("test-other-excerpt")
    held_out = utterances_for(recipe("quanto-int8-int8"), test_set)
    drawn = utterances_for(recipe("quanto-int8-int8-eval10"), test_set)
    evaluated = {u.sha256 for u in test_set.utterances}
    assert len(held_out) == 13 and not evaluated & {u.sha256 for u in held_out}
    assert len(drawn) == 8 and {u.sha256 for u in drawn} <= evaluated  # a tenth of 74
    assert drawn == utterances_for(recipe("quanto-int8-int8-eval10"), test_set)
    assert utterances_for(recipe("quanto-int8"), test_set) == () and digest(()) is None


def test_what_fp32_hears_is_heard_once_and_shown_to_each_recipe(tiny, jfk, monkeypatch):
    monkeypatch.setattr(
        calibration, "_TRANSCRIBED", SingleItemCache()
    )  # not what other tests made it hear
    passes = []
    encoder = tiny.torch_model.model.encoder
    hook = encoder.register_forward_hook(lambda *_: passes.append(1))
    first, second = (calibrate_on(tiny, [jfk], STUDY) for _ in range(2))
    assert len(passes) == 1
    first(tiny.torch_model), second(tiny.torch_model)
    hook.remove()
    assert len(passes) == 3
    assert calibrate_on(tiny, [], STUDY) is None


def test_a_tenth_of_less_than_ten_utterances_is_refused():
    few = evaluation_sets.by_name("jfk")
    with pytest.raises(RecipeUnsupported, match="100%"):
        calibration.utterances_for(recipe("quanto-int8-int8-eval10"), few)
