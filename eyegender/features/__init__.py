"""Outputs of the frozen stages, computed once per image, stored on disk and read by every epoch and run."""
