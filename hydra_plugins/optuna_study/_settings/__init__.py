"""The fields of `hydra.sweeper` as they are read and checked, and the config groups beside it."""
