"""Figures from plain arrays, in one style."""
