"""Every option by which a volume comes in, and the one rule about where it lies.

The list is held against the command line and the configurations: an option in neither table fails.
"""

import importlib
import json
import pkgutil
import typing
from collections.abc import Callable
from dataclasses import dataclass
from itertools import permutations, product
from pathlib import Path
from unittest.mock import patch

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import typer
from nibabel.freesurfer.mghformat import MGHHeader, MGHImage
from nibabel.nifti1 import Nifti1Image
from nibabel.openers import ImageOpener
from pydantic import BaseModel

from hemitwin.atlases import (
    FREESURFER_STRUCTURES,
    TEMPLATE_SPACE,
    Atlas,
    DataFile,
    FreeSurferSubject,
    Region,
    hcpmmp_atlas,
    relevance_palette,
    save_dseg_table,
    save_labels_volume,
    save_volume,
)
from hemitwin.atlases.formats import freesurfer_subject
from hemitwin.atlases.parcellation import Parcellation
from hemitwin.pipeline.cli.main import app
from hemitwin.pipeline.cli.options import chosen_atlas, named_atlas
from hemitwin.pipeline.cohort.brains import load_brain
from hemitwin.pipeline.cohort.leakage import fingerprint
from hemitwin.pipeline.evaluation import simulated_set
from hemitwin.pipeline.evaluation.simulated_set import pairs_of_set, truths_of_set
from hemitwin.pipeline.explanation.map_files import read_relevance
from hemitwin.pipeline.exports.config import ExportConfig
from hemitwin.pipeline.exports.material import ExportMaterial
from hemitwin.pipeline.exports.shared_atlas import SharedAtlas
from hemitwin.pipeline.exports.volumes import _keep_scan
from hemitwin.pipeline.preparation import prepare
from hemitwin.pipeline.preparation.brain_masks import brain_of
from hemitwin.pipeline.preparation.lesion_files import lesion_file_of
from hemitwin.pipeline.preparation.native_space import NativeSpace
from hemitwin.pipeline.preparation.sources import SourceConfig, find_sources
from hemitwin.pipeline.regions import atlas as atlas_stage
from hemitwin.pipeline.regions import places
from hemitwin.pipeline.regions.atlas_files import own_atlas
from hemitwin.pipeline.regions.atlas_files import own_deformation as read_own_deformation
from hemitwin.pipeline.regions.finder import AtlasRequest
from hemitwin.pipeline.regions.hidden_lesions import MaskSource, find_lesion
from hemitwin.pipeline.regions.own_cortex import HcpSubject
from hemitwin.pipeline.regions.places import SubjectPlaces
from hemitwin.pipeline.regions.tabulate import tabulate
from hemitwin.pipeline.simulation import lesion_set
from hemitwin.pipeline.simulation.manifest import EvaluationSet
from hemitwin.pipeline.slices.config import SliceConfig
from hemitwin.pipeline.slices.picture_size import PictureSize
from hemitwin.pipeline.slices.source import SliceSource, native_scan
from hemitwin.pipeline.stage.bids import Case, sidecar_of
from hemitwin.pipeline.stage.errors import CaseError
from hemitwin.pipeline.stage.json_files import digest_file, write_json
from hemitwin.pipeline.stage.names import aligned_atlas_path, deformation_path, relevance_path
from hemitwin.transforms import LesionMaskLibrary, load_geometry, load_scan, volume_members

SHAPE = (12, 10, 14)
RAS = np.array([[10.0, 0, 0, -55], [0, 10, 0, -60], [0, 0, 10, -40], [0, 0, 0, 1]])
BLOCK = (slice(1, 5), slice(4, 9), slice(2, 8))
"""120 ml on the left, in no axis' middle, with three different edges."""

INSIDE = np.zeros(SHAPE, dtype=bool)
INSIDE[BLOCK] = True
NEARLY_ALL = np.ones(SHAPE, dtype=np.float32)
NEARLY_ALL[0, 0, 0] = 0
"""A brain that fills its volume, which must not be of one value."""
POINTS = np.argwhere(np.ones(SHAPE)) @ RAS[:3, :3].T + RAS[:3, 3]

LEFT = (Region(1, "L_block", "L", None, None, "#ff0000"),)
BOTH = (*LEFT, Region(2, "rest", "R", None, None, "#00ff00"))

AXIS_ORDERS = [
    np.array([np.eye(3)[axis] * sign for axis, sign in zip(order, signs, strict=True)]).T
    for order in permutations(range(3))
    for signs in product((1, -1), repeat=3)
]
"""The 48 ways to lay a grid's axes along the world's."""


# ---------------------------------------------------------------- what is planted, and how stored


def in_order(values, order):
    """Give values of the RAS grid with their axes in another order, and the affine of these."""
    axes, signs = np.abs(order).argmax(axis=0), order.sum(axis=0)
    stored_to_ras = np.eye(4)
    stored_to_ras[:3, :3] = order
    stored_to_ras[axes, 3] = np.where(signs < 0, np.array(values.shape)[axes] - 1, 0)
    flips = tuple(slice(None, None, int(sign)) for sign in signs)
    return values.transpose(axes)[flips], RAS @ stored_to_ras


def field(values):
    """Vectors of ITK, whose third component is what is planted."""
    vectors = np.zeros((*values.shape, 1, 3), dtype=np.float32)
    vectors[..., 0, 2] = values
    return vectors


@dataclass(frozen=True)
class Forms:
    """How a header says where a volume lies."""

    sform: bool = True
    qform: bool = True
    shift_mm: float = 0.0
    mirrored: bool = False
    units: str = "mm"


def save(path, values, affine, forms=None, kind=nib.Nifti1Image):
    """Write NIfTI with a header as it is told, or MGH."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix in {".mgz", ".mgh"}:
        MGHImage(values.astype(np.float32), affine).to_filename(path)
        return path
    forms = forms or Forms()
    scale = {"mm": 1.0, "meter": 1e-3, "micron": 1e3}[forms.units]
    affine = np.diag([scale] * 3 + [1]) @ affine
    other = affine.copy()
    other[1, 3] += forms.shift_mm
    if forms.mirrored:
        other = other @ np.diag([-1.0, 1, 1, 1])
    image = kind(values.astype(np.float32), None)
    rest = image.header.get_zooms()[3:]
    image.header.set_zooms([*np.linalg.norm(affine[:3, :3], axis=0), *rest])
    image.header.set_xyzt_units(forms.units)
    image.set_sform(affine if forms.sform else None, code=2 if forms.sform else 0)
    image.set_qform((other if forms.sform else affine) if forms.qform else None, int(forms.qform))
    image.to_filename(path)
    return path


def plain(path, values, **options):
    save_volume(path, values, RAS, **options)
    return path


def overlap(inside, affine=RAS):
    """Dice of what was read, where it says it lies, with what was planted."""
    points = np.argwhere(inside) @ affine[:3, :3].T + affine[:3, 3]
    voxels = np.rint((points - RAS[:3, 3]) / 10).astype(int)
    within = ((voxels >= 0) & (voxels < SHAPE)).all(axis=1)
    hits = INSIDE[tuple(voxels[within].T)].sum()
    return 2 * float(hits) / (len(points) + INSIDE.sum())


# ---------------------------------------------------------------- entries: file in, overlap out


class Seen(Exception):  # noqa: N818 (no error: it ends a stage where the volume was read)
    """What a stage was about to work on."""


def seen(where, name, call):
    """Run a stage up to a function, and give what that was called with."""

    def stop(*arguments, **options):
        raise Seen(*arguments, *options.values())

    with patch.object(where, name, stop), pytest.raises(Seen) as caught:
        call()
    return caught.value.args


def put(volume, folder, name):
    """Copy a volume's files to where an entry looks for them, with their suffixes."""
    folder.mkdir(parents=True, exist_ok=True)
    there = {}
    for member in volume_members(volume):
        suffix = member.name.split(".", 1)[1]
        there[member] = folder / f"{name}.{suffix}"
        there[member].write_bytes(member.read_bytes())
    return there[volume]


def scan_of(source, out, **config):
    """Prepare the one scan of a source until it is to be aligned."""
    (case,) = find_sources(source, config=SourceConfig.model_validate(config))

    def work():
        prepare.prepare_case(case, out, prepare.PrepareConfig())

    _, scan, _ = seen(prepare, "_align", work)
    return overlap(scan.data > 0.5, scan.affine)


def mask_of(source):
    """Read the one mask of a source beside its scan."""
    (case,) = find_sources(source)
    scan = load_scan(case.scan)
    return overlap(brain_of(case, scan), scan.affine)


def bids_scan(volume, tmp):
    put(volume, tmp / "bids/sub-01/anat", "sub-01_T1w")
    return scan_of(tmp / "bids", tmp / "out")


def derivatives(tmp):
    folder = tmp / "fmriprep"
    folder.mkdir(exist_ok=True)
    description = {"Name": "x", "DatasetType": "derivative"}
    (folder / "dataset_description.json").write_text(json.dumps(description))
    return folder


def derivative_scan(volume, tmp):
    folder = derivatives(tmp)
    put(volume, folder / "sub-01/anat", "sub-01_desc-preproc_T1w")
    return scan_of(folder, tmp / "out")


def derivative_mask(volume, tmp):
    folder = derivatives(tmp)
    put(volume, folder / "sub-01/anat", "sub-01_desc-brain_mask")
    plain(folder / "sub-01/anat/sub-01_desc-preproc_T1w.nii.gz", 1.0 + INSIDE)
    return mask_of(folder)


def hcp_scan(volume, tmp):
    put(volume, tmp / "hcp/100307/T1w", "T1w_acpc_dc_restore_brain")
    return scan_of(tmp / "hcp", tmp / "out")


def hcp_mask(volume, tmp):
    put(volume, tmp / "hcp/100307/T1w", "brainmask_fs")
    plain(tmp / "hcp/100307/T1w/T1w_acpc_dc_restore.nii.gz", 1.0 + INSIDE)
    return mask_of(tmp / "hcp")


def listed(tmp, row):
    cells = "\t".join(["1", *map(str, row)])
    (tmp / "list.tsv").write_text(f"subject\tscan\tmask\n{cells}\n")
    return tmp / "list.tsv"


def listed_scan(volume, tmp):
    return scan_of(listed(tmp, (volume, "")), tmp / "out")


def listed_mask(volume, tmp):
    return mask_of(listed(tmp, (plain(tmp / "beside.nii.gz", 1.0 + INSIDE), volume)))


def tabulated(maps, dseg, regions, tmp):
    """Give the share of the block's values that the region of that name has, both ways."""
    save_dseg_table(tmp / "names.tsv", regions)
    settings = {"dseg": dseg, "dseg_table": tmp / "names.tsv"}
    table = tabulate([maps], tmp / "table.tsv", **settings).set_index("name")
    return 2 * table["sum"]["L_block"] / (table["n_voxels"]["L_block"] + table["sum"].sum())


def tabulated_map(volume, tmp):
    parcels = Parcellation(np.where(INSIDE, 1, 2).astype(np.int32), RAS, BOTH, "T1w")
    save_labels_volume(tmp / "dseg.nii.gz", parcels)
    return tabulated(volume, tmp / "dseg.nii.gz", BOTH, tmp)


def tabulated_dseg(volume, tmp):
    return tabulated(plain(tmp / "map.nii.gz", INSIDE.astype(float)), volume, LEFT, tmp)


def atlas_files(volume, tmp):
    save_dseg_table(tmp / "names.tsv", LEFT)
    atlas = chosen_atlas([volume], tmp / "names.tsv", TEMPLATE_SPACE, "A")
    assert atlas is not None
    assert atlas.voxels is not None
    return overlap(atlas.voxels.labels == 1, atlas.voxels.affine)


def atlas_words(volume, tmp):
    save_dseg_table(tmp / "names.tsv", LEFT)
    atlas = named_atlas([str(volume)], tmp / "names.tsv", TEMPLATE_SPACE, "A")
    assert isinstance(atlas, Atlas)
    assert atlas.voxels is not None
    return overlap(atlas.voxels.labels == 1, atlas.voxels.affine)


def prepared_case(tmp, volume=None, **content):
    """Lay a prepared volume into a derivatives' folder with its sidecar."""
    anat = tmp / "derivatives/sub-01/anat"
    name = f"sub-01_space-{TEMPLATE_SPACE}_desc-prepared_T1w"
    if volume is None:
        anat.mkdir(parents=True, exist_ok=True)
        path = plain(anat / f"{name}.nii.gz", 1.0 + INSIDE, space=TEMPLATE_SPACE)
    else:
        path = put(volume, anat, name)
    known = {
        "SourcePath": "scan.nii.gz",
        "NativeShape": list(SHAPE),
        "NativeAffine": RAS.tolist(),
        "NativeFromTemplate": np.eye(4).tolist(),
        "Quality": {"native_from_template_determinant": 1.0},
    }
    write_json(sidecar_of(path), {**known, **content, "Digest": digest_file(path)})
    return Case("sub-01", "sub-01", path)


def brain(volume, tmp):
    found = load_brain(prepared_case(tmp, volume), 10.0)
    return overlap(found.volume[0].numpy() > 0.5, found.affine)


def guarded(volume, tmp):
    """A copy is known by its voxels, in whatever order they are stored."""
    plain(tmp / "same.nii.gz", INSIDE.astype(float))
    return float(fingerprint(volume) == fingerprint(tmp / "same.nii.gz"))


def simulated_from(volume, tmp):
    case = prepared_case(tmp, volume)
    made = EvaluationSet.of(tmp / "set", lesion_set.EvaluationSetConfig())

    def work():
        lesion_set._simulate_case(case, made)

    subject, _ = seen(lesion_set, "_write_healthy", work)
    return overlap(subject.mask, subject.scan.affine)


def sliced(volume, tmp):
    case = prepared_case(tmp, volume)
    config = SliceConfig()
    source = SliceSource.load(case, PictureSize.of([case], config), config)
    return overlap(source.prepared.data > 0.5, source.prepared.affine)


def native_slices(volume, tmp):
    case = prepared_case(tmp, plain(tmp / "brain.nii.gz", NEARLY_ALL))
    scan = put(volume, tmp, "scan")
    affine = np.eye(4).tolist()
    content = {"SourcePath": str(scan.resolve()), "NativeShape": SHAPE}
    content |= {"NativeAffine": RAS.tolist(), "NativeFromTemplate": affine}
    sidecar_of(case.scan).write_text(json.dumps(content))
    config = SliceConfig(source="native")
    size = PictureSize.of([case], config)
    source = SliceSource.load(case, size, config, native=native_scan(case))
    return overlap(source.scan.data > 0.5, source.scan.affine)


def lesion_of_slices(volume, tmp):
    case = prepared_case(tmp, plain(tmp / "brain.nii.gz", NEARLY_ALL))
    put(volume, tmp / "masks", f"sub-01_space-{TEMPLATE_SPACE}_label-lesion_mask")
    mask = lesion_file_of(tmp / "masks", case, "slice")
    config = SliceConfig(lesion_masks=tmp / "masks", positions="lesion")
    source = SliceSource.load(case, PictureSize.of([case], config), config, lesion=mask)
    assert source.lesion is not None
    return overlap(source.lesion.data > 0.5, source.lesion.affine)


def atlas_of(volume, tmp):
    case = prepared_case(tmp, volume)

    def work():
        atlas_stage._atlas_case(case, tmp / "derivatives", AtlasRequest(), frozenset())

    scan, *_ = seen(places, "register_subject", work)
    return overlap(scan.data > 0.5, scan.affine)


def relevance(volume, tmp):
    case = prepared_case(tmp)
    path = relevance_path(case, tmp / "derivatives", "lrp")
    volume.replace(path)
    write_json(sidecar_of(path), {"Digest": digest_file(path)})
    scan = read_relevance(case, tmp / "derivatives", "lrp")
    return overlap(scan.data > 0.5, scan.affine)


def of_prepared(volume, path, case):
    volume.replace(path)
    known = {"PreparedSHA256": digest_file(case.scan), "Digest": digest_file(path), "Key": ""}
    write_json(sidecar_of(path), known)


def own_regions(volume, tmp):
    case = prepared_case(tmp)
    of_prepared(volume, aligned_atlas_path(case, tmp / "derivatives", "A"), case)
    save_dseg_table(tmp / "derivatives/atlas-A_dseg.tsv", LEFT)
    parcels = own_atlas(case, tmp / "derivatives", "A")
    assert parcels is not None
    return overlap(parcels.labels == 1, parcels.affine)


def own_deformation(volume, tmp):
    case = prepared_case(tmp)
    of_prepared(volume, deformation_path(case, tmp / "derivatives"), case)
    found = read_own_deformation(case, tmp / "derivatives")
    assert found is not None
    assert not found.shift_mm[..., :2].any()
    return overlap(found.shift_mm[..., 2] > 0.5, found.affine)


def kept_scan(volume, tmp):
    case = prepared_case(tmp, SourcePath=str(volume))
    image = DataFile(tmp / "inflated.surf.gii", "L")
    made = ExportMaterial(
        case,
        tmp,
        "lrp",
        load_scan(case.scan),
        NativeSpace.of(case, "export"),
        relevance_palette(np.ones(2)),
        SharedAtlas((), (image, image)),
        ExportConfig(),
    )
    file = _keep_scan(made)
    assert file is not None
    kept = Nifti1Image.from_filename(file.path)
    assert kept.affine is not None
    return overlap(np.asarray(kept.dataobj) > 0.5, kept.affine)


def surfaces_world(volume, tmp):
    """Surfaces over a volume are where nibabel's own formulas put them."""
    put(volume, tmp / "fs/mri", "orig")
    subject = FreeSurferSubject(tmp / "fs", load_geometry)
    *_, scanner = seen(freesurfer_subject, "load_freesurfer_surface", lambda: subject.meshes)
    image = MGHImage.from_filename(volume)
    surface = scanner @ image.header.get_vox2ras_tkr()
    return overlap(image.get_fdata() > 0.5, surface)


def segmented(cortex, tmp):
    """Look every point up in a subject's own segmentation, whose block is the left thalamus."""
    atlas = hcpmmp_atlas()
    case = prepared_case(tmp)
    native = NativeSpace.of(case, "atlas")
    places = SubjectPlaces(case, tmp, native, None, cortex)
    with patch.dict(FREESURFER_STRUCTURES, {1: "thalamus_left"}):
        labels = places._structures(POINTS, atlas).reshape(SHAPE)
    index = {region.name: region.index for region in atlas.regions}
    return overlap(labels == index["thalamus_left"])


def freesurfer_segmentation(volume, tmp):
    put(volume, tmp / "fs/mri", "aseg")
    return segmented(FreeSurferSubject(tmp / "fs", load_geometry), tmp)


def hcp_segmentation(volume, tmp):
    put(volume, tmp / "1/T1w", "wmparc")
    return segmented(HcpSubject((tmp / "1/T1w/fsaverage_LR32k/x.surf.gii",)), tmp)


def lesion(volume, tmp, name):
    case = prepared_case(tmp)
    put(volume, tmp / "masks", name)
    native = NativeSpace.of(case, "atlas")
    found = find_lesion(case, tmp / "derivatives", native, MaskSource(tmp / "masks"))
    assert found is not None
    return overlap(found.scan.data > 0.5, found.scan.affine)


def native_lesion(volume, tmp):
    return lesion(volume, tmp, "sub-01_label-lesion_mask")


def template_lesion(volume, tmp):
    return lesion(volume, tmp, f"sub-01_space-{TEMPLATE_SPACE}_label-lesion_mask")


def library(volume, tmp):
    """A shape has no place; its edges and its volume are the world's."""
    put(volume, tmp / "masks", "one")
    masks = LesionMaskLibrary(tmp / "masks")
    shape = masks.load(masks.names[0])
    edges = 2 * shape.half_width_mm - np.array(shape.spacing_mm)
    right = np.allclose(edges, (40, 50, 60)) and np.isclose(shape.volume_mm3, 120_000)
    return float(right)


def manifest(tmp, brain_, path):
    row = {
        "case": brain_.case.name,
        "source_sha256": digest_file(brain_.case.scan),
        "file": path.name,
        "sha256": digest_file(path),
    }
    pd.DataFrame([row]).to_csv(tmp / "set/manifest.tsv", sep="\t", index=False)


def simulated(tmp, volume=None, **content):
    """Write a set of one volume."""
    brain_ = load_brain(prepared_case(tmp), 10.0)
    path = tmp / "set/sub-01_desc-lesion01_T1w.nii.gz"
    path.parent.mkdir(exist_ok=True)
    if volume is None:
        plain(path, 1.0 + INSIDE)
    else:
        volume.replace(path)
    quality = {"native_from_template_determinant": 1.0}
    write_json(
        sidecar_of(path),
        {"Role": "lesion", "Quality": quality, **content, "Digest": digest_file(path)},
    )
    manifest(tmp, brain_, path)
    return brain_


def simulated_volume(volume, tmp):
    brain_ = simulated(tmp, volume)

    def work():
        pairs_of_set(tmp / "set", brain_, 10.0)

    _, found = seen(simulated_set, "split_brain", work)
    return overlap(found[0].numpy() > 0.5)


def simulated_mask(volume, tmp):
    mask = tmp / "set/sub-01_desc-lesion01_mask.nii.gz"
    mask.parent.mkdir(exist_ok=True)
    volume.replace(mask)
    brain_ = simulated(tmp, MaskDigest=digest_file(mask))
    (truth,) = truths_of_set(tmp / "set", brain_)  # either side's, seen from the left
    half = np.zeros(SHAPE, dtype=bool)
    half[: truth.shape[0]] = truth.numpy()
    return overlap(half)


@dataclass(frozen=True)
class Entry:
    """One way in.

    Parameters
    ----------
    read : callable
        A file and an empty folder in, the overlap of what was read with what was planted out.
    names : str
        "any" where a file may be called as it likes; else what it has to end in.
    guess : bool
        Whether a volume is taken whose header leaves the side open: with a note, a scan alone.
    vectors : bool
        Whether it reads a field of vectors.
    """

    read: Callable[[Path, Path], float]
    names: str = "any"
    guess: bool = False
    vectors: bool = False


ENTRIES = {
    "scan in BIDS": Entry(bids_scan, ".nii.gz", guess=True),
    "scan of derivatives": Entry(derivative_scan, ".nii.gz", guess=True),
    "mask of derivatives": Entry(derivative_mask, ".nii.gz"),
    "scan of an HCP tree": Entry(hcp_scan, ".nii.gz"),
    "mask of an HCP tree": Entry(hcp_mask, ".nii.gz"),
    "listed scan": Entry(listed_scan, guess=True),
    "listed mask": Entry(listed_mask),
    "tabulated map": Entry(tabulated_map),
    "label volume of maps": Entry(tabulated_dseg),
    "atlas by files": Entry(atlas_files, ".nii.gz"),
    "atlas by words": Entry(atlas_words, ".nii.gz"),
    "prepared, as a brain": Entry(brain, ".nii.gz"),
    "prepared, as a fingerprint": Entry(guarded, ".nii.gz"),
    "prepared, for lesions": Entry(simulated_from, ".nii.gz"),
    "prepared, for slices": Entry(sliced, ".nii.gz"),
    "scan to be sliced": Entry(native_slices, guess=True),
    "lesion mask of slices": Entry(lesion_of_slices, ".nii.gz"),
    "prepared, for its regions": Entry(atlas_of, ".nii.gz"),
    "relevance": Entry(relevance, ".nii.gz"),
    "a subject's regions": Entry(own_regions, ".nii.gz"),
    "a subject's deformation": Entry(own_deformation, ".nii.gz", vectors=True),
    "scan to be exported": Entry(kept_scan, guess=True),
    "surfaces' reference": Entry(surfaces_world, ".mgz"),
    "FreeSurfer's segmentation": Entry(freesurfer_segmentation, ".mgz"),
    "the HCP's segmentation": Entry(hcp_segmentation, ".nii.gz"),
    "lesion mask of the scan": Entry(native_lesion, ".nii.gz"),
    "lesion mask of the template": Entry(template_lesion, ".nii.gz"),
    "mask in a library": Entry(library, ".nii.gz"),
    "simulated volume": Entry(simulated_volume, ".nii.gz"),
    "mask of a simulated volume": Entry(simulated_mask, ".nii.gz"),
}

SCANS = ("scan in BIDS", "scan of derivatives", "scan of an HCP tree", "listed scan")
SOURCE = (*SCANS, "mask of derivatives", "mask of an HCP tree", "listed mask")
BRAINS = ("prepared, as a brain", "prepared, as a fingerprint")
EXPLAINED = ("prepared, as a brain", "mask in a library")
RELEVANCE = ("relevance", "a subject's regions")
CONFIGURED = (*BRAINS, "mask in a library")

# ---------------------------------------------------------------- the options and keys by which


TAKES_VOLUMES = {
    ("prepare", "source"): SOURCE,
    ("train", "config"): CONFIGURED,
    ("train", "overrides"): CONFIGURED,
    ("evaluate", "run"): CONFIGURED,
    ("evaluate", "prepared"): BRAINS,
    ("evaluate", "simulated"): ("simulated volume", "mask of a simulated volume"),
    ("explain", "run"): ("mask in a library",),
    ("explain", "derivatives"): EXPLAINED,
    ("relate", "run"): ("mask in a library",),
    ("relate", "derivatives"): EXPLAINED,
    ("atlas", "derivatives"): ("prepared, for its regions", "a subject's deformation"),
    ("atlas", "surfaces"): (
        "surfaces' reference",
        "FreeSurfer's segmentation",
        "the HCP's segmentation",
    ),
    ("atlas", "atlas"): ("atlas by files",),
    ("atlas", "lesion_masks"): ("lesion mask of the scan", "lesion mask of the template"),
    ("atlas", "anomaly_run"): ("prepared, as a brain",),
    ("parcellate", "derivatives"): RELEVANCE,
    ("parcellate", "atlas"): ("atlas by words",),
    ("tabulate", "maps"): ("tabulated map",),
    ("tabulate", "dseg"): ("label volume of maps",),
    ("tabulate", "atlas"): ("atlas by files",),
    ("export", "derivatives"): (
        *RELEVANCE,
        "a subject's deformation",
        "scan to be exported",
    ),
    ("slice", "prepared"): (
        "prepared, for slices",
        "prepared, as a fingerprint",
        "scan to be sliced",
    ),
    ("slice", "lesion_masks"): ("lesion mask of slices", "lesion mask of the scan"),
    ("simulate lesions", "prepared"): ("prepared, for lesions",),
    ("simulate lesions", "config"): ("mask in a library",),
    ("simulate lesions", "overrides"): ("mask in a library",),
}
"""Options that lead to volumes, with the entries that these come in by."""

_WRITTEN = "is written"
_TABLE = "a table, or a list of names"
_WORD = "a word"
TAKES_NONE = {
    ("demo", "out"): _WRITTEN,
    ("prepare", "out"): _WRITTEN,
    ("prepare", "bids_filter_file"): "JSON",
    ("train", "out"): _WRITTEN,
    ("compare", "runs"): "evaluations: JSON and tables",
    ("compare", "out"): _WRITTEN,
    ("tabulate", "out"): _WRITTEN,
    ("tabulate", "dseg_table"): _TABLE,
    ("rank", "derivatives"): "region tables; the group's scene is made from them",
    ("rank", "families"): _TABLE,
    ("asymmetry", "derivatives"): "tables of pairs",
    ("asymmetry", "reference"): _TABLE,
    ("asymmetry", "participants"): _TABLE,
    ("asymmetry", "families"): _TABLE,
    ("slice", "out"): _WRITTEN,
    ("slice", "splits"): "JSON",
    ("evaluate", "images"): "2D images",
    ("slice", "participants"): _TABLE,
    ("simulate cohort", "out"): _WRITTEN,
    ("simulate cohort", "family_table"): _WRITTEN,
    ("simulate lesions", "out"): _WRITTEN,
    ("batch write", "arguments"): "another verb's own, checked when that runs",
    ("batch write", "out"): _WRITTEN,
}
WORDS = {
    "label_column", "asymmetry_shape", "export",
    "annotation", "atlas_name", "atlas_space", "desc", "pair", "participant_label", "part",
    "plane", "reference_group", "region", "session_id", "space", "stage", "time", "partition",
    "account", "setup",
}  # fmt: skip
"""Parameters that are a word wherever they occur."""
TAKES_NONE |= {(verb, "atlas_table"): _TABLE for verb in ("atlas", "parcellate", "tabulate")}
TAKES_NONE |= {("rank", "atlas"): _WORD, ("simulate cohort", "families"): _WORD}

KEYS = {
    ("DataConfig", "prepared"): BRAINS,
    ("DataConfig", "participants"): (),
    ("SplitConfig", "families"): (),
    ("ImagesConfig", "images"): (),
    ("ImagesConfig", "folder"): (),
    ("ImagesConfig", "crop"): (),
    ("EvaluationConfig", "region"): (),
    ("SlicePairsConfig", "slices"): (),
    ("TransferConfig", "weights"): (),
    ("RunConfig", "lesion_masks"): ("mask in a library",),
    ("EvaluationSetConfig", "lesion_masks"): ("mask in a library",),
    ("SourceConfig", "filter_file"): (),
    ("SliceConfig", "participants"): (),
    ("SliceConfig", "lesion_masks"): ("lesion mask of slices", "lesion mask of the scan"),
    ("AsymmetryConfig", "reference"): (),
    ("AsymmetryConfig", "participants"): (),
    ("AsymmetryConfig", "families"): (),
}
"""Keys of configurations that hold paths, with the entries of the volumes that lie there."""


def parameters():
    """Give verb, name and type of every parameter of the command line."""
    waiting = [("", typer.main.get_command(app))]
    while waiting:
        verb, command = waiting.pop()
        for name, one in getattr(command, "commands", {}).items():
            waiting.append((f"{verb} {name}".strip(), one))
        hints = typing.get_type_hints(command.callback) if command.callback else {}
        for name in (one.name for one in command.params):
            yield verb, name, hints.get(name)


def holds(hint, kind):
    parts = typing.get_args(hint)
    if typing.get_origin(hint) is typing.Literal:
        return False
    return hint is kind or any(holds(part, kind) for part in parts)


def test_every_option_that_may_take_a_volume_is_in_one_of_the_tables():
    assert not TAKES_VOLUMES.keys() & TAKES_NONE.keys()
    found = {
        (verb, name)
        for verb, name, hint in parameters()
        if holds(hint, Path) or (holds(hint, str) and name not in WORDS)
    }
    # One by which a volume comes in needs an entry above: the tests below then run for it.
    assert found == {*TAKES_VOLUMES, *TAKES_NONE}


def test_every_key_that_holds_a_path_is_in_the_table():
    for module in pkgutil.walk_packages(
        importlib.import_module("hemitwin.pipeline").__path__, "hemitwin.pipeline."
    ):
        importlib.import_module(module.name)
    waiting, found = [BaseModel], set()
    while waiting:
        model = waiting.pop()
        waiting += model.__subclasses__()
        if model.__module__.startswith("hemitwin."):
            fields = model.__annotations__
            hints = {name: model.model_fields[name].annotation for name in fields}
            found |= {(model.__name__, name) for name, one in hints.items() if holds(one, Path)}
    assert found == set(KEYS)


def test_every_entry_belongs_to_an_option():
    used = {name for names in (*TAKES_VOLUMES.values(), *KEYS.values()) for name in names}
    assert used == set(ENTRIES)


# ---------------------------------------------------------------- the rule, for every entry


NIFTI = [name for name, entry in ENTRIES.items() if entry.names != ".mgz"]
ANY_NAME = [name for name, entry in ENTRIES.items() if entry.names == "any"]


@pytest.fixture(params=ENTRIES)
def entry(request):
    return ENTRIES[request.param]


@pytest.fixture
def folders(tmp_path):
    """Give an empty folder each time."""
    count = iter(range(10_000))

    def make():
        folder = tmp_path / str(next(count))
        folder.mkdir()
        return folder

    return make


def stored(entry, folder, order=None, forms=None, suffix=None):
    """Write what is planted as an entry's file."""
    values, affine = in_order(INSIDE.astype(np.float32), np.eye(3) if order is None else order)
    values = field(values) if entry.vectors else values
    name = f"in{suffix or ('.nii.gz' if entry.names == 'any' else entry.names)}"
    return save(folder / name, values, affine, forms)


def refused(entry, path, folder, match):
    with pytest.raises((ValueError, CaseError), match=match) as error:
        entry.read(path, folder)
    assert "\n" not in str(error.value)


def test_every_axis_order_is_put_where_it_belongs(entry, folders):
    for order in AXIS_ORDERS:
        folder = folders()
        assert entry.read(stored(entry, folder, order), folder) == pytest.approx(1)


@pytest.mark.parametrize("entry", NIFTI, indirect=True)
def test_the_sform_decides_where_it_is_set_and_else_the_qform(entry, folders):
    flipped = np.diag([-1.0, 1, 1])
    for forms in (Forms(qform=False), Forms(sform=False), Forms(), Forms(shift_mm=25)):
        folder = folders()
        path = stored(entry, folder, flipped, forms)
        assert entry.read(path, folder) == pytest.approx(1), forms


@pytest.mark.parametrize("entry", NIFTI, indirect=True)
def test_forms_of_opposite_handedness_are_refused(entry, folders):
    folder = folders()
    path = stored(entry, folder, forms=Forms(mirrored=True))
    refused(entry, path, folder, "sform and qform must agree on which side is left")


def test_a_side_that_is_not_stated_is_noted_or_refused(entry, folders, caplog):
    folder = folders()
    path = stored(entry, folder, forms=Forms(sform=False, qform=False))
    if entry.names == ".mgz":
        content = bytearray(ImageOpener(str(path)).read())
        fields = MGHHeader._hdrdtype.fields
        assert fields is not None
        at = fields["goodRASFlag"][1]
        content[at : at + 2] = b"\0\0"
        with ImageOpener(str(path), "wb") as stream:
            stream.write(bytes(content))
    if entry.guess:
        entry.read(path, folder)
        assert "which side is left is a guess" in caplog.text
    else:
        refused(entry, path, folder, "which side is left is a guess.*; set its sform")


@pytest.mark.parametrize("entry", NIFTI, indirect=True)
@pytest.mark.parametrize("units", ["meter", "micron"])
def test_units_are_settled(entry, folders, units):
    folder = folders()
    path = stored(entry, folder, np.diag([-1.0, 1, 1]), Forms(units=units))
    assert entry.read(path, folder) == pytest.approx(1)


@pytest.mark.parametrize("lengths", [(1680, 1, 1), (1, 1, 1680), (1, 1680, 1)], ids=str)
def test_an_overlay_of_vertices_is_no_volume(entry, folders, lengths):
    values = INSIDE.astype(np.float32).reshape(lengths)
    values = field(values) if entry.vectors else values
    names = [".nii.gz", ".mgz"] if entry.names == "any" else [entry.names]
    for suffix in names:
        folder = folders()
        path = save(folder / f"in{suffix}", values, RAS)
        refused(entry, path, folder, "values in a row, as FreeSurfer saves an overlay")


def test_damage_and_other_numbers_are_refused_in_one_line(entry, folders):
    folder = folders()
    path = stored(entry, folder)
    path.write_bytes(path.read_bytes()[:-9])
    if entry.read is not surfaces_world:  # of which the header alone is read
        refused(entry, path, folder, "whole, readable|displacement field")
    if entry.names == ".mgz" or entry.vectors:
        return
    for values, why in (
        (INSIDE.astype(np.complex64), "real numbers"),
        (np.where(INSIDE, np.inf, 0).astype(np.float32), "finite|whole numbers"),
    ):
        folder = folders()
        nib.Nifti1Image(values, RAS).to_filename(folder / "in.nii.gz")
        refused(entry, folder / "in.nii.gz", folder, why)


@pytest.mark.parametrize("entry", ANY_NAME, indirect=True)
@pytest.mark.parametrize("kind", [nib.Nifti1Pair, nib.Nifti2Pair])
def test_either_file_of_a_pair_stands_for_both(entry, kind, folders):
    for suffix in (".img", ".img.gz"):
        for named in ("hdr", "img"):
            folder = folders()
            values, affine = in_order(INSIDE.astype(np.float32), np.diag([-1.0, 1, 1]))
            save(folder / f"in{suffix}", values, affine, kind=kind)
            path = folder / f"in{suffix.replace('img', named)}"
            assert entry.read(path, folder) == pytest.approx(1)


@pytest.mark.parametrize("entry", ANY_NAME, indirect=True)
@pytest.mark.parametrize("suffix", [".mgh", ".mgz", ".nii"])
def test_formats_that_state_the_side_are_taken(entry, suffix, folders):
    folder = folders()
    path = stored(entry, folder, np.diag([-1.0, 1, 1]), suffix=suffix)
    assert entry.read(path, folder) == pytest.approx(1)


ANALYZE = (nib.AnalyzeImage, nib.Spm99AnalyzeImage, nib.Spm2AnalyzeImage)


@pytest.mark.parametrize("entry", ANY_NAME, indirect=True)
@pytest.mark.parametrize("kind", ANALYZE, ids=lambda kind: kind.__name__)
def test_analyze_says_nothing_of_the_side_and_is_refused(entry, kind, folders):
    for named in ("hdr", "img"):
        folder = folders()
        kind(INSIDE.astype(np.float32), RAS).to_filename(folder / "in.img")
        path = folder / f"in.{named}"
        refused(entry, path, folder, "in Analyze format, .*; convert it to NIfTI")


OTHERS = {
    "in.head": ("AFNI", b"type = string-attribute"),
    "in.par": ("PARREC", b"# CLINICAL TRYOUT"),
    "in.mnc": ("Minc1", b"CDF\x01" + bytes(1200)),
    "in.gii": ("Gifti", b"<GIFTI/>"),
    "in.nii.gz": ("no format that is known", b"\x1f\x8b\x08\0\0\0\0\0\0\3" + b"\3\0" + bytes(8)),
    "in.dcm": ("no format that is known", bytes(128) + b"DICM"),
}


@pytest.mark.parametrize("entry", ANY_NAME, indirect=True)
@pytest.mark.parametrize("file", OTHERS)
def test_other_formats_are_refused_by_their_name(entry, file, folders):
    folder = folders()
    said, content = OTHERS[file]
    (folder / file).write_bytes(content)
    refused(entry, folder / file, folder, said)


UNSTATED = Forms(sform=False, qform=False)


def test_a_brain_mask_shares_the_guess_of_its_scan(tmp_path):
    scan = save(tmp_path / "scan.nii", 1.0 + INSIDE, RAS, UNSTATED)
    mask = save(tmp_path / "mask.nii", INSIDE, RAS, UNSTATED)
    case, taken = Case("sub-01", "sub-01", scan, mask=mask), load_scan(scan)
    np.testing.assert_array_equal(brain_of(case, taken), taken.data > 1)


def test_a_lesion_mask_shares_the_guess_of_its_scan_and_no_other_is_taken(tmp_path):
    guess = "header sets neither sform nor qform: which side is left is a guess"
    bare = save(tmp_path / "bare.nii.gz", INSIDE, RAS, UNSTATED)
    scan = load_scan(bare)
    case = prepared_case(tmp_path, HeaderNotes=[guess], NativeAffine=scan.affine.tolist())
    save_volume(case.scan, 1 + scan.data, scan.affine)
    native = NativeSpace.of(case, "atlas")
    put(bare, tmp_path / "masks", "sub-01_mask")
    found = find_lesion(case, tmp_path, native, MaskSource(tmp_path / "masks"))
    assert found is not None
    np.testing.assert_array_equal(found.scan.data, scan.data)
    plain(tmp_path / "masks/sub-01_mask.nii.gz", INSIDE)
    other = find_lesion(case, tmp_path, native, MaskSource(tmp_path / "masks"))
    assert other is not None
    with pytest.raises(ValueError, match="does not say which side is left"):
        assert other.scan
