"""Types of torch and Transformers objects whose attributes their own stubs do not describe."""

from typing import Any, TypeAlias

import numpy as np

# A WhisperForConditionalGeneration before or after a recipe, whose layers may be any library's.
WhisperModule: TypeAlias = Any
# Any other nn.Module: torch types each attribute of one as `Tensor | Module`.
Module: TypeAlias = Any
Tokenizer: TypeAlias = Any
# An array of any shape and element type; docstrings say which.
Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]
