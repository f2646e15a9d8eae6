"""The one YAML reader: plain data as PyYAML reads them, and bounds on what a file may ask for."""

import re

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from aiida_aceal.common.errors import AceError
from aiida_aceal.common.yaml import MAX_DEPTH, load_yaml

#: text that PyYAML writes without quotes and that is a number here: 1e-8, +.5
OURS = re.compile(r"[-+]?(\d+[eE][-+]?\d+|\.\d+([eE][-+]?\d+)?)")
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63) + 1, 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(
        st.characters(exclude_categories=("Cs", "Cc", "Cn"), exclude_characters="\ufeff\x85\u2028\u2029")
    ).filter(lambda text: not OURS.fullmatch(text)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abcXYZ _:#-", max_size=6), inner, max_size=4),
    max_leaves=20,
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(PLAIN, st.sampled_from([True, False, None]))
def test_what_pyyaml_writes_is_read_back(data, flow):
    text = yaml.safe_dump(data, default_flow_style=flow, allow_unicode=True)
    assert load_yaml(text) == data


@pytest.mark.parametrize(
    "text",
    ["a: yes", "a: 010", "a: 0x1F", "a: 1:30", "a: 1_000", "a: ~", "- on\n- 'on'\n- !!str 3", "a: &x [1]\nb: *x",
     "a: 0b11", "a: !!float 3", "b: &b {x: 1, y: 2}\nc:\n  <<: *b\n  x: 5", "", "# nothing", "{1: a, 2.5: b}",
     "m: [{<<: [{a: 1}, {a: 2, b: 3}]}]", "a: |\n  text\n  more\n", "? a\n: 1", "<<: {a: 1}"],
)  # fmt: skip
def test_scalars_and_aliases_are_those_of_pyyaml(text):
    assert load_yaml(text) == yaml.safe_load(text)


def test_what_differs_from_pyyaml():
    assert load_yaml("a: 1e-8\nb: 2024-01-01\nc: +.5") == {"a": 1e-8, "b": "2024-01-01", "c": 0.5}
    assert load_yaml("{[0, 1]: x}", sequence_keys=True) == {(0, 1): "x"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3", r"s\.yaml, line 3: the key 'a' occurs twice"),
        ("x:\n  a: 1\n  a: 3", r"s\.yaml, line 3 \(x\): the key 'a' occurs twice"),
        ("x:\n  a: .inf", r"line 2 \(x\.a\): '\.inf' is not a finite number"),
        ("a: .nan", "not a finite number"),
        ("a: 1e999", "not a finite number"),
        ("a: 1.0e+999", "not a finite number"),
        ("a: " + "9" * 30, "at most 64 bit"),
        ("a: " + "9" * 10_000, "not a value of the type int"),
        ("a: !!int x", "'x' is not a value of the type int"),
        ("a: !!bool x", "'x' is not a value of the type bool"),
        ("a: !!python/object/apply:os.system ['true']", "tag .* is refused"),
        ("a: !!binary aGk=", "tag .* is refused"),
        ("a: !own 3", "tag .* is refused"),
        ("- !!set {a, b}", "tag .* is refused"),
        ("a: *nowhere", r"\*nowhere refers to nothing"),
        ("&a [*a]", r"\*a refers to nothing"),
        ("a: 1\n---\nb: 2", "line 2: a second document begins"),
        ("{[0, 1]: x}", "where a key is expected"),
        ("{{a: 1}: x}", "where a key is expected"),
        ("a: [1, 2", r"s\.yaml, line \d: is not valid YAML"),
        ("a: b: c", r"s\.yaml, line 1: is not valid YAML \(mapping values"),
        ("a: \x00", "is not valid YAML"),
        ("<<: 3", "<< takes a mapping"),
    ],
)
def test_refusals_name_the_place(text, message):
    with pytest.raises(AceError, match=message):
        load_yaml(text, "s.yaml")


@pytest.mark.parametrize("text", ["[" * 100_000, "{a: " * 100_000, "- " * 100_000, "[" * (MAX_DEPTH + 1), "? " * 5000])
def test_nesting_is_bounded(text):
    with pytest.raises(AceError, match=f"more than {MAX_DEPTH} nested mappings and lists"):
        load_yaml(text)
    assert load_yaml("[" * MAX_DEPTH + "]" * MAX_DEPTH)


def test_aliases_are_bounded():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{k}: &a{k} [{', '.join(9 * [f'*a{k - 1}'])}]" for k in range(1, 30)]
    with pytest.raises(AceError, match=r"line \d+ \(a\d\): aliases expand to more than"):
        load_yaml("\n".join(lines))
    merges = ["a: &a {" + ", ".join(f"k{i}: 1" for i in range(1000)) + "}", *(f"b{i}: {{<<: *a}}" for i in range(2000))]
    with pytest.raises(AceError, match="aliases expand to more than"):
        load_yaml("\n".join(merges))


def test_files(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("a: é", encoding="utf-8-sig")
    assert load_yaml(path) == {"a": "é"}
    path.write_bytes(b"a: \xff")
    with pytest.raises(AceError, match=r"a\.yaml: is not a text file in UTF-8 \(byte 3\)"):
        load_yaml(path)
    with pytest.raises(AceError, match=r"missing\.yaml: cannot be read \(No such file or directory\)"):
        load_yaml(tmp_path / "missing.yaml")
    with pytest.raises(AceError, match="cannot be read"):
        load_yaml(tmp_path)
    with path.open("wb") as handle:
        handle.truncate(2**29)
    with pytest.raises(AceError, match="has 512 MiB, more than the 256 MiB"):
        load_yaml(path)


@settings(max_examples=400, deadline=None)
@given(st.lists(st.sampled_from(list("[]{},:-?&*!|>'\"%@` \n\tab01.e_#<~") + ["&a ", "*a", "<<: ", "!!int ", "- "])))
def test_any_text_is_data_or_a_refusal(parts):
    try:
        load_yaml("".join(parts), "s.yaml")
    except AceError as error:
        words = str(error)
    else:
        words = "s.yaml: read"
    assert words.startswith("s.yaml")
