"""Numbers with their nouns, and first letters, for sentences."""


def counted(number: int, noun: str) -> str:
    """The number and its noun: “1 loop”, “2 loops”."""
    return f"{number} {plural(number, noun)}"


def plural(number: int, noun: str) -> str:
    """The noun, with an s unless the number is 1."""
    return noun if number == 1 else f"{noun}s"


def capitalized(text: str) -> str:
    """The text with a capital letter, unless it starts with a name, such as fp32 or bnb-nf4."""
    first = text.split(" ", 1)[0]
    return text if any(map(str.isdigit, first)) else f"{text[:1].upper()}{text[1:]}"
