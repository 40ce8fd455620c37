"""Gender classification from pictures of one eye: training, search, tracking, comparison."""
