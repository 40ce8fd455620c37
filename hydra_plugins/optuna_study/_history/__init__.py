"""What the sweeper knows from a study's trials, kept from one read to the next, so that its cost does not grow.

The functions of `_budget` define each result by all trials of the study. The classes here give the same results, but
look only at the trials that may have changed. A test holds both equal over random histories.

Hydra imports this package whenever it looks for plugins, so nothing here imports Optuna.
"""
