"""Draw the potential landscape that the documentation shows, with few colours to keep it small.

python scripts/make_landscape_picture.py
"""

from io import BytesIO
from pathlib import Path

from PIL import Image

import potnet
from potnet.files import atomic_write
from potnet.report import landscape, landscape_plot

ROOT = Path(__file__).resolve().parents[1]
OUTPUT = ROOT / "docs" / "images" / "landscape-SrTiO3.png"


def main() -> None:
    crystal = potnet.read(ROOT / "examples" / "crystals" / "SrTiO3.cif")[0]
    figure = landscape_plot(landscape(crystal, charges={"Sr": 2, "Ti": 4, "O": -2}))
    drawn, small = BytesIO(), BytesIO()
    figure.savefig(drawn, format="png", dpi=120, metadata={"Software": None})
    picture = Image.open(drawn).convert("RGB").quantize(256, kmeans=3, dither=Image.Dither.NONE)
    picture.save(small, format="PNG", optimize=True)
    OUTPUT.parent.mkdir(exist_ok=True)
    with atomic_write(OUTPUT, "wb") as file:
        file.write(small.getvalue())


if __name__ == "__main__":
    main()
