"""Training networks: settings, the loop, checkpoints, evaluation."""

from potnet.training.callbacks import Callback, Progress, TensorBoard, TrainingResult
from potnet.training.config import SplitConfig, TrainingConfig
from potnet.training.evaluate import Evaluation, evaluate
from potnet.training.loop import train
from potnet.training.metrics import regression_metrics

__all__ = [
    "Callback",
    "Evaluation",
    "Progress",
    "SplitConfig",
    "TensorBoard",
    "TrainingConfig",
    "TrainingResult",
    "evaluate",
    "regression_metrics",
    "train",
]
