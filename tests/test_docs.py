"""The documentation holds against the project: links lead somewhere, commands exist, code runs."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from whisperq_core.cli.main import main
from whisperq_core.settings import PROJECT

PAGES = sorted(
    [*PROJECT.glob("*.md"), *(PROJECT / "docs").glob("*.md"), *PROJECT.glob("speech/*.md")]
)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
# Files of the reader and of other projects.
_NOT_OURS = {".streamlit/secrets.toml", "models/convert-h5-to-ggml.py"}
_CODE = re.compile(r"`([\w./-]+/[\w./-]+\.(?:py|md|jsonl|toml|txt))`")


def named(path: Path) -> str:
    return str(path.relative_to(PROJECT))


def blocks(language: str) -> list:
    return [
        pytest.param(
            code, id=f"{named(page)}:{page.read_text(encoding='utf-8')[:at].count(chr(10))}"
        )
        for page in PAGES
        for at, kind, code in (
            (match.start(), *match.groups())
            for match in _BLOCK.finditer(page.read_text(encoding="utf-8"))
        )
        if kind == language
    ]


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_somewhere(page):
    for target in _LINK.findall(page.read_text(encoding="utf-8")):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), f"{named(page)} links to {target}"
        assert not anchor or anchor in anchors(there), f"{named(page)} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_files_that_are_named_exist(page):
    for path in _CODE.findall(page.read_text(encoding="utf-8")):
        if path not in _NOT_OURS:
            assert (PROJECT / path).exists(), f"{named(page)} names {path}"


def test_every_page_of_the_documentation_is_in_its_list():
    listed = (PROJECT / "docs" / "README.md").read_text(encoding="utf-8")
    pages = {page.name for page in (PROJECT / "docs").glob("*.md")} - {"README.md"}
    assert [name for name in sorted(pages) if f"({name})" not in listed] == []


def test_the_readme_is_short():
    assert len((PROJECT / "README.md").read_text(encoding="utf-8").splitlines()) <= 160


@pytest.mark.parametrize("code", blocks("sh"))
def test_commands_exist(code, capsys):
    """Every command of a block of shell code, with the options that it is given."""
    for line in code.replace("\\\n", "").splitlines():
        words = shlex.split(line, comments=True)
        if words[:1] != ["whisperq"]:
            continue
        command = next(word for word in words[1:] if not word.startswith("-"))
        assert main([command, "--help"]) == 0
        options = capsys.readouterr().out
        missing = [w for w in words if w.startswith("--") and f"{w} " not in options]
        assert missing == [], f"{line}: {missing}"


@pytest.mark.model
@pytest.mark.parametrize("code", blocks("python"))
def test_python_code_runs(code, tmp_path, monkeypatch):
    """As a reader would run it, in a folder of their own with the shipped speech in it."""
    (tmp_path / "speech").symlink_to(PROJECT / "speech")
    environment = {"WHISPERQ_CACHE": str(tmp_path / "cache"), "PYTHONPATH": str(PROJECT)}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    if "wq.results()" in code or "wq.advise" in code:  # of the shipped results
        monkeypatch.setenv("WHISPERQ_RESULTS", str(_copy_of_results(tmp_path)))
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=250
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def _copy_of_results(folder: Path) -> Path:
    copied = folder / "shipped"
    (copied / "results").mkdir(parents=True)
    for result in (PROJECT / "cache" / "results").glob("*.json"):
        (copied / "results" / result.name).symlink_to(result)
    return copied
