"""The table of networks, and that the README's is the one that the tool makes."""

import dataclasses
import re

import describe_models
import pytest
from conftest import ROOT

import kerasseg.models
from kerasseg.spec import DataError

FACTS = describe_models.Facts(trained=1_000, total=2_000, field=140, output=388, giga=150.44)
ROW = describe_models.Row("U-Net", "unet", 2, "bottom_relu2", trained=1_000, size=572, output=388)


def test_published_figures_are_bold():
    assert describe_models.line(ROW, FACTS) == (
        "| U-Net | 2 | **1,000** | 2,000 | 572² → 388² | 140 (bottom_relu2) | 150.4 G at 572² |"
    )


@pytest.mark.parametrize("figure", ["trained", "output"])
def test_a_difference_is_found(figure):
    assert not describe_models.differences(ROW, FACTS)
    other = dataclasses.replace(FACTS, **{figure: 7})
    assert describe_models.differences(ROW, other) == [f"U-Net: {figure} is 7, published is {getattr(ROW, figure)}"]


def test_multiply_adds_may_differ_by_half_a_percent():
    row = dataclasses.replace(ROW, giga=150.9)
    assert not describe_models.differences(row, FACTS)
    assert describe_models.line(row, FACTS).endswith("150.4 G at 572² (authors: 150.9) |")
    row = dataclasses.replace(ROW, giga=152.0)
    assert describe_models.differences(row, FACTS) == ["U-Net: multiply-adds are 150.44 G, published are 152.0"]


def test_the_table_is_replaced_between_its_marks(capsys, tmp_path):
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- models -->\nold\n<!-- /models -->\nb\n")
    describe_models.main(["--only", "segnet_basic", "--write", str(page)])
    text = page.read_text()
    assert text.startswith("a\n<!-- models -->\n| network |")
    assert text.endswith(" |\n<!-- /models -->\nb\n")
    assert "1,416,587" in text
    assert "1,416,587" in capsys.readouterr().out
    page.write_text("no marks")
    with pytest.raises(DataError, match="page.md: expected the lines <!-- models --> and <!-- /models --> once each"):
        describe_models.main(["--only", "segnet_basic", "--write", str(page)])
    assert page.read_text() == "no marks"


def test_unknown_network():
    with pytest.raises(DataError, match="--only vgg: expected a part of one of"):
        describe_models.main(["--only", "vgg"])


def test_every_network_has_a_row():
    assert {row.model for row in describe_models.ROWS} == set(kerasseg.models.__all__)


@pytest.mark.slow
def test_the_table_of_the_readme_is_the_one_that_the_tool_makes(run_tool, tmp_path):
    """Builds every network at its full size; a figure that is not the published one ends the tool with an error."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    copy = tmp_path / "README.md"
    copy.write_text(re.sub(r"(?s)<!-- models -->.*<!-- /models -->", "<!-- models -->\n<!-- /models -->", readme))
    run_tool("describe_models.py", "--write", copy)
    assert copy.read_text(encoding="utf-8") == readme
