import pytest

from whisperq_core.errors import InputError
from whisperq_core.scoring.languages import NAMES, code_of, name_of


def test_codes_and_names_are_whispers():
    from transformers.models.whisper.tokenization_whisper import LANGUAGES, TO_LANGUAGE_CODE

    assert {code: names[0] for code, names in NAMES.items()} == LANGUAGES
    assert {name: code for code, names in NAMES.items() for name in names} == TO_LANGUAGE_CODE


@pytest.mark.parametrize("code", NAMES)
def test_every_code_and_every_name_of_it_is_understood(code):
    assert {code_of(text) for text in (code, code.upper(), *NAMES[code])} == {code}
    assert code_of(name_of(code)) == code


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("English", "en"),
        ("en-US", "en"),
        ("EN", "en"),
        (" en_us ", "en"),
        ("eng", "en"),
        ("English (US)", "en"),
        ("zh-CN", "zh"),
        ("zh-Hant-TW", "zh"),
        ("cmn_hans_cn", "zh"),
        ("zh-yue", "yue"),
        ("yue_hant_hk", "yue"),
        ("fil_ph", "tl"),
        ("nb-NO", "no"),
        ("nn-NO", "nn"),
        ("iw", "he"),
        ("jv", "jw"),
        ("deu", "de"),
        ("ger", "de"),
        ("sr-Latn", "sr"),
        ("Haitian  Creole", "ht"),
        ("ca-valencia", "ca"),
    ],
)
def test_tags_and_names_that_people_write(text, code):
    assert code_of(text) == code


@pytest.mark.parametrize("text", ["", " ", "xx", "klingon", "auto", "engl", "en US!", "en/de", "x"])
def test_what_is_no_language_is_named(text):
    with pytest.raises(InputError) as caught:
        code_of(text)
    assert repr(text) in str(caught.value) and "such as en" in str(caught.value)


def test_names_to_show():
    assert (name_of("en"), name_of("ht")) == ("English", "Haitian Creole")
