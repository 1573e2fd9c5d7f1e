"""The documentation holds against the project: links lead somewhere, commands exist, code runs."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

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


class Block(NamedTuple):
    """A block of code; line: the number of lines of the page before the code."""

    page: Path
    line: int
    language: str
    code: str


def every_block() -> list[Block]:
    return [
        Block(page, text[: match.start(2)].count("\n"), *match.groups())
        for page in PAGES
        for text in [page.read_text(encoding="utf-8")]
        for match in _BLOCK.finditer(text)
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


@pytest.mark.parametrize(
    "code",
    [
        pytest.param(block.code, id=f"{named(block.page)}:{block.line}")
        for block in every_block()
        if block.language == "sh"
    ],
)
def test_commands_exist(code, capsys):
    """Every command of a block of shell code, with the options that it is given."""
    for line in code.replace("\\\n", "").splitlines():
        words = shlex.split(line, comments=True)
        if words[:1] != ["whisperq"]:
            continue
        command = next(word for word in words[1:] if not word.startswith("-"))
        assert main([command, "--help"]) == 0
        options = capsys.readouterr().out
        missing = {w for w in words if w.startswith("--")}.difference(
            re.findall(r"--[\w-]+", options)
        )
        assert missing == set(), line


# Each block in a namespace of its own, named by its page and line where it fails.
_RUN_BLOCKS = """
import json, sys
for page, line, code in json.load(sys.stdin):
    print("BLOCK")
    exec(compile("\\n" * line + code, page, "exec"), {})
"""


@pytest.mark.model
def test_python_code_runs(tmp_path):
    """As a reader would run it, in a folder of their own with the shipped speech in it.

    One process runs all of it, so that a later block finds what an earlier one evaluated.
    """
    blocks = [block for block in every_block() if block.language == "python"]
    (tmp_path / "speech").symlink_to(PROJECT / "speech")
    environment = {
        "WHISPERQ_CACHE": str(tmp_path / "cache"),
        "WHISPERQ_RESULTS": str(_copy_of_results(tmp_path)),
        "PYTHONPATH": str(PROJECT),
    }
    done = subprocess.run(
        [sys.executable, "-c", _RUN_BLOCKS],
        input=json.dumps([(named(block.page), block.line, block.code) for block in blocks]),
        cwd=tmp_path,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert done.returncode == 0, done.stderr
    before, *printed = done.stdout.split("BLOCK\n")
    assert before == "" and len(printed) == len(blocks) > 0
    assert all(text.strip() for text in printed)


def _copy_of_results(folder: Path) -> Path:
    copied = folder / "shipped"
    (copied / "results").mkdir(parents=True)
    for result in (PROJECT / "cache" / "results").glob("*.json"):
        (copied / "results" / result.name).symlink_to(result)
    return copied
