"""Text to numbers: normalizers, error counts, alignment of transcripts, loops.

Pure functions; no audio, no model.
"""
