"""Regressor: training and prediction in the habits of scikit-learn."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from potnet.crystal import Crystal
from potnet.data import Dataset
from potnet.errors import ConfigError, DataError
from potnet.prediction import load
from potnet.training import TrainingConfig, regression_metrics, train

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from potnet.prediction import Predictor


class Regressor:
    """A network that is fitted to structures and numbers.

    It has ``fit``, ``predict``, ``score``, ``get_params`` and ``set_params``, so that scikit-learn
    can clone it, cross-validate it and search its settings.

    Args:
        **settings: Settings of :class:`potnet.training.TrainingConfig`, such as ``epochs`` and
            ``members``. Without ``split``, a tenth of what ``fit`` is given chooses the best
            weights and calibrates the intervals, and the rest is trained on.

    Attributes:
        predictor_: After ``fit``: the model, for predictions with intervals and flags.

    Raises:
        ConfigError: If a setting is unknown or out of range.
    """

    predictor_: Predictor

    def __init__(self, **settings: Any) -> None:
        self._settings = settings
        self._config()

    def __repr__(self) -> str:
        return f"Regressor({', '.join(f'{k}={v!r}' for k, v in self._settings.items())})"

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the settings that were given."""
        return dict(self._settings)

    def set_params(self, **settings: Any) -> Regressor:
        """Change settings and return the regressor."""
        self._settings = self._settings | settings
        self._config()
        return self

    def fit(
        self, structures: Sequence[Any], y: ArrayLike, *, output: str | os.PathLike[str] = ""
    ) -> Regressor:
        """Train on ``structures`` and their values; return the fitted regressor.

        Args:
            structures: Structures of any kind that :func:`potnet.load` models predict.
            y: One value per structure, nan where it is unknown, shape (n,); or one column per
                property, shape (n, n_properties).
            output: Folder to keep the run in; nothing is kept by default.

        Raises:
            StructureError: If a structure cannot be used.
            DataError: If the values do not fit the structures.
        """
        try:
            values = np.asarray(y, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise DataError(
                f"Regressor.fit: `y` must be numbers, got others ({error}). Convert them."
            ) from None
        if values.ndim not in (1, 2) or len(values) != len(structures):
            raise DataError(
                f"Regressor.fit: `y` must have one row for each of {len(structures)} structures, "
                f"got shape {values.shape}. Pass as many values as structures."
            )
        columns = (
            {"y": values} if values.ndim == 1 else {f"y{k}": v for k, v in enumerate(values.T)}
        )
        dataset = Dataset(
            ids=tuple(str(k) for k in range(len(structures))),
            crystals=tuple(Crystal.from_any(structure) for structure in structures),
            targets=columns,
        )
        with tempfile.TemporaryDirectory() as folder:
            result = train(dataset, self._config(), output or Path(folder) / "run")
            self.predictor_ = load(result.model)
        self._is_column = values.ndim == 1
        return self

    def predict(self, structures: Sequence[Any]) -> NDArray[np.float64]:
        """Return predictions in the shape of the ``y`` that was fitted.

        Raises:
            StructureError: If a structure cannot be used.
            ConfigError: If ``fit`` was not called before.
        """
        if not hasattr(self, "predictor_"):
            raise ConfigError("Regressor.predict: the model must be fitted, got none. Call fit.")
        values = self.predictor_.predict(structures).values
        return values if self._is_column else values.reshape(-1, len(self.predictor_.card.targets))

    def score(self, structures: Sequence[Any], y: ArrayLike) -> float:
        """Return the coefficient of determination, the mean over the properties.

        Raises:
            DataError: If all values of a property are equal, or none is known.
        """
        target = np.asarray(y, dtype=np.float64).reshape(len(structures), -1)
        prediction = self.predict(structures).reshape(len(structures), -1)
        scores = []
        for k in range(target.shape[1]):
            r2 = regression_metrics(target[:, k], prediction[:, k], n_resamples=1)["r2"]
            if r2 is None:
                raise DataError("Regressor.score: `y` must vary, got equal values. Add others.")
            scores.append(r2)
        return float(np.mean(scores))

    def _config(self) -> TrainingConfig:
        default = {"split": {"kind": "random", "train": 0.9, "val": 0.1, "test": 0.0}}
        return TrainingConfig(**default | self._settings)
