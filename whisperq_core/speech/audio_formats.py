"""The audio formats that can be decoded: one table, from which every other list is derived.

What uploads, evaluation sets, exports and imports accept, which formats and codecs FFmpeg may use,
and what a refusal calls a file. A format is in the table if speech is recorded, sent or archived in
it and libsndfile or the FFmpeg of the PyAV wheel decodes it; tests hold the table against both.
"""

import codecs
from dataclasses import dataclass
from pathlib import PurePath

_PCM = (
    *("pcm_alaw", "pcm_mulaw", "pcm_s8", "pcm_u8", "pcm_f32be", "pcm_f32le", "pcm_f64be"),
    *("pcm_f64le", "pcm_s16be", "pcm_s16le", "pcm_s24be", "pcm_s24le", "pcm_s32be", "pcm_s32le"),
)
_MPEG = ("mp1", "mp1float", "mp2", "mp2float", "mp3", "mp3float")
_AAC, _AC3 = ("aac", "aac_latm"), ("ac3", "eac3")
_AMR, _GSM = ("amrnb", "amrwb"), ("gsm", "gsm_ms")
_OPUS, _ADPCM = ("libopus", "opus"), ("adpcm_ms", "adpcm_ima_wav")
_WMA = ("wmav1", "wmav2", "wmapro", "wmavoice", "wmalossless")
_REAL = ("real_144", "real_288", "cook", "sipr")


@dataclass(frozen=True)
class AudioFormat:
    """A file format that can be decoded.

    suffixes: of file names, in lower case, the usual one first. soundfile: libsndfile's names of
    it, tried first. demuxers, codecs: FFmpeg's names, tried next. magic: (offset, bytes) pairs;
    a file that has all pairs of one tuple is of this format.
    """

    name: str
    suffixes: tuple[str, ...]
    magic: tuple[tuple[tuple[int, bytes], ...], ...]
    soundfile: tuple[str, ...] = ()
    demuxers: tuple[str, ...] = ()
    codecs: tuple[str, ...] = ()


FORMATS = (
    AudioFormat(
        "WAV",
        (".wav", ".wave", ".bwf", ".rf64"),
        (((0, b"RIFF"), (8, b"WAVE")), ((0, b"RF64"), (8, b"WAVE"))),
        ("WAV", "WAVEX", "RF64"),
        ("wav",),
        (*_PCM, *_ADPCM, *_GSM, *_MPEG, "truespeech", "g722", "g726"),
    ),
    AudioFormat("W64", (".w64",), (((0, b"riff\x2e\x91\xcf\x11"),),), ("W64",), ("w64",), _PCM),
    AudioFormat("FLAC", (".flac",), (((0, b"fLaC"),),), ("FLAC",), ("flac",), ("flac",)),
    AudioFormat(
        "AIFF",
        (".aiff", ".aif", ".aifc"),
        (((0, b"FORM"), (8, b"AIFF")), ((0, b"FORM"), (8, b"AIFC"))),
        ("AIFF",),
        ("aiff",),
        (*_PCM, *_GSM, "adpcm_ima_qt", "mace3", "mace6"),
    ),
    AudioFormat("AU", (".au", ".snd"), (((0, b".snd"),),), ("AU",), ("au",), _PCM),
    AudioFormat(
        "CAF",
        (".caf",),
        (((0, b"caff"),),),
        ("CAF",),
        ("caf",),
        (*_PCM, *_AAC, *_OPUS, *_AMR, *_GSM, "alac", "flac", "adpcm_ima_qt"),
    ),
    AudioFormat(
        "NIST SPHERE",
        (".sph", ".nist"),
        (((0, b"NIST_1A"),),),
        ("NIST",),
        ("nistsphere",),
        (*_PCM, "shorten"),
    ),
    AudioFormat("VOC", (".voc",), (((0, b"Creative Voice File"),),), ("VOC",), ("voc",), _PCM),
    AudioFormat(
        "OGG",
        (".ogg", ".oga", ".opus", ".spx", ".ogv"),
        (((0, b"OggS"),),),
        ("OGG",),
        ("ogg",),
        (*_OPUS, "vorbis", "flac", "speex"),
    ),
    AudioFormat(
        "MP4 or QuickTime",
        (".m4a", ".mp4", ".m4b", ".m4v", ".mov", ".qt", ".3gp", ".3gpp", ".3g2"),
        tuple(((4, box),) for box in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")),
        (),
        ("mov",),
        (
            *(*_AAC, *_AC3, *_AMR, *_GSM, *_MPEG, *_OPUS, *_PCM, *_ADPCM, "alac", "flac", "vorbis"),
            *("adpcm_ima_qt", "mace3", "mace6", "qcelp", "qdm2"),
        ),
    ),
    AudioFormat(
        "Matroska or WebM",
        (".webm", ".mkv", ".mka", ".weba"),
        (((0, b"\x1aE\xdf\xa3"),),),
        (),
        ("matroska",),
        (*_OPUS, "vorbis", "flac", "alac", "wavpack", *_AAC, *_AC3, *_MPEG, *_PCM),
    ),
    AudioFormat(
        "AMR", (".amr", ".awb"), (((0, b"#!AMR\n"),), ((0, b"#!AMR-WB\n"),)), (), ("amr",), _AMR
    ),
    AudioFormat(
        "AVI",
        (".avi",),
        (((0, b"RIFF"), (8, b"AVI ")),),
        (),
        ("avi",),
        (*_PCM, *_ADPCM, *_GSM, *_MPEG, *_AAC, *_AC3, *_WMA, "truespeech"),
    ),
    AudioFormat(
        "Flash Video",
        (".flv",),
        (((0, b"FLV\x01"),),),
        (),
        ("flv",),
        (*_MPEG, *_AAC, *_PCM, "nellymoser", "speex", "adpcm_swf"),
    ),
    AudioFormat(
        "Windows Media",
        (".wma", ".wmv", ".asf"),
        (((0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11"),),),
        (),
        ("asf",),
        (*_WMA, *_MPEG, *_AAC, *_PCM, *_ADPCM, *_GSM),
    ),
    AudioFormat(
        "RealMedia",
        (".rm", ".ra", ".rmvb"),
        (((0, b".RMF"),), ((0, b".ra\xfd"),)),
        (),
        ("rm",),
        (*_REAL, *_AAC, "ac3"),
    ),
    AudioFormat("WavPack", (".wv",), (((0, b"wvpk"),),), (), ("wv",), ("wavpack",)),
    AudioFormat(
        "DSS dictation",
        (".dss", ".ds2"),
        (((0, b"\x02dss"),), ((0, b"\x03dss"),)),
        (),
        ("dss",),
        ("dss_sp", "g723_1"),
    ),
    AudioFormat(
        "MPEG program stream",
        (".mpg", ".mpeg", ".vob"),
        (((0, b"\0\0\x01\xba"),),),
        (),
        ("mpeg",),
        (*_MPEG, *_AC3, "pcm_dvd"),
    ),
    AudioFormat(
        "MPEG transport stream",
        (".ts", ".mts", ".m2ts", ".m2t"),
        (((0, b"G"), (188, b"G")), ((4, b"G"), (196, b"G"))),
        (),
        ("mpegts",),
        (*_MPEG, *_AAC, *_AC3, *_OPUS, "pcm_bluray"),
    ),
    AudioFormat("AC-3", (".ac3", ".eac3", ".ec3"), (((0, b"\x0bw"),),), (), _AC3, _AC3),
    # Last, as two bytes are little evidence.
    AudioFormat(
        "AAC",
        (".aac", ".adts"),
        tuple(((0, b"\xff" + b),) for b in (b"\xf1", b"\xf9")),
        (),
        ("aac",),
        _AAC,
    ),
    AudioFormat(
        "MP3",
        (".mp3", ".mp2", ".mp1", ".mpga"),
        (((0, b"ID3"),), *(((0, bytes([255, b])),) for b in range(0xE2, 0x100))),
        ("MP3",),
        ("mp3",),
        _MPEG,
    ),
)

AUDIO_SUFFIXES = frozenset(suffix for format in FORMATS for suffix in format.suffixes)
SOUNDFILE_FORMATS = frozenset(name for format in FORMATS for name in format.soundfile)
# Playlists and the like, which make FFmpeg open other files and addresses, are not among these; and
# of a film, the pictures are never decoded.
FFMPEG_DEMUXERS = tuple(dict.fromkeys(name for format in FORMATS for name in format.demuxers))
FFMPEG_CODECS = tuple(dict.fromkeys(name for format in FORMATS for name in format.codecs))

# Bytes from a file's start that `sniff` and `refusal` look at.
HEAD_BYTES = 1024

_CONVERT = "Convert it to FLAC or WAV, for example with ffmpeg."
_NOT_AUDIO: tuple[tuple[bytes, str, str], ...] = (
    (b"MAC ", "Monkey's Audio", _CONVERT),
    (b"TTA", "True Audio", _CONVERT),
    (b"MPCK", "Musepack", _CONVERT),
    (b"MP+", "Musepack", _CONVERT),
    (b"ajkg", "Shorten", _CONVERT),
    (b"DSD ", "DSD audio", _CONVERT),
    (b"FRM8", "DSD audio", _CONVERT),
    (b"MThd", "a MIDI file, which holds notes and no sound", "Choose a recording of it."),
    (b"PK\x03\x04", "a ZIP archive", "Unpack it, or import it as an evaluation set."),
    (b"Rar!", "a RAR archive", "Unpack it first."),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", "Unpack it first."),
    (b"\x1f\x8b", "a gzip archive", "Unpack it first."),
    (b"%PDF", "a PDF document", "Choose an audio file."),
    (b"\x89PNG", "a picture", "Choose an audio file."),
    (b"\xff\xd8\xff", "a picture", "Choose an audio file."),
    (b"GIF8", "a picture", "Choose an audio file."),
    (
        b"version https://git-lfs",
        "a Git LFS pointer to the file",
        "Fetch the file itself with git lfs pull.",
    ),
)
_PLAYLISTS = (b"#extm3u", b"[playlist]", b"ffconcat", b"<smil", b"<asx", b"<mpd", b"v=0")


def sniff(head: bytes) -> AudioFormat | None:
    """The format that a file of such first bytes (HEAD_BYTES of them) is in, if it is one of ours.

    A name says nothing here. The file need not be whole, nor its codec known.
    """
    for format in FORMATS:
        for pairs in format.magic:
            if all(head[at : at + len(mark)] == mark for at, mark in pairs):
                return format
    return None


def usable_suffix(name: str, data: bytes) -> str:
    """A suffix of AUDIO_SUFFIXES for a file, so that it is a recording wherever it goes next.

    The one that its name has, or the usual one of the format that its first bytes are in; empty
    where neither is known.
    """
    suffix = PurePath(name).suffix.lower()
    if suffix in AUDIO_SUFFIXES:
        return suffix
    format = sniff(data[:HEAD_BYTES])
    return format.suffixes[0] if format else ""


def refusal(name: str, head: bytes) -> str:
    """Why a file that neither library opens is refused, and what to do: a sentence or two."""
    for mark, what, advice in _NOT_AUDIO:
        if head.startswith(mark):
            kind = "which cannot be decoded" if advice == _CONVERT else "not a recording"
            return f"{name} is {what}, {kind}. {advice}"
    text = head.lstrip(b"\xef\xbb\xbf \r\n\t").lower()
    if text.startswith(_PLAYLISTS):
        return f"{name} is a playlist, not a recording. Choose the recordings that it names."
    if text.startswith((b"<!doctype html", b"<html")):
        return f"{name} is a web page, not a recording. Download the file itself."
    if _is_text(head):
        return f"{name} is a text file, not a recording. Choose an audio file."
    if format := sniff(head):
        return (
            f"{name} starts like {format.name} but is not a readable recording. Copy or export it"
            " again; if that does not help, export it as WAV or FLAC."
        )
    return (
        f"{name} is not a readable recording, whatever its file extension. Use WAV, FLAC, MP3,"
        " OGG or M4A."
    )


def _is_text(head: bytes) -> bool:
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(head)  # a character may be cut off
    except UnicodeDecodeError:
        return False
    return bool(text) and all(c.isprintable() or c in "\r\n\t\f" for c in text)
