"""Training networks: settings, the loop, checkpoints, evaluation."""

from potnet.training.callbacks import Callback, Progress, TensorBoard, TrainingResult
from potnet.training.config import SplitConfig, TrainingConfig
from potnet.training.evaluate import Evaluation, evaluate
from potnet.training.loop import train
from potnet.training.metrics import regression_metrics
from potnet.training.series import CrossValidation, LearningCurve, cross_validate, learning_curve

__all__ = [
    "Callback",
    "CrossValidation",
    "Evaluation",
    "LearningCurve",
    "Progress",
    "SplitConfig",
    "TensorBoard",
    "TrainingConfig",
    "TrainingResult",
    "cross_validate",
    "evaluate",
    "learning_curve",
    "regression_metrics",
    "train",
]
