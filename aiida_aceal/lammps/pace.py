"""The ML-PACE commands of a LAMMPS script, mapped onto what the stock LAMMPS has and onto our engine.

========================================  ====================================================
``pair_style pace[/extrapolation]``       ``pair_style zero`` + ``fix external pf/callback``
``pair_coeff * * POT [ASI] El1 El2 ...``  engine, active set, cutoffs by pair of types
``fix ID all pair N pace/extrapolation``  ``fix ID all ave/atom 1 1 N``: a per-atom vector ``f_ID``, valid on
                                          the same steps, which the callback fills before it is asked for
``epair``, ``compute ... pair``           redirected to the fix (`thermo`)
========================================  ====================================================
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from aiida_aceal.common.errors import AceError

from .callback import FIX_EXTERNAL, GAMMA, GammaFix, PaceCallback
from .control import Interpreter
from .script import Word, join_words
from .thermo import ThermoOutput, changes_box, rewrite_immediate, rewrite_variable

PLAIN, EXTRAPOLATION = "pace", "pace/extrapolation"
#: fixes that overwrite forces: they must come after the fix that brings the ACE forces
_OVERWRITING = (
    "setforce", "aveforce", "lineforce", "planeforce", "enforce2d", "freeze", "rigid", "shake", "rattle",
    "store/force", "ti/spring", "tmd",
)  # fmt: skip
#: commands that ask the pair style for single pairs, which no many-body ACE has
_PAIRWISE = {
    ("compute", "group/group"), ("compute", "pair/local"), ("compute", "force/tally"), ("compute", "pe/tally"),
    ("compute", "stress/tally"), ("compute", "heat/flux/tally"), ("compute", "pe/mol/tally"), ("compute", "fep"),
    ("compute", "heat/flux/virial/tally"), ("compute", "pair/entropy/tally"), ("compute", "stress/cartesian"),
    ("compute", "stress/mop"), ("compute", "stress/mop/profile"),
}  # fmt: skip
_WITH_PAIR_KEYWORD = {"pe": 3, "pe/atom": 3, "pressure": 4, "stress/atom": 4, "centroid/stress/atom": 4}
_RUNS = ("run", "minimize", "rerun", "minimize/kk", "tad", "prd", "neb", "dynamical_matrix", "third_order")
_ACCELERATED = {"gpu", "kk", "intel", "kokkos"}
_REMEDY = "use aceal-lmp without it, or a native LAMMPS with ML-PACE"


class PaceCommands:
    """Handlers of the commands that ACE changes; registers itself in an interpreter."""

    def __init__(self, interpreter: Interpreter) -> None:
        self.interpreter = interpreter
        self.library = interpreter.library
        self.thermo = ThermoOutput(interpreter)
        #: called when a potential has been loaded
        self.on_potential: Callable[[], None] = lambda: None
        self._postponed: dict[str, str] = {}
        self._reset()
        interpreter.rewrite = lambda text: rewrite_immediate(text) if self.style else text
        interpreter.plain_if["variable"] = lambda text: rewrite_variable(text) is None
        interpreter.handlers.update(
            {
                "pair_style": self._pair_style,
                "pair_coeff": self._pair_coeff,
                "fix": self._fix,
                "unfix": self._unfix,
                "compute": self._compute,
                "variable": self._variable,
                "thermo_style": self._thermo_style,
                "thermo_modify": self._thermo_modify,
                "clear": self._clear,
                "read_restart": self._read_restart,
                "reset_timestep": self._reset_timestep,
                "write_data": self._write_data,
                "run_style": self._run_style,
                "suffix": self._suffix,
                "package": self._suffix,
                "pair_write": self._pair_write,
                **dict.fromkeys(_RUNS, self._run),
            }
        )

    def _reset(self) -> None:
        self.style = ""
        self.callback: PaceCallback | None = None
        self._gamma_fixes: dict[str, GammaFix] = {}
        self._user_fixes: dict[str, str] = {}
        self._external = False
        self._respa = False
        self.thermo.reset()

    # --- potential ----------------------------------------------------------------------------------------------------
    def _pair_style(self, text: str) -> None:
        words = self.interpreter.expand(text)
        names = [word.text for word in words[1:]]
        style = names[0] if names else ""
        if not any(name == PLAIN or name.startswith("pace/") for name in names):
            self._leave()
            self.interpreter.pass_on(text, words)
            return
        if style.startswith("hybrid"):
            raise AceError(f"pair_style {style} with pace is not supported by aceal-lmp: {_REMEDY}")
        if style not in (PLAIN, EXTRAPOLATION):
            raise AceError(f"pair_style {style} is not supported by aceal-lmp: use '{PLAIN}' or '{EXTRAPOLATION}'")
        arguments = iter(names[1:])
        for argument in arguments:
            if argument == "chunksize":
                argument = next(arguments, "")
                if not argument.isdigit():
                    raise AceError("Illegal pair_style command: chunksize needs a number")
            elif argument not in ("recursive", "product"):
                raise AceError(
                    f"Illegal pair_style command: {style} does not know '{argument}' (recursive, product, chunksize N)"
                )
        if self._respa:
            raise AceError(
                f"run_style respa with pair_style {style} is not supported by aceal-lmp: use run_style verlet"
            )
        if self.style and self.style != style:
            self._leave()
        self.interpreter.echo(text)
        if self.style == style:
            return  # as in LAMMPS, the same style again keeps its potential
        self.style = style
        self.library.command("pair_style zero 1.0 full")
        for definition in self._postponed.values():
            self.interpreter.execute(definition)
        self._postponed.clear()

    def _leave(self) -> None:
        """The script changes to a pair style without ACE."""
        if self._gamma_fixes:
            first = next(iter(self._gamma_fixes))
            raise AceError(f"fix {first} needs pair_style {EXTRAPOLATION}: 'unfix {first}' before another pair_style")
        if self._external:
            self.library.command(f"unfix {FIX_EXTERNAL}")
        if self._external and self.library.has_id("fix", GAMMA):
            self.library.command(f"uncompute {GAMMA}")
            self.library.command(f"unfix {GAMMA}")
        self.style, self.callback, self._external = "", None, False

    def _ensure_external(self) -> None:
        """Make `fix external` as early as possible: later fixes see the ACE forces."""
        if self._external or not self.library.extract_setting("box_exist"):
            return
        for name, style in self._user_fixes.items():
            if style.startswith(_OVERWRITING):
                raise AceError(f"fix {name} ({style}) changes forces before ACE adds its own: put it after pair_coeff")
        self.library.command(f"fix {FIX_EXTERNAL} all external pf/callback 1 1")
        self.library.command(f"fix_modify {FIX_EXTERNAL} energy yes virial yes")
        self.library.set_fix_external_callback(FIX_EXTERNAL, self._no_potential, None)
        self._external = True

    def _no_potential(self, *_arguments) -> None:
        from .callback import fatal

        fatal(self.library, f"All pair coeffs are not set: pair_style {self.style} needs a pair_coeff command")

    def _pair_coeff(self, text: str) -> None:
        words = self.interpreter.expand(text)
        if not self.style:
            self.interpreter.pass_on(text, words)
            return
        arguments = [word.text for word in words[1:]]
        n_files = 2 if self.style == EXTRAPOLATION else 1
        form = "POTENTIAL.yaml ACTIVE_SET.asi" if n_files == 2 else "POTENTIAL"
        if arguments[:2] != ["*", "*"]:
            raise AceError(f"pair_coeff of {self.style} must begin with '* *': pair_coeff * * {form} El1 El2 ...")
        if not self.library.extract_setting("box_exist"):
            raise AceError("pair_coeff command before simulation box is defined: put it after read_data or create_box")
        n_types = self.library.extract_setting("ntypes")
        files, elements = arguments[2 : 2 + n_files], arguments[2 + n_files :]
        if len(files) < n_files or len(elements) != n_types:
            raise AceError(
                f"pair_coeff of {self.style} needs {form} and {n_types} elements, one for each atom type, "
                f"but has {len(elements)}: {' '.join(arguments)}"
            )
        self.interpreter.echo(text)
        self.callback = self._load(files, elements)
        self.callback.gamma_fixes = self._gamma_fixes
        self._set_cutoffs(elements)
        self._ensure_external()
        self.library.set_fix_external_callback(FIX_EXTERNAL, self.callback, None)
        self.on_potential()

    def _load(self, files: list[str], elements: list[str]) -> PaceCallback:
        from aiida_aceal.ace import AceModel, AcePotential

        path = Path(files[0])
        if not path.is_file():
            raise AceError(f"cannot open potential file {path}: no such file in {Path.cwd()}")
        if self.style == EXTRAPOLATION and path.suffix != ".yaml":
            raise AceError(
                f"pair_style {EXTRAPOLATION} needs a B-basis .yaml, not {path}: use the .yaml it was made from"
            )
        potential = AcePotential.read(path)
        known = potential.elements
        for number, element in enumerate(elements, start=1):
            if element == "NULL":
                raise AceError(
                    f"element NULL (type {number}) needs a hybrid pair style, which aceal-lmp does not have: {_REMEDY}"
                )
            if element not in known:
                raise AceError(f"element {element} (type {number}) is not in {path}, which has {', '.join(known)}")
        model = AceModel(potential)
        note = self.interpreter.note
        sizes = ", ".join(f"{el} {n}" for el, n in model.n_functions.items())
        note(f"{path}: functions {sizes}; cutoff {potential.cutoff:g}; {model.threads} threads")
        note("; ".join(f"type {number} = {element}" for number, element in enumerate(elements, start=1)))
        if self.style == EXTRAPOLATION:
            from aiida_aceal.uncertainty import LocalActiveSet
            from aiida_aceal.uncertainty.local import load_with_local

            model.active_set = active_set = load_with_local(files[1], potential=potential)
            note(f"{files[1]}: {active_set.kind} active set")
            if active_set.emptiness_note:
                note(active_set.emptiness_note)
            if isinstance(active_set, LocalActiveSet):
                parts = ", ".join(f"{el} {len(found)}" for el, found in active_set.clusters.items())
                switch = "" if active_set.switch is None else f", switch {active_set.switch:g}"
                note(f"gamma is local: clusters {parts}; definition {active_set.definition}{switch}")
        # E0 is part of what a .yace says and native LAMMPS adds it; a .yaml has none
        shift = np.array(getattr(potential, "energies", [0.0] * len(known)), dtype=float)
        return PaceCallback(self.library, model, [known.index(element) for element in elements], shift)

    def _set_cutoffs(self, elements: list[str]) -> None:
        bonds = self.callback.model.potential.bonds
        self.library.command(f"pair_style zero {self.callback.model.cutoff!r} full")
        for i, first in enumerate(elements, start=1):
            for j, second in enumerate(elements[i - 1 :], start=i):
                both = [bonds[pair].rcut for pair in ((first, second), (second, first)) if pair in bonds]
                self.library.command(f"pair_coeff {i} {j} {max(both, default=self.callback.model.cutoff)!r}")

    # --- gamma --------------------------------------------------------------------------------------------------------
    def _fix(self, text: str) -> None:
        words = self.interpreter.expand(text)
        names = [word.text for word in words]
        if len(names) < 4:
            self.interpreter.pass_on(text, words)
            return
        if self.style:
            self._ensure_external()
        if names[3] == "pair" and len(names) > 5 and names[5].startswith(PLAIN):
            self._fix_pair(text, names)
            return
        if any(name == PLAIN or name.startswith("pace/") for name in names[4:]) and names[3].startswith("adapt"):
            raise AceError(f"fix {names[3]} of {self.style} is not supported by aceal-lmp: {_REMEDY}")
        if self.style and names[3] in ("gcmc", "widom") and "full_energy" not in names:
            raise AceError(f"fix {names[3]} with {self.style} needs its keyword full_energy")
        self.interpreter.pass_on(text, words)
        self._user_fixes[names[1]] = names[3]

    def _fix_pair(self, text: str, names: list[str]) -> None:
        identifier, interval, style, rest = names[1], names[4], names[5], names[6:]
        if style != EXTRAPOLATION or self.style != EXTRAPOLATION:
            raise AceError(
                f"Pair style {style} for fix pair not found: gamma needs pair_style {EXTRAPOLATION} before the fix"
            )
        if not interval.isdigit() or int(interval) < 1:
            raise AceError(
                f"Illegal fix pair command: the interval must be a positive number of steps, not '{interval}'"
            )
        if not self._external:
            raise AceError("fix command before simulation box is defined: put it after read_data or create_box")
        fields = dict(zip(rest[::2], rest[1::2]))
        if "corerep" in fields:
            raise AceError(
                "fix pair ... corerep is not supported by aceal-lmp: remove it, or use a native LAMMPS with ML-PACE"
            )
        if len(rest) != 2 or rest[0] != "gamma" or rest[1] not in ("0", "1"):
            raise AceError(f"Illegal fix pair command: expected 'gamma 1' after {style}, not '{' '.join(rest)}'")
        self.interpreter.echo(text)
        if not self.library.has_id("fix", GAMMA):
            self.library.command(f"fix {GAMMA} all property/atom d_{GAMMA} writedata no")
            self.library.command(f"compute {GAMMA} all property/atom d_{GAMMA}")
        if identifier in self._gamma_fixes:
            self.library.command(f"unfix {identifier}")
        self._gamma_fixes[identifier] = GammaFix(identifier, int(interval), rest[1] == "1")
        self._make_gamma_fix(self._gamma_fixes[identifier])

    def _make_gamma_fix(self, fix: GammaFix) -> None:
        self.library.command(f"fix {fix.identifier} all ave/atom 1 1 {fix.interval} c_{GAMMA}")

    def _unfix(self, text: str) -> None:
        words = self.interpreter.expand(text)
        self.interpreter.pass_on(text, words)
        for word in words[1:2]:
            self._gamma_fixes.pop(word.text, None)
            self._user_fixes.pop(word.text, None)

    def _reset_timestep(self, text: str) -> None:
        # fix ave/atom depends on the step, fix pair does not: make it anew
        for identifier in self._gamma_fixes:
            self.library.command(f"unfix {identifier}")
        self.interpreter.pass_on(text, self.interpreter.expand(text))
        for fix in self._gamma_fixes.values():
            self._make_gamma_fix(fix)

    # --- what refers to the pair style --------------------------------------------------------------------------------
    def _compute(self, text: str) -> None:
        words = self.interpreter.expand(text)
        names = [word.text for word in words]
        style = names[3] if len(names) > 3 else ""
        if self.style and ("compute", style) in _PAIRWISE:
            raise AceError(
                f"compute {style} needs energies of single pairs, which {self.style} does not have: remove it"
            )
        if style == "pair" and any(name.startswith(PLAIN) for name in names[4:5]):
            raise AceError(f"compute pair {names[4]} is not supported by aceal-lmp: use 'compute {names[1]} all pe'")
        begin = _WITH_PAIR_KEYWORD.get(style)
        if not self.style or begin is None or "pair" not in names[begin + 1 :]:
            self.interpreter.pass_on(text, words)
            return
        head, keywords = words[: begin + 1], [word for word in words[begin + 1 :] if word.text != "pair"]
        if not any(word.text in ("fix", "virial") for word in keywords):
            keywords.append(Word("fix"))
        self.interpreter.echo(text)
        self.library.command(join_words([*head, *keywords]))

    def _variable(self, text: str) -> None:
        changed = rewrite_variable(text)
        if changed is None:
            self.library.command(text)
        elif self.style:
            self.interpreter.echo(text)
            self.library.command(changed)
        else:
            self._postponed[text.split()[1]] = text
            self.library.command(text)

    def _thermo_style(self, text: str) -> None:
        words = self.interpreter.expand(text)
        self.interpreter.pass_on(text, words)
        self.thermo.set_style(words)

    def _thermo_modify(self, text: str) -> None:
        words = self.interpreter.expand(text)
        self.interpreter.pass_on(text, words)
        self.thermo.modify(words)

    def _run(self, text: str) -> None:
        if not self.style:
            self.library.command(text)
            return
        words = self.interpreter.expand(text)
        if words[0].text == "run" and "every" in [word.text for word in words]:
            for word in words[2:]:
                if word.quote and not self.interpreter.is_plain(word.text):
                    name = word.text.split()[0]
                    raise AceError(
                        f"run ... every with '{name}' is not supported by aceal-lmp: loop with label, next and jump"
                    )
        self._ensure_external()
        self.thermo.prepare_run(any(changes_box(style) for style in self._user_fixes.values()))
        self.interpreter.pass_on(text, words)

    # --- state of LAMMPS ----------------------------------------------------------------------------------------------
    def _clear(self, text: str) -> None:
        self.library.command(text)
        self._reset()

    def _read_restart(self, text: str) -> None:
        self.interpreter.pass_on(text, self.interpreter.expand(text))
        if not self.style and self.library.extract_global("pair_style") == "zero":
            # what aceal-lmp leaves in a restart file in place of pace; like pace it has no coefficients of its own
            self.library.command("pair_style none")

    def _write_data(self, text: str) -> None:
        words = self.interpreter.expand(text)
        if not self.style or any(word.text == "nocoeff" for word in words):
            self.interpreter.pass_on(text, words)
            return
        # ML-PACE writes no Pair Coeffs section; that of pair_style zero would not be readable with pace
        self.interpreter.echo(text)
        self.library.command(f"{join_words(words)} nocoeff")

    def _run_style(self, text: str) -> None:
        words = self.interpreter.expand(text)
        respa = any(word.text.startswith("respa") for word in words[1:2])
        if respa and self.style:
            raise AceError(
                f"run_style respa with pair_style {self.style} is not supported by aceal-lmp: use run_style verlet"
            )
        self._respa = respa
        self.interpreter.pass_on(text, words)

    def _suffix(self, text: str) -> None:
        words = self.interpreter.expand(text)
        for word in words[1:]:
            if word.text in _ACCELERATED:
                raise AceError(f"'{join_words(words)}' is not supported: remove it, threads are set by OMP_NUM_THREADS")
        self.interpreter.pass_on(text, words)

    def _pair_write(self, text: str) -> None:
        if self.style:
            raise AceError(f"pair_write needs energies of single pairs, which {self.style} does not have: remove it")
        self.library.command(text)
