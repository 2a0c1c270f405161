"""From crystals to properties: values, intervals, and flags where a model is out of its depth."""

from potnet.prediction.flags import UNFAMILIAR_FLAG
from potnet.prediction.predictor import (
    Predictor,
    Said,
    load,
    load_each,
    predict_each,
    predict_stream,
)
from potnet.prediction.rows import COLUMNS, Gradients, Prediction, PredictionFile, Predictions
from potnet.prediction.structures import is_structure

__all__ = [
    "COLUMNS",
    "UNFAMILIAR_FLAG",
    "Gradients",
    "Prediction",
    "PredictionFile",
    "Predictions",
    "Predictor",
    "Said",
    "is_structure",
    "load",
    "load_each",
    "predict_each",
    "predict_stream",
]
