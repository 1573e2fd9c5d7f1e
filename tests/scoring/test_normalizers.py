"""Normalizers: known values, and properties of any text (hypothesis)."""

import unicodedata
from importlib.metadata import version

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whisperq_core.scoring.error_rates import normalizer_id, score
from whisperq_core.scoring.languages import NAMES, UNSPACED, unit_of
from whisperq_core.scoring.normalizers import normalizer

# Letters and marks of one language each: of these its words are made below.
ALPHABETS = {
    "en": "abcdefghijklmnopqrstuvwxyz",
    "de": "abcdefghijklmnopqrstuvwxyzäöüß",
    "fr": "abcdefghijklmnopqrstuvwxyzàâçéèêëîïôùûü",
    "vi": "abcdeghiklmnopqrstuvxyăâđêôơưạảấầẩẫậắằẳẵặẹẻẽ",
    "tr": "abcçdefgğhıijklmnoöprsştuüvyz",
    "ru": "абвгдеёжзийклмнопрстуфхцчшщъыьэюя",
    "el": "αβγδεζηθικλμνξοπρστυφχψωάέήίόύώ",
    "hi": "अआइईउऊएऐओऔकखगघचछजझटठडढणतथदधनपफबभमयरलवशषसहािीुूेैोौ्ंँ",
    "ta": "அஆஇஈஉஊஎஏஐஒஓகஙசஞடணதநபமயரலவழளறனாிீுூெேைொோௌ்",
    "bn": "অআইঈউঊএঐওঔকখগঘঙচছজঝঞটঠডঢণতথদধনপফবভমযরলশষসহািীুূেৈোৌ্",
    "ka": "აბგდევზთიკლმნოპჟრსტუფქღყშჩცძწჭხჯჰ",
    "ko": "가나다라마바사아자차카타파하각난달람",
    "ar": "ابتثجحخدذرزسشصضطظعغفقكلمنهوي",
    "he": "אבגדהוזחטיכלמנסעפצקרשת",
    "fa": "ابپتثجچحخدذرزژسشصضطظعغفقکگلمنوهی",
}
each_language = pytest.mark.parametrize("language", ALPHABETS)


@pytest.mark.parametrize(
    ("language", "text", "compared"),
    [
        ("en", "Mr. Smith, it isn't a GREY colour!", "mister smith it is not a gray color"),
        ("en", "twenty-one dollars", "$21"),
        ("en", "Hmm, uh, yes.", "yes"),
        ("en", "[applause] (coughs) hello", "hello"),
        ("en", "Hmm, uh. [Music]", ""),
        ("en", "[music]", ""),
        ("en", "…", ""),
        ("en", "Wait... what?", "wait what"),
        ("de", "Die Straße wäre 20 km lang!", "die straße wäre 20 km lang"),
        ("de", "Hmm, zwanzig. [Musik]", "hmm zwanzig"),
        ("de", "Mr. colour twenty-one", "mr colour twenty one"),
        ("fr", "L'été, déjà ?", "l été déjà"),
        ("hi", "हिन्दी में, १२ दिन।", "हिन्दी में 12 दिन"),
        ("tr", "İSTANBUL ILIK", "istanbul ılık"),
        ("ar", "مُحَمَّدٌ", "محمد"),
        ("he", "שָׁלוֹם", "שלום"),
        ("en", " \n\t", ""),
        ("de", " \n\t", ""),
    ],
)
def test_known_normalizations(language, text, compared):
    assert " ".join(normalizer(language).apply(text).split()) == compared


@pytest.mark.parametrize(
    ("language", "one", "other"),
    [
        ("en", "It’s a dog’s life, isn’t it?", "It's a dog's life, isn't it?"),
        ("en", "“Well” – he said — nothing…", '"Well" - he said - nothing'),
        ("en", "ＡＢＣ　１２", "ABC 12"),
        ("en", "zero\u200bwidth\u00ad", "zerowidth"),
        ("en", "naïve café", "nai\u0308ve cafe\u0301"),
        ("en", "at ten thirty a.m.", "at 10:30 AM"),
        ("en", "at 10:30 a. m.", "at ten thirty am"),
        ("en", "on june third", "on June 3"),
        ("en", "on June 3rd", "on june three"),
        ("en", "agent double oh seven", "agent 007"),
        ("fr", "l’été", "l'été"),
        ("uk", "пʼять", "п’ять"),
        ("ar", "مُحَمَّدٌ", "محمد"),
        ("ar", "أحمد إلى", "احمد الي"),
        ("fa", "كتاب مي\u200cروم", "کتاب میروم"),
        ("hi", "क़लम", "क\u093cलम"),
        ("de", "Mu\u0308ller", "Müller"),
        ("ja", "ｶﾞﾗｽ", "ガラス"),
    ],
)
def test_typing_habits_are_no_errors(language, one, other):
    scored = score(one, other, language)
    assert (scored.words.errors, scored.characters.errors) == (0, 0)


def test_vowel_marks_and_combining_marks_split_no_words():
    assert score("مُحَمَّدٌ", "محمد", "ar").words.reference_length == 1
    assert score("नमस्ते हिन्दी में दुनिया", "", "hi").words.reference_length == 4


def test_languages_without_spaces_count_characters():
    wrong = score("今天天气很好我们去公园", "今天天气很好我们去花园", "zh")
    assert (wrong.words.reference_length, wrong.words.errors) == (11, 1)
    assert wrong.words == wrong.characters
    assert score("今天 天气", "今天天气", "zh").words.errors == 0
    assert {language for language in NAMES if unit_of(language) == "characters"} == UNSPACED
    assert unit_of("ko") == "words"


def test_text_without_words_has_none_and_what_is_added_is_invented():
    for reference in ("", "[music]", "…", "(laughs)"):
        counts = score(reference, "thank you", "en").words
        assert (counts.reference_length, counts.insertions, counts.rate) == (0, 2, None)


def test_english_starts_from_whisper_s_own():
    names = {language: normalizer(language).name for language in ("en", "de", "fr", "zh")}
    assert names.pop("en") == "whisperq-english"
    assert set(names.values()) == {"whisperq-unicode"}


def test_ids_are_pinned_with_their_version():
    # Stored counts carry these: another version means that stored transcripts are to be rescored.
    assert normalizer_id("en") == f"whisperq-english@1+{version('whisper-normalizer')}"
    assert normalizer_id("de") == "whisperq-unicode@1"
    assert score("ja", "ja", "de").normaliser == "whisperq-unicode@1"


def words_in(language: str):
    # Whisper's English normalizer rewrites some words (numbers, contractions, "mr", "hmm", British
    # spelling); a z in front makes words that are none of them.
    prefix = "z" if language == "en" else ""
    return st.text(ALPHABETS[language], min_size=1, max_size=8).map(lambda word: prefix + word)


@each_language
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_what_is_normalized_stays_as_it_is(language, data):
    text = data.draw(st.lists(words_in(language) | st.sampled_from(list(".,!?’'“”–—-…()[]"))))
    normalize = normalizer(language).apply
    once = normalize(" ".join(text))
    assert normalize(once) == once


@settings(max_examples=300, deadline=None)
@given(st.text(), st.sampled_from([language for language in NAMES if language != "en"]))
def test_any_text_is_idempotent_but_in_english(text, language):
    normalize = normalizer(language).apply
    assert normalize(normalize(text)) == normalize(text)


@settings(max_examples=300, deadline=None)
@given(st.text(), st.sampled_from(list(NAMES)))
def test_composed_and_decomposed_forms_are_alike(text, language):
    normalize = normalizer(language).apply
    composed, decomposed = (unicodedata.normalize(form, text) for form in ("NFC", "NFD"))
    assert normalize(composed).split() == normalize(decomposed).split()


@each_language
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_words_are_never_merged_or_split(language, data):
    words = data.draw(st.lists(words_in(language), min_size=1, max_size=6))
    normalize = normalizer(language).apply
    assert len(normalize(" ".join(words)).split()) == len(words)
    assert normalize(" ".join(words)).split() == [normalize(word).strip() for word in words]
