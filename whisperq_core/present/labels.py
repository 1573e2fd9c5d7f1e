"""What stored values are called on pages and in reports. Records keep the stored values."""

from whisperq_core.analyze.verdict_text import verdict_label as verdict_label
from whisperq_core.whisper.protocols import protocol_label as protocol_label
