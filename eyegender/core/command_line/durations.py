"""Durations for people."""

from __future__ import annotations


def duration_text(seconds: float, *, tenths: bool = True) -> str:
    """A duration such as `4.2 s`, `42 s`, `4 min 10 s` or `2 h 05 min`.

    Args:
        seconds: the duration; less than 0 counts as 0.
        tenths: below ten seconds, show tenths of a second.
    """
    if tenths and seconds < 9.95:
        return f"{max(0.0, seconds):.1f} s"
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes_of_hour = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes_of_hour:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
