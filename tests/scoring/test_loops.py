"""A loop is a text that repeats itself as a decoder does, in any script; people repeat less."""

import json
import random
import zlib

import pytest

from whisperq_core.scoring.loops import COMPRESSION_RATIO_THRESHOLD, compression_ratio, is_looped
from whisperq_core.settings import PROJECT

MANIFEST = PROJECT / "speech" / "manifest.jsonl"
SPOKEN = [json.loads(line) for line in MANIFEST.read_text(encoding="utf-8").splitlines()]
REFERENCES = [(line["text"], line["language"]) for line in SPOKEN]

# Ordinary paragraphs of 300 to 500 characters: the first article of the Universal Declaration of
# Human Rights and what follows it, in scripts of three bytes a letter.
PARAGRAPHS = {
    "Hindi": (
        "सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता और समानता प्राप्त है। उन्हें बुद्धि और"
        " अन्तरात्मा की देन प्राप्त है और परस्पर उन्हें भाईचारे के भाव से बर्ताव करना चाहिए। सभी को इस घोषणा में"
        " सन्निहित सभी अधिकारों और आज़ादियों को प्राप्त करने का हक़ है और इस मामले में जाति, वर्ण, लिंग, भाषा,"
        " धर्म, राजनीति या अन्य विचार-प्रणाली का विचार न किया जाएगा।"
    ),
    "Thai": (
        "มนุษย์ทั้งหลายเกิดมามีอิสระและเสมอภาคกันในเกียรติศักดิ์และสิทธิ ต่างมีเหตุผลและมโนธรรม"
        " และควรปฏิบัติต่อกันด้วยเจตนารมณ์แห่งภราดรภาพ ทุกคนย่อมมีสิทธิและอิสรภาพทั้งปวงตามที่กำหนดไว้ในปฏิญญานี้"
        " โดยปราศจากความแตกต่างไม่ว่าชนิดใด ๆ ดังเช่น เชื้อชาติ ผิว เพศ ภาษา ศาสนา"
        " ความคิดเห็นทางการเมืองหรือทางอื่น เผ่าพันธุ์แห่งชาติ หรือสังคม ทรัพย์สิน กำเนิด หรือสถานะอื่น ๆ"
    ),
    "Georgian": (
        "ყველა ადამიანი იბადება თავისუფალი და თანასწორი თავისი ღირსებითა და უფლებებით. მათ მინიჭებული აქვთ"  # noqa: E501
        " გონება და სინდისი და ერთმანეთის მიმართ უნდა იქცეოდნენ ძმობის სულისკვეთებით. ყოველი ადამიანი უნდა"  # noqa: E501
        " ფლობდეს ყველა უფლებასა და თავისუფლებას, გამოცხადებულს წინამდებარე დეკლარაციით, რასის, კანის ფერის,"  # noqa: E501
        " სქესის, ენის, რელიგიის ან სხვა მრწამსის განურჩევლად."
    ),
    "Chinese": (
        "人人生而自由，在尊严和权利上一律平等。他们赋有理性和良心，并应以兄弟关系的精神相对待。人人有资格享有本宣言所载的"
        "一切权利和自由，不分种族、肤色、性别、语言、宗教、政治或其他见解、国籍或社会出身、财产、出生或其他身份等任何区别。"
        "并且不得因一人所属的国家或领土的政治的、行政的或者国际的地位之不同而有所区别。"
    ),
}


@pytest.mark.parametrize("text", PARAGRAPHS.values(), ids=PARAGRAPHS)
def test_paragraphs_of_any_script_are_not_looped(text):
    assert compression_ratio(text) < COMPRESSION_RATIO_THRESHOLD
    assert not is_looped(text)


def test_a_ratio_of_bytes_would_call_some_of_them_a_loop():
    by_bytes = {
        name: len(t.encode()) / len(zlib.compress(t.encode())) for name, t in PARAGRAPHS.items()
    }
    assert by_bytes["Hindi"] > COMPRESSION_RATIO_THRESHOLD


@pytest.mark.parametrize(
    "text",
    [
        "谢谢观看" * 4,
        "请不吝点赞" * 10,
        "ご視聴ありがとうございました" * 4,
        "ขอบคุณครับ" * 5,
        "धन्यवाद दोस्तों " * 6,
        PARAGRAPHS["Chinese"] + "谢谢观看" * 4,
        PARAGRAPHS["Hindi"] + " और फिर" * 8,
    ],
)
def test_loops_of_any_script_are_found(text):
    assert is_looped(text)


@pytest.mark.parametrize(
    "text", ["no no no no", "No, no, no, no.", "哈哈哈哈", "ha ha ha ha", "ใช่ ใช่ ใช่ ใช่"]
)
def test_short_repetitions_are_speech(text):
    assert not is_looped(text)


def test_no_shipped_reference_is_looped():
    assert [text for text, _ in REFERENCES if is_looped(text)] == []
    assert len(REFERENCES) > 100


def test_a_whole_set_read_in_one_go_is_not_looped():
    for name in sorted({name for line in SPOKEN for name in line["sets"]}):
        assert not is_looped(" ".join(line["text"] for line in SPOKEN if name in line["sets"]))


def test_an_hour_without_a_repeat_is_not_looped():
    # Recordings may last two hours. Whisper's threshold is one for the text of 30 s: whatever the
    # words, long texts compress better.
    words = [word for text, language in REFERENCES if language == "en" for word in text.split()]
    assert not is_looped(" ".join(random.Random(0).choices(words, k=9000)).lower())


# As decoders write them: with and without punctuation, cut off anywhere, too short to compress.
LOOPS = {
    "a word": " so" * 8,
    "two words": " thank you" * 4,
    "eight words": " and then he went back to the house" * 4,
    "sentences": " Thank you." * 4,
    "cut in the middle": " and so on" * 4 + " and so",
    "mixed case": " Thank you thank you THANK you thank YOU",
    "characters": " " + "ha" * 100,
    "commas and a full stop": ", no" * 8 + ".",
    "sentences, the last cut": " Thank you." * 4 + " Thank you",
}


@pytest.mark.parametrize("loop", LOOPS.values(), ids=LOOPS)
def test_every_reference_that_ends_in_a_loop_is_looped(loop):
    assert [text for text, _ in REFERENCES if not is_looped(text + loop)] == []


@pytest.mark.parametrize(
    "text", ["", " ", "so so so", "Thank you. Thank you. Thank you.", "no no no no, said the cat"]
)
def test_a_few_repeats_are_speech(text):
    assert not is_looped(text)


def test_the_compression_ratio_of_ascii_is_whispers():
    assert compression_ratio("") == 0.0
    # zlib adds 8 bytes to a few that do not repeat, and writes a run in hardly more than that.
    assert 30 < compression_ratio("a" * 500) < 50
    assert compression_ratio("abc") == pytest.approx(3 / 11)
    for text, language in REFERENCES:
        if language == "en":
            whispers = len(text.encode()) / len(zlib.compress(text.encode()))
            assert compression_ratio(text) == whispers


def test_characters_are_counted_not_bytes():
    assert compression_ratio("äöü") == pytest.approx(3 / 11)
