"""Data sources, decoding, splits, the cache of decoded images, and the data module."""
