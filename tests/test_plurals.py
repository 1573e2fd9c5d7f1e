from whisperq_core.plurals import counted


def test_one_is_singular_and_all_other_numbers_are_plural():
    counts = [counted(number, "recording") for number in (0, 1, 2)]
    assert counts == ["0 recordings", "1 recording", "2 recordings"]
