"""Directions of the embedding, and the images that are embedded."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor

from hemitwin.interpret import principal_directions
from hemitwin.models import BuiltEncoder
from hemitwin.pipeline.cohort.brains import find_prepared
from hemitwin.pipeline.stage.bids import Case
from hemitwin.pipeline.stage.errors import UserError
from hemitwin.pipeline.stage.records import content_digest
from hemitwin.pipeline.training.runs import Run

__all__ = ["Directions"]


@dataclass(frozen=True, eq=False)
class Directions:
    """Directions to explain: all dimensions of the embedding, or its principal directions.

    Parameters
    ----------
    run : Run
        Whose embedding.
    count : int or None
        How many principal directions; None for all dimensions.
    cases : tuple of Case
        The brains that the principal directions are taken from.
    """

    run: Run
    count: int | None
    cases: tuple[Case, ...]

    @classmethod
    def of(cls, run: Run, derivatives: Path, count: int | None) -> "Directions":
        """Choose them by the brains of the training fold in a folder.

        Raises
        ------
        UserError
            The network sees images in pairs alone, or there are fewer embeddings, or dimensions,
            than directions.
        """
        if run.config.input.needs_pairs:
            msg = (
                "an embedding must be of one image to be explained, but this network sees each "
                "half beside the other (input.other, input.difference); name a run without them, "
                "or explain the pair's score"
            )
            raise UserError(msg)
        if count is None:
            return cls(run, None, ())
        data = run.config.volumes
        found = find_prepared(derivatives, modality=data.modality, space=data.space)
        cases = tuple(case for case in found if run.split.folds.get(case.subject) == "train")
        known = len(cases) * run.config.compared.images_per_brain
        dim = _dimensions(run)
        if not 1 <= count <= min(known, dim):
            msg = (
                f"directions must be from 1 to the embedding's {dim} dimensions, with as many "
                f"embeddings of the training fold, got {count} with {known} embeddings below "
                f"{derivatives}; prepare training subjects there, or leave it out to explain all"
            )
            raise UserError(msg)
        return cls(run, count, cases)

    @cached_property
    def vectors(self) -> Float[Tensor, "count dim"]:
        """Orthonormal rows; each brain is embedded once, when a case first asks."""
        if self.count is None:
            return torch.eye(_dimensions(self.run))
        network = self.run.network
        with torch.inference_mode():
            brains = map(self.run.load_brain, self.cases)
            images = (torch.stack(self.run.config.compared.images(brain)) for brain in brains)
            embeddings = torch.cat([network.embed(both.to(network.device)) for both in images])
        return principal_directions(embeddings.cpu(), self.count)

    @cached_property
    def sources(self) -> dict[str, int | list[str] | None]:
        """What decides them, beside the network: their number and the volumes' digests."""
        return {"count": self.count, "volumes": [content_digest(case.scan) for case in self.cases]}

    @property
    def words(self) -> str:
        """Say for a sidecar which they are."""
        if self.count is None:
            return "all dimensions of the embedding"
        return (
            f"principal directions, not centred, of the normalised embeddings of "
            f"{len(self.cases)} brains of the training fold"
        )


def _dimensions(run: Run) -> int:
    # A run's encoder comes from a file of weights, which brings back those that have settings.
    return cast("BuiltEncoder", run.network.encoder).config.embedding_dim
