"""The design's rules, held by the syntax trees of the code itself."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Set
from functools import cache
from pathlib import Path

import pytest

from whisperq_core.quantize.backends import BACKENDS
from whisperq_core.quantize.backends.registry import MODULES as BACKEND_MODULES

ROOT = Path(__file__).parent.parent
CORE = ROOT / "whisperq_core"
PACKAGE = "whisperq_core"

MODULES = {
    ".".join(path.relative_to(CORE).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(CORE.rglob("*.py"))
}
PAGES = [ROOT / "app.py", *sorted((ROOT / "pages").glob("*.py"))]
EVERYTHING = sorted(
    path
    for top in (ROOT / "app.py", *(ROOT / d for d in ("pages", PACKAGE, "tests", "benchmarks")))
    for path in ([top] if top.is_file() else top.rglob("*.py"))
)

# Top-level module of a library → the only module that may import it.
OWN_LIBRARY = {
    library: module.__name__.removeprefix(f"{PACKAGE}.")
    for module in BACKEND_MODULES.values()
    for library in module.BACKEND.imports
}
HEAVY = {"torch", "transformers", *OWN_LIBRARY}
# A fifth of a second or more each, which the first page would take longer to open.
RARELY_USED = {"scipy.stats", "scipy.optimize", "pooch", "requests"}

each_module = pytest.mark.parametrize("module", [m for m in MODULES if m != "__init__"])


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def imported(node: ast.AST, module: str = "") -> list[str]:
    """Full dotted names that an import statement of a module of the core may bind."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    source = node.module or ""
    if node.level:
        inside = [PACKAGE, *module.split(".")]
        is_package = MODULES[module].name == "__init__.py"
        parents = inside[: len(inside) - node.level + is_package]
        source = ".".join([*parents, source]).rstrip(".")
    return [f"{source}.{alias.name}" for alias in node.names]


@cache
def all_imports(path: Path, module: str = "") -> frozenset[str]:
    return frozenset(name for node in ast.walk(tree(path)) for name in imported(node, module))


def top_level(node: ast.AST) -> Iterator[ast.AST]:
    """Statements that run when the module is imported, so without `if TYPE_CHECKING:`."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from top_level(child)


def core_module(name: str) -> str | None:
    """The module of the core that holds what is imported under that name."""
    parts = name.split(".")
    if parts[0] != PACKAGE:
        return None
    inner = parts[1:]
    while inner and ".".join(inner) not in MODULES:
        inner.pop()
    return ".".join(inner) or "__init__"


def libraries(names: Set[str]) -> set[str]:
    return {name.partition(".")[0] for name in names}


def test_the_package_itself_imports_nothing():
    names = {n for node in top_level(tree(CORE / "__init__.py")) for n in imported(node)}
    assert names == {"typing.TYPE_CHECKING", "typing.Any"}


def test_the_picture_of_the_packages_is_that_of_the_contract():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    arrows = re.findall(r'^ +(\w+)(?:\["[^"]*"\])? --> (\w+)', text, re.MULTILINE)
    drawn = [arrows[0][0], *(below for _, below in arrows)]
    assert [above for above, _ in arrows] == drawn[:-1]  # one chain
    contract = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    layers = [line.replace(f"{PACKAGE}.", "") for line in contract["contracts"][0]["layers"]]
    packages = [line for line in layers if (CORE / line).is_dir() or line == "api"]
    assert drawn == [*packages, "base"]
    # Every package is in the contract, and so in the picture.
    assert {path.parent.name for path in CORE.glob("*/__init__.py")} | {"api"} == set(packages)


def test_packages_import_one_way():
    # The layers are in pyproject.toml.
    done = subprocess.run(["lint-imports"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_no_test_imports_another():
    tests = sorted((ROOT / "tests").rglob("test_*.py"))
    names = {(path.name, name) for path in tests for name in all_imports(path)}
    assert ("test_architecture.py", "ast") in names
    # What they share is in tests/support.
    assert [pair for pair in names if re.match(r"tests\.(.*\.)?test_", pair[1])] == []


def test_the_walk_sees_what_there_is():
    # The rules below hold nothing if imports are not found.
    assert core_module(f"{PACKAGE}.quantize.backends.linears") == "quantize.backends"
    assert core_module(f"{PACKAGE}.quantize.backends.hqq.quantize") == "quantize.backends.hqq"
    decode = all_imports(CORE / "speech" / "decode.py", "speech.decode")
    assert f"{PACKAGE}.errors.AudioError" in decode
    relative = ast.parse("from ... import errors\nfrom . import hqq\nfrom .hqq import x").body
    assert [imported(node, "quantize.backends.quanto") for node in relative] == [
        [f"{PACKAGE}.errors"],
        [f"{PACKAGE}.quantize.backends.hqq"],
        [f"{PACKAGE}.quantize.backends.hqq.x"],
    ]
    assert "torch" in libraries(all_imports(CORE / "whisper" / "transcription.py"))
    assert len(PAGES) >= 4


def importers(*stages: str) -> list[str]:
    """Modules that import all of these modules."""

    def imports(module: str, stage: str) -> bool:
        names = all_imports(MODULES[module], module)
        return any(n == f"{PACKAGE}.{stage}" or n.startswith(f"{PACKAGE}.{stage}.") for n in names)

    return [m for m in MODULES if all(imports(m, stage) for stage in stages)]


def test_only_the_runner_transcribes_and_stores():
    assert importers("whisper.transcription", "evaluate.store") == []
    assert importers("evaluate.prepared_model", "evaluate.store") == ["evaluate.runner"]


@each_module
def test_streamlit_is_the_pages_business(module):
    assert "streamlit" not in libraries(all_imports(MODULES[module], module))


@each_module
def test_heavy_libraries_are_imported_when_work_starts(module):
    names = {n for node in top_level(tree(MODULES[module])) for n in imported(node, module)}
    assert libraries(names) & HEAVY == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_know_nothing_heavy(page):
    assert libraries(all_imports(page)) & HEAVY == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_link_says_is_read_by_view_alone(page):
    # Streamlit's own binding drops what it does not know without a word.
    named = [node.arg for node in ast.walk(tree(page)) if isinstance(node, ast.keyword)]
    assert "bind" not in named


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_tables_are_saved_without_formulas(page):
    # Streamlit's own button saves the cells as they are; pages/_tables.py takes care of them.
    calls = [n for n in ast.walk(tree(page)) if isinstance(n, ast.Call)]
    tables = [ast.unparse(n) for n in calls if ast.unparse(n.func) == "st.dataframe"]
    safe = page.name == "_tables.py" and "without_formulas" in "".join(tables)
    assert not tables or safe


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_load_no_highlighter(page):
    # pages/_code.py says why.
    calls = (ast.unparse(n.func) for n in ast.walk(tree(page)) if isinstance(n, ast.Call))
    assert "st.code" not in calls


@pytest.mark.parametrize("library", OWN_LIBRARY)
def test_each_quantization_library_is_in_its_own_file_only(library):
    users = [m for m, path in MODULES.items() if library in libraries(all_imports(path, m))]
    # faster-whisper also brings the voice activity detector.
    others = {"faster_whisper": ["speech.voice_activity"]}.get(library, [])
    assert sorted(users) == sorted([OWN_LIBRARY[library], *others])
    assert not [page for page in PAGES if library in libraries(all_imports(page))]


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_backend_has_its_functions(backend):
    arguments = {
        node.name: [argument.arg for argument in node.args.args]
        for node in tree(Path(BACKEND_MODULES[backend].__file__)).body
        if isinstance(node, ast.FunctionDef)
    }
    if BACKENDS[backend].is_runtime:
        assert arguments["open_runtime"] == ["model", "recipe", "threads", "device"]
        return
    assert arguments["quantize"] == ["model", "recipe", "calibrate"]
    assert arguments["weight_of"] == arguments["state_of"] == ["layer"]
    assert arguments["layer_from"] == ["tensors", "settings"]


def test_the_app_and_its_pages_load_neither_torch_nor_what_is_slow_and_rarely_used():
    imports = {
        ast.unparse(node)
        for page in PAGES
        for node in ast.walk(tree(page))
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    assert any(f"{PACKAGE}" in line for line in imports)
    report = f"import sys; print(*({HEAVY | RARELY_USED!r} & sys.modules.keys()))"
    code = "\n".join([*sorted(imports), report])
    run = [sys.executable, "-c", code]
    done = subprocess.run(run, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout.split()) == (0, []), done.stderr


@pytest.mark.parametrize("path", EVERYTHING, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_are_short_and_named_for_what_they_hold(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 600
    assert path.stem not in {"utils", "util", "helpers", "misc", "common"}
