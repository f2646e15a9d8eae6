"""A WorkChain of jobs of which the first ends only when the last has run: who waits for the first waits for ever."""

from __future__ import annotations

from aiida import orm
from aiida.engine import while_
from aiida.plugins import CalculationFactory

from aiida_aceal.workflows.base import AceWorkChain
from aiida_aceal.workflows.labellers.base import next_starts
from aiida_aceal.workflows.waiting import WaitsForAny, ended


class AnyChain(WaitsForAny, AceWorkChain):
    """``count`` jobs, two at a time."""

    @classmethod
    def define(cls, spec):
        """Ports and outline."""
        super().define(spec)
        spec.input("code", valid_type=orm.AbstractCode)
        spec.input("flag", valid_type=orm.Str, help="File that the first job waits for and the last one makes.")
        spec.input("count", valid_type=orm.Int)
        spec.outline(cls.setup, while_(cls.is_unfinished)(cls.advance))

    def setup(self):
        """All wait."""
        self.ctx.queue, self.ctx.flight, self.ctx.steps = list(range(self.inputs.count.value)), {}, 0

    def is_unfinished(self):
        """Whether any waits or runs."""
        return bool(self.ctx.queue or self.ctx.flight)

    def advance(self):
        """As in the labelling WorkChains."""
        self.ctx.steps += 1
        over = ended(self.ctx.flight.values())
        flight = {index: pk for index, pk in self.ctx.flight.items() if pk not in over}
        start, queue = next_starts(self.ctx.queue, len(flight), 2)
        for index in start:
            flight[str(index)] = self.submit_child(
                f"job_{index}", CalculationFactory("core.arithmetic.add"), self.job(index)
            ).pk
        self.ctx.queue, self.ctx.flight = queue, flight
        if flight:
            self.wait_for_any(flight.values())
        else:
            self.report(f"{self.ctx.steps} steps")

    def job(self, index):
        """Inputs of a job."""
        flag = self.inputs.flag.value
        lines = {
            0: f"while [ ! -e '{flag}' ]; do sleep 0.1; done",
            self.inputs.count.value - 1: f"touch '{flag}'",
        }
        options = {"resources": {"num_machines": 1}, "withmpi": False, "prepend_text": lines.get(index, "")}
        return {"code": self.inputs.code, "x": orm.Int(index), "y": orm.Int(1), "metadata": {"options": options}}
