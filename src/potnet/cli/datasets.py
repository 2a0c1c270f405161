"""``potnet datasets``: those that have a name, and what can be done with one."""

from __future__ import annotations

import typer

from potnet.cli.app import Commands, app
from potnet.cli.terminal import show_table

group = typer.Typer(cls=Commands)
app.add_typer(group, name="datasets")


@group.callback(invoke_without_command=True)
def datasets(context: typer.Context) -> None:
    """List the datasets that have a name, fetch them, divide any dataset."""
    if context.invoked_subcommand is not None:
        return
    from potnet import data
    from potnet.cli.downloads import here, licence

    rows = [[name, about, *here(name), licence(name)] for name, about in data.available().items()]
    show_table(["name", "what it is", "where", "size", "licence"], rows)
