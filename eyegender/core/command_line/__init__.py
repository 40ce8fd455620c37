"""What the command line takes and shows: overrides, the help of each command, and shell completion."""
