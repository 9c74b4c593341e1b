"""Affine files: what ITK, ANTs and c3d write is read as they mean it, or refused in one line."""

import struct

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813  # the name its own documentation uses
from hypothesis import given, settings
from hypothesis import strategies as st

from hemitwin.transforms import read_itk_affine, write_itk_affine

MATRIX = [0.9, -0.1, 0.0, 0.1, 0.9, 0.2, 0.0, -0.2, 1.1]
SHIFT, CENTRE = [3.0, -4.0, 5.0], [10.0, 20.0, -30.0]
TEXT = """#Insight Transform File V1.0
#Transform 0
Transform: {kind}
Parameters: 0.9 -0.1 0 0.1 0.9 0.2 0 -0.2 1.1 3 -4 5
FixedParameters: 10 20 -30
"""


def affine():
    transform = sitk.AffineTransform(3)
    transform.SetMatrix(MATRIX)
    transform.SetTranslation(SHIFT)
    transform.SetCenter(CENTRE)
    return transform


def level_4(name, numbers):
    """One matrix as MATLAB's level 4 holds it: double, a column, not complex."""
    head = struct.pack("<5i", 0, len(numbers), 1, 0, len(name) + 1)
    return head + name.encode() + b"\0" + struct.pack(f"<{len(numbers)}d", *numbers)


def ants_mat():
    """What antsRegistration writes as 0GenericAffine.mat."""
    numbers = [*MATRIX, *SHIFT]
    return level_4("AffineTransform_double_3_3", numbers) + level_4("fixed", CENTRE)


def written(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def means_the_same(path, transform):
    """Hold our matrix, RAS+, against ITK's own mapping of points, LPS+."""
    flip = np.array([-1.0, -1.0, 1.0])
    matrix = read_itk_affine(path)
    for point in np.random.default_rng(0).uniform(-90, 90, (5, 3)):
        expected = flip * transform.TransformPoint((flip * point).tolist())
        np.testing.assert_allclose((matrix @ [*point, 1.0])[:3], expected, atol=1e-9)


@settings(max_examples=20)
@given(numbers=st.lists(st.floats(-5, 5), min_size=12, max_size=12))
def test_an_affine_survives_the_file(numbers, tmp_path_factory):
    matrix = np.eye(4)
    matrix[:3] = np.array(numbers).reshape(3, 4)
    path = tmp_path_factory.mktemp("xfm") / "a.txt"
    write_itk_affine(path, matrix)
    np.testing.assert_allclose(read_itk_affine(path), matrix, atol=1e-12)
    assert [one.name for one in path.parent.iterdir()] == ["a.txt"]  # nothing half-written stays


KINDS = [
    "AffineTransform_double_3_3",
    "AffineTransform_float_3_3",
    "MatrixOffsetTransformBase_double_3_3",  # c3d's, and older ANTs'
]


@pytest.mark.parametrize("line_end", ["\n", "\r\n"], ids=["unix", "windows"])
@pytest.mark.parametrize("kind", KINDS)
def test_text_turns_about_its_centre(kind, line_end, tmp_path):
    text = TEXT.format(kind=kind).replace("\n", line_end)
    for suffix in (".txt", ".tfm"):
        means_the_same(written(tmp_path / f"a{suffix}", text), affine())


def test_binary_and_text_files_of_one_affine_are_one(tmp_path):
    path = written(tmp_path / "0GenericAffine.mat", ants_mat())
    means_the_same(path, affine())
    sitk.WriteTransform(affine(), tmp_path / "itk.mat")
    assert (tmp_path / "itk.mat").read_bytes() == path.read_bytes()
    text = written(tmp_path / "a.txt", TEXT.format(kind=KINDS[0]))
    np.testing.assert_array_equal(read_itk_affine(path), read_itk_affine(text))


def turned(kind):
    transform = kind()
    transform.SetCenter(CENTRE)
    transform.SetTranslation(SHIFT)
    transform.SetRotation((1, 2, 3), 0.3)
    return transform


LINEAR = {
    "translation": lambda: sitk.TranslationTransform(3, SHIFT),
    "euler": lambda: sitk.Euler3DTransform(CENTRE, 0.1, 0.2, 0.3, SHIFT),
    "rigid": lambda: turned(sitk.VersorRigid3DTransform),
    "similarity": lambda: turned(sitk.Similarity3DTransform),
    "scaling": lambda: sitk.ScaleTransform(3, (0.9, 1.0, 1.2)),
    "skew": lambda: turned(sitk.ScaleSkewVersor3DTransform),
    "identity": lambda: sitk.Transform(3, sitk.sitkIdentity),
}


@pytest.mark.parametrize("suffix", [".txt", ".mat"])
@pytest.mark.parametrize("make", LINEAR.values(), ids=LINEAR)
def test_every_linear_transform_means_what_itk_means(make, suffix, tmp_path):
    sitk.WriteTransform(make(), tmp_path / f"a{suffix}")
    means_the_same(tmp_path / f"a{suffix}", make())


def test_composed_affines_are_taken_in_itk_order(tmp_path):
    both = sitk.CompositeTransform([affine(), LINEAR["euler"]()])
    sitk.WriteTransform(both, tmp_path / "a.tfm")
    means_the_same(tmp_path / "a.tfm", both)


def two_in_a_row():
    return TEXT.format(kind=KINDS[0]) + TEXT.format(kind=KINDS[0]).split("\n", 1)[1]


def composed_with_a_warp():
    spline = sitk.BSplineTransformInitializer(sitk.Image(8, 8, 8, sitk.sitkFloat32), [2, 2, 2])
    return sitk.CompositeTransform([affine(), spline])


SOUND = TEXT.format(kind=KINDS[0])
UNWHOLE = "none that is whole, or several"
DAMAGED = {
    "empty": ("a.txt", "", UNWHOLE),
    "prose": ("a.txt", "no transform\n", UNWHOLE),
    "no_centre": ("a.txt", SOUND.split("Fixed")[0], UNWHOLE),
    "few_numbers": ("a.txt", SOUND.replace(" 3 -4 5", ""), "ITK cannot read"),
    "nan": ("a.txt", SOUND.replace("-0.1", "nan"), "ITK cannot read"),
    "unknown": ("a.txt", TEXT.format(kind="UnknownTransform_double_3_3"), "ITK cannot read"),
    "two": ("a.txt", SOUND + SOUND.split("\n", 1)[1], UNWHOLE),
    "two_binary": ("a.mat", ants_mat() * 2, UNWHOLE),
    "flirt": ("a.mat", "1 0 0 1\n0 1 0 2\n0 0 1 3\n0 0 0 1\n", f"{UNWHOLE}.*FSL's with c3d"),
    "hdf5": ("a.h5", ants_mat(), r"ends in \.h5"),
}


@pytest.mark.parametrize(("name", "content", "reason"), DAMAGED.values(), ids=DAMAGED)
def test_what_is_no_whole_affine_is_refused_in_one_line(name, content, reason, tmp_path, capfd):
    path = written(tmp_path / name, content)
    with pytest.raises(ValueError, match=f"{path} must hold one linear .*{reason}") as raised:
        read_itk_affine(path)
    assert "\n" not in str(raised.value)
    assert capfd.readouterr() == ("", "")  # nor does ITK speak for itself


def test_a_binary_file_that_is_cut_anywhere_is_refused(tmp_path):
    whole = ants_mat()
    for size in range(0, len(whole), 7):
        with pytest.raises(ValueError, match=UNWHOLE):
            read_itk_affine(written(tmp_path / "a.mat", whole[:size]))


@pytest.mark.parametrize(
    ("transform", "reason"),
    [
        (sitk.AffineTransform(2), "a 2-dimensional AffineTransform"),
        (composed_with_a_warp(), "a 3-dimensional CompositeTransform"),
    ],
    ids=["plane", "warp"],
)
def test_what_is_not_linear_in_space_is_refused(transform, reason, tmp_path):
    sitk.WriteTransform(transform, tmp_path / "a.tfm")
    with pytest.raises(ValueError, match=reason):
        read_itk_affine(tmp_path / "a.tfm")


def test_a_transform_must_be_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"must be a file.*check the path"):
        read_itk_affine(tmp_path / "a.mat")
