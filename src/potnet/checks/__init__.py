"""Looking a dataset over before anything is trained: what is refused, doubled, leaked or odd."""

from potnet.checks.checks import Audit, Finding, TwinGroup, audit
from potnet.checks.columns import Column
from potnet.checks.near_duplicates import fingerprint, twins

__all__ = ["Audit", "Column", "Finding", "TwinGroup", "audit", "fingerprint", "twins"]
