"""WhisperQ's engine: recipe → quantized model → transcripts → scores → record → store → views."""

__version__ = "0.1.0"
