"""Where the explained score went."""

import math
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Ledger:
    """
    Balance of one explained score: input + bias + stabiliser + constant = explained.

    Attributes
    ----------
    input : float
        Sum of the relevance map (of all inputs).
    bias : float
        Earned by biases of layers and shifts of norms.
    stabiliser : float
        Absorbed by epsilon.
    constant : float
        Earned by other constants that the forward pass adds (f(0) of a sigmoid, a fixed tensor).
    explained : float
        The score, as the rewritten forward pass gave it.

    Examples
    --------
    >>> ledger = Ledger(input=0.75, bias=0.25, stabiliser=0.0, constant=0.0, explained=1.0)
    >>> ledger.residual, ledger.closes()
    (0.0, True)
    """

    input: float
    bias: float
    stabiliser: float
    constant: float
    explained: float

    @property
    def booked(self) -> float:
        """All that was accounted for."""
        return self.input + self.bias + self.stabiliser + self.constant

    @property
    def residual(self) -> float:
        """Explained score that nobody accounts for."""
        return self.explained - self.booked

    @property
    def ratio(self) -> float:
        """Accounted part of the score; 1 when it closes, not a number for a score of 0."""
        return self.booked / self.explained if self.explained else float("nan")

    def closes(self, reference: float = 0.0, *, tolerance: float = 1e-4) -> bool:
        """
        Judge whether the balance holds.

        Parameters
        ----------
        reference : float
            Typical |score|, for example the median over validation pairs: a score near 0 is
            judged against 1 % of it.
        tolerance : float
            1e-4 for float32 and 1e-9 for float64.

        Returns
        -------
        bool
            |residual| <= tolerance x max(|explained|, 0.01 x reference).
        """
        return abs(self.residual) <= tolerance * max(abs(self.explained), 0.01 * abs(reference))

    def __add__(self, other: "Ledger") -> "Ledger":
        """Join the ledgers of two branches."""
        mine, theirs = asdict(self), asdict(other)
        return Ledger(**{name: mine[name] + theirs[name] for name in mine})

    def to_dict(self) -> dict[str, float | None]:
        """Give all accounts with residual and ratio, for a sidecar."""
        return {**asdict(self), "residual": self.residual, "ratio": known(self.ratio)}


def known(value: float) -> float | None:
    """
    Give None for what is not a number, as JSON writes it.

    Examples
    --------
    >>> known(0.5), known(float("nan"))
    (0.5, None)
    """
    return None if math.isnan(value) else value
