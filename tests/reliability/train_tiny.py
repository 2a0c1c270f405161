"""A training run to be killed: ``python train_tiny.py FOLDER [--die-at CALL] [--devices N]``.

``--die-at 7`` kills the process, without any chance to clean up, in the seventh call of
``os.fsync`` (a file is written but not in place) or ``os.replace`` (before it happens). With
``--store STORE`` the crystals come from a store and their features are computed while loading; the
process then dies in the given computation of features: in the middle of an epoch. Of several
processes it is the last that dies.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1]))

from killing import WRITING, die_at
from tiny_network import TinyFeatures, made_up_dataset, register

from potnet import data
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
STREAMED = CONFIG | {"members": 1, "feature_memory": 0}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--die-at", type=int)
    parser.add_argument("--devices", type=int, default=1)
    parser.add_argument("--width", type=int)
    parser.add_argument("--store")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=NUMBER")
    arguments = parser.parse_args()
    register()
    config = dict(STREAMED if arguments.store else CONFIG, devices=arguments.devices)
    dataset = data.open(arguments.store) if arguments.store else made_up_dataset()
    if arguments.devices > 1:
        # Sums over a batch depend on how it is shared out; compare what does not.
        config |= {
            "network_settings": {"plain": True, "width": arguments.width or 8},
            "members": 1,
        }
    changes = (text.partition("=") for text in arguments.set)
    config |= {name: int(value) for name, _, value in changes}
    rank = int(os.environ.get("RANK", "0"))
    if arguments.die_at and rank == arguments.devices - 1:
        die_at(arguments.die_at, [(TinyFeatures, "__call__")] if arguments.store else WRITING)
    train(dataset, TrainingConfig(**config), arguments.folder, resume=True)


if __name__ == "__main__":
    main()
