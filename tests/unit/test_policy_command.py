import json
import subprocess
import sys

import pytest

from streamdetect.cli import app
from streamdetect.errors import BadDataError
from streamdetect.pipeline.decisions.policy import default_policy, default_text


def run(*arguments):
    app([*arguments], exit_on_error=False, result_action="return_value")


def test_check_says_what_a_policy_holds(tmp_path, capsys):
    file = tmp_path / "mine.toml"
    file.write_text(default_text(), encoding="utf-8")
    run("policy", "check", str(file))
    assert capsys.readouterr().out.splitlines() == [
        f"{file}: policy default version 1 can run",
        "  mode   shadow",
        "  rules  5 account, 1 subnet",
        f"  hash   {default_policy().hash}",
    ]


def test_check_gives_figures_as_json(tmp_path, capsys):
    file = tmp_path / "mine.toml"
    file.write_text('id = "a"\nversion = 3\nmode = "live"\n', encoding="utf-8")
    run("policy", "check", str(file), "--json")
    printed = json.loads(capsys.readouterr().out)
    assert (printed["id"], printed["version"], printed["mode"], printed["rules"]) == ("a", 3, "live", {})


def test_a_wrong_policy_ends_with_code_3_and_its_place(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text('id = "a"\nversion = 3\nmodee = "live"\n', encoding="utf-8")
    command = [sys.executable, "-m", "streamdetect", "policy", "check", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert done.stderr == f"streamdetect: {file}:3:1: unknown key modee; did you mean mode?\n"
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "No such file"),
        (b'id = "a"\nversion = \xff', ":2:11: not UTF-8 from here on"),
        (b"#" * (1 << 23), "larger than"),
    ],
)
def test_a_file_that_is_no_text_is_bad_data(tmp_path, content, message):
    file = tmp_path / "mine.toml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(BadDataError, match=message) as caught:
        run("policy", "check", str(file))
    assert caught.value.exit_code == 3


def test_features_lists_every_name_with_its_scopes(capsys):
    run("policy", "features", "--json")
    listed = json.loads(capsys.readouterr().out)
    scopes = {(feature["name"], scope) for feature in listed for scope in feature["scopes"]}
    assert {("requests_1m", "account"), ("requests_1m", "org"), ("tier", "account"), ("young", "account")} <= scopes
    assert ("prefix_length", "org") not in scopes
    assert "tier_code" not in {feature["name"] for feature in listed}
    run("policy", "features")
    assert len(capsys.readouterr().out.splitlines()) == len(listed) + 1


def test_help_needs_none_of_the_heavy_packages():
    code = "import sys, streamdetect.cli; sys.exit(any(name in sys.modules for name in ('numba', 'numpy', 'pydantic')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
