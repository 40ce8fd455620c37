"""What every part of eyegender stands on: errors, the command line, the schema, secrets, locks and the cache."""
