"""From crystals to properties: values, intervals, and flags where a model is out of its depth."""

<<<<<<< HEAD
from potnet.prediction.predictor import Predictor, Said, load, predict_each, predict_stream
=======
from potnet.prediction.journal import Journal
from potnet.prediction.predictor import Predictor, load, predict_stream
>>>>>>> 4b8e37a (Merge the commands' twins, keep what an interruption leaves)
from potnet.prediction.rows import COLUMNS, Gradients, Prediction, PredictionFile, Predictions

__all__ = [
    "COLUMNS",
    "Gradients",
    "Journal",
    "Prediction",
    "PredictionFile",
    "Predictions",
    "Predictor",
    "Said",
    "load",
    "predict_each",
    "predict_stream",
]
