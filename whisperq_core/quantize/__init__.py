"""Recipes as data, one backend file a library, calibration.

What turns a model and a recipe into a quantized model, and takes it to another machine.
"""

from whisperq_core.callable_package import make_callable

make_callable(__name__)
