"""``potnet models``: what is bundled."""

from __future__ import annotations

from potnet.cli.app import app
from potnet.cli.terminal import show_table


@app.command()
def models() -> None:
    """List the bundled models."""
    from potnet.models import archive, available

    rows = []
    for name in available():
        card = archive.read_card(name)
        for target in card.targets:
            part = next((p for p in ("test", "val") if target.name in card.metrics.get(p, {})), "")
            mae = f"{card.metrics[part][target.name]['mae']:.3g}" if part else ""
            rows.append([name, target.name, target.unit, mae, part, card.data.name])
    show_table(["model", "predicts", "unit", "MAE", "measured on", "trained on"], rows)
