"""What the sweeper knows from a study's trials, kept from one read to the next, so that its cost does not grow.

The functions of `_budget` define each result by all trials of the study. The classes here give the same results, but
look only at the trials that may have changed. A test holds both equal over random histories.
"""

from ._follower import Follower
from ._merged import MergedAttempts
from ._tally import Tally

__all__ = ["Follower", "MergedAttempts", "Tally"]
