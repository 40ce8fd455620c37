"""What the command line shows: the help of each command, and shell completion."""
