"""`whisperq models`: model names, and which are on this machine."""

from whisperq_core.whisper import model_sources


def models() -> None:
    """List model names, and which are on this machine."""
    for name in model_sources.NAMES:
        here = model_sources.find(name).is_here
        print(f"{name:16s} {'here' if here else 'to be downloaded from the hub'}")
