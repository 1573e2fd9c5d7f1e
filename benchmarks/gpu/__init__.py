"""Recipes on a GPU, in one command that needs no network: see docs/gpus.md."""
