"""The one reader of YAML: plain data only, with bounds on what a file may ask of the reader.

Dictionaries, lists, text, numbers, true/false and null are built from the events of the parser, which needs no
recursion: a deeply nested file is refused, not a crash. Scalars are read as YAML 1.1 (as PyYAML does), except that
``1e-8`` and ``+.5`` are numbers and dates stay text. Aliases and merge keys (``<<``) work; what they
expand to is bounded.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import yaml

from .errors import AceError, NotFiniteError

#: Size of a file, bytes. Potentials of some ten thousand functions have about 10 MB.
MAX_BYTES = 2**28
#: Mappings and lists inside each other.
MAX_DEPTH = 64
#: Values that aliases may stand for, all together.
MAX_ALIASED = 1_000_000

_Parser = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_INTEGER = re.compile(r"[-+]?(?:0|[1-9]\d*)", re.ASCII)
_FLOAT = re.compile(r"[-+]?(?:(?:\d+\.\d*|\.\d+)(?:[eE][-+]?\d+)?|\d+[eE][-+]?\d+)", re.ASCII)
_TAG = "tag:yaml.org,2002:"
_LARGEST = 2**63 - 1
_CONSTRUCTOR = yaml.SafeLoader("")
_MERGE = object()


def load_yaml(source: Path | str, name: str | Path | None = None, *, sequence_keys: bool = False) -> Any:
    """Plain data of a YAML file or text; ``None`` for an empty one.

    :param source: a `Path` is read from the disk, a text is parsed.
    :param name: names the source in messages; default: the path, or ``<text>``.
    :param sequence_keys: lists may be keys of mappings (``[0, 1]: ...``, as in ``.yace``); they become tuples.
    :raises AceError: not readable, not YAML, a key that occurs twice, numbers that are not finite or beyond 64 bit,
        tags, several documents, or more than `MAX_BYTES`, `MAX_DEPTH`, `MAX_ALIASED`; names source and line.
    """
    if isinstance(source, Path):
        name = str(name if name is not None else source)
        try:
            size = source.stat().st_size
            if size > MAX_BYTES:
                raise AceError(f"{name}: has {size / 2**20:.0f} MiB, more than the {MAX_BYTES >> 20} MiB that are read")
            source = source.read_bytes().decode("utf-8-sig")
        except OSError as error:
            raise AceError(f"{name}: cannot be read ({error.strerror or error})") from error
        except UnicodeDecodeError as error:
            raise AceError(f"{name}: is not a text file in UTF-8 (byte {error.start})") from None
    else:
        name = "<text>" if name is None else str(name)
        if len(source) > MAX_BYTES:
            raise AceError(f"{name}: has {len(source) >> 20} MiB, more than the {MAX_BYTES >> 20} MiB that are read")
    return _Builder(name, sequence_keys).run(source)


def load_mapping(path: str | Path, hint: str = "") -> dict:
    """Content of a YAML file that holds a mapping; ``hint`` ends the message if it does not. Errors: `load_yaml`."""
    data = load_yaml(Path(path))
    if not isinstance(data, dict):
        found = "nothing" if data is None else type(data).__name__
        raise AceError(f"{path}: a mapping (key: value) is expected, found {found}{hint and '; ' + hint}")
    return data


class _Open:
    """A mapping or list whose end has not come yet. ``size`` counts its values with those of its aliases."""

    __slots__ = ("anchor", "data", "key", "line", "merged", "size", "waiting")

    def __init__(self, data: dict | list, anchor: str | None, line: int) -> None:
        self.data = data
        self.anchor = anchor
        self.line = line
        self.key: Any = None
        self.waiting = False  # a mapping whose key has been read, but not the value
        self.merged: list[dict] = []
        self.size = 1


class _Builder:
    def __init__(self, name: str, sequence_keys: bool) -> None:
        self.name = name
        self.sequence_keys = sequence_keys
        self.stack: list[_Open] = []
        self.anchors: dict[str, tuple[Any, int]] = {}
        self.aliased = 0
        self.documents = 0
        self.result: Any = None

    def problem(self, line: int, message: str, kind: type[AceError] = AceError) -> AceError:
        place = "".join(f"{o.key}." for o in self.stack if o.waiting and isinstance(o.key, str))
        where = f" ({place[:-1][:80]})" if place else ""
        return kind(f"{self.name}, line {line + 1}{where}: {message}")

    def run(self, text: str) -> Any:
        line = 0
        try:
            for event in yaml.parse(text, Loader=_Parser):
                line = event.start_mark.line
                self.take(event, line)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line = mark.line if mark is not None else line
            words = " ".join(str(part) for part in (error.context, error.problem) if part)
            raise AceError(f"{self.name}, line {line + 1}: is not valid YAML ({words})") from None
        except (yaml.YAMLError, UnicodeError) as error:
            words = " ".join(str(error).split())
            raise AceError(f"{self.name}: is not valid YAML ({words[:200]})") from None
        return self.result

    def take(self, event: yaml.Event, line: int) -> None:
        if isinstance(event, yaml.ScalarEvent):
            value = self.scalar(event, line)
            self.remember(event.anchor, value, 1)
            self.add(value, 1, line)
        elif isinstance(event, yaml.CollectionStartEvent):
            if len(self.stack) >= MAX_DEPTH:
                raise self.problem(line, f"more than {MAX_DEPTH} nested mappings and lists")
            kind = {} if isinstance(event, yaml.MappingStartEvent) else []
            plain = _TAG + ("seq" if isinstance(kind, list) else "map")
            if event.tag not in (None, "!", plain):
                raise self.problem(line, f"the tag {event.tag[:60]!r} is refused: only plain data are allowed")
            self.stack.append(_Open(kind, event.anchor, line))
        elif isinstance(event, yaml.CollectionEndEvent):
            done = self.stack.pop()
            for base in reversed(done.merged):
                for key, value in base.items():
                    done.data.setdefault(key, value)
            self.remember(done.anchor, done.data, done.size)
            self.add(done.data, done.size, done.line)
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor not in self.anchors:
                raise self.problem(line, f"the alias *{event.anchor} refers to nothing that has been read")
            value, size = self.anchors[event.anchor]
            self.aliased += size
            if self.aliased > MAX_ALIASED:
                raise self.problem(line, f"aliases expand to more than {MAX_ALIASED} values")
            self.add(value, size, line)
        elif isinstance(event, yaml.DocumentStartEvent):
            self.documents += 1
            if self.documents > 1:
                raise self.problem(line, "a second document begins; only one is allowed")

    def remember(self, anchor: str | None, value: Any, size: int) -> None:
        if anchor is not None:
            self.anchors[anchor] = (value, size)

    def add(self, value: Any, size: int, line: int) -> None:
        if not self.stack:
            self.result = value
            return
        top = self.stack[-1]
        top.size += size
        if isinstance(top.data, list):
            top.data.append(value)
        elif not top.waiting:
            top.key, top.waiting = self.key(value, line), True
        else:
            if top.key is _MERGE:
                bases = value if isinstance(value, list) else [value]
                if not all(isinstance(base, dict) for base in bases):
                    raise self.problem(line, "<< takes a mapping or a list of mappings")
                self.aliased += sum(map(len, bases))
                top.merged.extend(bases[::-1])
            else:
                top.data[top.key] = value
            top.waiting = False

    def key(self, value: Any, line: int) -> Any:
        if self.sequence_keys and isinstance(value, list):
            value = tuple(value)
            if any(isinstance(part, (list, dict)) for part in value):
                raise self.problem(line, "a key must not contain lists or mappings")
        elif isinstance(value, (list, dict)):
            raise self.problem(
                line, "a list or mapping was found where a key is expected; is a quote or comma missing?"
            )
        if value in self.stack[-1].data:
            raise self.problem(line, f"the key '{value}' occurs twice; keep one of them")
        return value

    def scalar(self, event: yaml.ScalarEvent, line: int) -> Any:
        text, tag = event.value, event.tag
        if tag is None and event.implicit[0]:
            if _INTEGER.fullmatch(text):
                tag = _TAG + "int"
            elif _FLOAT.fullmatch(text):
                tag = _TAG + "float"
            else:
                tag = _CONSTRUCTOR.resolve(yaml.ScalarNode, text, (True, False))
        elif tag in (None, "!"):
            return text
        kind = tag.removeprefix(_TAG)
        if kind == "merge":
            mapping = self.stack and isinstance(self.stack[-1].data, dict) and not self.stack[-1].waiting
            return _MERGE if mapping else text
        if kind in ("str", "timestamp", "value"):
            return text
        if kind not in ("int", "float", "bool", "null"):
            raise self.problem(line, f"the tag {tag[:60]!r} is refused: only plain data are allowed")
        return None if kind == "null" else self.number(text, kind, line)

    def number(self, text: str, kind: str, line: int) -> Any:
        try:
            if kind == "bool":
                return _CONSTRUCTOR.construct_yaml_bool(yaml.ScalarNode(_TAG + kind, text))
            if len(text) > 400:
                raise ValueError
            if kind == "int":
                plain = _INTEGER.fullmatch(text)
                value = int(text) if plain else _CONSTRUCTOR.construct_yaml_int(yaml.ScalarNode(_TAG + kind, text))
            else:
                plain = _FLOAT.fullmatch(text)
                value = float(text) if plain else _CONSTRUCTOR.construct_yaml_float(yaml.ScalarNode(_TAG + kind, text))
        except (ValueError, KeyError, OverflowError, IndexError):
            raise self.problem(line, f"'{text[:40]}' is not a value of the type {kind}") from None
        if isinstance(value, float) and not math.isfinite(value):
            raise self.problem(line, f"'{text[:40]}' is not a finite number", NotFiniteError)
        if isinstance(value, int) and abs(value) > _LARGEST:
            raise self.problem(line, f"'{text[:40]}' is too large: integers have at most 64 bits")
        return value
