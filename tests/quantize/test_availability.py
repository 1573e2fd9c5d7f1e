from importlib.metadata import PackageNotFoundError

import pytest

from whisperq_core.quantize.backends.availability import version


def test_versions_are_those_installed_now(tmp_path, monkeypatch):
    """A library may be installed or upgraded while the app runs."""

    def install(version: str) -> None:
        metadata = tmp_path / f"some_library-{version}.dist-info" / "METADATA"
        metadata.parent.mkdir()
        metadata.write_text(f"Metadata-Version: 2.1\nName: some-library\nVersion: {version}\n")

    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(PackageNotFoundError, match="some-library"):
        version("some-library")
    install("0.2.7")
    assert version("some-library") == version("some-library") == "0.2.7"
    (tmp_path / "some_library-0.2.7.dist-info" / "METADATA").unlink()
    (tmp_path / "some_library-0.2.7.dist-info").rmdir()
    install("0.2.8")
    assert version("some-library") == "0.2.8"
