"""The report in a browser: headless Chromium draws it without an error, and its parts do what they are for."""

import html
import json
import re
import shutil
import subprocess

import numpy as np
import pytest
from ase.build import bulk

from aiida_aceal.report.charts import campaign_charts, costs_chart, errors, parity_chart, walkers_chart
from aiida_aceal.report.interactive import shown, thinned
from aiida_aceal.report.page import Interactive, page
from aiida_aceal.workflows.costs import JobCost, cost_table

ROWS = [
    {
        "generation": number, "status": "learned", "n_training": 20 + 10 * number, "gamma_lo": 2.0, "gamma_hi": 25.0,
        "gamma_stop": 3.0, "md_steps_reached": 1000 * number if number else None, "md_steps_total": 5000,
        "max_gamma": 30.0 / number if number else None, "holdout_forces_rmse": 0.02 / (number + 1),
        "holdout_energy_rmse": 0.002, "new_forces_rmse_before": 0.1, "new_forces_rmse_after": 0.05, "quarantine": [],
    }
    for number in range(4)
]  # fmt: skip
TABLE = cost_table([JobCost(stage="md", began=0.0, ended=6.0, core_seconds=12.0)], 0.0, 10.0)
COSTS = {"generations": {"0": TABLE, "1": TABLE}, "campaign": None, "total": TABLE}
RUN = {"generation": 1, "name": "walker_000", "pk": 5, "steps": [0, 10, 20], "gamma": [1.0, 5.0, 30.0],
       "halt": [20, 30.0], "selected": [[10, 5.0, "chosen <b>first</b>"]]}  # fmt: skip
PAIRS = {"train_forces": [(0.1, 0.12), (-1.0, -0.9)], "train_energy": [(-3.0, -3.1)]}


def atoms():
    found = bulk("Cu", cubic=True) * (2, 2, 2)
    found.rattle(0.1, seed=1)
    found.arrays["gamma"] = np.linspace(0.5, 20.0, len(found))
    return found


def whole_page():
    structures = [
        shown(atoms(), kind, f"{kind} {number}", "32 atoms", 25.0)
        for kind in ("selected", "candidates", "worst predicted")
        for number in range(2)
    ]
    interactive = Interactive(
        charts=campaign_charts(ROWS, COSTS, [RUN], PAIRS),
        structures=structures,
        nodes=[("campaign", 7, "verdi -p test process report 7"), ("fit", 12, "verdi -p test process report 12")],
        reports=[(number + 100, f"verdi data core.dict show {number + 100}") for number in range(4)],
        story=[("Converged </script> & well.", ""), ("Errors are small.", "small"), ("Next: more.", "")],
    )
    table = [[str(row["generation"]), str(row["max_gamma"])] for row in ROWS]
    return page("Copper & co", ROWS, ("gen", "max γ"), table, {"Seed": 1}, ["one </script><script>x"], "", interactive)


def test_errors_are_one_chart_with_four_views():
    chart = errors(ROWS)
    assert [view["name"] for view in chart["choices"]] == [
        "force RMSE", "force largest error", "energy RMSE", "energy largest error",
    ]  # fmt: skip
    held = chart["choices"][0]["series"][2]
    assert held["x"] == [0, 1, 2, 3]
    assert held["y"] == pytest.approx([20.0, 10.0, 20 / 3, 5.0])


def test_runs_show_halts_selections_and_limits():
    view = walkers_chart([RUN], ROWS)["choices"][0]
    series = {one["name"]: one for one in view["series"]}
    assert (series["walker_000"]["x"], series["walker_000"]["y"]) == (RUN["steps"], RUN["gamma"])
    assert (series["halted"]["x"], series["halted"]["y"]) == ([20], [30.0])
    assert (series["selected"]["x"], series["selected"]["y"]) == ([10], [5.0])
    assert {line["name"]: line["value"] for line in view["hlines"]} == {"γ_lo": 2.0, "γ_hi": 25.0, "γ_stop": 3.0}
    assert walkers_chart([], ROWS) is None


def test_costs_stand_on_top_of_one_another():
    series = {one["name"]: one for one in costs_chart(COSTS)["choices"][0]["series"]}
    assert series["MD"]["y"] == [6.0, 6.0]
    assert series["no job at work"]["base"] == [6.0, 6.0]
    assert series["no job at work"]["y"] == [4.0, 4.0]


def test_parity_shows_what_there_is():
    assert [view["name"] for view in parity_chart(PAIRS)["choices"]] == ["force component", "energy"]
    assert parity_chart({}) is None


def test_structures_are_shown_with_their_grades():
    one = shown(atoms(), "selected", "first", "words", 25.0)
    assert len(one["positions"]) == len(one["gamma"]) == len(one["radii"]) == 32
    assert one["gamma"][-1] == 20.0
    assert np.allclose(one["cell"], atoms().cell[:], atol=1e-3)
    without = atoms()
    del without.arrays["gamma"]
    assert shown(without, "selected", "first", "words", 25.0)["gamma"] is None


def test_thinning_keeps_the_ends():
    assert thinned(range(10), 20) == list(range(10))
    assert thinned(range(100), 5)[::4] == [0, 99]
    assert len(thinned(range(100), 5)) == 5


def test_nothing_in_the_numbers_can_end_the_script():
    text = whole_page()
    assert text.count("</script>") == 2
    data = re.search(r'id="data">(.*?)</script>', text, re.DOTALL).group(1)
    assert len(json.loads(data)["charts"]) == 7


PROBE = """
<script>
const result = {};
const click = (node) => node.dispatchEvent(new MouseEvent("click", { bubbles: true }));
result.charts = [...document.querySelectorAll("#charts .chart")].map((chart) => chart.id);
result.bars = document.querySelectorAll("#chart-cost svg rect").length;
const chart = document.querySelector("#chart-errors"), svg = chart.querySelector("svg");
const labels = () => [...svg.querySelectorAll("text")].map((node) => node.textContent).join("|");
const before = labels();
const box = svg.getBoundingClientRect();
const middle = { clientX: box.x + box.width / 2, clientY: box.y + box.height / 2 };
svg.dispatchEvent(new WheelEvent("wheel", { deltaY: -300, ...middle, cancelable: true }));
result.zoomed = labels() !== before;
svg.dispatchEvent(new MouseEvent("dblclick"));
result.reset = labels() === before;
const point = svg.querySelector("circle").getBoundingClientRect();
const there = { clientX: point.x + point.width / 2, clientY: point.y + point.height / 2 };
svg.dispatchEvent(new PointerEvent("pointermove", there));
result.tip = document.getElementById("tip").textContent;
const select = chart.querySelector("select");
select.value = "2"; select.dispatchEvent(new Event("change"));
result.view = labels().includes("energy RMSE");
const heads = document.querySelectorAll("#generations th");
const column = () => [...document.querySelectorAll("#generations tbody tr")].map((row) => row.cells[1].textContent);
click(heads[1]); result.up = column(); click(heads[1]); result.down = column();
const canvas = document.querySelector("#viewer canvas");
const colours = () => { const p = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  const found = new Set();
  for (let i = 0; i < p.length; i += 4) if (p[i + 3]) found.add((p[i] << 16) | (p[i + 1] << 8) | p[i + 2]);
  return found.size; };
result.colours = colours();
result.kinds = [...document.querySelectorAll("#viewer select.kind option")].map((option) => option.value);
click(document.querySelector("#viewer button.next"));
result.next = document.querySelector("#viewer select.one").selectedOptions[0].textContent;
result.commands = [...document.querySelectorAll("#nodes button.copy")].map((button) => button.dataset.command);
result.story = document.querySelectorAll("#story p").length;
result.wide = document.documentElement.scrollWidth <= window.innerWidth;
document.body.innerHTML = "";
document.body.textContent = JSON.stringify(result);
</script>
"""


def in_browser(path, size="1200,900"):
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("the page is looked at in headless Chromium, which is not installed (Debian: apt install chromium)")
    words = [
        chromium, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--v=0",
        f"--user-data-dir={path.parent / 'browser'}", f"--window-size={size}", "--dump-dom", path.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    spoken = [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
    return html.unescape(done.stdout), spoken


@pytest.mark.parametrize("size", ["1200,900", "500,900"])
def test_the_page_works_in_a_browser(tmp_path, size):
    path = tmp_path / "report.html"
    path.write_text(whole_page().replace("</body>", f"{PROBE}</body>"), encoding="utf-8")
    text, spoken = in_browser(path, size)
    assert spoken == []
    found = json.loads(re.search(r"<body>\s*(\{.*\})\s*</body>", text, re.DOTALL).group(1))
    assert found["charts"] == [
        "chart-errors", "chart-walkers", "chart-parity", "chart-gamma", "chart-lengths", "chart-training", "chart-cost",
    ]  # fmt: skip
    assert found["bars"] >= 4
    assert found["zoomed"]
    assert found["reset"]
    assert "generation: " in found["tip"]
    assert found["view"]
    assert found["up"] == ["10.0", "15.0", "30.0", "None"]
    assert found["down"] == ["30.0", "15.0", "10.0", "None"]
    assert found["colours"] > 100
    assert found["kinds"] == ["selected", "candidates", "worst predicted"]
    assert found["next"] == "selected 1"
    assert found["commands"] == ["verdi -p test process report 7", "verdi -p test process report 12"]
    assert found["story"] == 3
    assert found["wide"], "the page is wider than the screen"


def test_a_console_error_is_seen(tmp_path):
    """The test above can fail: a broken script is heard."""
    path = tmp_path / "report.html"
    path.write_text(whole_page().replace('"use strict";', '"use strict"; missing();'), encoding="utf-8")
    assert any("missing is not defined" in line for line in in_browser(path)[1])
