"""Every field, axis, format and column has a sentence of help, and there is one source of it."""

from collections import Counter
from dataclasses import fields
from typing import get_args

import pytest

from whisperq_core.analyze import pareto_front, results_table
from whisperq_core.analyze.verdicts import Verdict
from whisperq_core.present import glossary
from whisperq_core.quantize import recipe, recipes
from whisperq_core.quantize.recipes import CATALOGUE, Recipe
from whisperq_core.settings import PROJECT
from whisperq_core.whisper.protocols import PROTOCOLS

VALUES = {
    value
    for recipe in CATALOGUE.values()
    for value in (recipe.weights, recipe.embeddings, recipe.rest, recipe.attention)
}
VERDICTS = set(Verdict)
NAMES = {
    *(field.name for field in fields(Recipe)),
    *results_table.AXES,
    *results_table.METRICS,
    *results_table.COLUMNS,
    *pareto_front.LABELS,
    *recipes.BITS,
    *VALUES,
    *PROTOCOLS,
    *VERDICTS,
    *get_args(recipe.Scheme),
    *get_args(recipe.Method),
    *get_args(recipe.Granularity),
} - {"none"}


@pytest.mark.parametrize("name", sorted(NAMES))
def test_what_pages_show_is_explained(name):
    assert glossary.find_definition(name)


def test_what_has_no_term_is_none_or_an_error():
    assert glossary.find_definition("flux capacitor") is None
    with pytest.raises(KeyError):
        glossary.definition("flux capacitor")


def test_no_name_means_two_things_and_meanings_are_sentences():
    names = Counter(
        n for term in glossary.TERMS for n in {m.lower() for m in (term.name, *term.aliases)}
    )
    assert [name for name, count in names.items() if count > 1] == []
    for term in glossary.TERMS:
        assert term.definition[-1] == "." and term.group in glossary.GROUPS
        assert len(term.definition) < 700, term.name


def test_terms_are_found_by_name_and_by_meaning():
    assert [term.name for term in glossary.search("nf4")] == ["nf4"]
    assert "group size" in [term.name for term in glossary.search("ZERO  point")]
    assert glossary.search("") == list(glossary.TERMS)
    assert glossary.search("flux capacitor") == []


def test_the_documentation_says_the_same_of_the_main_terms():
    text = " ".join((PROJECT / "docs" / "measurement.md").read_text(encoding="utf-8").split())
    for name in ("WER", "RTF", "Relative latency", "Size", "peak memory", "group size", "nf4"):
        assert glossary.definition(name) in text, name
