"""LAMMPS scripts as users write them: flow control, variables, gamma on its interval, restarts, several runs."""

from __future__ import annotations

import numpy as np
import pytest

from aiida_aceal.ace import AceModel
from aiida_aceal.lammps.control import _branches
from aiida_aceal.lammps.dumps import read_dump
from aiida_aceal.lammps.script import Frame, Word, join_words, read_commands, split_words
from aiida_aceal.lammps.thermo import rewrite_immediate, rewrite_variable

GAMMA = """fix pace_gamma all pair 10 pace/extrapolation gamma 1
compute max_pace_gamma all reduce max f_pace_gamma
variable max_pace_gamma equal c_max_pace_gamma
"""


# --- parsing ----------------------------------------------------------------------------------------------------------
def test_words():
    line = 'print "a # b" \'c "d"\' """e "f" g""" $(1 + 2) ${x}y # comment "'
    assert [word.text for word in split_words(line)] == ["print", "a # b", 'c "d"', 'e "f" g', "$(1 + 2)", "${x}y"]
    assert split_words(join_words(split_words(line))) == split_words(line)
    assert split_words("  # only a comment") == []


def test_logical_lines():
    text = 'a b &\n  c\n\n# note &\nstill a note\nprint """x\ny"""\nlast &'
    commands = read_commands(text)
    assert [command.number for command in commands] == [1, 4, 6, 8]
    assert commands[0].text.split() == ["a", "b", "c"]
    assert split_words(commands[1].text) == []
    assert commands[2].text == 'print """x\ny"""'
    assert commands[3].text.strip() == "last"


def test_label_is_searched_forwards():
    frame = Frame("x", read_commands("label a\nrun 1\nlabel b # here\nrun 2\nlabel a\n"))
    frame.seek_label("b")
    assert frame.next_command().text == "run 2"
    frame.seek_label("a")
    assert frame.next_command() is None


def test_branches_of_if():
    words = split_words('if "$a > 1" then "run 1" "run 2" elif "$a == 0" quit else "jump SELF x"')
    assert _branches(words) == [
        (Word("$a > 1", '"'), ["run 1", "run 2"]),
        (Word("$a == 0", '"'), ["quit"]),
        (None, ["jump SELF x"]),
    ]


def test_pair_energy_keywords():
    assert rewrite_variable("variable e equal epair/atoms+c_epair") == "variable e equal f_aceal_pace/atoms+c_epair"
    assert rewrite_variable("variable e equal pe") is None
    assert rewrite_variable("variable e string epair") is None
    assert (
        rewrite_immediate('print "epair $(epair+(evdwl)) $(pe)"')
        == 'print "epair $(f_aceal_pace+(f_aceal_pace)) $(pe)"'
    )


# --- flow control -----------------------------------------------------------------------------------------------------
def test_loops_branches_includes(lmp, tmp_path, head, make_alloy):
    (tmp_path / "potential.in").write_text(
        "pair_style ${style}\npair_coeff * * toy.yaml &\n  toy.asi ${names}\nprint 'included $(ramp(1,2)*0+3)'\n"
    )
    (tmp_path / "tail.in").write_text("print skipped\nlabel here\nprint 'in the tail'\nrun 0\nquit 3\nprint never\n")
    setup = head.split("pair_style")[0]
    script = (
        setup
        + """variable style index pace/extrapolation
variable names string "Au Cu"
include ${dir}/potential.in
variable T index 100 200 300
variable n equal 0
fix md all nve
label top
  variable n equal ${n}+1
  if "${T} == 200" then "print 'middle'" "jump SELF skip" elif "${T} > 200" "print 'large'" else "print small"
  velocity all create $T 4928 # comment
  run 2
  label skip
  next T
jump SELF top
print "rounds ${n}"
variable i loop 5
label inner
  if "$i >= 3" then "jump SELF out"
  next i
jump SELF inner
label out
print \"\"\"left at $i
of 5\"\"\"
jump tail.in here
"""
    )
    run = lmp(script.replace("ramp(1,2)*0+", ""), make_alloy(1), "-var", "dir", str(tmp_path))
    assert run.status == 3, run.stderr
    shown = [line for line in run.stdout.splitlines() if line.split()[:1]]
    for text in ("included 3", "small", "middle", "large", "rounds 3", "left at 3", "in the tail"):
        assert shown.count(text) == 1, text
    assert "skipped" not in shown
    assert "never" not in shown
    assert [len(table["Step"]) for table in run.log.runs] == [2, 2, 1]
    assert run.log.completed


def test_script_on_standard_input(lmp, head, make_alloy):
    run = lmp(head + "run 0\n", make_alloy(1), "-log", "none", "-echo", "screen", stdin=True)
    assert run.status == 0, run.stderr
    assert "pair_coeff * * toy.yaml toy.asi Au Cu\n" in run.stdout
    assert not (run.folder / "log.lammps").exists()


def test_scripts_without_ace_are_untouched(lmp):
    run = lmp(
        """units metal
region b block 0 10 0 10 0 10
create_box 1 b
create_atoms 1 random 30 8 b overlap 2
mass 1 63
pair_style lj/cut 5
pair_coeff * * 0.01 2.3
compute p all pe/atom pair
variable e equal epair
thermo_style custom step epair pe v_e
run 0
"""
    )
    assert run.status == 0, run.stderr
    table = run.log.runs[0]
    assert table["E_pair"][0] == table["PotEng"][0] == table["v_e"][0] != 0
    assert "aceal" not in run.log_text


# --- thermo -----------------------------------------------------------------------------------------------------------
def test_pair_energy_in_every_thermo_style(lmp, head, make_alloy):
    """epair and evdwl are the ACE energy, whatever style shows them, with LAMMPS' own column names."""
    run = lmp(
        "variable before equal epair\n"
        + head
        + """thermo_modify format float %.12g
run 0
fix md all npt temp 300 300 0.1 iso 0 0 1
run 0
unfix md
thermo_style multi
thermo_modify format float %.12g
run 0
thermo_style yaml
thermo_modify format float %.12g
run 0
variable after equal 2*epair
compute e all pe pair
compute p all pressure NULL pair
compute a all pe/atom pair
compute asum all reduce sum c_a
thermo_style custom step evdwl epair pe v_before v_after c_e c_p c_asum press
thermo_modify format float %.12g norm no
run 0
print "now $(epair:%.9f) $(pe:%.9f)"
""",
        make_alloy(1),
    )
    assert run.status == 0, run.stderr
    one, box, multi, yaml, custom = ({k: v[0] for k, v in table.items()} for table in run.log.runs)
    energy = custom["PotEng"]
    assert list(one) == ["Step", "Temp", "E_pair", "E_mol", "TotEng", "Press"]
    assert list(box) == ["Step", "Temp", "E_pair", "E_mol", "TotEng", "Press", "Volume"]
    for table, name in [(one, "E_pair"), (box, "E_pair"), (multi, "E_vdwl"), (yaml, "E_pair"), (custom, "E_vdwl"),
                        (custom, "E_pair"), (custom, "v_before"), (custom, "c_e"), (custom, "c_asum")]:  # fmt: skip
        assert table[name] == pytest.approx(energy, rel=1e-9), name
    assert custom["v_after"] == pytest.approx(2 * energy)
    assert custom["c_p"] == pytest.approx(custom["Press"])
    now = next(line for line in run.stdout.splitlines() if line.startswith("now")).split()
    assert now[1] == now[2]


# --- gamma ------------------------------------------------------------------------------------------------------------
def test_gamma_on_its_interval(lmp, head, toy, make_alloy):
    """Dump, reduction, variable and halt see the gamma of their own step, and only multiples of N have one."""
    run = lmp(
        head
        + GAMMA
        + """variable skip equal "c_max_pace_gamma < 1.0"
variable each atom f_pace_gamma*2
dump d all custom 20 x.dump id type element x y z f_pace_gamma v_each
dump_modify d element Au Cu sort id format float %.15g skip v_skip
fix stop all halt 10 v_max_pace_gamma > 1.6 error continue message yes
velocity all create 6000 3
fix md all nvt temp 3000 12000 0.05
thermo 10
thermo_style custom step c_max_pace_gamma
thermo_modify format float %.15g
run 1000
write_dump all custom last.dump id element x y z f_pace_gamma modify element Au Cu format float %.15g
print "after the halt"
""",
        make_alloy(8),
    )
    assert run.status == 0, run.stderr
    log = run.log
    assert log.halted
    assert log.completed
    steps, gamma = log.runs[0]["Step"], log.runs[0]["c_max_pace_gamma"]
    assert log.halt_step == steps[-1] == 10 * (len(steps) - 1) < 1000
    assert gamma[-1] > 1.6 >= gamma[:-1].max()
    dump = read_dump(run.folder / "x.dump")
    wanted = [int(step) for step, value in zip(steps, gamma) if step % 20 == 0 and value >= 1.0]
    assert dump.complete
    assert [frame.step for frame in dump.frames] == wanted
    assert wanted
    model = toy.model()
    for frame in [*dump.frames, *read_dump(run.folder / "last.dump").frames]:
        want = model.evaluate(frame.atoms, gamma=True).gamma
        np.testing.assert_allclose(frame.atoms.arrays["gamma"], want, rtol=1e-8)
        assert want.max() == pytest.approx(gamma[steps == frame.step][0], rel=1e-8)
    assert (run.folder / "x.dump").read_text().count("ITEM: ATOMS id type element x y z f_pace_gamma v_each") == len(
        wanted
    )
    assert "after the halt" in run.stdout


def test_gamma_between_its_steps_is_an_error_as_in_ml_pace(lmp, head, make_alloy):
    run = lmp(
        head + GAMMA + "thermo_style custom step c_max_pace_gamma\nthermo 5\nfix md all nve\nrun 20\n", make_alloy(1)
    )
    assert run.status == 1
    assert "not computed at compatible time" in run.log.errors[0]
    assert run.log.runs[0]["Step"].tolist() == [0]


def test_two_gamma_fixes_and_a_stored_one(lmp, head, make_alloy):
    run = lmp(
        head
        + """fix a all pair 4 pace/extrapolation gamma 1
fix b all pair 6 pace/extrapolation gamma 1
fix c all pair 4 pace/extrapolation gamma 0
compute a all reduce max f_a
compute b all reduce max f_b
compute c all reduce max f_c
fix md all nve
velocity all create 500 1
thermo 12
thermo_style custom step c_a c_b c_c
run 24
unfix b
uncompute b
thermo_style custom step c_a
thermo 4
run 8
""",
        make_alloy(1),
    )
    assert run.status == 0, run.stderr
    table = run.log.runs[0]
    np.testing.assert_array_equal(table["c_a"], table["c_b"])
    np.testing.assert_array_equal(table["c_a"], table["c_c"])
    assert len(set(table["c_a"])) == 3
    assert len(run.log.runs[1]["Step"]) == 3


# --- several runs, restarts -------------------------------------------------------------------------------------------
RUN = """velocity all create 300 77
fix md all nve
thermo 10
thermo_style custom step pe etotal press c_max_pace_gamma
thermo_modify format float %.13g
"""


def test_restart_and_rerun_continue_the_run(lmp, head, make_alloy):
    potential = "".join(line + "\n" for line in head.splitlines() if line.startswith(("pair", "neigh", "timestep")))
    again = RUN.split("\n", 1)[1]
    run = lmp(
        head
        + GAMMA
        + RUN
        + f"""dump d all custom 10 x.dump id type x y z vx vy vz
dump_modify d format float %.17g
run 20
undump d
write_restart x.restart
write_data x.data
run 10
clear
read_restart x.restart
{potential}{GAMMA}{again}run 10
reset_timestep 0
run 10
clear
units metal
box tilt large
read_data x.data
{potential}{GAMMA}{again}run 0
rerun x.dump dump x y z vx vy vz box yes
""",
        make_alloy(2),
    )
    assert run.status == 0, run.stderr
    first, second, restarted, reset, from_data, rerun = run.log.runs
    for column in ("PotEng", "TotEng", "Press", "c_max_pace_gamma"):
        np.testing.assert_allclose(restarted[column], second[column], rtol=1e-10, err_msg=column)
        np.testing.assert_allclose(rerun[column], first[column], rtol=1e-9, err_msg=column)
        np.testing.assert_allclose(from_data[column][0], second[column][0], rtol=1e-9, err_msg=column)
    assert reset["Step"].tolist() == [0, 10]
    assert "Pair Coeffs" not in (run.folder / "x.data").read_text()


def test_restart_alone_brings_no_pair_style(lmp, head, make_alloy):
    """As with ML-PACE: a restart file holds no pace; LAMMPS warns that there is no pair style."""
    run = lmp(head + "run 0\nwrite_restart x.restart\nclear\nread_restart x.restart\nrun 0\n", make_alloy(1))
    assert run.status == 0, run.stderr
    assert any("No pairwise cutoff" in warning for warning in run.log.warnings)


def test_new_potential_in_the_same_run(lmp, tmp_path, toy, head, make_alloy):
    doubled = toy.potential.with_coefficients({el: 2 * toy.potential.coefficients(el) for el in toy.potential.elements})
    doubled.write(tmp_path / "double.yaml")
    run = lmp(
        head
        + GAMMA
        + """thermo_style custom step pe press c_max_pace_gamma
thermo_modify format float %.13g
run 0
pair_coeff * * double.yaml toy.asi Au Cu
pair_style pace/extrapolation
run 0
pair_coeff * * double.yaml toy.asi Cu Au
run 0
""",
        make_alloy(1),
    )
    assert run.status == 0, run.stderr
    before, after, swapped = ({k: v[0] for k, v in table.items()} for table in run.log.runs)
    assert after["PotEng"] == pytest.approx(2 * before["PotEng"], rel=1e-10)
    assert after["c_max_pace_gamma"] == pytest.approx(before["c_max_pace_gamma"], rel=1e-10)
    atoms = make_alloy(1)
    atoms.numbers = np.where(atoms.numbers == 29, 79, 29)
    assert swapped["PotEng"] == pytest.approx(AceModel(doubled).evaluate(atoms).energy, rel=1e-9)


def test_yace_gives_the_same_run(lmp, tmp_path, toy, head, make_alloy):
    toy.potential.write(tmp_path / "toy.yace")
    tail = "thermo_style custom step pe press\nthermo_modify format float %.13g\nfix md all nve\nthermo 10\nrun 10\n"
    plain = head.replace("pace/extrapolation", "pace product chunksize 512").replace("toy.asi ", "")
    yaml = lmp(plain + tail, make_alloy(3))
    yace = lmp(plain.replace("toy.yaml", "toy.yace") + tail, make_alloy(3))
    assert yace.status == 0, yace.stderr
    for column in ("PotEng", "Press"):
        np.testing.assert_allclose(yace.log.runs[0][column], yaml.log.runs[0][column], rtol=1e-7)


def test_forces_come_before_fixes_that_change_them(lmp, head, make_alloy):
    """A frozen atom stays where it is, also when its fix is defined before pair_coeff but after pair_style."""
    lines = head.splitlines(keepends=True)
    at = next(k for k, line in enumerate(lines) if line.startswith("pair_coeff"))
    lines.insert(at, "group frozen id 1\nfix freeze frozen setforce 0 0 0\n")
    run = lmp(
        "".join(lines) + "fix md all nve\nrun 20\nwrite_dump all custom x.dump id type x y z fx fy fz\n", make_alloy(1)
    )
    assert run.status == 0, run.stderr
    frame = read_dump(run.folder / "x.dump", ["Au", "Cu"]).frames[0].atoms
    assert np.abs(frame.arrays["ace_forces"][0]).max() == 0
    assert np.abs(frame.arrays["ace_forces"][1]).max() > 0
