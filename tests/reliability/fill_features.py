"""A folder of features to be killed: ``python fill_features.py FOLDER [--die-at CALL]``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1]))

from killing import die_at
from tiny_network import TinyFeatures, made_up_dataset

from potnet.training import feature_folder, features

SIZE = 100


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--die-at", type=int)
    arguments = parser.parse_args()
    features.CHUNK, feature_folder.FILE_BYTES = 10, 1000  # a file for each chunk
    if arguments.die_at:
        die_at(arguments.die_at)
    feature_folder.FeatureFolder(arguments.folder, TinyFeatures()).survey(
        made_up_dataset(SIZE).crystals
    )


if __name__ == "__main__":
    main()
