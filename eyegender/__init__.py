"""Predicts CelebA's binary label from images of one eye: training, search, tracking, comparison and use."""
