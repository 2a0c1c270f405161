"""Tools for agents, by the Model Context Protocol: the answers of the page in words."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, wraps
from importlib.metadata import version
from typing import Annotated, Any, TypeVar

from mcp.server import MCPServer
from pydantic import BaseModel, Field

from potnet.errors import PotNetError
from potnet.serve import schemas
from potnet.serve.answers import Answers
from potnet.serve.reading import Limits, one_crystal, read_texts
from potnet.text import printable

T = TypeVar("T")
LIMITS = Limits(structures=100, atoms=1000)
INSTRUCTIONS = (
    "Properties of inorganic crystals, predicted on this machine with 90 % intervals. Tell the "
    "user the interval and the flags with every value: a flag is a reason to doubt it. Values "
    "follow PBE of the Materials Project of 2019 unless level_of_theory says otherwise. Energies "
    "are in eV/atom, gaps in eV, moduli in GPa, lengths in Å, densities in g/cm^3."
)

Content = Annotated[
    str,
    Field(
        description="The structure as text: CIF, POSCAR, extxyz, XSF or JSON; lengths in Å. A file "
        "may hold several.",
        max_length=LIMITS.body,
    ),
]
Name = Annotated[
    str,
    Field(
        description="Name of the file, whose suffix says the format (NaCl.cif). It is a name: no "
        "file is read.",
        max_length=500,
    ),
]


class Crystal(BaseModel):
    """What was read of a crystal."""

    id: str
    formula: str
    n_atoms: int
    space_group: str = Field(description="Symbol and number; empty if none was found.")
    density: float = Field(description="In g/cm^3.")
    warnings: list[str] = Field(description="What was read with a change.")


class Sheet(Crystal):
    """What is predicted of a crystal."""

    rows: list[schemas.Row] = Field(description="One property each, in the unit that it names.")
    known: list[str] = Field(description="Ids of the same crystal in the Materials Project.")


class Predicted(BaseModel):
    """Sheets, and structures that could not be used."""

    crystals: list[Sheet]
    failures: list[schemas.Refused]


class Checked(BaseModel):
    """What was read, and structures that could not be used."""

    crystals: list[Crystal]
    failures: list[schemas.Refused]


def predict(content: Content, name: Name = "") -> Predicted:
    """Predict the properties of crystals.

    Formation energy (eV/atom), energy above hull (eV/atom), band gap (eV) and the probability that
    there is one, bulk, shear and Young's modulus (GPa), Poisson's and Pugh's ratio, the highest
    phonon frequency (1/cm) and the exfoliation energy of layers (meV/atom), each with the ends of
    its 90 % interval, reasons to doubt it (flags), and the known value of this very crystal.
    """
    reads = read_texts([(name, content)], LIMITS)
    outcomes = _answers().sheets([read.item for read in reads])
    found = Predicted(crystals=[], failures=[])
    for read, records in zip(reads, outcomes, strict=True):
        _sort(records, read.warnings, Sheet, found)
    return found


def check(content: Content, name: Name = "") -> Checked:
    """Read crystals without any prediction.

    Formula, space group (within 0.01 Å), number of atoms and density (g/cm^3) of each, and why
    others cannot be used: overlapping atoms, partial occupancy, a broken file.
    """
    reads = read_texts([(name, content)], LIMITS)
    found = Checked(crystals=[], failures=[])
    for read, record in zip(reads, _answers().checked([r.item for r in reads]), strict=True):
        _sort([record], read.warnings, Crystal, found)
    return found


def nearest(
    content: Content,
    name: Name = "",
    n: Annotated[int, Field(ge=1, le=50, description="How many.")] = 8,
) -> schemas.Nearest:
    """Find the known crystals that are nearest to one by structure and chemistry.

    Of 106,113 crystals of the Materials Project, with what is known of them: formation energy
    (eV/atom), PBE gap (eV), bulk and shear modulus (GPa), volume per atom (Å^3). ``distance`` has
    no unit; 0.1 is hardly another material, 1 is a relative. Those with ``is_same`` are the crystal
    itself.
    """
    crystal = one_crystal(name, content, LIMITS)
    return schemas.Nearest.model_validate(_answers().nearest(crystal, n))


def explain(
    content: Content,
    name: Name = "",
    property: Annotated[
        schemas.Explained, Field(description="What is explained; its unit is in the answer.")
    ] = "formation_energy",
) -> dict[str, Any]:
    """Say why a property of a crystal is predicted as it is: shares that add up to the prediction.

    ``total`` is ``composition`` (what the elements alone give) plus ``surroundings``, and these
    are divided by channel and by distance (Å), by atom and by pair of elements; all in ``unit``.
    """
    return _answers().explain(one_crystal(name, content, LIMITS), property)


def make_server() -> MCPServer:
    """Return the server with its tools."""
    from mcp.types import ToolAnnotations

    server = MCPServer(
        "potnet", instructions=INSTRUCTIONS, version=version("potnet"), log_level="WARNING"
    )
    plain = ToolAnnotations(read_only_hint=True, idempotent_hint=True, open_world_hint=False)
    for tool in (predict, check, nearest, explain):
        server.add_tool(_told(tool), annotations=plain)
    return server


def _told(tool: Callable[..., T]) -> Callable[..., T]:
    """Return a tool that tells the agent what it can mend: other errors are only named."""
    from mcp.server.mcpserver.exceptions import ToolError

    @wraps(tool)
    def answer(*args: Any, **kwargs: Any) -> T:
        try:
            return tool(*args, **kwargs)
        except PotNetError as error:
            raise ToolError(printable(error)) from error

    return answer


@lru_cache(1)
def _answers() -> Answers:
    return Answers()


def _sort(records: list[dict[str, Any]], warnings: tuple[str, ...], kind: type, found: Any) -> None:
    """Put records where they belong: crystals or failures."""
    for record in records:
        if "reason" in record:
            found.failures.append(schemas.Refused.model_validate(record))
        else:
            found.crystals.append(kind.model_validate({**record, "warnings": list(warnings)}))
