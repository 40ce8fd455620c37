"""Comparison of tracked runs: selection, significance tests, tables, caveats, figures and the page."""
