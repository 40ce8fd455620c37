"""Pictures in, batches out: readers, splits, the pixel store and the data module."""
