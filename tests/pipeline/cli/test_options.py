"""Every option of every verb reaches its stage, and a test shows what it changes there."""

import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import typer

from hemitwin.pipeline.cli.main import app, main

TESTS = Path(__file__).parents[2]

STAGES = {
    "demo": "cli.demo.run_demo",
    "prepare": "preparation.prepare.prepare",
    "train": "training.train.train",
    "evaluate": "evaluation.evaluate.evaluate",
    "compare": "evaluation.compare.compare",
    "explain": "explanation.explain.explain",
    "atlas": "regions.atlas.build_atlases",
    "parcellate": "regions.parcellate.parcellate",
    "tabulate": "regions.tabulate.tabulate",
    "relate": "explanation.relate.relate",
    "rank": "group.rank.rank",
    "asymmetry": "group.asymmetry.asymmetry",
    "export": "exports.export.export",
    "slice": "slices.slices.slice_dataset",
    "simulate cohort": "simulation.families.write_families_cohort",
    "simulate lesions": "simulation.lesion_set.simulate_lesions",
    "batch write": "batches.batch.write_batch",
}
"""What each verb calls with all that was asked for."""

OTHERS = (
    "hemitwin.atlases.load_atlas",
    "hemitwin.pipeline.explanation.embedding_maps.explain_embedding_of",
    "hemitwin.pipeline.explanation.explain.explain_two",
    "hemitwin.pipeline.explanation.relate.relate_two",
)
"""What is called in place of, or before, a stage."""

PLAIN = {
    "demo": "out",
    "prepare": "bids out participant",
    "train": "config.yaml --out run",
    "evaluate": "run",
    "compare": "one two",
    "explain": "run derivatives",
    "atlas": "derivatives",
    "parcellate": "derivatives",
    "tabulate": "map.nii.gz --out table.tsv",
    "relate": "run derivatives",
    "rank": "derivatives",
    "asymmetry": "derivatives",
    "export": "derivatives",
    "slice": "derivatives out",
    "simulate cohort": "out",
    "simulate lesions": "derivatives out",
    "batch write": "prepare bids out participant --out job.sbatch",
    "doctor": "",
}
"""How each verb is called without an option that it can do without."""

PROCESSES = (
    "pipeline/simulation/test_lesion_set"
    "::test_again_makes_the_same_bytes_and_touches_nothing_that_is_done"
)
"""All verbs share out their cases by one function."""

PICTURES = "pipeline/slices/test_pictures"

FILES = "--atlas a.nii.gz --atlas-space MNI152NLin6Asym"


@dataclass(frozen=True)
class Option:
    """One option: a value for it, the test that shows its effect, and what must stand beside."""

    value: str
    shown: str
    beside: str = ""


def _atlas(verb):
    tests = "atlases/formats/test_atlas_files"
    files = f"{tests}::test_an_atlas_of_another_source_labels_the_template"
    table = f"{tests}::test_a_volume_keeps_its_table_and_its_voxels"
    space = f"{tests}::test_a_volume_of_the_connectomes_space_is_moved_to_the_template"
    return {
        f"{verb} --atlas": Option("a.nii.gz", files),
        f"{verb} --atlas-table": Option("a.tsv", table, FILES),
        f"{verb} --atlas-space": Option("MNI152NLin6Asym", space, "--atlas a.nii.gz"),
        f"{verb} --atlas-name": Option("Mine", files, FILES),
    }


def _maps(verb):
    shown = "pipeline/test_modality::test_maps_tables_and_exports_carry_the_modality"
    return {
        f"{verb} --desc": Option("lrplesion", shown),
        f"{verb} --modality": Option("T2w", shown),
        f"{verb} --participant-label": Option(
            "01", "pipeline/test_path::test_a_map_without_its_audit_is_refused"
        ),
    }


OPTIONS = {
    "hemitwin --version": Option("", "pipeline/cli/test_main::test_the_version_is_the_packages"),
    "hemitwin --verbose": Option(
        "", "pipeline/test_damage::test_what_nobody_expected_is_one_line"
    ),
    "demo --seed": Option(
        "3", "pipeline/simulation/test_families::test_the_demos_people_stay_who_they_were"
    ),
    "prepare --participant-label": Option(
        "01",
        "pipeline/test_bad_input::test_labels_with_and_without_prefix_are_taken_one_after_the_other",
    ),
    "prepare --session-id": Option(
        "1",
        "pipeline/preparation/test_sources::test_a_raw_dataset_gives_the_image_type_and_the_sessions_asked_for",
    ),
    "prepare --bids-filter-file": Option(
        "filter.json", "pipeline/preparation/test_sources::test_a_filter_file_chooses_by_entities"
    ),
    "prepare --input-type": Option(
        "list", "pipeline/batches/test_batch::test_subjects_are_found_as_the_stage_finds_them"
    ),
    "prepare --modality": Option(
        "T2w",
        "pipeline/preparation/test_sources::test_a_raw_dataset_gives_the_image_type_and_the_sessions_asked_for",
    ),
    "prepare --space": Option(
        "ACPC",
        "pipeline/preparation/test_sources::test_an_hcp_tree_gives_acpc_scans_under_bids_names",
    ),
    "prepare --alignment": Option(
        "acpc",
        "pipeline/preparation/test_sources::test_what_removes_asymmetry_is_refused_for_hemispheres_alone",
    ),
    "prepare --pairing": Option(
        "brains",
        "pipeline/preparation/test_alignment::"
        "test_normalised_hcp_input_is_refused_for_hemispheres_and_taken_for_brains",
    ),
    "prepare --nprocs": Option("2", PROCESSES),
    "prepare --resolution-mm": Option(
        "4", "pipeline/test_path::test_prepared_volumes_share_one_even_grid"
    ),
    "train --out": Option("elsewhere", "pipeline/test_path::test_the_run_folder_is_complete"),
    "train --set": Option(
        "seed=7", "pipeline/training/test_config::test_set_overrides_the_file_and_is_read_as_yaml"
    ),
    "evaluate --images": Option(
        "new",
        "pipeline/evaluation/images/test_image_evaluation"
        "::test_unseen_images_are_classified_without_the_training_images",
    ),
    "evaluate --prepared": Option(
        "moved", "pipeline/test_path::test_a_missing_test_subject_is_no_smaller_test"
    ),
    "evaluate --simulated": Option(
        "set",
        "pipeline/simulation/test_lesion_set::test_a_run_is_scored_on_the_set_shams_and_controls_as_normal",
    ),
    "compare --out": Option(
        "elsewhere",
        "pipeline/evaluation/test_compare::test_a_better_run_is_found_better_and_everything_is_written",
    ),
    "compare --simulated": Option(
        "", "pipeline/evaluation/test_compare::test_what_cannot_be_compared_is_refused_by_name"
    ),
    "compare --draws": Option(
        "100", "pipeline/evaluation/test_compare::test_figures_are_those_of_the_evaluation"
    ),
    "explain --participant-label": Option(
        "01", "pipeline/test_path::test_a_map_that_is_done_is_not_computed_again"
    ),
    "explain --pair": Option(
        "01 02",
        "pipeline/training/sources/test_whole_brains::test_two_brains_are_explained_each_on_its_own_volume",
    ),
    "explain --target": Option(
        "distance", "pipeline/explanation/test_explain::test_every_score_of_a_decoder_is_explained"
    ),
    "explain --method": Option(
        "occlusion", "pipeline/explanation/test_explain::test_other_methods_book_what_they_leave"
    ),
    "explain --components": Option(
        "0",
        "pipeline/explanation/test_explain::test_directions_of_the_embedding_are_volumes_of_one_file",
    ),
    "explain --lesion-seed": Option(
        "0", "pipeline/test_path::test_an_injected_lesion_is_written_beside_its_map"
    ),
    "explain --check": Option(
        "", "pipeline/explanation/test_explain::test_checks_are_written_with_the_map"
    ),
    "explain --open-ledger": Option(
        "",
        "pipeline/explanation/test_explain::test_an_open_ledger_is_written_only_when_asked_for_by_name",
    ),
    "atlas --participant-label": Option(
        "01", "pipeline/regions/test_atlas::test_the_verb_prints_the_figures"
    ),
    "atlas --surfaces": Option(
        "fs",
        "pipeline/regions/test_own_cortex::test_the_surfaces_come_back_from_freesurfers_folder",
    ),
    "atlas --annotation": Option(
        "aparc",
        "pipeline/regions/test_own_cortex::test_areas_of_another_annotation_become_an_atlas",
    ),
    **_atlas("atlas"),
    "atlas --lesion-masks": Option(
        "masks", "pipeline/regions/test_atlas::test_a_lesion_mask_is_read_and_named"
    ),
    "atlas --anomaly-run": Option(
        "run",
        "pipeline/regions/test_hidden_lesions::test_the_region_about_the_peak_is_masked_on_its_side",
    ),
    "atlas --modality": Option(
        "T2w",
        "pipeline/test_modality::test_a_config_finds_the_volumes_of_its_modality",
    ),
    "atlas --nprocs": Option("2", PROCESSES),
    **_maps("parcellate"),
    **_atlas("parcellate"),
    "tabulate --out": Option(
        "b.tsv", "pipeline/regions/test_tabulate::test_the_written_table_is_the_one_returned"
    ),
    "tabulate --space": Option(
        "MNI152NLin6Asym",
        "pipeline/regions/test_tabulate::test_another_space_is_moved_before_it_is_looked_up",
    ),
    "tabulate --dseg": Option(
        "d.nii.gz",
        "pipeline/regions/test_tabulate::test_a_label_volume_of_the_maps_own_space_needs_no_template",
    ),
    "tabulate --dseg-table": Option(
        "d.tsv",
        "pipeline/regions/test_tabulate_input::test_the_table_of_all_resolutions_names_a_label_volume",
        "--dseg d.nii.gz",
    ),
    **_atlas("tabulate"),
    "relate --participant-label": Option(
        "01",
        "pipeline/explanation/test_relate::test_the_matrix_sums_to_the_similarity_of_the_halves",
    ),
    "relate --pair": Option(
        "01 02", "pipeline/explanation/test_relate::test_two_brains_have_all_regions_on_both_sides"
    ),
    "relate --directions": Option(
        "3", "pipeline/explanation/test_relate::test_few_directions_state_what_they_neglect"
    ),
    **_maps("rank"),
    "rank --part": Option(
        "signed", "pipeline/group/test_rank::test_shares_are_of_all_relevance_and_all_volume"
    ),
    "rank --families": Option(
        "kin.csv", "pipeline/group/test_rank::test_files_hold_the_same_numbers"
    ),
    "rank --draws": Option(
        "100",
        "pipeline/group/test_rank::test_planted_regions_come_first_and_matched_volumes_say_so",
    ),
    "rank --seed": Option(
        "1", "pipeline/statistics/test_spatial_nulls::test_the_same_seed_gives_the_same_surrogates"
    ),
    "rank --null-draws": Option(
        "0", "pipeline/group/test_rank::test_without_surrogates_there_is_no_spatial_p"
    ),
    "rank --atlas": Option(
        "Mine",
        "pipeline/group/test_rank::test_another_atlas_is_ranked_without_what_only_the_areas_know",
    ),
    "rank --render": Option(
        "", "pipeline/group/test_rank::test_the_command_draws_the_scene_when_asked"
    ),
    **_maps("asymmetry"),
    "asymmetry --reference": Option(
        "r.tsv", "pipeline/group/test_asymmetry::test_a_named_reference_is_held_against_the_others"
    ),
    "asymmetry --reference-group": Option(
        "group=a",
        "pipeline/group/test_asymmetry::test_a_named_reference_is_held_against_the_others",
    ),
    "asymmetry --participants": Option(
        "p.tsv", "pipeline/group/test_asymmetry::test_z_of_a_subject_is_that_of_all_others"
    ),
    "asymmetry --families": Option(
        "kin.csv",
        "pipeline/group/test_asymmetry::test_relatives_are_not_in_the_reference_and_no_file_names_them",
    ),
    "asymmetry --draws": Option(
        "100", "pipeline/statistics/test_regression::test_copies_of_a_person_are_one_family"
    ),
    "asymmetry --seed": Option(
        "1", "pipeline/statistics/test_regression::test_copies_of_a_person_are_one_family"
    ),
    **_maps("export"),
    "export --mapping": Option(
        "ribbon", "pipeline/exports/test_export_options::test_the_verb_takes_mapping_and_width"
    ),
    "export --smooth-mm": Option(
        "4", "pipeline/exports/test_export_options::test_the_verb_takes_mapping_and_width"
    ),
    "export --render": Option(
        "", "pipeline/exports/test_render::test_left_really_is_left_without_workbench"
    ),
    "slice --plane": Option(
        "sagittal", "pipeline/slices/test_slices::test_every_row_is_a_picture_in_its_folds_folder"
    ),
    "slice --part": Option(
        "hemisphere", "pipeline/slices/test_slices::test_halves_lie_on_each_other"
    ),
    "slice --modality": Option(
        "T2w",
        "pipeline/test_modality::test_a_config_finds_the_volumes_of_its_modality",
    ),
    "slice --step-mm": Option("40", "pipeline/slices/test_slices::test_halves_lie_on_each_other"),
    "slice --splits": Option(
        "s.json",
        "pipeline/slices/test_slices::test_a_runs_split_is_taken_over_and_must_know_every_subject",
    ),
    "slice --participants": Option(
        "p.tsv",
        "pipeline/slices/test_slices::test_relatives_share_a_fold_and_are_named_in_a_private_file_only",
    ),
    "slice --participant-label": Option(
        "01", "pipeline/cli/test_typed_words::test_what_is_run_again_is_what_failed"
    ),
    "slice --seed": Option(
        "1",
        "pipeline/cohort/test_split::test_the_seed_decides_the_split_and_the_hash_tells_splits_apart",
    ),
    "slice --source": Option(
        "native",
        f"{PICTURES}::test_a_native_scan_shows_the_same_places_as_its_prepared_volume",
    ),
    "slice --positions": Option(
        "central",
        f"{PICTURES}::test_central_positions_are_those_of_the_middle",
    ),
    "slice --central-share": Option(
        "0.9",
        f"{PICTURES}::test_central_positions_are_those_of_the_middle",
    ),
    "slice --least-area-mm2": Option(
        "99",
        f"{PICTURES}::test_positions_by_area_have_as_much_brain_as_is_asked",
    ),
    "slice --spacing-mm": Option(
        "3",
        f"{PICTURES}::test_all_pictures_have_the_size_that_the_folder_says",
    ),
    "slice --pixels": Option(
        "64",
        f"{PICTURES}::test_all_pictures_have_the_size_that_the_folder_says",
    ),
    "slice --window": Option(
        "1 99",
        f"{PICTURES}::test_percentiles_decide_the_window",
    ),
    "slice --bits": Option(
        "16",
        f"{PICTURES}::test_the_window_uses_every_grey_and_0_is_outside_alone",
    ),
    "slice --asymmetry-mm2": Option(
        "7",
        f"{PICTURES}::test_a_drawn_shape_is_in_one_half_and_is_its_mask",
    ),
    "slice --asymmetry-shape": Option(
        "textured",
        f"{PICTURES}::test_whole_slices_with_a_shape_are_the_halves_together",
    ),
    "slice --asymmetry-grey": Option(
        "100 110",
        f"{PICTURES}::test_a_drawn_shape_is_in_one_half_and_is_its_mask",
    ),
    "slice --asymmetry-contrast": Option(
        "0.1 0.2",
        f"{PICTURES}::test_whole_slices_with_a_shape_are_the_halves_together",
    ),
    "slice --lesion-masks": Option(
        "masks",
        f"{PICTURES}::test_with_masks_every_slice_says_what_it_shows",
    ),
    "slice --label-column": Option(
        "group",
        f"{PICTURES}::test_labels_come_from_a_column",
        "--participants p.tsv",
    ),
    "slice --export": Option(
        "symbrain",
        "pipeline/slices/test_exports"
        "::test_symbrains_columns_are_an_image_and_a_line_along_its_midline",
    ),
    "slice --nprocs": Option("2", f"{PICTURES}::test_several_processes_write_the_same_bytes"),
    "simulate cohort --families": Option(
        "mz=1",
        "pipeline/simulation/test_families::test_the_command_says_where_the_private_table_lies",
    ),
    "simulate cohort --region": Option(
        "V1", "pipeline/simulation/test_families::test_cortex_stands_for_every_area"
    ),
    "simulate cohort --heritability": Option(
        "0.1",
        "pipeline/simulation/test_families::test_the_truth_names_every_region_and_the_deformation_is_bounded",
    ),
    "simulate cohort --sites": Option(
        "2", "pipeline/simulation/test_families::test_what_may_be_shared_names_no_relatives"
    ),
    "simulate cohort --family-table": Option(
        "kin.csv",
        "pipeline/simulation/test_families::test_the_same_configuration_makes_the_same_people_anywhere",
    ),
    "simulate cohort --resolution-mm": Option(
        "8",
        "pipeline/simulation/test_families::test_the_command_says_where_the_private_table_lies",
    ),
    "simulate cohort --nprocs": Option("2", PROCESSES),
    "simulate cohort --seed": Option(
        "1", "pipeline/simulation/test_families::test_the_demos_people_stay_who_they_were"
    ),
    "simulate lesions --config": Option(
        "set.yaml", "pipeline/test_examples::test_an_example_is_an_evaluation_set"
    ),
    "simulate lesions --set": Option(
        "seed=3",
        "pipeline/simulation/test_lesion_set::test_a_lesion_without_room_fails_its_subject_alone",
    ),
    "simulate lesions --participant-label": Option(
        "01",
        "pipeline/simulation/test_lesion_set::test_a_lesion_without_room_fails_its_subject_alone",
    ),
    "simulate lesions --nprocs": Option(
        "2",
        "pipeline/simulation/test_lesion_set::test_again_makes_the_same_bytes_and_touches_nothing_that_is_done",
    ),
    "batch write --out": Option(
        "b.sbatch", "pipeline/batches/test_batch::test_another_file_is_not_overwritten"
    ),
    "batch write --subjects-per-task": Option(
        "1", "pipeline/batches/test_batch::test_every_subject_is_in_exactly_one_task"
    ),
    "batch write --cpus": Option(
        "3", "pipeline/cli/test_main::test_batch_write_takes_the_stages_own_arguments"
    ),
    "batch write --memory-gb": Option(
        "4", "pipeline/batches/test_batch::test_the_explain_array_is_the_golden_file"
    ),
    "batch write --time": Option(
        "02:00:00", "pipeline/cli/test_main::test_batch_write_takes_the_stages_own_arguments"
    ),
    "batch write --at-once": Option(
        "1", "pipeline/batches/test_batch::test_every_subject_is_in_exactly_one_task"
    ),
    "batch write --partition": Option(
        "cpu", "pipeline/batches/test_batch::test_the_prepare_array_is_the_golden_file"
    ),
    "batch write --account": Option(
        "me", "pipeline/batches/test_batch::test_an_account_is_charged"
    ),
    "batch write --setup": Option(
        "true", "pipeline/batches/test_batch::test_the_prepare_array_is_the_golden_file"
    ),
}

UNCALLED = {"hemitwin --version", "hemitwin --verbose", "rank --render"}
"""What no call of a stage can show: the test that is named does."""


def _commands(command, name=""):
    yield name, command
    for word, child in getattr(command, "commands", {}).items():
        yield from _commands(child, f"{name} {word}".strip())


def _options():
    for name, command in _commands(typer.main.get_command(app)):
        for parameter in command.params:
            if parameter.param_type_name == "option":
                longest = max(parameter.opts, key=len)
                yield f"{name or 'hemitwin'} {longest}"


def test_every_option_has_an_entry_and_every_entry_is_an_option():
    assert sorted(_options()) == sorted(OPTIONS)


def test_the_test_that_shows_an_option_is_there():
    missing = []
    for option, entry in OPTIONS.items():
        file, name = entry.shown.split("::")
        path = TESTS / f"{file}.py"
        if not re.search(rf"^def {name}\(", path.read_text("utf-8"), re.MULTILINE):
            missing.append(f"{option}: {entry.shown}")
    assert missing == []


class _CalledError(BaseException):
    """Ends a command where its work would begin; nothing in between takes it for a failure."""


def _call(name, /, *args, **kwargs):
    raise _CalledError(name, repr(args), repr(sorted(kwargs.items())))


@pytest.fixture
def called(tmp_path, monkeypatch):
    """Give a function from words to what is called with what."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bids" / "sub-01").mkdir(parents=True)
    (tmp_path / "list.tsv").write_text("subject\tscan\n1\ta.nii\n")
    (tmp_path / "config.yaml").write_text("data: {prepared: derivatives}\n")
    (tmp_path / "set.yaml").write_text("seed: 9\n")
    run = SimpleNamespace(config=SimpleNamespace(pairs=None))
    monkeypatch.setattr("hemitwin.pipeline.training.runs.load_run", lambda _: run)
    for name in (*(f"hemitwin.pipeline.{one}" for one in STAGES.values()), *OTHERS):
        monkeypatch.setattr(name, partial(_call, name))

    def call(*words):
        with pytest.raises(_CalledError) as ended:
            main([word for part in words for word in part.split()])
        return re.sub(r" at 0x[0-9a-f]+", "", repr(ended.value.args))

    return call


@pytest.mark.parametrize("option", [one for one in OPTIONS if one not in UNCALLED])
def test_an_option_changes_what_the_stage_is_asked_for(called, option):
    verb, _, name = option.rpartition(" ")
    entry = OPTIONS[option]
    plain = (verb, PLAIN[verb], entry.beside)
    assert called(*plain, name, entry.value) != called(*plain)


@pytest.mark.parametrize("verb", [verb for verb in PLAIN if verb != "doctor"])
def test_a_verb_that_is_called_twice_asks_for_the_same(called, verb):
    assert called(verb, PLAIN[verb]) == called(verb, PLAIN[verb])
