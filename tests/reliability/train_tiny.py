"""A training run to be killed: ``python train_tiny.py FOLDER [--die-at CALL] [--devices N]``.

``--die-at 7`` kills the process, without any chance to clean up, in the seventh call of
``os.fsync`` (a file is written but not in place) or ``os.replace`` (before it happens).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1]))

from killing import die_at
from tiny_network import made_up_dataset, register

from potnet.training import TrainingConfig, train

CONFIG = {
    "network": "tiny",
    "epochs": 8,
    "batch_size": 16,
    "members": 2,
    "learning_rate": 1e-2,
    "checkpoint_seconds": 0,
    "device": "cpu",
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--die-at", type=int)
    parser.add_argument("--devices", type=int, default=1)
    arguments = parser.parse_args()
    register()
    config = dict(CONFIG, devices=arguments.devices)
    if arguments.devices > 1:
        # Sums over a batch depend on how it is shared out; compare what does not.
        config |= {"network_settings": {"plain": True}, "members": 1}
    if arguments.die_at:
        die_at(arguments.die_at)
    train(made_up_dataset(), TrainingConfig(**config), arguments.folder, resume=True)


if __name__ == "__main__":
    main()
