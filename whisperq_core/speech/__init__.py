"""Audio in: decoding, the isolated decoder for uploads, evaluation sets and their manifests."""
