"""The pages about one study, and about several side by side."""
