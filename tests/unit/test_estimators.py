"""Regressor and Classifier: fit, predict and score, and what scikit-learn does with them."""

import inspect
from typing import ClassVar

import numpy as np
import pytest
from tiny_network import registered  # noqa: F401  (a fixture)

from potnet import Classifier, ConfigError, Crystal, DataError, Regressor, StructureError

SETTINGS = {
    "epochs": 30,
    "batch_size": 4,
    "learning_rate": 5e-3,
    "ema_decay": 0.9,
    "threads": 1,
    "network_settings": {"width": 8, "n_layers": 1},
}


@pytest.fixture(scope="module")
def volumes(salts) -> np.ndarray:
    return np.array([crystal.volume for crystal in salts])


@pytest.fixture(scope="module")
def fitted(salts, volumes) -> Regressor:
    return Regressor(**SETTINGS).fit(salts, volumes)


def test_fitting_learns(fitted, salts, volumes) -> None:
    prediction = fitted.predict(salts)
    assert prediction.shape == volumes.shape
    error, spread = np.abs(prediction - volumes).mean(), np.abs(volumes - volumes.mean()).mean()
    assert error < spread / 2
    assert fitted.score(salts, volumes) > 0.5


def test_any_kind_of_structure_is_accepted(fitted, salts) -> None:
    mixed = [salts[0].to_ase(), salts[1].to_pymatgen(), salts[2]]
    np.testing.assert_allclose(fitted.predict(mixed), fitted.predict(salts[:3]), rtol=1e-5)


def test_several_properties_are_columns(salts, volumes) -> None:
    y = np.stack([volumes, -volumes], axis=1)
    model = Regressor(**SETTINGS | {"epochs": 2}).fit(salts, y)
    prediction = model.predict(salts[:5])
    assert prediction.shape == (5, 2)
    assert (prediction[:, 0] > 0).all()
    assert (prediction[:, 1] < 0).all()


def test_the_run_is_kept_where_it_is_asked_for(salts, volumes, tmp_path) -> None:
    Regressor(**SETTINGS | {"epochs": 1}).fit(salts, volumes, output=tmp_path / "run")
    assert (tmp_path / "run" / "model" / "model.json").exists()


def test_settings_are_read_changed_and_cloned() -> None:
    model = Regressor(**SETTINGS)
    assert model.get_params() == SETTINGS
    assert model.set_params(epochs=7).get_params()["epochs"] == 7
    base = pytest.importorskip("sklearn.base")
    assert base.clone(model).get_params() == model.get_params()


def test_mistakes_are_named(salts, volumes) -> None:
    with pytest.raises(ConfigError, match="`epoch` is not a setting"):
        Regressor(epoch=3)
    with pytest.raises(ConfigError, match="epochs"):
        Regressor(epochs=-3).fit(salts, volumes)
    with pytest.raises(ConfigError, match="must be fitted"):
        Regressor().predict(salts)
    with pytest.raises(DataError, match="one row for each of 12"):
        Regressor().fit(salts, volumes[:5])


SHORT = {**SETTINGS, "epochs": 2}


def test_scikit_learn_clones_validates_searches_and_stacks_them(salts, volumes) -> None:
    base = pytest.importorskip("sklearn.base")
    selection = pytest.importorskip("sklearn.model_selection")
    ensemble = pytest.importorskip("sklearn.ensemble")
    pipeline = pytest.importorskip("sklearn.pipeline")
    regressor, classifier = Regressor(**SHORT), Classifier(**SHORT)
    salts, volumes = salts * 2, np.tile(volumes, 2)  # Folds of folds are small.
    assert base.is_regressor(regressor)
    assert base.is_classifier(classifier)
    copy = base.clone(regressor)
    assert copy is not regressor
    assert copy.get_params() == regressor.get_params()
    assert np.isfinite(selection.cross_val_score(regressor, salts, volumes, cv=2)).all()
    search = selection.GridSearchCV(regressor, {"epochs": [1, 2]}, cv=2).fit(salts, volumes)
    assert search.best_params_["epochs"] in (1, 2)
    line = pipeline.make_pipeline("passthrough", regressor).fit(salts, volumes)
    assert line.predict(salts).shape == volumes.shape
    stacked = ensemble.StackingRegressor([("a", regressor)], cv=2).fit(salts, volumes)
    assert stacked.predict(salts).shape == volumes.shape
    words = np.where(volumes > np.median(volumes), "large", "small")
    shares = selection.cross_val_predict(classifier, salts, words, cv=2, method="predict_proba")
    np.testing.assert_allclose(shares.sum(1), 1)


@pytest.mark.parametrize("classes", [["large", "small"], [True, False], [3, 7]])
def test_two_classes_of_any_kind_are_learned(salts, volumes, classes) -> None:
    labels = np.array(classes)[(volumes > np.median(volumes)).astype(int)]
    model = Classifier(**SETTINGS).fit(salts, labels)
    assert set(model.classes_) == set(classes)
    assert model.predict(salts).dtype == labels.dtype
    assert model.score(salts, labels) > 0.8


def test_several_classes_are_learned_together(salts, volumes) -> None:
    labels = np.array(["small", "middle", "large"])[np.argsort(np.argsort(volumes)) * 3 // 12]
    model = Classifier(**{**SETTINGS, "epochs": 90}).fit(salts, labels)
    found = model.predict_proba(salts)
    assert found.shape == (12, 3)
    np.testing.assert_allclose(found.sum(1), 1)
    assert model.score(salts, labels) > 0.6


def test_one_class_is_refused(salts) -> None:
    with pytest.raises(DataError, match="must have two classes at least, got 1 class: a"):
        Classifier(**SETTINGS).fit(salts, ["a"] * 12)
    with pytest.raises(DataError, match="one class for each of 12 structures"):
        Classifier(**SETTINGS).fit(salts, ["a", "b"])


# ----------------------------------------------------------------------- tables, weights, scores


def test_tables_come_in_and_go_out_with_their_index(salts, volumes) -> None:
    pandas = pytest.importorskip("pandas")
    index = [f"row {k}" for k in range(12)]
    table = pandas.DataFrame({"structure": salts, "note": "x"}, index=index)
    y = pandas.Series(volumes, index=index, name="volume")
    model = Regressor(**SHORT).fit(table, y)
    assert model.predictor_.card.targets[0].name == "volume"
    np.testing.assert_array_equal(model.predict(table), model.predict(salts))
    np.testing.assert_array_equal(model.predict(table[["structure"]]), model.predict(salts))
    np.testing.assert_array_equal(model.predict(table["structure"]), model.predict(salts))
    found = model.predict_table(table)
    assert list(found.index) == index
    np.testing.assert_allclose(found["prediction"], model.predict(salts))
    with pytest.raises(StructureError, match="must have one column, or one named structure"):
        model.predict(table.rename(columns={"structure": "thing"}))


def test_structures_of_weight_zero_are_left_out(salts, volumes) -> None:
    weights = np.array([1.0] * 8 + [0.0] * 4)
    settings = {**SHORT, "seed": 1}
    part = Regressor(**settings).fit(salts, volumes, sample_weight=weights)
    alone = Regressor(**settings).fit(salts[:8], volumes[:8])
    np.testing.assert_array_equal(part.predict(salts), alone.predict(salts))
    with pytest.raises(DataError, match="`sample_weight` must be zero or more for each of 12"):
        Regressor(**SHORT).fit(salts, volumes, sample_weight=-weights)


def test_scores_are_those_of_scikit_learn(fitted, salts, volumes) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    weights = np.arange(1.0, 13.0)
    expected = metrics.r2_score(volumes, fitted.predict(salts), sample_weight=weights)
    assert fitted.score(salts, volumes, sample_weight=weights) == pytest.approx(expected)
    words = np.where(volumes > np.median(volumes), "large", "small")
    model = Classifier(**SHORT).fit(salts, words, sample_weight=weights)
    expected = metrics.accuracy_score(words, model.predict(salts), sample_weight=weights)
    assert model.score(salts, words, sample_weight=weights) == pytest.approx(expected)


def test_help_shows_every_setting() -> None:
    assert {"epochs", "members", "transform"} <= set(inspect.signature(Regressor).parameters)


# ------------------------------------------------------------------- scikit-learn's own checks


def crystals_of_numbers(X) -> list[Crystal]:
    """Return a crystal of one atom for each row of numbers: its cell, and its element."""
    edges = 5 + 2 * np.tanh(np.resize(np.asarray(X, float).T, (3, len(X))).T / 10)
    return [Crystal([int(11 + 5 * (b - 5) / 2)], [[0, 0, 0]], np.diag([a, b, c]))
            for a, b, c in edges]  # fmt: skip


class OfNumbers:
    """Numbers in place of structures, as the checks of scikit-learn want them."""

    how: ClassVar[dict[str, bool]] = {}

    def fit(self, X, y, sample_weight=None):
        from sklearn.utils.validation import validate_data

        X, y = validate_data(self, X, y, **self.how)
        return super().fit(crystals_of_numbers(X), y, sample_weight)

    def _predicted(self, X):
        from sklearn.utils.validation import check_is_fitted, validate_data

        check_is_fitted(self)
        return super()._predicted(crystals_of_numbers(validate_data(self, X, reset=False)))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = True
        for kind in filter(None, (tags.regressor_tags, tags.classifier_tags)):
            kind.poor_score = True  # of one epoch
        return tags


class RegressorOfNumbers(OfNumbers, Regressor):
    how: ClassVar[dict[str, bool]] = {"multi_output": True, "y_numeric": True}


class ClassifierOfNumbers(OfNumbers, Classifier):
    pass


EXPECTED_TO_FAIL = {
    "check_sample_weight_equivalence_on_dense_data": "the split that chooses the weights of the "
    "network, and so the network, depends on how many structures there are",
}


@pytest.mark.parametrize("estimator", [RegressorOfNumbers, ClassifierOfNumbers])
@pytest.mark.filterwarnings("ignore")
def test_the_checks_of_scikit_learn_pass(estimator) -> None:
    checks = pytest.importorskip("sklearn.utils.estimator_checks")
    quick = {"network": "tiny", "epochs": 1, "threads": 1, "device": "cpu"}
    found = checks.check_estimator(
        estimator(**quick),
        expected_failed_checks=EXPECTED_TO_FAIL,
        on_fail=None,
        on_skip=None,
    )
    failed = [f"{r['check_name']}: {r['exception']}" for r in found if r["status"] == "failed"]
    assert not failed
    assert sum(r["status"] == "passed" for r in found) > 50
