"""Export: relevance and atlas as NIfTI, GIFTI and CIFTI, with a spec and a scene to open."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from hemitwin.atlases import TEMPLATE_SPACE, DataFile, write_scene, write_spec
from hemitwin.pipeline.bids import Case, Modality
from hemitwin.pipeline.export_material import ExportConfig, ExportMaterial, gather
from hemitwin.pipeline.exported_surfaces import ExportedSurfaces, write_surfaces
from hemitwin.pipeline.exported_volumes import write_volumes
from hemitwin.pipeline.hcp_layout import write_hcp_copies
from hemitwin.pipeline.parcellate import find_explained
from hemitwin.pipeline.render import find_workbench, render_scenes, render_surfaces
from hemitwin.pipeline.runner import Outcome, run_cases
from hemitwin.pipeline.shared_atlas import SharedAtlas, write_shared_atlas
from hemitwin.pipeline.subject_scenes import subject_scenes

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
    return run_cases(work, cases, stage="export", log_folder=derivatives / "logs")


def export_case(
    case: Case, derivatives: Path, shared: SharedAtlas, desc: str, config: ExportConfig
) -> Exported:
    """Export one case.

    Raises
    ------
    CaseError
        The map has no audit, or the prepared volume's sidecar is missing.
    """
    made = gather(case, derivatives, shared, desc, config)
    volumes, surfaces = write_volumes(made), write_surfaces(made)
    # What `relate` wrote belongs to the same subject, whichever map is exported.
    tail = f"space-{TEMPLATE_SPACE}_atlas-HCPMMP1_desc-bilrp_relmat.pconn.nii"
    matrices = (DataFile(path),) if (path := made.path(tail)).is_file() else ()
    files = (*volumes.files, *surfaces.files, *matrices)
    stem = case.name if made.desc == "lrp" else f"{case.name}_desc-{made.desc}"
    spec = derivatives / "workbench" / f"{stem}.wb.spec"
    write_spec(spec, (*shared.files, *files))
    scenes = subject_scenes(made, volumes, surfaces)
    scene = derivatives / "workbench" / f"{stem}.scene"
    write_scene(scene, scenes)
    copies = write_hcp_copies(made, volumes, surfaces)
    paths = (*(file.path for file in files), *copies, spec, scene)
    names = tuple(one.name for one in scenes)
    pictures = _pictures(made, scene, names, surfaces) if config.render else ()
    return Exported(case, paths, spec, scene, names, pictures)


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
