"""Growing the control-flow graph from the places where execution begins (the graph itself is in `flow.py`)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from npuc.compiler.asm.codec import DecodeError, decode_observed_bundle
from npuc.compiler.lint.effects import effects
from npuc.compiler.lint.findings import Findings
from npuc.compiler.lint.flow import LINE, Code, Edge, Flow, Node, Transfer, transfer
from npuc.compiler.target.aie2.schedule import DELAY_SLOTS

_ENTERED = -1
"""All that is entered from nowhere is one function: its callers are not there to be told apart, and code that many such
places lead into is followed once."""


@dataclass
class _Leads:
    """Where a node leads: nodes that follow, the entry of a callee, and whether control leaves the function."""

    flows: list[tuple[int, str]] = field(default_factory=list)
    callees: list[int] = field(default_factory=list)
    returns: bool = False
    unknown_call: bool = False
    unknown_exit: bool = False


class Builder:
    """Grows the graph from entries until nothing new is reached."""

    def __init__(self, code: Code, findings: Findings) -> None:
        self.code = code
        self.findings = findings
        self.flow = Flow(code)
        self.near: list[dict[int, None]] = []  # predecessors with calls stepped over
        self.indirect: dict[int, str] = {}  # nodes that jump through a register that is not resolved
        self.loop_writers: list[int] = []
        self.targets: list[tuple[int, int]] = []  # (address of a branch, where it goes)
        self._ids: dict[tuple[int, int, int], int] = {}
        self._places: dict[int, list[int]] = {}
        self._leads: dict[int, _Leads] = {}
        self._reach: dict[int, set[int]] = {}
        self._members: dict[int, list[int]] = {}
        self._callers: dict[int, dict[int, None]] = {}
        self._callers_from: dict[int, list[tuple[int, int]]] = {}
        self._exits: dict[int, set[int]] = {}
        self._returning: set[int] = set()
        self._vague: set[int] = set()
        self._work: list[tuple[int, int]] = []

    # nodes

    def node_at(self, address: int, branch: int = -1, slot: int = 0) -> int:
        """The node of a bundle.  Raises DecodeError."""
        found = self._ids.get((address, branch, slot))
        if found is None:
            bundle = decode_observed_bundle(self.code.code, address - self.code.base, address)
            found = self._ids[address, branch, slot] = len(self.flow.nodes)
            self.flow.nodes.append(Node(address, bundle, effects(bundle), branch, slot))
            if self.flow.nodes[found].effects.loop_registers:
                self.loop_writers.append(found)
            self.near.append({})
            self._places.setdefault(address, []).append(found)
        return found

    def at(self, address: int) -> list[int]:
        """The nodes of the bundle at an address, in all contexts."""
        return self._places.get(address, [])

    def _next(self, number: int, branch: int = -1, slot: int = 0) -> list[tuple[int, str]]:
        """The node behind a node, none where the code ends."""
        node = self.flow.nodes[number]
        if not self.code.base <= node.end < self.code.end:
            what = "the delay slots of the branch run" if slot else "execution runs"
            self.findings.add("runs-off-end", node.address, f"{what} off the end of the program at {node.end:#x}")
            return []
        try:
            return [(self.node_at(node.end, branch, slot), "flow")]
        except DecodeError as error:
            self.findings.add("undecodable", node.end, f"execution runs into {error.message}", node.address)
            return []

    def target(self, number: int, address: int) -> list[int]:
        """The node at the target of the branch at node `number`, with the findings about targets."""
        if not self.code.base <= address < self.code.end:
            span = f"{self.code.base:#x} to {self.code.end - 1:#x}"
            self.findings.add(
                "target-outside", self.flow.nodes[number].address, f"target {address:#x} is not in {span}"
            )
            return []
        self.targets.append((self.flow.nodes[number].address, address))
        if address % LINE:
            place = self.flow.nodes[number].address
            self.findings.add("target-misaligned", place, f"target {address:#x} is not 16-byte aligned", address)
            return []
        try:
            return [self.node_at(address)]
        except DecodeError as error:
            self.findings.add("undecodable", address, f"branched to: {error.message}", self.flow.nodes[number].address)
            return []

    # what follows a node

    def leads(self, number: int) -> _Leads:
        found = self._leads.get(number)
        if found is None:
            found = self._leads[number] = self._lead(number)
        return found

    def _lead(self, number: int) -> _Leads:
        node = self.flow.nodes[number]
        if node.slot and node.effects.branch is not None:
            of = self.flow.nodes[node.branch].address
            self.findings.add(
                "delay-slot-branch", node.address, f"branch in delay slot {node.slot} of the branch at {of:#x}", of
            )
        if node.slot and node.effects.loop_registers:
            of = self.flow.nodes[node.branch].address
            names = " ".join(node.effects.loop_registers)
            text = f"{names} written in delay slot {node.slot} of the branch at {of:#x}"
            self.findings.add("delay-slot-loop-register", node.address, text, of)
        if any(step.decoded.instruction.side_effect == "done" for step in node.effects.steps):
            return _Leads()
        if node.slot == DELAY_SLOTS:
            return self._transfer(number, node.branch)
        if node.slot:
            return _Leads(self._next(number, node.branch, node.slot + 1))
        if node.effects.branch is not None:
            return _Leads(self._next(number, number, 1))
        return _Leads(self._next(number))

    def _transfer(self, number: int, branch: int) -> _Leads:
        """Behind the last delay slot."""
        node = self.flow.nodes[branch]
        assert node.effects.branch is not None
        way = transfer(node.effects.branch)
        leads = _Leads()
        if way.is_conditional:
            leads.flows += self._next(number)
        if way.is_return:
            leads.returns = True
        elif self.code.is_unlinked(node.bundle):
            self._unknown(leads, way)
        elif way.register is not None:
            self.indirect[number] = way.register
        elif way.target is not None:
            self._towards(leads, branch, way, way.target)
        return leads

    def _towards(self, leads: _Leads, branch: int, way: Transfer, address: int) -> None:
        for entry in self.target(branch, address):
            if way.is_call:
                leads.callees.append(entry)
            else:
                leads.flows.append((entry, "flow"))

    @staticmethod
    def _unknown(leads: _Leads, way: Transfer) -> None:
        leads.unknown_call |= way.is_call
        leads.unknown_exit |= not way.is_call

    # growing

    def enter(self, address: int, reset: bool = False) -> bool:
        """Begin a function; whether there is code."""
        try:
            number = self.node_at(address)
        except DecodeError:
            return False
        (self.flow.at_reset if reset else self.flow.unknown).add(number)
        self._function(number, number if reset else _ENTERED)
        return True

    def _function(self, entry: int, name: int | None = None) -> None:
        """Follow what begins at a node; name: what it is known by, where not by that node."""
        function = entry if name is None else name
        if function not in self._reach:
            self._reach[function] = set()
            self._exits[function] = set()
        if entry not in self._reach[function]:
            self._work.append((function, entry))

    def grow(self) -> None:
        """Follow everything that is known."""
        while self._work:
            function, number = self._work.pop()
            reach = self._reach[function]
            if number not in reach:
                reach.add(number)
                self._members.setdefault(number, []).append(function)
                self._spread(function, number, self.leads(number))

    def _spread(self, function: int, number: int, leads: _Leads) -> None:
        for following, _ in leads.flows:
            self._near(number, following)
            self._work.append((function, following))
        for entry in leads.callees:
            self._callers.setdefault(entry, {})[number] = None
            self._callers_from.setdefault(entry, []).append((function, number))
            self._near(number, entry)
            self._function(entry)
            if entry in self._returning:
                self._come_back(function, number, entry in self._vague)
        if leads.unknown_call:
            self._come_back(function, number, True)
        if leads.returns or leads.unknown_exit:
            self._exits[function].add(number)
            news = function not in self._returning or (leads.unknown_exit and function not in self._vague)
            self._returning.add(function)
            if leads.unknown_exit:
                self._vague.add(function)
            if news:
                for caller, call in self._callers_from.get(function, ()):
                    self._come_back(caller, call, function in self._vague)

    def calls_over(self, call: int, following: int) -> bool:
        """Whether a node is a call and another the one it comes back to, rather than the callee."""
        leads = self._leads.get(call)
        if leads is None or not (leads.callees or leads.unknown_call):
            return False
        return following in self._behind(call)

    def _near(self, number: int, following: int) -> None:
        self.near[following][number] = None

    def _come_back(self, function: int, call: int, vague: bool) -> None:
        """Go on behind a call."""
        node = self.flow.nodes[call]
        if node.end % LINE:
            place = self.flow.nodes[node.branch].address
            self.findings.add("return-misaligned", place, f"the call returns to {node.end:#x}, not 16-byte aligned")
        for following, _ in self._next(call):
            self._near(call, following)
            if vague:
                self.flow.unknown.add(following)
            self._work.append((function, following))

    def lead_also(self, number: int, address: int, kind: str) -> bool:
        """Add a way from a node to an address (of a loop back, or of a jump now resolved); whether it is new."""
        node = self.flow.nodes[number]
        leads = self.leads(number)
        before = len(leads.flows) + len(leads.callees)
        if kind == "loop":
            entry = self.node_at(address)
            if (entry, kind) not in leads.flows:
                leads.flows.append((entry, kind))
        else:
            step = self.flow.nodes[node.branch].effects.branch
            assert step is not None
            for entry in self.target(node.branch, address):
                way = transfer(step)
                if way.is_call and entry not in leads.callees:
                    leads.callees.append(entry)
                elif not way.is_call and (entry, "flow") not in leads.flows:
                    leads.flows.append((entry, "flow"))
        return self._again(number, len(leads.flows) + len(leads.callees) > before)

    def lead_anywhere(self, number: int) -> bool:
        """A jump whose target is not known; whether that is new."""
        leads = self.leads(number)
        if leads.unknown_call or leads.unknown_exit:
            return False
        step = self.flow.nodes[self.flow.nodes[number].branch].effects.branch
        assert step is not None
        self._unknown(leads, transfer(step))
        return self._again(number, True)

    def _again(self, number: int, changed: bool) -> bool:
        if changed:
            for function in tuple(self._members.get(number, ())):
                self._spread(function, number, self.leads(number))
            self.grow()
        return changed

    def finish(self) -> Flow:
        """The graph with all its edges."""
        flow = self.flow
        edges: list[dict[Edge, None]] = [{} for _ in flow.nodes]
        for number, leads in self._leads.items():
            for following, kind in leads.flows:
                edges[following][Edge(number, kind)] = None
            for entry in leads.callees:
                edges[entry][Edge(number, "call", number)] = None
        for entry, calls in self._callers.items():
            for call in calls:
                for behind in self._behind(call):
                    for last in self._exits.get(entry, ()):
                        if self._leads[last].returns:
                            edges[behind][Edge(last, "return", call)] = None
        flow.predecessors = [list(found) for found in edges]
        flow.successors = [[] for _ in flow.nodes]
        for number, found in enumerate(flow.predecessors):
            for edge in found:
                flow.successors[edge.node].append(number)
        return flow

    def _behind(self, call: int) -> Iterable[int]:
        found = self._ids.get((self.flow.nodes[call].end, -1, 0))
        return () if found is None else (found,)
