"""Looking a dataset over before anything is trained: what is refused, doubled, leaked or odd."""

from potnet.audit.audit import Audit, Finding, TwinGroup, audit
from potnet.audit.columns import Column
from potnet.audit.twins import fingerprint, twins

__all__ = ["Audit", "Column", "Finding", "TwinGroup", "audit", "fingerprint", "twins"]
