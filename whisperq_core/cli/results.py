"""`whisperq results`: the table of stored results."""

from whisperq_core.analyze import results_table
from whisperq_core.evaluate.store import Store

_COLUMNS = [
    *("model", "recipe", "set", "protocol", "wer_pct", "cer_pct", "loops", "rtf", "rtf_ratio"),
    *("weights_bytes", "size_reduction_pct"),
]


def results() -> None:
    """Print the table of stored results."""
    frame = results_table.rows(Store().runs())
    if frame.empty:
        print("No results yet. Start with: python -m whisperq_core run")
        return
    print(frame[_COLUMNS].to_string(index=False, float_format=lambda value: f"{value:.3f}"))
