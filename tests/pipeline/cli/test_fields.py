"""Options say what the fields of models say, and the values come back as models."""

from pathlib import Path
from typing import Annotated, Literal

import pytest
import typer
from pydantic import Field
from typer.testing import CliRunner

from hemitwin._frozen import Frozen
from hemitwin.pipeline.cli.fields import Offer, arguments_of, with_options
from hemitwin.pipeline.cli.main import app as verbs
from hemitwin.pipeline.stage.errors import UserError


class Cut(Frozen):
    planes: tuple[Literal["axial", "coronal"], ...] = Field(
        default=("axial",), description="Planes."
    )
    step_mm: float = Field(default=8.0, ge=0.5, le=20, description="Distance.")
    part: Literal["whole", "half"] = Field(default="whole", description="What is shown.")
    seed: int | None = Field(default=None, ge=0, description="Of the noise.")
    table: Path | None = Field(default=None, description="Names.")
    draw: bool = Field(default=False, description="Draw it, too.")
    word: str = Field(default="a", pattern="^[a-z]+$", description="A word.")
    hidden: int = Field(default=3, description="Not asked for.")


Asked = Annotated[Cut, Offer(names={"planes": "plane"}, without=("hidden",))]


@pytest.fixture
def call():
    """Give a function from words to what is printed and, in a list, what the command was given."""
    taken = []

    def cut(folder: Path, times: int = 1, *, config: Asked) -> None:
        taken.append((folder, times, config))

    app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command()(with_options(cut, "cut"))

    def run(*words):
        taken.clear()
        return CliRunner().invoke(app, words), taken

    return run


def test_without_options_the_model_is_its_default(call):
    _, taken = call("out")
    assert taken == [(Path("out"), 1, Cut())]


def test_every_kind_of_option_reaches_its_field(call):
    words = "out --times 2 --plane coronal --plane axial --step-mm 0.5 --part half --seed 0"
    _, taken = call(*words.split(), "--table", "a.tsv", "--draw", "--word", "b")
    values = {"step_mm": 0.5, "part": "half", "seed": 0, "table": Path("a.tsv"), "draw": True}
    cut = Cut(planes=("coronal", "axial"), word="b", **values)
    assert taken == [(Path("out"), 2, cut)]


def test_help_says_what_the_fields_say(call):
    result, _ = call("--help")
    told = " ".join(result.output.split())
    for line in (
        "--plane <list[str]> Planes. Repeatable: axial, coronal. [default: axial]",
        "--step-mm <float range> Distance. [default: 8.0; 0.5<=x<=20]",
        "--part <whole|half> What is shown. [default: whole]",
        "--seed <int range> Of the noise. [x>=0]",
        "--table <path> Names.",
        "--draw Draw it, too.",
    ):
        assert line in told
    assert "hidden" not in told
    assert "--no-draw" not in told


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--step-mm 0.4", "'--step-mm': Input should be greater than or equal to 0.5"),
        ("--seed -1", "'--seed'"),
        ("--part none", "'--part'"),
        ("--hidden 4", "No such option: --hidden"),
        ("--no-draw", "No such option: --no-draw"),
    ],
)
def test_what_an_option_cannot_be_is_refused_by_its_name(call, words, told):
    result, taken = call("out", *words.split())
    assert (result.exit_code, taken) == (2, [])
    assert told in " ".join(result.output.split())


@pytest.mark.parametrize(
    ("words", "told"),
    [("--word B", "cut: .*\n  word: .*'B'"), ("--plane none", "cut: .*\n  planes.0: .*'none'")],
)
def test_what_the_model_alone_can_refuse_is_told_in_words(call, words, told):
    result, taken = call("out", *words.split())
    assert taken == []
    assert isinstance(result.exception, UserError)
    with pytest.raises(UserError, match=told):
        raise result.exception


def test_values_of_options_become_the_commands_arguments():
    def cut(folder: Path, config: Asked) -> None: ...

    names = ("plane", "step_mm", "part", "seed", "table", "draw", "word")
    values = dict(zip(names, (["axial"], 1.0, "half", None, None, False, "c"), strict=True))
    made = arguments_of(cut, {"folder": Path("out"), **values}, "cut")
    assert made == {"folder": Path("out"), "config": Cut(step_mm=1.0, part="half", word="c")}


def _parameters(command):
    for child in getattr(command, "commands", {}).values():
        yield from _parameters(child)
    yield from command.params


def test_every_option_and_argument_of_every_verb_has_help():
    assert [one.name for one in _parameters(typer.main.get_command(verbs)) if not one.help] == []
