"""Every setting that comes from the environment, once: WHISPERQ_CACHE, WHISPERQ_RESULTS, ….

`current()` reads the environment anew, so the command line's --cache is `os.environ` too, and
worker processes inherit it.
"""

import os
from functools import lru_cache
from pathlib import Path

from pydantic import field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

PROJECT = Path(__file__).resolve().parent.parent
# The cache that comes with WhisperQ: its shipped results are in it.
SHIPPED_CACHE = PROJECT / "cache"


class Settings(BaseSettings):
    """What a user can set; each field is the variable WHISPERQ_<FIELD>, empty counts as unset.

    cache: folder of results, recordings, sets and downloads.
    results: a folder or URL for results and pieces instead (see `file_storage`).
    scheduler, tls: address of a Dask cluster, and the folder of its keys.
    keep_days: days until uploaded recordings are deleted; "0" keeps them. Text, so that what is no
    number gets a sentence where it is used.
    users: who may sign in, addresses and @domains separated by commas.
    ggml: folder of whisper.cpp's model files; by default `ggml` in the cache.
    noises: folder of noises and impulse responses of your own, named by their files' names.
    results_only: the app shows results, and measures, transcribes and stores nothing.
    """

    model_config = SettingsConfigDict(env_prefix="WHISPERQ_", env_ignore_empty=True, frozen=True)

    cache: Path = SHIPPED_CACHE
    results: str | None = None
    scheduler: str | None = None
    tls: Path | None = None
    keep_days: str = "30"
    users: str = ""
    ggml: Path | None = None
    noises: Path | None = None
    results_only: bool = False

    @field_validator("cache", "tls", "ggml", "noises")
    @classmethod
    def _expanded(cls, path: Path | None) -> Path | None:
        return path and path.expanduser()


def current() -> Settings:
    """The settings as the environment has them now."""
    return _settings(frozenset(os.environ.items()))


# A page asks dozens of times, and to read them takes milliseconds.
@lru_cache(maxsize=10)
def _settings(environment: frozenset[tuple[str, str]]) -> Settings:
    return Settings()
