"""Why a model predicts what it predicts: shares that add up, sensitivities, known crystals."""

from potnet.explanation.explainer import EDGES, Explainer, explain
from potnet.explanation.explanation import Explanation, Share
from potnet.explanation.sensitivity import Sensitivity

__all__ = ["EDGES", "Explainer", "Explanation", "Sensitivity", "Share", "explain"]
