"""How sure a model may be: intervals that adapt to each crystal, and how familiar it is."""

from potnet.calibration.calibration import FEWEST, Answers, Calibration, Judgement, Output
from potnet.calibration.conformal import conformal_halfwidth, interval_scores
from potnet.calibration.evidence import Contents, Evidence, ManyContents
from potnet.calibration.familiarity import COMPONENTS, MAX_POINTS, Familiarity

__all__ = [
    "COMPONENTS",
    "FEWEST",
    "MAX_POINTS",
    "Answers",
    "Calibration",
    "Contents",
    "Evidence",
    "Familiarity",
    "Judgement",
    "ManyContents",
    "Output",
    "conformal_halfwidth",
    "interval_scores",
]
