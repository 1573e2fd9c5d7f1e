"""Whisper's language codes, from BCP 47 tags and English names."""

import re
from typing import Literal

from whisperq_core.errors import InputError

# Code: names. The codes and names are Whisper's own (openai/whisper, tokenizer.py: LANGUAGES and
# TO_LANGUAGE_CODE); the first name of each is the one to show.
NAMES: dict[str, tuple[str, ...]] = {
    "en": ("english",),
    "zh": ("chinese", "mandarin"),
    "de": ("german",),
    "es": ("spanish", "castilian"),
    "ru": ("russian",),
    "ko": ("korean",),
    "fr": ("french",),
    "ja": ("japanese",),
    "pt": ("portuguese",),
    "tr": ("turkish",),
    "pl": ("polish",),
    "ca": ("catalan", "valencian"),
    "nl": ("dutch", "flemish"),
    "ar": ("arabic",),
    "sv": ("swedish",),
    "it": ("italian",),
    "id": ("indonesian",),
    "hi": ("hindi",),
    "fi": ("finnish",),
    "vi": ("vietnamese",),
    "he": ("hebrew",),
    "uk": ("ukrainian",),
    "el": ("greek",),
    "ms": ("malay",),
    "cs": ("czech",),
    "ro": ("romanian", "moldavian", "moldovan"),
    "da": ("danish",),
    "hu": ("hungarian",),
    "ta": ("tamil",),
    "no": ("norwegian",),
    "th": ("thai",),
    "ur": ("urdu",),
    "hr": ("croatian",),
    "bg": ("bulgarian",),
    "lt": ("lithuanian",),
    "la": ("latin",),
    "mi": ("maori",),
    "ml": ("malayalam",),
    "cy": ("welsh",),
    "sk": ("slovak",),
    "te": ("telugu",),
    "fa": ("persian",),
    "lv": ("latvian",),
    "bn": ("bengali",),
    "sr": ("serbian",),
    "az": ("azerbaijani",),
    "sl": ("slovenian",),
    "kn": ("kannada",),
    "et": ("estonian",),
    "mk": ("macedonian",),
    "br": ("breton",),
    "eu": ("basque",),
    "is": ("icelandic",),
    "hy": ("armenian",),
    "ne": ("nepali",),
    "mn": ("mongolian",),
    "bs": ("bosnian",),
    "kk": ("kazakh",),
    "sq": ("albanian",),
    "sw": ("swahili",),
    "gl": ("galician",),
    "mr": ("marathi",),
    "pa": ("punjabi", "panjabi"),
    "si": ("sinhala", "sinhalese"),
    "km": ("khmer",),
    "sn": ("shona",),
    "yo": ("yoruba",),
    "so": ("somali",),
    "af": ("afrikaans",),
    "oc": ("occitan",),
    "ka": ("georgian",),
    "be": ("belarusian",),
    "tg": ("tajik",),
    "sd": ("sindhi",),
    "gu": ("gujarati",),
    "am": ("amharic",),
    "yi": ("yiddish",),
    "lo": ("lao",),
    "uz": ("uzbek",),
    "fo": ("faroese",),
    "ht": ("haitian creole", "haitian"),
    "ps": ("pashto", "pushto"),
    "tk": ("turkmen",),
    "nn": ("nynorsk",),
    "mt": ("maltese",),
    "sa": ("sanskrit",),
    "lb": ("luxembourgish", "letzeburgesch"),
    "my": ("myanmar", "burmese"),
    "bo": ("tibetan",),
    "tl": ("tagalog",),
    "mg": ("malagasy",),
    "as": ("assamese",),
    "tt": ("tatar",),
    "haw": ("hawaiian",),
    "ln": ("lingala",),
    "ha": ("hausa",),
    "ba": ("bashkir",),
    "jw": ("javanese",),
    "su": ("sundanese",),
    "yue": ("cantonese",),
}

# Primary subtags that Whisper spells otherwise: ISO 639-2/3 codes, individual languages of a
# macrolanguage as data sets name them (FLEURS: cmn_hans_cn, fil_ph), and withdrawn codes.
_OTHER_CODES = (
    "zh:zho,chi,cmn de:deu,ger fr:fra,fre es:spa ru:rus ko:kor ja:jpn pt:por tr:tur pl:pol ca:cat "
    "nl:nld,dut ar:ara,arb sv:swe it:ita id:ind,in hi:hin fi:fin vi:vie he:heb,iw uk:ukr "
    "el:ell,gre ms:msa,may,zsm cs:ces,cze ro:ron,rum,mo da:dan hu:hun ta:tam no:nor,nob,nb th:tha "
    "ur:urd hr:hrv bg:bul lt:lit la:lat mi:mri,mao ml:mal cy:cym,wel sk:slk,slo te:tel "
    "fa:fas,per,pes,prs lv:lav,lvs bn:ben sr:srp az:aze,azj sl:slv kn:kan et:est,ekk mk:mkd,mac "
    "br:bre eu:eus,baq is:isl,ice hy:hye,arm ne:nep,npi mn:mon,khk bs:bos kk:kaz sq:sqi,alb,als "
    "sw:swa,swh gl:glg mr:mar pa:pan si:sin km:khm sn:sna yo:yor so:som af:afr oc:oci ka:kat,geo "
    "be:bel tg:tgk sd:snd gu:guj am:amh yi:yid,ji lo:lao uz:uzb,uzn fo:fao ht:hat ps:pus,pbt "
    "tk:tuk nn:nno mt:mlt sa:san lb:ltz my:mya,bur bo:bod,tib tl:tgl,fil mg:mlg,plt as:asm tt:tat "
    "ln:lin ha:hau ba:bak jw:jav,jv su:sun en:eng"
)

_CODE_OF_NAME = {name: code for code, names in NAMES.items() for name in names}
_CODE_OF_TAG = {code: code for code in NAMES} | {
    other: code
    for code, others in (entry.split(":") for entry in _OTHER_CODES.split())
    for other in others.split(",")
}
# ISO 639's reference names that Whisper's list does not have.
_CODE_OF_NAME |= {"filipino": "tl", "farsi": "fa", "dari": "fa", "bangla": "bn", "norsk": "no"}


def code_of(text: str) -> str:
    """Whisper's code for a BCP 47 tag ("en-US", "zh_Hant"), an ISO 639 code or an English name.

    A region, script or variant is dropped: Whisper's codes have none. Case does not matter.

    Raises:
        InputError: not a language that Whisper has.
    """
    cleaned = " ".join(text.split()).casefold()
    if cleaned in _CODE_OF_NAME:
        return _CODE_OF_NAME[cleaned]
    # A language subtag, an extended language (zh-yue), then script, region and variants.
    subtags = re.split(r"[-_]", cleaned)
    if all(re.fullmatch(r"[a-z0-9]{1,8}", subtag) for subtag in subtags):
        if subtags[0] == "zh" and "yue" in subtags[1:2]:
            return "yue"
        if subtags[0] in _CODE_OF_TAG:
            return _CODE_OF_TAG[subtags[0]]
    # A name with a country: "English (US)", "Portuguese (Brazil)".
    if code := _CODE_OF_NAME.get(re.sub(r"\s*\(.*\)$", "", cleaned)):
        return code
    raise InputError(
        f"{text[:40]!r} is not a language that Whisper knows. Use a code such as en, de or zh, "
        "or an English name such as german."
    )


def name_of(code: str) -> str:
    """The English name of one of Whisper's codes, capitalized: "Haitian Creole" for "ht"."""
    return NAMES[code][0].title()


# Written without spaces between words.
UNSPACED = frozenset({"zh", "yue", "ja", "th", "lo", "my", "km"})


def unit_of(language: str) -> Literal["words", "characters"]:
    """What errors are counted in: characters for languages written without spaces, else words."""
    return "characters" if language in UNSPACED else "words"
