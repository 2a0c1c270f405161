"""Past one machine: the pipeline of ``potnet predict`` over the files of a cluster of Ray."""

from potnet.cluster.dataset import Predictor
from potnet.cluster.predict import ClusterResult, Progress, predict

__all__ = ["ClusterResult", "Predictor", "Progress", "predict"]
