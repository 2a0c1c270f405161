"""Looking a dataset over before anything is trained: what is refused, doubled, leaked or odd."""

from potnet.checks.checks import CheckResult, DuplicateGroup, Finding, check_records
from potnet.checks.near_duplicates import duplicate_groups, fingerprint
from potnet.checks.targets import TargetSummary

__all__ = [
    "CheckResult",
    "DuplicateGroup",
    "Finding",
    "TargetSummary",
    "check_records",
    "duplicate_groups",
    "fingerprint",
]
