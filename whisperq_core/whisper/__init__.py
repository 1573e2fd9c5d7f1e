"""The model: where weights come from, features, generation, transcription, word timestamps."""
