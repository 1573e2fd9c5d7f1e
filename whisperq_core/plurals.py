"""Numbers with their nouns, for sentences."""


def counted(number: int, noun: str) -> str:
    """The number and its noun: “1 loop”, “2 loops”."""
    return f"{number} {plural(number, noun)}"


def plural(number: int, noun: str) -> str:
    """The noun, with an s unless the number is 1."""
    return noun if number == 1 else f"{noun}s"
