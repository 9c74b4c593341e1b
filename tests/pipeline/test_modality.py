"""A modality other than T1w goes the whole way under names of its own."""

import shutil
from dataclasses import replace

import pytest
from pydantic import ValidationError

from hemitwin.atlases import TEMPLATE_SPACE
from hemitwin.pipeline.cohort.brains import find_prepared, load_brains
from hemitwin.pipeline.explanation.explain import explain
from hemitwin.pipeline.exports.export import export
from hemitwin.pipeline.regions.parcellate import parcellate
from hemitwin.pipeline.simulation.lesion_set import EvaluationSetConfig, simulate_lesions
from hemitwin.pipeline.stage.errors import UserError
from hemitwin.pipeline.training.config import RunConfig
from hemitwin.transforms import LesionConfig

pytestmark = pytest.mark.xdist_group("path")


@pytest.fixture(scope="module")
def t2w(prepared, tmp_path_factory):
    """Derivatives with one T2w volume, beside the T1w volume of the same subject."""
    folder = tmp_path_factory.mktemp("t2w")
    anat = folder / "sub-01" / "anat"
    anat.mkdir(parents=True)
    for path in (prepared.derivatives / "sub-01" / "anat").glob("*_desc-prepared_T1w.*"):
        shutil.copy(path, anat)
        shutil.copy(path, anat / path.name.replace("_T1w.", "_T2w."))
    return folder


@pytest.fixture(scope="module")
def run_t2w(run):
    data = run.config.data.model_copy(update={"modality": "T2w"})
    return replace(run, config=run.config.model_copy(update={"data": data}))


def test_a_config_finds_the_volumes_of_its_modality(t2w, prepared):
    data = prepared.config.data.model_copy(update={"prepared": t2w, "modality": "T2w"})
    (brain,) = load_brains(data)
    assert brain.case.scan.name.endswith("_T2w.nii.gz")
    with pytest.raises(UserError, match=r"must have a prepared FLAIR below .* --modality FLAIR"):
        find_prepared(t2w, modality="FLAIR")


@pytest.mark.slow
def test_maps_tables_and_exports_carry_the_modality(t2w, run_t2w, cache):
    (explained,) = explain(run_t2w, t2w).results
    assert explained.relevance.name == (
        f"sub-01_space-{TEMPLATE_SPACE}_desc-lrpT2w_relevance.nii.gz"
    )
    (table,) = parcellate(t2w, cache=cache, modality="T2w").results
    assert "_desc-lrpT2w_" in table.path.name
    with pytest.raises(UserError, match="must have a map desc-lrp_relevance"):
        parcellate(t2w, cache=cache)
    (exported,) = export(t2w, cache=cache, modality="T2w").results
    assert t2w / "sub-01/anat/sub-01_space-T2w_desc-lrpT2w_relevance.nii.gz" in exported.files
    assert exported.scene.name == "sub-01_desc-lrpT2w.scene"


def test_a_simulated_set_is_of_the_lesions_modality(t2w, tmp_path):
    lesions = LesionConfig(modality="T2w", volume_mm3=(10000.0, 20000.0))
    config = EvaluationSetConfig(lesions_per_subject=1, lesions=lesions)
    assert not simulate_lesions(t2w, tmp_path, config=config).failures
    assert len(list(tmp_path.glob("sub-01/anat/*_desc-lesion01_T2w.nii.gz"))) == 1


def test_lesions_of_another_modality_are_refused(prepared):
    content = prepared.config.model_dump()
    content["data"]["modality"] = "T2w"
    with pytest.raises(ValidationError, match=r"lesions\.modality must be data\.modality \(T2w\)"):
        RunConfig.model_validate(content)
