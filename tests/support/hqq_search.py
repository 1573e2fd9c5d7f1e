"""HQQ without its search, for tests of what the search does not change."""

import pytest


def leave_out_search(patch: pytest.MonkeyPatch) -> None:
    """HQQ rounds with its first scales and zero points.

    The search for better ones takes most of its time; sizes, names and formats are the same.
    """
    patch.setattr(
        "hqq.core.quantize.Quantizer.optimize_weights",
        lambda tensor, scale, zero, **_: ((tensor * scale + zero).round(), scale, zero),
    )
