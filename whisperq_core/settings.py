"""Where WhisperQ's files are on this machine."""

from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
