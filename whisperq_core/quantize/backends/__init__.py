"""One file for each quantization library or runtime: a recipe in, a quantized model out.

Every file declares

    BACKEND                             what it is: a `Backend`
    RECIPES                             its recipes

and may have

    recipe_named(name)                  the recipe of a name with a parameter in it, such as a group
                                        size; None for a name of another form
    missing_file_reason(recipe)         why the recipe cannot run for lack of a user's file, in a
                                        sentence; None where it can
    identity(model_name, recipe)        what else decides what the recipe computes, by name

A library that quantizes a PyTorch model in place has

    quantize(model, recipe, calibrate)  quantizes every Linear of the model and returns the model
    weight_of(layer)                    the dequantized weight of a layer that the library
                                        quantized, shape (out, in) in fp32; None for other layers
    state_of(layer)                     what a layer of the library's own is rebuilt from: plain
                                        tensors by name, and settings that JSON can hold; None for
                                        other layers
    layer_from(tensors, settings)       that layer again, on the tensors' device
    prepare(model, recipe)              optional: what the model needs besides its layers

A tensor that two layers share is to be returned, and taken, as one. A runtime has instead

    open_runtime(model, recipe, threads, device)
                                        a Runtime made from the models.Model, the names of the
                                        quantized modules, and its bytes on disk

A library is imported inside those functions only. To add one: its file, its name in registry.py,
and a row in the table of docs/recipes-and-protocols.md.
"""

from whisperq_core.quantize.backends.availability import (
    library_version,
    require,
    unavailable_reason,
    versions,
)
from whisperq_core.quantize.backends.backend import Backend, Calibrate
from whisperq_core.quantize.backends.quantization import (
    Quantized,
    compile_as,
    open_runtime,
    quantize,
    serialized_bytes,
)
from whisperq_core.quantize.backends.registry import BACKENDS, backend_of, module_of

__all__ = [
    "BACKENDS",
    "Backend",
    "Calibrate",
    "Quantized",
    "backend_of",
    "compile_as",
    "library_version",
    "module_of",
    "open_runtime",
    "quantize",
    "require",
    "serialized_bytes",
    "unavailable_reason",
    "versions",
]
