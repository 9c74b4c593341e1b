"""Export: relevance and atlas as NIfTI, GIFTI and CIFTI, with a spec and a scene to open."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from hemitwin.atlases import DataFile, write_scene, write_spec
from hemitwin.pipeline.explanation.map_files import find_explained
from hemitwin.pipeline.exports.config import ExportConfig
from hemitwin.pipeline.exports.hcp_layout import write_hcp_copies
from hemitwin.pipeline.exports.material import ExportMaterial, export_record, relations_file
from hemitwin.pipeline.exports.render import find_workbench, render_scenes, render_surfaces
from hemitwin.pipeline.exports.scenes import subject_scenes
from hemitwin.pipeline.exports.shared_atlas import SharedAtlas, write_shared_atlas
from hemitwin.pipeline.exports.surfaces import ExportedSurfaces, write_surfaces
from hemitwin.pipeline.exports.volumes import write_volumes
from hemitwin.pipeline.stage.bids import Case, Modality
from hemitwin.pipeline.stage.names import map_desc
from hemitwin.pipeline.stage.runner import Outcome, run_cases

__all__ = ["ExportConfig", "Exported", "export", "export_case"]


@dataclass(frozen=True)
class Exported:
    """What was written for one case.

    Parameters
    ----------
    case : Case
        Whose files they are.
    files : tuple of Path
        Every file, sidecars left out.
    spec, scene : Path
        What to open in Workbench.
    scene_names : tuple of str
        The scenes in it.
    pictures : tuple of Path
        Of the scenes; empty where they were not asked for.
    """

    case: Case
    files: tuple[Path, ...]
    spec: Path
    scene: Path
    scene_names: tuple[str, ...]
    pictures: tuple[Path, ...] = ()


def export(
    derivatives: Path,
    *,
    cache: Path,
    labels: tuple[str, ...] | None = None,
    desc: str = "lrp",
    modality: Modality = "T1w",
    config: ExportConfig | None = None,
) -> Outcome[Exported]:
    """Export explained subjects for Connectome Workbench and other viewers.

    Parameters
    ----------
    derivatives : Path
        The folder with the relevance maps; the files are written into it.
    cache : Path
        Where the atlas is kept between runs.
    labels : tuple of str, optional
        Subjects; all that were explained by default.
    desc : str
        Which map.
    modality : {'T1w', 'T2w', 'FLAIR'}
        Of the explained volumes.
    config : ExportConfig, optional
        How relevance is read at the surfaces, smoothing, and whether every scene is drawn, with
        Workbench or, where that is absent, the cortex with nilearn.

    Returns
    -------
    Outcome of Exported

    Raises
    ------
    UserError
        There is no map to export.
    """
    cases = find_explained(derivatives, desc, labels=labels, modality=modality)
    shared = write_shared_atlas(derivatives / "atlas", cache=cache)
    work = partial(
        export_case,
        derivatives=derivatives,
        shared=shared,
        desc=desc,
        config=config or ExportConfig(),
    )
    return run_cases(work, cases, stage="export", out=derivatives)


def export_case(
    case: Case, derivatives: Path, shared: SharedAtlas, desc: str, config: ExportConfig
) -> Exported:
    """Export one case.

    Raises
    ------
    CaseError
        The map has no audit, or the prepared volume's sidecar is missing.
    """
    named = map_desc(case, desc)
    stem = case.name if named == "lrp" else f"{case.name}_desc-{named}"
    folder = derivatives / "workbench"
    spec, scene = folder / f"{stem}.wb.spec", folder / f"{stem}.scene"
    record = export_record(case, derivatives, shared, desc, config)

    def make() -> tuple[dict[str, Any], list[Path]]:
        return _write(ExportMaterial.of(case, derivatives, shared, desc, config), spec, scene)

    content = record.ensure(folder / f"{stem}.json", make)
    paths = tuple(derivatives / name for name in content["Files"])
    pictures = tuple(derivatives / name for name in content["Pictures"])
    return Exported(case, paths, spec, scene, tuple(content["Scenes"]), pictures)


def _write(made: ExportMaterial, spec: Path, scene: Path) -> tuple[dict[str, Any], list[Path]]:
    """Write one case's files; give what is to be said of them, and all of them."""
    volumes, surfaces = write_volumes(made), write_surfaces(made)
    relations = relations_file(made.case, made.out)
    matrices = (DataFile(relations),) if relations.is_file() else ()
    files = (*volumes.files, *surfaces.files, *matrices)
    write_spec(spec, (*made.shared.files, *files))
    scenes = subject_scenes(made, volumes, surfaces)
    write_scene(scene, scenes)
    copies = write_hcp_copies(made, volumes, surfaces)
    names = tuple(one.name for one in scenes)
    pictures = _pictures(made, scene, names, surfaces) if made.config.render else ()
    paths = [*(file.path for file in files), *copies, spec, scene]
    content = {
        "Description": "Files for Connectome Workbench and other viewers",
        "Files": [path.relative_to(made.out).as_posix() for path in paths],
        "Scenes": list(names),
        "Pictures": [path.relative_to(made.out).as_posix() for path in pictures],
    }
    return content, [*paths, *pictures]


def _pictures(
    made: ExportMaterial, scene: Path, names: tuple[str, ...], surfaces: ExportedSurfaces
) -> tuple[Path, ...]:
    program = find_workbench()
    if program is not None:
        return render_scenes(scene, names, program)
    picture = scene.with_name(f"{scene.stem}_relevance-on-the-cortex.png")
    pairs = zip(made.shared.inflated, surfaces.metrics, strict=True)
    sides = [(mesh.path, metric.path) for mesh, metric in pairs]
    return (render_surfaces(picture, sides, f"{made.case.name}: relevance"),)
