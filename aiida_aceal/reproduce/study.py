"""What a study is, and the files its outcome becomes."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from aiida_aceal.common.atomic import write_bytes, write_json, write_text
from aiida_aceal.common.settings import Settings, setting

from .sources import SOURCES

if TYPE_CHECKING:
    from .bench import Bench

#: whether a finding of the paper came out
Verdict = Literal["yes", "partly", "no"]


class Form(Settings):
    """What all studies let one choose."""

    seeds: tuple[int, ...] = setting((0,), "Random seeds of splits, fits and choices.", ge=0, items=(1, None))


@dataclass(frozen=True)
class Step:
    """One job of a study: its name and how long it takes, in seconds on one core, to begin with."""

    label: str
    seconds: float


@dataclass(frozen=True)
class Table:
    """Numbers in rows; numbers in text form are shown as they are."""

    title: str
    columns: tuple[str, ...]
    rows: Sequence[Sequence[Any]]

    def markdown(self) -> str:
        """The table in Markdown."""
        lines = [self.columns, ["---"] * len(self.columns), *([_cell(v) for v in row] for row in self.rows)]
        return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)

    def csv(self) -> str:
        """The table as comma-separated values, numbers in full."""
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(self.columns)
        writer.writerows(["" if value is None else value for value in row] for row in self.rows)
        return buffer.getvalue()


@dataclass(frozen=True)
class Finding:
    """A claim of the paper, whether it came out here, and the numbers that say so."""

    claim: str
    verdict: Verdict
    numbers: str


@dataclass
class Outcome:
    """Everything a study found. ``figures``: name -> PNG; ``remarks``: what differs from the paper."""

    findings: list[Finding] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    figures: dict[str, bytes] = field(default_factory=dict)
    numbers: dict[str, Any] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Study:
    """A study in two forms.

    ``plan`` lists all jobs of a form in their order, so that progress and the time left can be shown; ``run`` gets a
    `Bench`, which runs jobs under exactly these names, and returns the outcome. ``sources``: data sets it reads, of
    which ``chosen_sources`` tells those of a form.
    """

    name: str
    title: str
    figures: str
    form: type[Form]
    short: Mapping[str, Any]
    full: Mapping[str, Any]
    plan: Callable[[Any], list[Step]]
    run: Callable[[Bench, Any], Outcome]
    sources: tuple[str, ...] = ()
    chosen_sources: Callable[[Any], tuple[str, ...]] | None = None

    def needs(self, form: Form) -> tuple[str, ...]:
        """Data sets that this form reads."""
        return self.sources if self.chosen_sources is None else self.chosen_sources(form)

    def settings(self, full: bool, changes: Mapping[str, Any] | None = None) -> Form:
        """Settings of the short or the full form, with changes.

        :raises AceError: unknown keys or wrong values
        """
        return self.form.read({**(self.full if full else self.short), **(changes or {})}, self.name)


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.0f}" if 999.5 <= abs(value) < 1e6 else f"{value:.3g}"
    return str(value)


def markdown(study: Study, form: Form, kind: str, outcome: Outcome) -> str:
    """The outcome as a page; the pages of the docs are these files."""
    chosen = ", ".join(f"{key} {_setting(value)}" for key, value in form.to_dict().items())
    usual = study.settings(kind == "full").to_dict()
    changed = [f"--set '{k}={json.dumps(v)}'" for k, v in form.to_dict().items() if v != usual[k]]
    option = "".join(f" {word}" for word in [*(["--full"] if kind == "full" else []), *changed])
    lines = [f"# {study.title}", "", f"{study.figures}. Made by", ""]
    lines += ["```bash", f"aiida-aceal reproduce {study.name}{option}", "```", "", f"in the {kind} form: {chosen}.", ""]
    for name in study.needs(form):
        source = SOURCES[name]
        lines.append(f"- Data: {source.content}; {source.origin}, <{source.link}>.")
    lines += [f"- {remark}" for remark in outcome.remarks]
    lines += ["", "| finding of the paper | came out | numbers |", "| --- | --- | --- |"]
    lines += [f"| {f.claim} | {f.verdict} | {f.numbers} |" for f in outcome.findings]
    for table in outcome.tables:
        lines += ["", f"**{table.title}**", "", table.markdown()]
    for name in outcome.figures:
        lines += ["", f"![{study.title}]({study.name}{_suffix(name)}.png)"]
    return "\n".join(lines) + "\n"


def _setting(value: Any) -> str:
    return " ".join(str(v) for v in value) if isinstance(value, list) else str(value)


def _suffix(name: str) -> str:
    return f"-{name}" if name else ""


def write(study: Study, form: Form, kind: str, outcome: Outcome, folder: Path) -> list[Path]:
    """Write NAME.md, NAME.json, a CSV of each table and a PNG of each figure; returns their paths.

    :raises AceError: the folder cannot be written
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{study.name}.md", folder / f"{study.name}.json"]
    write_text(paths[0], markdown(study, form, kind, outcome))
    write_json(
        paths[1],
        {
            "study": study.name, "form": kind, "settings": form.to_dict(),
            "findings": [vars(finding) for finding in outcome.findings],
            "tables": [{"title": t.title, "columns": list(t.columns), "rows": t.rows} for t in outcome.tables],
            "numbers": outcome.numbers, "remarks": outcome.remarks,
        },
    )  # fmt: skip
    for number, table in enumerate(outcome.tables, start=1):
        paths.append(folder / f"{study.name}{_suffix(str(number) if len(outcome.tables) > 1 else '')}.csv")
        write_text(paths[-1], table.csv())
    for name, image in outcome.figures.items():
        paths.append(folder / f"{study.name}{_suffix(name)}.png")
        write_bytes(paths[-1], image)
    return paths
