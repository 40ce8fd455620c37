"""Trained models in use: load, predict, evaluate, explain, export, serve, demo."""
