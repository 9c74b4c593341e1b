"""What the documents promise exists."""

import re
from pathlib import Path

import pytest

from hemitwin.pipeline.simulation.lesion_set import EvaluationSetConfig
from hemitwin.pipeline.stage.settings import read_config
from hemitwin.pipeline.training.config import load_config

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_relative_link_leads_somewhere(page):
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    missing = [link for link in links if not (page.parent / link).exists()]
    assert missing == []


def test_the_readme_holds_the_two_commands():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    install = "python3 -m venv .venv && .venv/bin/pip install -c constraints.txt -e "
    assert f"{install}. && .venv/bin/hemitwin demo demo-out" in readme
    assert f"{install}'.[test]' && .venv/bin/python -m pytest\n" in readme


def test_the_example_configuration_is_valid():
    assert load_config(ROOT / "examples" / "train.yaml").training.epochs > 0


def test_the_example_of_an_evaluation_set_is_valid():
    config = read_config(EvaluationSetConfig, ROOT / "examples" / "lesion_set.yaml")
    assert config.shams_per_subject == config.controls_per_subject == config.lesions_per_subject


def test_every_decision_has_context_decision_and_consequences():
    for page in (ROOT / "docs" / "decisions").glob("*.md"):
        text = page.read_text(encoding="utf-8")
        assert len(text.splitlines()) <= 40
        for heading in ("**Context.**", "**Decision.**", "**Consequences.**"):
            assert heading in text, (page.name, heading)
