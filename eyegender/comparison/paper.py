"""What the study states, its contradictions included: shown beside our numbers, never mixed with them.

Source: S. W. P. Listio, Sinkron 7(4), October 2022, doi 10.33395/sinkron.v7i4.11887, Table 2 and running text.
"""

from __future__ import annotations

from dataclasses import dataclass

from eyegender.models.intervals import Interval, wilson_interval

CITATION = "S. W. P. Listio, Sinkron 7(4), 2022, doi 10.33395/sinkron.v7i4.11887"
# 20% of 2,681 pictures; it does not state the number itself.
TEST_PICTURES = 536


@dataclass(frozen=True)
class PaperResult:
    """One model's accuracy as the study states it, in 0..1.

    Args:
        model: as the study writes it.
        accuracy: in its Table 2.
        elsewhere: what it says in other places, by place.
    """

    model: str
    accuracy: float
    elsewhere: tuple[tuple[str, float], ...]

    @property
    def interval(self) -> Interval:
        """Wilson's 95% interval for about 536 pictures; ours, it reports none."""
        return wilson_interval(round(self.accuracy * TEST_PICTURES), TEST_PICTURES)


PAPER = (
    PaperResult("Inception-V3", 0.9182, (("running text", 0.9120),)),
    PaperResult("MobileNet-V2", 0.8930, (("running text", 0.8982), ("conclusion", 0.8910))),
)

REMARKS = (
    "Its split is random over pictures: both eyes of one person can stand on both sides. It names no validation part.",
    f"On about {TEST_PICTURES} test pictures one standard error is 1.2 to 1.3 points; the 2.5 points between its two "
    "models are about 1.4 standard errors of their difference. It reports no interval and no test.",
)
