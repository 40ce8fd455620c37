"""Used by all other packages: errors, the command line, the config schema, secrets, file locks and the cache."""
