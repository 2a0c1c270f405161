"""Train a small model of the shear modulus on the embedded data, look at its errors, use it.

Run: python examples/train_and_evaluate.py [epochs]   (the default of 5 shows how, 60 learns)
"""

import sys
import tempfile
from pathlib import Path

import potnet
from potnet.report import training_report


def main(epochs: int) -> None:
    """Train on part of the embedded dataset, test on crystals that were held back, predict."""
    dataset = potnet.data.open("elastic")
    config = potnet.TrainingConfig(
        targets="shear_modulus",
        transform="log10",
        epochs=epochs,
        batch_size=32,
        network_settings={"width": 32, "n_layers": 2},
    )
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "shear-modulus"
        result = potnet.train(dataset.subset(range(200)), config, run)
        test = result.metrics["test"]["shear_modulus"]
        print(f"test error {test['mae']:.1f} GPa ({test['mae_low']:.1f} to {test['mae_high']:.1f})")
        print(f"error of the mean predictor {test['baseline_mae']:.1f} GPa")
        print(f"report: {training_report(run)}")
        for row in potnet.load(result.model).predict(dataset.crystals[:3]):
            print(f"{row.id}: {row.prediction:.0f} {row.unit}, {row.lower:.0f} to {row.upper:.0f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
