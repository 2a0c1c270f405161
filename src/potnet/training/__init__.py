"""Training networks: settings, the loop, checkpoints, evaluation."""

from potnet.training.config import SplitConfig, TrainingConfig
from potnet.training.evaluate import Evaluation, evaluate
from potnet.training.loop import Progress, TrainingResult, train
from potnet.training.metrics import regression_metrics

__all__ = [
    "Evaluation",
    "Progress",
    "SplitConfig",
    "TrainingConfig",
    "TrainingResult",
    "evaluate",
    "regression_metrics",
    "train",
]
