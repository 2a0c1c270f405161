"""Why a model predicts what it predicts: shares that add up, sensitivities, known crystals."""

from potnet.explanation.explainer import EDGES, OUTPUTS, Explainer, explain, explainers
from potnet.explanation.explanation import COLUMNS, Explanation, Sensitivity, Share

__all__ = [
    "COLUMNS",
    "EDGES",
    "OUTPUTS",
    "Explainer",
    "Explanation",
    "Sensitivity",
    "Share",
    "explain",
    "explainers",
]
