"""What a training shows in the terminal while it runs."""
