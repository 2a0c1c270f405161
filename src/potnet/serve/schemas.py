"""What requests and answers hold, for the checks of the one and the description of both."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

POSCAR = "NaCl\n1.0\n0 2.82 2.82\n2.82 0 2.82\n2.82 2.82 0\nNa Cl\n1 1\nDirect\n0 0 0\n.5 .5 .5\n"
SALT = {"name": "salt.vasp", "content": POSCAR}

Finite = Annotated[float, Field(allow_inf_nan=False)]


class Text(BaseModel, extra="forbid"):
    """A file with structures, as text."""

    name: str = Field("", max_length=500, description="Its name; the suffix says the format.")
    content: str = Field(description="CIF, POSCAR, extxyz, XSF or JSON.", examples=[POSCAR])


class Structures(BaseModel, extra="forbid"):
    """Structures to look at."""

    structures: list[Text] = Field(min_length=1, examples=[[SALT]])


class Sums(Text):
    """A structure and the potentials to be summed."""

    per: Literal["pair", "atom"] = Field(
        "pair", description="Sums of all pairs of atoms, or of each atom with all others."
    )
    potentials: list[str] = Field(["coulomb", "london", "pauli"], min_length=1, max_length=20)
    tolerance: float = Field(
        1e-8, gt=0, allow_inf_nan=False, description="Largest absolute error of a sum."
    )


class Plane(Text):
    """A structure, and the plane on which a potential is wanted."""

    potential: str = Field("coulomb", description="Name of a potential, as `potnet sums` has it.")
    plane: list[Annotated[int, Field(ge=-9, le=9)]] | None = Field(
        None,
        min_length=3,
        max_length=3,
        description="Miller indices; without them, the plane that cuts most kinds of atoms.",
        examples=[[1, 0, 0]],
    )


Explained = Literal[
    "formation_energy", "band_gap", "bulk_modulus", "shear_modulus", "highest_phonon_frequency"
]


class Why(Text):
    """A structure, and the property whose prediction is to be explained."""

    property: Explained = "formation_energy"


class Energy(BaseModel, extra="forbid"):
    """A composition and its formation energy."""

    formula: str = Field(min_length=1, max_length=200, examples=["MgAl2O4"])
    formation_energy: Finite = Field(description="In eV/atom.", examples=[-3.25])
    lower: Finite | None = Field(None, description="Lower end of its interval, eV/atom.")
    upper: Finite | None = Field(None, description="Upper end of its interval, eV/atom.")


class Row(BaseModel):
    """A property of a crystal, as the sheet has it."""

    id: str
    formula: str
    n_atoms: int
    space_group: str
    property: str
    value: float | None
    lower: float | None
    upper: float | None
    unit: str
    level_of_theory: str
    model: str
    flags: str
    reference: float | None
    note: str


class AtomValues(BaseModel):
    """A number of each atom, in the order of the atoms."""

    name: str
    values: list[float]


class Facts(BaseModel):
    """What was read of a crystal: lengths in Å, density in g/cm^3."""

    id: str
    formula: str
    n_atoms: int
    space_group: str = Field(description="Symbol and number; empty if none was found.")
    density: float
    symbols: list[str]
    numbers: list[int]
    positions: list[list[float]]
    cell: list[list[float]]
    pbc: list[bool]
    bonds: list[list[int]] = Field(description="Two atoms, and the cell that the second is in.")
    warnings: list[str] = Field(description="What was read with a change.")
    atom_values: list[AtomValues] = Field(
        description="What the text states of its atoms beside the structure: forces, charges, "
        "oxidation states. Vectors are told by their lengths."
    )


class Sheet(Facts):
    """What was read of a crystal, and what is predicted of it."""

    rows: list[Row]
    known: list[str] = Field(description="Ids of the same crystal in the index of known ones.")


class Refused(BaseModel):
    """A structure that cannot be used."""

    id: str
    stage: str
    reason: str


class Checked(BaseModel):
    """What was read."""

    crystals: list[Facts]
    failures: list[Refused]


class Predicted(BaseModel):
    """Sheets of crystals."""

    crystals: list[Sheet]
    failures: list[Refused]


class Summed(BaseModel):
    """Sums over all images of each pair of atoms, or of each atom with all others."""

    id: str
    potentials: list[str]
    units: list[str] = Field(description="Of each potential; empty where it has none.")
    values: list[list[list[float]]] | list[list[float]] = Field(
        description="Shape (n_atoms, n_atoms, n_potentials); (n_atoms, n_potentials) of atoms."
    )
    error_bound: list[float]


class KnownCrystal(BaseModel):
    """A known crystal: eV/atom, eV, GPa, Å^3."""

    id: str
    formula: str
    n_atoms: int
    space_group: int | None
    volume_per_atom: float
    distance: float = Field(description="From the crystal that was asked about; 0 for the same.")
    is_same: bool
    is_metal: bool
    example: str | None = Field(description="Name of the example that is this crystal.")
    formation_energy: float | None
    band_gap: float | None
    bulk_modulus: float | None
    shear_modulus: float | None


class Nearest(BaseModel):
    """Known crystals, the same one and the nearest first."""

    source: str
    crystals: list[KnownCrystal]


class Part(BaseModel):
    """A phase of a decomposition."""

    formula: str
    share: float
    formation_energy: float


class Stability(BaseModel):
    """How a formation energy stands to the hull; energies in eV/atom."""

    formula: str
    energy_above_hull: float
    lower: float | None
    upper: float | None
    hull_energy: float
    decomposition: list[Part]
    unknown: list[str]
    snapshot: str
    diagram: dict[str, Any] | None = Field(description="Of two or three elements: the whole hull.")


class Landscape(BaseModel):
    """A potential on a plane, lengths in Å."""

    plane: str
    potential: str
    unit: str
    width: float
    error_bound: float
    values: list[list[float | None]] = Field(description="Rows from below; null inside atoms.")
    atoms: list[dict[str, Any]]


class Explanation(BaseModel, extra="allow"):
    """Shares that add up to a prediction, in ``unit``: that of the numbers that were learned."""

    id: str
    property: str
    model: str
    value: float
    value_unit: str
    unit: str
    total: float
    composition: float
    surroundings: float
    channels: list[str]
    distances: list[str]
    by_channel_and_distance: list[list[float]]
    atoms: list[dict[str, Any]]


class Model(BaseModel):
    """A bundled model."""

    name: str
    predicts: list[dict[str, str]]
    trained_on: str


class Health(BaseModel):
    """Whether the server answers, and whether its models are read."""

    status: str
    version: str
    is_warm: bool


class ProblemDetails(BaseModel):
    """A mistake, as RFC 9457 describes it."""

    type: str
    title: str
    status: int
    detail: str = Field(examples=["Content-Type: must be application/json."])
