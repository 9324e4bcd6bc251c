"""What is documented is what is there: commands in the README, metrics with unit and meaning."""

import importlib
import inspect
import re
from pathlib import Path

import pytest
from cyclopts import App

from streamdetect.cli import app
from streamdetect.telemetry.catalogue import CATALOGUE

ROOT = Path(__file__).parents[2]
BASE_UNITS = ("seconds", "bytes", "ratio")


def _commands():
    return sorted(name for name in app if not name.startswith("-"))


def test_there_are_commands():
    assert {"replay", "simulate", "worker"} <= set(_commands())


@pytest.mark.parametrize("command", _commands())
def test_the_readme_shows_every_command(command):
    texts = (ROOT / "README.md").read_text()
    assert re.search(rf"\bstreamdetect {command}\b", texts), f"README.md does not show: streamdetect {command}"


@pytest.mark.parametrize("command", _commands())
def test_every_command_says_what_it_is_for(command):
    assert app[command].help


@pytest.mark.parametrize("command", _commands())
def test_the_list_of_commands_repeats_what_each_says_of_itself(command):
    listed = app._commands[command]
    module, _, name = listed.import_path.partition(":")
    told = getattr(importlib.import_module(module), name)
    said = told.help if isinstance(told, App) else inspect.getdoc(told).partition("\n\nParameters\n")[0]
    assert inspect.cleandoc(listed.help).strip() == said.strip()


@pytest.mark.parametrize("metric", CATALOGUE, ids=lambda metric: metric.name)
def test_every_metric_has_a_unit_a_meaning_and_what_to_do(metric):
    assert metric.unit in ("", *BASE_UNITS)  # empty: a count of what the name says
    named_unit = metric.name.rpartition("_")[2]
    assert metric.unit == (named_unit if named_unit in BASE_UNITS else "")
    assert metric.meaning.endswith(".")
    assert metric.action == "-" or metric.action.endswith(".")


def test_metric_names_are_unique():
    names = [metric.full_name for metric in CATALOGUE]
    assert sorted(set(names)) == sorted(names)
