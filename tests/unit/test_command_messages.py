"""Every command, called wrongly or on what it cannot read: an exit code by kind, and words instead of a traceback."""

import gzip

import pytest

from streamdetect.cli import app, main

USAGE, BAD_DATA = 2, 3
FILES = {
    "broken.toml": b'id = "a"\nversion = "one"\n',
    "torn.toml": b"[[rules\n",
    "binary.toml": b'id = "\xff"\n',
    "settings.toml": b'mod = "live"\n',
    "digits.toml": b"metrics_port = " + b"1" * 5000,
    "nested.toml": b"metrics_port = " + b"[" * 5000,
    "good.toml": b'id = "a"\nversion = 1\n',
    "digits-policy.toml": b'id = "a"\nversion = ' + b"1" * 5000,
    "far.toml": b'id = "a"\nversion = 1\neffective_at = 999999999999999999\n',
    "empty.jsonl": b"",
    "torn.jsonl.gz": b"this is no gzip",
    "short.jsonl.gz": gzip.compress(b"{}\n" * 1000)[:-9],
    "spoilt.jsonl.gz": gzip.compress(b"{}\n" * 1000)[:-8] + bytes(8),
    "torn.parquet": b"no parquet",
    "table.csv": b"a,b\n",
}
ALLOW = ("override", "allow", "account:a")
REPLAY = ("replay", "empty.jsonl", "--output")
WRONG = [
    (("nothing",), USAGE, 'Unknown command "nothing"'),
    (("worker", "--mode", "liv"), USAGE, 'Did you mean "live"?'),
    (("worker", "--log-level", "loud"), USAGE, 'Invalid value "loud" for --log-level'),
    (("worker", "--policy", "missing.toml"), USAGE, "--policy: no such file"),
    (("worker", "--policy", "broken.toml"), BAD_DATA, "broken.toml:2:11: "),
    (("worker", "--policy", "torn.toml"), BAD_DATA, "torn.toml:1:8: "),
    (("worker", "--config", "missing.toml"), USAGE, "settings file missing.toml cannot be read: No such file"),
    (("worker", "--config", "settings.toml"), USAGE, "mod in settings.toml: no such setting; did you mean mode?"),
    (("worker", "--config", "binary.toml"), USAGE, "settings file binary.toml is not TOML: not UTF-8"),
    (("worker", "--bootstrap-servers", "localhost:port"), USAGE, "--bootstrap-servers: not host:port"),
    (("topics", "--partitions", "0"), USAGE, "--partitions: "),
    (("topics", "--replication", "0"), USAGE, "--replication: "),
    (("topics", "--print", "yaml"), USAGE, 'Invalid value "yaml" for --print'),
    (("policy", "check", "missing.toml"), BAD_DATA, "missing.toml: cannot be read: No such file"),
    (("policy", "check", "."), BAD_DATA, ".: cannot be read: Is a directory"),
    (("policy", "check", "binary.toml"), BAD_DATA, "binary.toml:1:7: not UTF-8 from here on"),
    (("produce",), USAGE, "at least one file"),
    (("produce", "missing.jsonl"), BAD_DATA, "missing.jsonl: no such file"),
    (("produce", "empty.jsonl", "--rate", "1", "--speed", "1"), USAGE, "exclude each other"),
    (("produce", "empty.jsonl", "--rebase"), BAD_DATA, "no line has an occurred_at"),
    (("replay", "--output", "out"), USAGE, "at least one input file"),
    (("replay", "missing.jsonl", "--output", "out"), BAD_DATA, "missing.jsonl: no such file"),
    (("replay", "table.csv", "--output", "out"), BAD_DATA, "table.csv: expected .jsonl"),
    (("replay", "torn.jsonl.gz", "--output", "out"), BAD_DATA, "torn.jsonl.gz: Not a gzipped file"),
    (("replay", "short.jsonl.gz", "--output", "out"), BAD_DATA, "short.jsonl.gz: Compressed file ended"),
    (("replay", "spoilt.jsonl.gz", "--output", "out"), BAD_DATA, "spoilt.jsonl.gz: CRC check failed"),
    (("replay", "torn.parquet", "--output", "out"), BAD_DATA, "torn.parquet: "),
    ((*REPLAY, "table.csv"), USAGE, "--output table.csv: File exists"),
    ((*REPLAY, "table.csv/below"), USAGE, "--output table.csv/below: Not a directory"),
    ((*REPLAY, "out", "--policy", "missing.toml"), BAD_DATA, "missing.toml: cannot be read: No such file"),
    ((*REPLAY, "out", "--accounts", "missing.jsonl"), BAD_DATA, "missing.jsonl: cannot be read: No such file"),
    ((*REPLAY, "out", "--from", "yesterday"), USAGE, "'yesterday' is no time"),
    ((*REPLAY, "out", "--lateness", "1x"), USAGE, "'1x' is no duration"),
    ((*REPLAY, "out", "--lables", "x"), USAGE, "replay has no option --lables"),
    (("kill", "maybe"), USAGE, 'Unknown command "maybe"'),
    (("override", "permit", "account:a-1"), USAGE, 'Unknown command "permit"'),
    (("worker", "--config", "digits.toml"), USAGE, "digits.toml cannot be read: a number has too many digits"),
    (("worker", "--config", "nested.toml"), USAGE, "nested.toml cannot be read: too deeply nested"),
    (("policy", "check", "digits-policy.toml"), BAD_DATA, "digits-policy.toml: a number of more digits"),
    (("policy", "check", "far.toml"), BAD_DATA, "far.toml:3:16: effective_at: Input should be less than"),
    (("policy", "apply", "far.toml"), BAD_DATA, "far.toml:3:16: effective_at: Input should be less than"),
    (("policy", "apply", "good.toml", "--effective-at", "\N{SUPERSCRIPT TWO}"), USAGE, "is no time"),
    (("policy", "apply", "good.toml", "--effective-at", "999999999999999"), USAGE, "is after the year 9999"),
    ((*ALLOW, "--for", "1h", "--reason", "\udcff"), USAGE, "--reason: say why, in 1 to 4096 bytes of UTF-8"),
    ((*ALLOW, "--for", "1h", "--reason", "x", "--actor", "\udcff"), USAGE, "give --actor NAME"),
    ((*ALLOW, "--for", "99999999d", "--reason", "x"), USAGE, "'99999999d' is longer than 100 years"),
    ((*ALLOW, "--for", "9" * 5000 + "d", "--reason", "x"), USAGE, "is longer than 100 years"),
    (("kill", "on", "--for", "36501d", "--reason", "x"), USAGE, "'36501d' is longer than 100 years"),
    (("simulate",), USAGE, "--list shows the scenarios"),
    (("simulate", "C99", "--output", "out", "--seed", "1"), USAGE, "no scenario 'C99'"),
    (("simulate", "C2", "--output", "table.csv", "--seed", "1", "--scale", "0.001"), USAGE, "table.csv: File exists"),
    (("demo", "--hours", "0"), USAGE, "--hours must be above 0"),
    (("demo", "--policy", "broken.toml"), BAD_DATA, "broken.toml:2:11: "),
]


@pytest.mark.parametrize(
    ("words", "code", "says"), WRONG, ids=[ascii(" ".join(words))[1:-1][:80] for words, *_ in WRONG]
)
def test_what_is_wrong_is_said_in_words(words, code, says, tmp_path, monkeypatch, capsys):
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main([*words])
    told = capsys.readouterr()
    lines = [line.strip("│╭╰─╮╯ ") for line in told.err.splitlines()]
    assert (ended.value.code, told.out) == (code, ""), told.err
    assert says in " ".join(filter(None, lines))
    assert "Errno" not in told.err


def test_every_command_is_called_wrongly():
    assert {words[0] for words, *_ in WRONG} >= {name for name in app if not name.startswith("-")}
