"""What a terminal shows of a campaign, and what a file gets: newest rows, running jobs, a turning spinner."""

import io

import pytest
from rich.console import Console

from aiida_aceal.cli.live import Display
from aiida_aceal.lammps.deck import MAX_GAMMA_COLUMN
from aiida_aceal.report.progress import Running, last_words, run_words, text_of, time_left

LOG = f"""LAMMPS (29 Aug 2024)
   Step          Time           Temp      {MAX_GAMMA_COLUMN}
         0   0             300.1         1.25
        10   0.02          310.2         7.75
        20   0.04          295.2         3.5
"""


def row(generation):
    return {
        "generation": generation, "status": "learned", "n_candidates": 12, "n_selected": 5, "n_training": 20,
        "md_steps_reached": 1000, "md_steps_total": 5000, "max_gamma": 15.0, "wall_seconds": 12.0,
        "holdout_energy_rmse": 0.001, "holdout_forces_rmse": 0.02,
    }  # fmt: skip


def terminal(height=24, width=100):
    return Console(width=width, height=height, force_terminal=True, file=io.StringIO(), color_system=None)


def shown(display):
    console = Console(width=display.console.width, height=100, file=io.StringIO(), record=True)
    console.print(display.render())
    return console.export_text().rstrip().splitlines()


@pytest.mark.parametrize("height", [12, 24, 60])
def test_the_newest_rows_and_the_running_jobs_stay_on_the_terminal(height):
    display = Display("Copper", console=terminal(height))
    display.rows = [row(generation) for generation in range(30)]
    display.step = "generation 30: fitting 320 structures"
    display.show_jobs([Running(7, "fit", 65.0, "evaluation 12, loss 0.3"), Running(9, "errors before", 2.0, "")], 42.0)
    lines = shown(display)
    assert len(lines) <= height
    text = "\n".join(lines)
    assert any(line.split()[:1] == ["29"] for line in lines)
    assert "fitting 320 structures (about 0:42 left of this generation)" in text
    assert "1:05  fit <7>: evaluation 12, loss 0.3" in text
    assert "0:02  errors before <9>" in text
    if height == 60:
        assert "the last" in text
        assert any(line.split()[:1] == ["15"] for line in lines)


def test_the_whole_table_is_left_on_the_screen_at_the_end():
    console = terminal(24)
    with Display("Copper", console=console) as display:
        display.rows = [row(generation) for generation in range(30)]
    last = console.file.getvalue().split("Copper")[-1].splitlines()
    assert [line.split()[0] for line in last if line.split()[:1] and line.split()[0].isdigit()].count("29") == 1
    assert any(line.split()[:1] == ["0"] for line in last)


def test_the_spinner_turns():
    display = Display("Copper", console=terminal())
    spinner = display._spinner
    frames = {str(spinner.render(0.1 * tick)) for tick in range(10)}
    assert len(frames) > 3
    display.render()
    assert display._spinner is spinner
    assert display.render().renderables[1] is spinner


def test_a_file_gets_a_line_for_every_event_at_once():
    class Watched(io.StringIO):
        flushed = ""

        def flush(self):
            self.flushed = self.getvalue()

    file = Watched()
    display = Display("Copper", console=Console(file=file, width=100))
    with display:
        display.say("generation 1: fitting 30 structures")
        assert "generation 1: fitting 30 structures\n" in file.flushed
        display.show_jobs([Running(7, "walker_000", 31.0, "MD step 120 of 400, max γ so far 3.2")], None)
        assert "... 0:31  walker_000 <7>: MD step 120 of 400, max γ so far 3.2\n" in file.flushed
        display.add_row(row(1))
        assert "1000/5000" in file.flushed.splitlines()[-1]
    assert file.getvalue().count("fitting 30 structures") == 1


def test_how_far_jobs_are_by_their_own_words():
    assert run_words(LOG, 400) == "MD step 20 of 400, max γ so far 7.75"
    assert run_words(LOG[: LOG.index("        20")] + "        20   0.0", 400) == "MD step 10 of 400, max γ so far 7.75"
    assert run_words("LAMMPS (29 Aug 2024)\n", 400) == ""
    assert run_words(LOG.replace("1.25", "nan").replace("7.75", "nan"), None) == "MD step 20, max γ so far 3.5"
    errors = "3/10 configurations, 0 failed, 2.1 s\nWarning: few forces\n\n"
    assert last_words(errors) == "3/10 configurations, 0 failed, 2.1 s"
    assert last_words("") == ""
    assert text_of(Running(3, "label", 600.0, "")) == "10:00  label <3>"


def test_the_rest_of_a_generation_by_the_one_before():
    before = {"explore_md": 20.0, "select": 4.0, "label_label": 10.0, "fit": 30.0, "before": 5.0, "maxvol": 1.0,
              "holdout": 6.0, "after": 8.0, "summary": 0.2}  # fmt: skip
    assert time_left({}, {"explore_md": (3.0, False)}) is None
    assert time_left(before, {"window_md": (0.1, True)}) == 20 + 4 + 10 + 30 + 8
    assert time_left(before, {"explore_md": (5.0, False)}) == 15 + 4 + 10 + 30 + 8
    assert time_left(before, {"explore_md": (50.0, False)}) == 4 + 10 + 30 + 8  # longer than the one before
    done = {"explore_md": (5.0, True), "select": (4.0, True), "label_label": (9.0, True)}
    assert time_left(before, {**done, "fit": (10.0, False), "before": (10.0, True)}) == 20 + 8
    assert time_left(before, {**done, "fit": (31.0, True), "holdout": (6.0, True), "after": (7.0, True)}) == 0
