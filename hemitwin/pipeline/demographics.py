"""Age and sex of subjects, from the tables that a cohort comes with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from hemitwin.pipeline.errors import UserError
from hemitwin.pipeline.families import read_table

__all__ = ["Demographics", "read_demographics"]

# The first that a table has is taken: the Connectome Project's open table gives ages as ranges.
_AGES = ("age_in_yrs", "age_years", "age")
_SEXES = ("sex", "gender")
_SEX_NAMES = {"f": "F", "female": "F", "m": "M", "male": "M"}


@dataclass(frozen=True)
class Demographics:
    """What tables say of subjects' age and sex; who is not in a mapping is not known.

    Parameters
    ----------
    age_years : mapping of str to float
        By subject (``sub-01``).
    sex : mapping of str to str
        ``F``, ``M``, or what else the table has, in capitals.
    """

    age_years: Mapping[str, float] = field(default_factory=dict, repr=False)
    sex: Mapping[str, str] = field(default_factory=dict, repr=False)

    def require(self, subjects: Sequence[str], *, sex: bool = False, age: bool = False) -> None:
        """Refuse subjects whose sex or age is needed and not known.

        Raises
        ------
        UserError
            Somebody has none; the message names who.
        """
        needed = {"sex": self.sex if sex else None, "age": self.age_years if age else None}
        for kind, known in needed.items():
            missing = sorted(set(subjects) - set(known)) if known is not None else []
            if missing:
                listed = ", ".join(missing[:8])
                msg = (
                    f"pairs can be matched on {kind} only where it is known of every subject (a "
                    f"column {'sex' if kind == 'sex' else 'age, in years,'} of participants.tsv, "
                    f"or {'Gender' if kind == 'sex' else 'Age_in_Yrs'} of the Connectome "
                    f"Project), but {listed} has none; complete the table, or leave {kind} out of "
                    f"what is matched"
                )
                raise UserError(msg)


def read_demographics(*paths: Path) -> Demographics:
    """Read age and sex from ``participants.tsv`` or the Connectome Project's CSVs.

    Columns are taken in any spelling of capitals, each optional: ``Age_in_Yrs`` or ``age`` (years;
    the ``89+`` of BIDS counts as 89; a range such as ``26-30`` is no age), ``sex`` or ``Gender``.

    Parameters
    ----------
    *paths : Path
        Tables; the first that knows something says it.

    Raises
    ------
    UserError
        A table is missing or names no subjects.

    Examples
    --------
    >>> import tempfile
    >>> table = Path(tempfile.mkdtemp()) / "people.csv"
    >>> _ = table.write_text(chr(10).join(["Subject,Age_in_Yrs,Gender", "1,31,F", "2,,M"]))
    >>> people = read_demographics(table)
    >>> people.age_years, people.sex
    ({'sub-1': 31.0}, {'sub-1': 'F', 'sub-2': 'M'})
    """
    age_years: dict[str, float] = {}
    sex: dict[str, str] = {}
    for path in paths:
        table = read_table(path)
        for name, text in _values(table, _AGES).items():
            years = pd.to_numeric(text.removesuffix("+"), errors="coerce")
            if np.isfinite(years):
                age_years.setdefault(name, float(years))
        for name, text in _values(table, _SEXES).items():
            sex.setdefault(name, _SEX_NAMES.get(text.lower(), text.upper()))
    return Demographics(age_years, sex)


def _values(table: pd.DataFrame, wanted: Sequence[str]) -> dict[str, str]:
    spelled = {str(name).lower(): str(name) for name in table.columns}
    column = next((spelled[name] for name in wanted if name in spelled), None)
    if column is None:
        return {}
    known = table.dropna(subset=[column])
    texts = known[column].astype(str).str.strip()
    found = zip(known["subject"].astype(str), texts, strict=True)
    return {name: text for name, text in found if text}
