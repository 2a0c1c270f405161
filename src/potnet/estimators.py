"""Training and prediction in the habits of scikit-learn: a regressor and a classifier."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from potnet.crystal import Crystal
from potnet.data import Dataset
from potnet.errors import ConfigError, DataError
from potnet.prediction import load
from potnet.training import TrainingConfig, regression_metrics, train

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from potnet.prediction import Predictor


class _Estimator:
    """Settings, tags and the training itself; scikit-learn is asked for nothing but its tags."""

    kind: ClassVar[str]
    predictor_: Predictor

    def __init__(self, **settings: Any) -> None:
        self._settings = settings
        self._config()

    def __repr__(self) -> str:
        settings = ", ".join(f"{k}={v!r}" for k, v in self._settings.items())
        return f"{type(self).__name__}({settings})"

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the settings that were given."""
        return dict(self._settings)

    def set_params(self, **settings: Any) -> Self:
        """Change settings and return the estimator."""
        self._settings = self._settings | settings
        self._config()
        return self

    def __sklearn_tags__(self) -> Any:
        """Return what scikit-learn wants to know: one estimator of its kind, of structures."""
        from sklearn.utils import ClassifierTags, InputTags, RegressorTags, Tags, TargetTags

        is_regressor = self.kind == "regressor"
        return Tags(
            estimator_type=self.kind,  # pyright: ignore[reportArgumentType]
            target_tags=TargetTags(required=True, multi_output=is_regressor),
            regressor_tags=RegressorTags() if is_regressor else None,
            classifier_tags=None if is_regressor else ClassifierTags(),
            input_tags=InputTags(two_d_array=False),
        )

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "predictor_")

    def _train(
        self,
        structures: Sequence[Any],
        columns: Mapping[str, NDArray[np.float64]],
        output: str | os.PathLike[str],
        **settings: Any,
    ) -> None:
        dataset = Dataset(
            ids=tuple(str(k) for k in range(len(structures))),
            crystals=tuple(Crystal.from_any(structure) for structure in structures),
            targets=columns,
        )
        with tempfile.TemporaryDirectory() as folder:
            result = train(dataset, self._config(**settings), output or Path(folder) / "run")
            self.predictor_ = load(result.model)

    def _predicted(self, structures: Sequence[Any]) -> NDArray[np.float64]:
        """Return predictions of all targets, shape (n, n_targets)."""
        if not hasattr(self, "predictor_"):
            raise ConfigError(
                f"{type(self).__name__}.predict: the model must be fitted, got none. Call fit."
            )
        values = self.predictor_.predict(structures).values
        return values.reshape(-1, len(self.predictor_.card.targets))

    def _config(self, **settings: Any) -> TrainingConfig:
        default = {"split": {"kind": "random", "train": 0.9, "val": 0.1, "test": 0.0}}
        return TrainingConfig(**default | settings | self._settings)


class Regressor(_Estimator):
    """A network that is fitted to structures and numbers.

    It has ``fit``, ``predict``, ``score``, ``get_params`` and ``set_params``, so that scikit-learn
    can clone it, cross-validate it, search its settings, put it into pipelines and stack it.

    Args:
        **settings: Settings of :class:`potnet.training.TrainingConfig`, such as ``epochs`` and
            ``members``. Without ``split``, a tenth of what ``fit`` is given chooses the best
            weights and calibrates the intervals, and the rest is trained on.

    Attributes:
        predictor_: After ``fit``: the model, for predictions with intervals and flags.

    Raises:
        ConfigError: If a setting is unknown or out of range.
    """

    kind = "regressor"

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
        self._is_column = values.ndim == 1
        columns = {"y": values} if self._is_column else dict(_numbered("y", values.T))
        self._train(structures, columns, output)
        return self

    def predict(self, structures: Sequence[Any]) -> NDArray[np.float64]:
        """Return predictions in the shape of the ``y`` that was fitted.

        Raises:
            StructureError: If a structure cannot be used.
            ConfigError: If ``fit`` was not called before.
        """
        values = self._predicted(structures)
        return values[:, 0] if self._is_column else values

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


class Classifier(_Estimator):
    """A network that is fitted to structures and classes: words, booleans or numbers.

    Two classes are one binary target, more of them one each against the rest, learned together.
    Settings, and what scikit-learn can do with it, are those of :class:`Regressor`.

    Attributes:
        predictor_: After ``fit``: the model; its targets are the probabilities of the classes.
        classes_: After ``fit``: the classes, sorted, shape (n_classes,).
    """

    kind = "classifier"
    classes_: NDArray[Any]

    def fit(
        self, structures: Sequence[Any], y: ArrayLike, *, output: str | os.PathLike[str] = ""
    ) -> Classifier:
        """Train on ``structures`` and their classes; return the fitted classifier.

        Args:
            structures: Structures of any kind that :func:`potnet.load` models predict.
            y: The class of each structure, shape (n,).
            output: Folder to keep the run in; nothing is kept by default.

        Raises:
            StructureError: If a structure cannot be used.
            DataError: If the classes do not fit the structures, or there is only one.
        """
        labels = np.asarray(y)
        if labels.shape != (len(structures),):
            raise DataError(
                f"Classifier.fit: `y` must have one class for each of {len(structures)} "
                f"structures, got shape {labels.shape}. Pass as many classes as structures."
            )
        self.classes_, places = np.unique(labels, return_inverse=True)
        if len(self.classes_) < 2:
            raise DataError(
                f"Classifier.fit: `y` must have two classes at least, got {self.classes_.tolist()}."
                " Add structures of another."
            )
        asked = range(len(self.classes_)) if len(self.classes_) > 2 else [1]
        columns = {f"class {self.classes_[k]}": (places == k).astype(np.float64) for k in asked}
        self._train(structures, columns, output, transform="binary")
        return self

    def predict_proba(self, structures: Sequence[Any]) -> NDArray[np.float64]:
        """Return the probability of each class, shape (n, n_classes); rows sum to 1."""
        found = self._predicted(structures)
        if found.shape[1] == 1:
            return np.hstack([1 - found, found])
        return found / found.sum(axis=1, keepdims=True)

    def predict(self, structures: Sequence[Any]) -> NDArray[Any]:
        """Return the most probable class of each structure, shape (n,)."""
        return self.classes_[self.predict_proba(structures).argmax(axis=1)]

    def score(self, structures: Sequence[Any], y: ArrayLike) -> float:
        """Return the share of classes that are right."""
        return float(np.mean(self.predict(structures) == np.asarray(y)))


def _numbered(name: str, columns: NDArray[np.float64]) -> Sequence[tuple[str, NDArray[np.float64]]]:
    return [(f"{name}{k}", column) for k, column in enumerate(columns)]
