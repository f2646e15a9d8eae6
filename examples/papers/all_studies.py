"""All studies of the papers, one after the other, and one table of everything they found.

    python examples/papers/all_studies.py --data DATA --output papers              # short forms
    python examples/papers/all_studies.py --data DATA --output papers --full       # full forms: hours to days

Uses the command ``aiida-aceal reproduce`` only. Every study has a folder of its own under ``papers``; ``findings.csv``
there lists each finding of the papers with its verdict and numbers. A study that cannot run (its data are missing, say)
is named at the end; the others go on. Run again, finished jobs come from the cache.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
from pathlib import Path


def command(*words: str) -> list[str]:
    """``aiida-aceal reproduce`` of the running Python."""
    return [str(Path(sys.executable).parent / "aiida-aceal"), "reproduce", *words]


def studies() -> list[str]:
    """Names of all studies."""
    done = subprocess.run(command("--list"), capture_output=True, text=True, check=True)
    return [line.split()[0] for line in done.stdout.splitlines() if line.strip()]


def main(arguments: list[str] | None = None) -> int:
    """Run the studies; the number of those that failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="studies [default: all]")
    parser.add_argument("--data", help="folder with the public data sets [default: that of ACEAL_DATA]")
    parser.add_argument("--output", type=Path, default=Path("papers"))
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--dry-run", action="store_true", help="show the jobs of each study; run nothing")
    given = parser.parse_args(arguments)
    failed, rows = [], []
    for name in given.names or studies():
        folder = given.output / name
        words = [name, "-o", str(folder)]
        words += ["--data", given.data] if given.data else []
        words += ["--full"] if given.full else []
        words += ["--dry-run"] if given.dry_run else []
        if subprocess.run(command(*words)).returncode != 0:
            failed.append(name)
            continue
        if not given.dry_run:
            found = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
            rows += [(name, found["form"], f["verdict"], f["claim"], f["numbers"]) for f in found["findings"]]
    if rows:
        with (given.output / "findings.csv").open("w", newline="", encoding="utf-8") as handle:
            writer = csv.writer(handle)
            writer.writerow(("study", "form", "came out", "finding", "numbers"))
            writer.writerows(rows)
    if failed:
        print(f"not run: {', '.join(failed)}", file=sys.stderr)
    return len(failed)


if __name__ == "__main__":
    sys.exit(main())
