"""The results of the paper, including its contradictions. They are shown beside ours and never mixed with them.

Source: S. W. P. Listio, Sinkron 7(4), October 2022, doi 10.33395/sinkron.v7i4.11887, Table 2 and running text.
"""

from __future__ import annotations

from dataclasses import dataclass

from eyegender.models.intervals import Interval, wilson_interval

CITATION = "S. W. P. Listio, Sinkron 7(4), 2022, doi 10.33395/sinkron.v7i4.11887"
# 20% of 2,681 images; the paper does not state the number itself.
TEST_IMAGES = 536


@dataclass(frozen=True)
class PaperResult:
    """The accuracy of one model as the paper states it, in 0..1.

    Args:
        model: name of the model in the paper.
        accuracy: accuracy in its Table 2.
        elsewhere: other values that it states, as pairs of section and accuracy.
    """

    model: str
    accuracy: float
    elsewhere: tuple[tuple[str, float], ...]

    @property
    def interval(self) -> Interval:
        """Wilson's 95% interval for about 536 images. It is our estimate: the paper reports no interval."""
        return wilson_interval(round(self.accuracy * TEST_IMAGES), TEST_IMAGES)


PAPER = (
    PaperResult("Inception-V3", 0.9182, (("running text", 0.9120),)),
    PaperResult("MobileNet-V2", 0.8930, (("running text", 0.8982), ("conclusion", 0.8910))),
)

REMARKS = (
    "The paper splits its images at random, so the two eyes of one person can be in the training and the test set. It "
    "mentions no validation set.",
    f"With about {TEST_IMAGES} test images, one standard error is 1.2 to 1.3 points. The 2.5 points between its two "
    "models are about 1.4 standard errors of their difference. The paper reports no interval and no test.",
)
