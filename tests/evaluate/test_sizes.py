import pytest

from whisperq_core.errors import ModelError, RecipeUnsupported
from whisperq_core.evaluate.sizes import measure_size
from whisperq_core.evaluate.store import Store
from whisperq_core.quantize.recipes import recipe
from whisperq_core.settings import SHIPPED_CACHE
from whisperq_core.whisper.protocols import CORRECTED, STUDY


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path)


def test_sizes_are_the_study_s_and_stored(store):
    found = measure_size("tiny", recipe("quanto-int8"), store)
    assert found.size_reduction_pct == pytest.approx(19.3, abs=0.3)
    assert "proj_out" in found.modules
    assert store.runs() == [found]
    assert measure_size("tiny", recipe("quanto-int8"), store) == found


def test_a_static_recipe_has_a_size_without_speech(store):
    found = measure_size("tiny", recipe("quanto-int8-float8"), store)
    assert found.size_reduction_pct == pytest.approx(19.3, abs=0.3)


def test_the_corrected_protocol_counts_the_tied_table_once(store):
    untied = measure_size("tiny", recipe("torch-int8"), store, STUDY)
    tied = measure_size("tiny", recipe("torch-int8"), store, CORRECTED)
    assert "proj_out" not in tied.modules
    assert tied.weights_bytes < untied.weights_bytes
    assert tied.key != untied.key


def test_bad_requests_are_refused(store):
    with pytest.raises(ModelError, match="is unknown"):
        measure_size("gigantic", recipe("fp32"), store)
    with pytest.raises(RecipeUnsupported, match="held-out"):
        measure_size("tiny", recipe("quanto-int8-int8-eval10"), store, CORRECTED)


@pytest.mark.usefixtures("emulated_bf16")  # for the key: kernels of bitsandbytes depend on it
def test_the_shipped_sizes_are_those_that_would_be_measured(store):
    shipped = Store(SHIPPED_CACHE)
    found = measure_size("tiny", recipe("bnb-nf4"), store)
    assert shipped.get(found.key).weights_bytes == found.weights_bytes
