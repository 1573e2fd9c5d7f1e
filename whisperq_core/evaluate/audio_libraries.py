"""Versions of the libraries that decode audio: part of a record's provenance, not of its key.

They are not in the key because what they decode is the same from version to version where results
are compared: 16 kHz WAV and FLAC, as all public sets are, give the same samples bit for bit. Lossy
formats and resampling may differ by a rounding in the last bit of a sample, which rarely changes a
transcript. In the key, each patch release of a library would make every stored result unreachable.
In the record, they explain a difference where there is one.
"""

from functools import cache
from importlib.metadata import PackageNotFoundError, version

# libsndfile, FFmpeg and libsoxr are inside these packages' wheels.
_PACKAGES = ("soundfile", "av", "soxr")


@cache
def audio_library_versions() -> dict[str, str]:
    """Version by package; without packages that are not installed."""
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions
