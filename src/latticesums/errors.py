"""The exceptions that latticesums raises for what a caller can mend.

Every message follows one template: *where: `name` must RULE, got VALUE. What to do.*
"""


class LatticeSumsError(Exception):
    """Base of every error that latticesums raises on purpose."""


class StructureError(LatticeSumsError, ValueError):
    """Positions or a cell cannot be summed over."""


class ConfigError(LatticeSumsError, ValueError):
    """A potential, a tolerance or another setting has a value that cannot be used."""
