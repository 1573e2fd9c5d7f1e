"""`python -m whisperq_core …` is the command `whisperq`."""

from whisperq_core.cli.main import entry

if __name__ == "__main__":
    entry()
