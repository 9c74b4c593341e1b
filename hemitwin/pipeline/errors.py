"""What a stage raises when one case fails and the others go on."""

from dataclasses import dataclass

__all__ = ["CaseError", "CaseFailure", "UserError"]


class UserError(ValueError):
    """A request that cannot be met: the message says what must hold, what came and what to do."""


class CaseError(RuntimeError):
    """One case could not pass one stage.

    Parameters
    ----------
    case : str
        The case's name, for example ``sub-01`` or ``sub-01_ses-2``.
    stage : str
        The stage's verb, for example ``prepare``.
    reason : str
        What must hold, what came, what to do.
    """

    def __init__(self, case: str, stage: str, reason: str) -> None:
        super().__init__(f"{case}: {stage} failed: {reason}")
        self.case = case
        self.stage = stage
        self.reason = reason


@dataclass(frozen=True)
class CaseFailure:
    """A failed case, as it travels between processes and into reports."""

    case: str
    stage: str
    reason: str
