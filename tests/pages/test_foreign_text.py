"""Text of users, files and models is shown by `markup.escape_markdown`, and by nothing else."""

import ast
import json

import pytest

from tests.support.opened_pages import opened
from whisperq_core.quantize import recipes
from whisperq_core.settings import PROJECT

PAGES = [PROJECT / "app.py", *sorted((PROJECT / "pages").glob("*.py"))]
# Streamlit's functions that render Markdown, here or in a label.
RENDERING = {
    *("markdown", "caption", "info", "warning", "error", "success", "toast", "header", "write"),
    *("subheader", "title", "metric", "expander", "progress", "badge", "popover", "spinner"),
    *("status", "table"),
}
# Attributes and names that hold text which users, files or models may have written.
ATTRIBUTES = {
    *("message", "label", "reference", "hypothesis", "speaker", "language", "languages", "note"),
    *("notes", "who", "name", "model", "versions", "slug", "id", "eval_set", "description"),
    *("recipe", "reason", "warnings", "title", "text"),
}
NAMES = {"error", "sentence", "why", "reason", "problem"}
SAFE = {"escape_markdown", "counted", "len", "definition", "find_definition"}
# Text of WhisperQ's own, which no user, file or model can change.
OWN = {
    "_claims.py": {"result.claim.id"},
    "app.py": {"page.title"},
    "layers.py": {"check.name"},
    "machine.py": {"one.name", "one.recipe"},
    "recordings.py": {"problem", "recording.reference"},  # the latter tells whether it is open
    "run_evaluations.py": {"eval_set.name", "eval_set.title", "chosen[-1].name"}
    | {"recipe.description"},
    "study.py": {"PROTOCOLS[protocol].description"},
    "tradeoffs.py": {"first.title"},
}
EVIL = "![x](http://127.0.0.1:9/x.png) [y](https://evil.example) https://evil.example <b>"


def foreign_text(page) -> set[str]:
    """Expressions of foreign text in calls that render Markdown, unless they are escaped."""
    tree = ast.parse(page.read_text(encoding="utf-8"))
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    escaped_names = {
        target.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and "escape_markdown(" in ast.unparse(node.value)
        for target in node.targets
        if isinstance(target, ast.Name)
    }

    def is_safe(node: ast.AST, call: ast.Call) -> bool:
        while node is not call:
            node = parents[node]
            if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in SAFE:
                return True
            if isinstance(node, ast.Compare) or getattr(node, "format_spec", None) is not None:
                return True
        return False

    found = set()
    for call in ast.walk(tree):
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Attribute):
            continue
        if call.func.attr not in RENDERING:
            continue
        keys = {n for k in call.keywords if k.arg == "key" for n in ast.walk(k)}
        for node in ast.walk(call):
            if node in keys or isinstance(parents[node], ast.Attribute) or node is call.func:
                continue
            is_foreign = (isinstance(node, ast.Attribute) and node.attr in ATTRIBUTES) or (
                isinstance(node, ast.Name) and node.id in NAMES - escaped_names
            )
            if is_foreign and not is_safe(node, call):
                found.add(ast.unparse(node))
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_render_no_foreign_text_as_markdown(page):
    assert foreign_text(page) - OWN.get(page.name, set()) == set()


def test_the_search_finds_what_is_not_escaped(tmp_path):
    page = tmp_path / "page.py"
    page.write_text(
        "st.error(str(error))\nst.caption(f'{one.name}: {escape_markdown(one.model)}')\n"
        "why = escape_markdown(x)\nst.info(why)\nst.markdown(f'{run.model:.1f}')\n"
    )
    assert foreign_text(page) == {"error", "one.name"}


def shown(app) -> str:
    kinds = (app.markdown, app.caption, app.info, app.warning, app.error, app.header)
    return "\n".join(str(element.value) for kind in kinds for element in kind)


@pytest.mark.parametrize("page", ["report", "presentation"])
@pytest.mark.parametrize("parameter", ["report_margin", "report_recipes", "report_baseline"])
def test_a_link_shows_its_parameters_as_text(page, parameter):
    text = shown(opened(page, **{parameter: EVIL}))
    assert "](http" not in text and "https://evil" not in text


@pytest.fixture
def exported(store):
    """An exported model whose texts are hostile."""
    folder = store.root / "artefacts" / "x"
    folder.mkdir(parents=True)
    (folder / "SHA256SUMS").write_text("")
    backend = recipes.recipe("torch-int8").backend
    recipe = {"name": EVIL, "backend": backend, "description": EVIL, "weights": "int8"}
    content = {"schema_version": 1, "model": EVIL, "weights_digest": "x", "device": "cpu"}
    content |= {"recipe": recipe | {"scheme": "dynamic"}, "versions": {EVIL: EVIL}}
    content |= {"weights_bytes": 1, "fp32_bytes": 2, "modules": [], "layers": {}, "shared": {}}
    (folder / "recipe.json").write_text(json.dumps(content))
    return folder


def test_an_exported_model_is_shown_as_text(exported):
    text = shown(opened("recordings", exported=str(exported)))
    assert "evil" in text and "](http" not in text and "https://evil" not in text


def test_an_exported_model_of_an_unknown_library_is_a_sentence(exported):
    recipe = exported / "recipe.json"
    recipe.write_text(recipe.read_text().replace('"backend": "', '"backend": "no-such-'))
    assert "does not have" in opened("recordings", exported=str(exported)).error[0].value


@pytest.mark.parametrize("folder", ["~nosuchuser/x", "x" * 900, "/dev/zero", "a/../" * 150])
def test_a_folder_that_cannot_be_one_is_a_sentence(store, folder):
    page = opened("recordings", exported=folder)
    assert page.error or page.warning
