"""Tracked runs side by side: statistics, selection, tables, caveats and the page."""
