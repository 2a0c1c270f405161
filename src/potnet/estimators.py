"""Training and prediction in the habits of scikit-learn: a regressor and a classifier."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from inspect import Parameter, Signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from potnet.crystal import Crystal
from potnet.data import Dataset
from potnet.errors import ConfigError, DataError, StructureError
from potnet.prediction import load
from potnet.targets import class_target
from potnet.text import printable
from potnet.training import TrainingConfig, train

if TYPE_CHECKING:
    import pandas
    from numpy.typing import ArrayLike, NDArray

    from potnet.prediction import Predictor

# Where structures lie in a table of several columns.
_COLUMNS = ("structure", "structures", "crystal", "crystals", "atoms")


class _Estimator:
    """Settings, tags and the training itself; scikit-learn is asked for nothing but its tags.

    As scikit-learn wants it, names of settings are checked at once and their values by ``fit``.
    """

    kind: ClassVar[str]
    predictor_: Predictor

    # What scikit-learn, and help(), take for the arguments.
    __signature__: ClassVar[Signature] = Signature(
        [
            Parameter(name, Parameter.KEYWORD_ONLY, default=Parameter.empty)
            for name in TrainingConfig.model_fields
        ]
    )

    def __init__(self, **settings: Any) -> None:
        self._settings: dict[str, Any] = {}
        self.set_params(**settings)

    def __repr__(self) -> str:
        settings = ", ".join(f"{k}={v!r}" for k, v in self._settings.items())
        return f"{type(self).__name__}({settings})"

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the settings that were given."""
        return dict(self._settings)

    def set_params(self, **settings: Any) -> Self:
        """Change settings and return the estimator.

        Raises:
            ConfigError: If there is no such setting.
        """
        unknown = [name for name in settings if name not in {*TrainingConfig.model_fields}]
        if unknown:
            raise ConfigError(
                f"{type(self).__name__}: `{unknown[0]}` is not a setting. Known ones: "
                f"{', '.join(sorted(TrainingConfig.model_fields))}."
            )
        self._settings = self._settings | settings
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

    def predict_table(self, structures: Any) -> pandas.DataFrame:
        """Return a row for each structure and target: prediction, interval, unit, flags.

        Args:
            structures: As for ``predict``. The index of a DataFrame or Series is kept.

        Raises:
            StructureError: If a structure cannot be used.
            ConfigError: If ``fit`` was not called before.
        """
        crystals = crystals_of(structures)
        table = self._fitted().predict(crystals).to_pandas()
        index = getattr(structures, "index", None)
        if index is not None and not callable(index):
            table.index = index.repeat(len(self.predictor_.card.targets))
        return table

    def _fitted(self) -> Predictor:
        if not hasattr(self, "predictor_"):
            raise _not_fitted(
                f"{type(self).__name__}.predict: the model must be fitted, got none. Call fit."
            )
        return self.predictor_

    def _train(
        self,
        crystals: Sequence[Crystal],
        output: str | os.PathLike[str],
        sample_weight: ArrayLike | None,
        *,
        targets: Mapping[str, NDArray[np.float64]] | None = None,
        words: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        weights = _weights(sample_weight, len(crystals), type(self).__name__)
        ids = tuple(str(k) for k in range(len(crystals)))
        if not crystals:
            raise StructureError(
                f"{type(self).__name__}.fit: `structures` must hold some, got 0 samples. Give more."
            )
        columns = {name: np.array(column) for name, column in (words or {}).items()}
        dataset = Dataset(ids, crystals, targets=targets or {}, words=columns)
        if weights is not None:
            counted = weights > 0
            dataset, weights = dataset.subset(counted), weights[counted]
        if len(dataset) < 2:
            raise DataError(
                f"{type(self).__name__}.fit: two structures at least must count, got 1 sample. "
                "Give more."
            )
        with tempfile.TemporaryDirectory() as folder:
            config = self._config(len(dataset), *dataset.targets, *dataset.words)
            result = train(dataset, config, output or Path(folder) / "run", weights=weights)
            self.predictor_ = load(result.model)

    def _predicted(self, structures: Any) -> NDArray[np.float64]:
        """Return predictions of all targets, shape (n, n_targets)."""
        model = self._fitted()
        values = model.predict(crystals_of(structures)).values
        return values.reshape(-1, len(model.card.targets))

    def _config(self, n: int, *targets: str) -> TrainingConfig:
        # Shares, or numbers where a tenth would be none.
        shares = {"train": 0.9, "val": 0.1} if n >= 20 else {"train": n - 1, "val": 1}
        split = {"kind": "random", **shares, "test": 0.0}
        return TrainingConfig(**{"split": split, "targets": targets} | self._settings)


class Regressor(_Estimator):
    """A network that is fitted to structures and numbers.

    It has ``fit``, ``predict``, ``score``, ``get_params`` and ``set_params``, so that scikit-learn
    can clone it, cross-validate it, search its settings, put it into pipelines and stack it.

    Structures may be a sequence or an array of objects, a Series, or a DataFrame with a column of
    them: the only column, or one named structure, crystal or atoms.

    Args:
        **settings: Settings of :class:`potnet.training.TrainingConfig`, such as ``epochs`` and
            ``members``. Without ``split``, a tenth of what ``fit`` is given chooses the best
            weights and calibrates the intervals, and the rest is trained on.

    Attributes:
        predictor_: After ``fit``: the model, for predictions with intervals and flags.

    Raises:
        ConfigError: If there is no such setting.
    """

    kind = "regressor"

    def fit(
        self,
        structures: Any,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        output: str | os.PathLike[str] = "",
    ) -> Regressor:
        """Train on ``structures`` and their values; return the fitted regressor.

        Args:
            structures: Structures of any kind that :func:`potnet.load` models predict.
            y: One value per structure, nan where it is unknown, shape (n,); or one column per
                property, shape (n, n_properties). Names of a Series or DataFrame name the targets.
            sample_weight: How much each structure counts, shape (n,); those of weight 0 are left
                out.
            output: Folder to keep the run in; nothing is kept by default.

        Raises:
            ConfigError: If a setting is out of range.
            StructureError: If a structure cannot be used.
            DataError: If the values do not fit the structures.
        """
        crystals = crystals_of(structures)
        values = _numbers(y, "Regressor.fit")
        if values.ndim not in (1, 2) or len(values) != len(crystals):
            raise DataError(
                f"Regressor.fit: `y` must have one row for each of {len(crystals)} structures, "
                f"got shape {values.shape}. Pass as many values as structures."
            )
        self._is_column = values.ndim == 1
        columns = [values] if self._is_column else list(values.T)
        names = _names(y, len(columns))
        self._train(crystals, output, sample_weight, targets=dict(zip(names, columns, strict=True)))
        return self

    def predict(self, structures: Any) -> NDArray[np.float64]:
        """Return predictions in the shape of the ``y`` that was fitted.

        Raises:
            StructureError: If a structure cannot be used.
            ConfigError: If ``fit`` was not called before.
        """
        values = self._predicted(structures)
        return values[:, 0] if self._is_column else values

    def score(self, structures: Any, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Return the coefficient of determination, the mean over the properties.

        Args:
            structures: Structures that ``fit`` has not seen.
            y: Their values, nan where unknown.
            sample_weight: How much each structure counts, shape (n,).

        Raises:
            DataError: If all values of a property are equal, or none is known.
        """
        prediction = self.predict(structures)
        n = len(prediction)
        target = _numbers(y, "Regressor.score").reshape(n, -1)
        weights = _weights(sample_weight, n, "Regressor")
        weights = np.ones(n) if weights is None else weights
        scores = []
        for true, said in zip(target.T, prediction.reshape(n, -1).T, strict=True):
            known = np.isfinite(true) & (weights > 0)
            w, true, said = weights[known], true[known], said[known]
            spread = (w * (true - np.average(true, weights=w)) ** 2).sum() if len(w) else 0.0
            if not spread > 0:
                raise DataError("Regressor.score: `y` must vary, got equal values. Add others.")
            scores.append(1 - (w * (true - said) ** 2).sum() / spread)
        return float(np.mean(scores))


class Classifier(_Estimator):
    """A network that is fitted to structures and classes: words, booleans or numbers.

    The probabilities of all classes are learned together, as the softmax of an output for each;
    those of two, and of true and false, likewise. Settings,
    structures, and what scikit-learn can do with it, are those of :class:`Regressor`.

    Attributes:
        predictor_: After ``fit``: the model; its targets are the probabilities of the classes.
        classes_: After ``fit``: the classes, sorted, shape (n_classes,).
    """

    kind = "classifier"
    classes_: NDArray[Any]

    def fit(
        self,
        structures: Any,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        output: str | os.PathLike[str] = "",
    ) -> Classifier:
        """Train on ``structures`` and their classes; return the fitted classifier.

        Args:
            structures: Structures of any kind that :func:`potnet.load` models predict.
            y: The class of each structure, shape (n,). The name of a Series names the target.
            sample_weight: How much each structure counts, shape (n,); those of weight 0 are left
                out. Weights in inverse proportion to the classes balance them.
            output: Folder to keep the run in; nothing is kept by default.

        Raises:
            ConfigError: If a setting is out of range.
            StructureError: If a structure cannot be used.
            DataError: If the classes do not fit the structures, or there is only one.
        """
        crystals = crystals_of(structures)
        labels = np.asarray(y)
        if labels.shape != (len(crystals),):
            raise DataError(
                f"Classifier.fit: `y` must have one class for each of {len(crystals)} "
                f"structures, got shape {labels.shape}. Pass as many classes as structures."
            )
        found, places = _classes(labels)
        if len(found) < 2:
            raise DataError(
                f"Classifier.fit: `y` must have two classes at least, got 1 class: {found[0]}."
                " Add structures of another."
            )
        self.classes_ = found
        words = [_word(label) for label in found.tolist()]
        (name,) = _names(y, 1)
        self._train(crystals, output, sample_weight, words={name: [words[k] for k in places]})
        self._targets = [class_target(name, word) for word in words]
        return self

    def predict_proba(self, structures: Any) -> NDArray[np.float64]:
        """Return the probability of each class, shape (n, n_classes); rows sum to 1."""
        found = self._predicted(structures)
        place = {card.name: k for k, card in enumerate(self.predictor_.card.targets)}
        return found[:, [place[name] for name in self._targets]]

    def predict(self, structures: Any) -> NDArray[Any]:
        """Return the most probable class of each structure, shape (n,)."""
        found = self.predict_proba(structures)
        return self.classes_[found.argmax(axis=1)]

    def score(self, structures: Any, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Return the share of classes that are right, by weight."""
        right = self.predict(structures) == np.asarray(y)
        return float(np.average(right, weights=_weights(sample_weight, len(right), "Classifier")))


def _not_fitted(text: str) -> ConfigError:
    """Return an error of ours that is scikit-learn's as well where it is installed."""
    try:
        from sklearn.exceptions import NotFittedError
    except ImportError:
        return ConfigError(text)
    return type("NotFittedError", (ConfigError, NotFittedError), {})(text)


def crystals_of(structures: Any) -> list[Crystal]:
    """Return the crystals in a sequence, an array, a Series, or a column of a DataFrame.

    Raises:
        StructureError: If there is no such column, or an item is no structure.
    """
    if hasattr(structures, "columns"):
        structures = _column(structures)
    if isinstance(structures, np.ndarray) and structures.ndim == 2 and structures.shape[1] == 1:
        structures = structures[:, 0]  # as pipelines pass a column on
    return [Crystal.from_any(structure) for structure in structures]


def _column(table: Any) -> Any:
    names = {str(name).lower(): name for name in table.columns}
    found = [names[name] for name in _COLUMNS if name in names]
    if not found and len(names) != 1:
        raise StructureError(
            f"structures: a DataFrame must have one column, or one named {', '.join(_COLUMNS)}, "
            f"got {', '.join(map(str, table.columns))[:200] or 'none'}. Choose it."
        )
    return table[found[0] if found else table.columns[0]]


def _names(y: Any, n: int) -> list[str]:
    """Return how the targets are called: as the Series or DataFrame says, else y, or y0, y1..."""
    named = getattr(y, "columns", None)
    named = [getattr(y, "name", None)] if named is None else list(named)
    names = ["" if name is None else printable(name) for name in named]
    if len(names) == n and all(names) and len(set(names)) == n:
        return names
    return ["y"] if n == 1 else [f"y{k}" for k in range(n)]


def _numbers(y: ArrayLike, where: str) -> NDArray[np.float64]:
    try:
        return np.asarray(y, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"{where}: `y` must be numbers, got others ({printable(error, 100)}). Convert them."
        ) from None


def _classes(labels: NDArray[Any]) -> tuple[NDArray[Any], list[int]]:
    """Return the classes, sorted, and the place of each label among them."""
    try:
        found, places = np.unique(labels, return_inverse=True)
    except TypeError:
        kinds = sorted({type(label).__name__ for label in labels.tolist()})
        raise DataError(
            f"Classifier.fit: `y` must be classes of one kind, got {' and '.join(kinds)}. "
            "Convert them."
        ) from None
    if found.dtype.kind == "f" and not (np.isfinite(found) & (found == np.round(found))).all():
        raise DataError(
            "Classifier.fit: `y` must be classes, got continuous numbers, nan or inf. Round them, "
            "leave these out, or use a Regressor."
        )
    return found, places.tolist()


def _word(label: Any) -> str:
    """Return what the card calls a class; not true or false alone, which would be one target."""
    text = printable(label).strip()
    return text if text and text.lower() not in ("true", "false", "yes", "no") else f"is {text}"


def _weights(sample_weight: ArrayLike | None, n: int, name: str) -> NDArray[np.float64] | None:
    if sample_weight is None:
        return None
    weights = np.asarray(sample_weight, dtype=np.float64)
    if weights.shape != (n,) or not (weights >= 0).all() or not weights.any():
        raise DataError(
            f"{name}: `sample_weight` must be zero or more for each of {n} structures, and not "
            f"zero for all, got shape {weights.shape}. Pass one number a structure."
        )
    return weights
