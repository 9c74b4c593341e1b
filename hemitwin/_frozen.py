"""The base of every configuration and specification: read once, checked, never changed."""

from pydantic import BaseModel, ConfigDict

__all__ = ["Frozen"]


class Frozen(BaseModel):
    """A pydantic model that refuses unknown keys, and changes of what it holds."""

    model_config = ConfigDict(frozen=True, extra="forbid")
