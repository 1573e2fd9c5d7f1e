"""Recipes as data, one backend file a library, calibration.

What turns a model and a recipe into a quantized model, and takes it to another machine.
"""
