"""How the command follows and stops its workers."""
