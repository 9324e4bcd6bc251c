"""Law of positions: at the place told for a key or value stands that key or value."""

import json
import tomllib

from hypothesis import given, settings
from hypothesis import strategies as st

from streamdetect.pipeline.decisions.policy import default_text
from streamdetect.pipeline.decisions.positions import Positions

names = st.text("abcdefgh-_0123456789", min_size=1, max_size=6)
texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=12) | st.sampled_from(
    ["a#b", "[x]", 'say "T3"', "back\\slash", "tab\there", "two\nlines", "'''", "= , }"]
)
scalars = st.integers(-99, 99).map(lambda n: (str(n), n)) | texts.map(lambda t: (json.dumps(t, ensure_ascii=False), t))
blanks = st.sampled_from(["", " ", "\t", "  "])
comments = st.sampled_from(["", " # why", "\n# a line = [1]\n\n", "#"])


@st.composite
def values(draw, depth=2):
    kind = draw(st.sampled_from(["scalar", "array", "table"])) if depth else "scalar"
    if kind == "array":
        items = draw(st.lists(values(depth - 1), max_size=3))
        break_ = draw(st.sampled_from(["", "\n", " # two, ]\n"]))
        return "[" + ",".join(break_ + text for text, _ in items) + break_ + "]", [value for _, value in items]
    if kind == "table":
        pairs = draw(st.dictionaries(names, values(0), max_size=3))
        inside = ", ".join(f"{name} = {text}" for name, (text, _) in pairs.items())
        return "{ " + inside + " }", {name: value for name, (_, value) in pairs.items()}
    return draw(scalars)


@st.composite
def documents(draw):
    lines = []

    def pairs(count):
        for name in draw(st.lists(names, max_size=count, unique=True)):
            text, _ = draw(values())
            lines.append(draw(blanks) + name + draw(blanks) + "=" + draw(blanks) + text + draw(comments))

    pairs(3)
    for index in range(draw(st.integers(0, 3))):
        lines.append(draw(st.sampled_from([f"[t{index}]", f"[t{index}.inner]", "[[rows]]", "[[ rows ]]"])))
        pairs(3)
    return "\n".join(lines)


def _leaves(value, path=()):
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _leaves(inner, (*path, index))
    else:
        yield path, value


def _offset(text, place):
    line, column = place
    return sum(len(part) + 1 for part in text.split("\n")[: line - 1]) + column - 1


def _check(text):
    positions = Positions(text)
    for path, value in _leaves(tomllib.loads(text)):
        at = _offset(text, positions.of(path))
        if isinstance(path[-1], str):
            assert text.startswith(path[-1], _offset(text, positions.of_key(path)))
        if isinstance(value, str):
            places = positions.in_string(path)
            assert text[at] in "\"'"
            assert len(places) == len(value) + 1
            for character, place in zip(value, places, strict=False):
                found = text[_offset(text, place)]
                assert found in (character, "\\")
            assert text[_offset(text, places[-1])] == text[at]
        else:
            assert text.startswith(str(value).lower(), at) or isinstance(value, int | float)
            assert text[at] in "-0123456789tf"


@settings(max_examples=200, deadline=None)
@given(documents())
def test_at_the_place_of_a_key_or_value_it_stands(text):
    _check(text)


def test_the_shipped_policy_is_placed_right():
    _check(default_text())


def test_dotted_keys_quoted_keys_and_nested_tables_have_places():
    text = 'a.b = 1\n"c d".e = 2\n[x]\n[[x.y]]\nz = 3\n[x.y.w]\nv = 4\n[[x.y]]\nz = 5\n'
    places = Positions(text)
    wanted = [("a", "b"), ("c d", "e"), ("x", "y", 0, "z"), ("x", "y", 0, "w", "v"), ("x", "y", 1, "z")]
    assert [places.of(path) for path in wanted] == [(1, 7), (2, 11), (5, 5), (7, 5), (9, 5)]
    assert places.of(("x", "y", 1, "nothing", "here")) == (8, 1)
