import pytest

from hemitwin.pipeline.stage.errors import UserError
from hemitwin.pipeline.training.config import load_config


@pytest.fixture
def config_file(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("seed: 3\ndata:\n  prepared: derivatives\ntraining:\n  epochs: 5\n")
    return path


def test_values_come_from_the_file_and_defaults_from_the_classes(config_file):
    config = load_config(config_file)
    assert (config.seed, config.training.epochs, config.training.batch_subjects) == (3, 5, 8)


def test_set_overrides_the_file_and_is_read_as_yaml(config_file):
    overrides = ["training.epochs=7", "data.exclude=[p01, p02]", "lesions.contrast=[-0.5, -0.4]"]
    config = load_config(config_file, overrides)
    assert config.training.epochs == 7
    assert config.volumes.exclude == ("p01", "p02")
    assert config.lesions.contrast == (-0.5, -0.4)


def test_an_unknown_key_names_file_key_and_nearest_valid_key(config_file):
    config_file.write_text(config_file.read_text() + "  epoch: 6\n")
    with pytest.raises(UserError, match=r"config\.yaml.*\n.*'training\.epoch'.*'epochs'"):
        load_config(config_file)


def test_an_unknown_key_at_the_top_is_found_too(config_file):
    with pytest.raises(UserError, match="did you mean 'encoder'"):
        load_config(config_file, ["encodr.width=8"])


def test_an_unknown_key_of_an_encoder_names_those_of_its_kind(config_file):
    with pytest.raises(UserError, match=r"'encoder\.wdth'; did you mean 'width'"):
        load_config(config_file, ["encoder.wdth=8"])
    with pytest.raises(UserError, match=r"'encoder\.width'; .*valid: name, .*cell_voxels"):
        load_config(config_file, ["encoder.name=local", "encoder.width=8"])


def test_a_decoder_needs_feature_maps(config_file):
    with pytest.raises(UserError, match=r"head\.name=decoder; got local"):
        load_config(config_file, ["encoder.name=local", "loss.objective=map"])


def test_a_value_out_of_range_is_shown(config_file):
    with pytest.raises(UserError, match=r"training\.epochs: .*got 0"):
        load_config(config_file, ["training.epochs=0"])


@pytest.mark.parametrize("override", ["training.epochs", "=3", "training..epochs=3"])
def test_an_override_that_is_no_assignment_is_refused(config_file, override):
    with pytest.raises(UserError, match=r"a\.b=c"):
        load_config(config_file, [override])


def test_an_override_below_a_value_is_refused(config_file):
    with pytest.raises(UserError, match="has no keys below it"):
        load_config(config_file, ["seed.more=3"])


def test_a_missing_file_and_broken_yaml_are_refused(tmp_path):
    with pytest.raises(UserError, match="not there"):
        load_config(tmp_path / "none.yaml")
    broken = tmp_path / "broken.yaml"
    broken.write_text("a: [1,")
    with pytest.raises(UserError, match="valid YAML"):
        load_config(broken)
    for text, kind in (("- a\n- b\n", "list"), ("0\n", "int"), ("false\n", "bool")):
        broken.write_text(text)
        with pytest.raises(UserError, match=f"got {kind}; correct it"):
            load_config(broken)
    broken.write_bytes("a: Z\u00fcrich\n".encode("latin-1"))
    with pytest.raises(UserError, match=r"valid YAML in UTF-8 .*correct it"):
        load_config(broken)
    broken.write_text("1: 2\n")
    with pytest.raises(UserError, match="unknown key '1'"):
        load_config(broken)


def test_a_value_that_is_no_yaml_is_refused_with_its_key(config_file):
    with pytest.raises(UserError, match=r"--set 'data\.exclude=\[p01' must have a value in YAML"):
        load_config(config_file, ["data.exclude=[p01"])


def test_a_training_without_any_validation_is_refused(config_file):
    with pytest.raises(UserError, match=r"training\.validate_every must not exceed"):
        load_config(config_file, ["training.epochs=3", "training.validate_every=4"])


def test_channels_that_no_volume_has_are_refused(config_file):
    with pytest.raises(UserError, match=r"encoder\.in_channels must be 1"):
        load_config(config_file, ["encoder.in_channels=2"])


def test_a_classifier_of_single_images_is_refused_for_pairs_of_brains(config_file):
    overrides = ["pairs.positive=mz", "loss.objective=bce", "head.name=single"]
    with pytest.raises(UserError, match=r"head\.name must be one that compares"):
        load_config(config_file, overrides)


def test_what_depends_on_the_other_image_is_refused_for_pairs_of_brains(config_file):
    with pytest.raises(UserError, match=r"input\.other and input\.difference must be left out"):
        load_config(config_file, ["pairs.positive=mz", "input.other=true"])
    packed = load_config(config_file, ["pairs.positive=mz", "input.packing=2"])
    assert packed.input.packing == 2


def test_local_patterns_are_of_images_as_they_are(config_file):
    with pytest.raises(UserError, match=r"input must be left out where encoder\.name=local"):
        load_config(config_file, ["encoder.name=local", "input.packing=2"])


def test_images_take_no_channels_of_halves(tmp_path):
    path = tmp_path / "images.yaml"
    path.write_text("data: {images: folder}\n")
    with pytest.raises(UserError, match=r"input must be left out where images are learnt from"):
        load_config(path, ["input.packing=2"])


def test_what_stops_at_the_best_epoch_does_not_keep_the_last(config_file):
    with pytest.raises(UserError, match=r"early_stopping must be left out .* got 3"):
        load_config(config_file, ["training.keep=last", "training.early_stopping=3"])


def test_several_lesions_in_a_pair_are_for_maps(config_file):
    with pytest.raises(UserError, match=r"lesions_per_pair must be 1 .* got 4"):
        load_config(config_file, ["training.lesions_per_pair=4"])
    assert (
        load_config(
            config_file, ["training.lesions_per_pair=4", "loss.objective=map"]
        ).training.lesions_per_pair
        == 4
    )


@pytest.mark.parametrize("seen", ["input.other=true", "input.difference=true"])
@pytest.mark.parametrize("setting", ["loss.objective=ntxent", "loss.memory=8"])
def test_halves_of_different_pairs_are_not_compared_where_pairs_are_seen(
    config_file, seen, setting
):
    with pytest.raises(UserError, match=r"not to be held against halves of other pairs"):
        load_config(config_file, [seen, setting])
    assert load_config(config_file, [setting])
