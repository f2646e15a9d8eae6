"""Makes the table and the figures of the tutorial from a campaign in the graph.

    python docs/tutorial/from_campaign.py PK [PROFILE]

Writes ``demo_output.md`` and the pictures beside this file.
"""

import sys
from pathlib import Path

from aiida import load_profile, orm

from aiida_aceal.report.campaign import result_lines
from aiida_aceal.report.figures import draw
from aiida_aceal.report.rows import rows_of
from aiida_aceal.report.table import HEADINGS, cells

HERE = Path(__file__).parent
PICTURES = {
    "Length of the runs": "md_length.png",
    "Extrapolation grade": "gamma.png",
    "Force error": "force_error.png",
    "Training set": "training_set.png",
}


def main(pk: str) -> None:
    """Write all files."""
    node = orm.load_node(pk)
    rows = rows_of(node)
    lines = [
        "| " + " | ".join(heading.replace("\n", " ") for heading in HEADINGS) + " |",
        "|" + " ---: |" * len(HEADINGS),
        *("| " + " | ".join(cells(row)) + " |" for row in rows),
    ]
    lines_of_result = ".\n".join(result_lines(node, rows))
    last = rows[-1]
    size = f"({last['n_training']} training structures)"
    text = f"""{chr(10).join(lines)}

```text
Converged: every run reached its full length with gamma <= {last["gamma_stop"]:g} {size}.
{lines_of_result}.
```
"""
    (HERE / "demo_output.md").write_text(text, encoding="utf-8")
    for title, name in PICTURES.items():
        (HERE / name).write_bytes(draw(title, rows))


if __name__ == "__main__":
    load_profile(sys.argv[2] if len(sys.argv) > 2 else "aceal-demo")
    main(sys.argv[1])
