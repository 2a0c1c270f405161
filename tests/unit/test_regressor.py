"""Regressor: fit, predict and score as scikit-learn does."""

import numpy as np
import pytest

from potnet import ConfigError, DataError, Regressor

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
    with pytest.raises(ConfigError, match="epoch"):
        Regressor(epoch=3)
    with pytest.raises(ConfigError, match="must be fitted"):
        Regressor().predict(salts)
    with pytest.raises(DataError, match="one row for each of 12"):
        Regressor().fit(salts, volumes[:5])
