"""Ways through a program on which a call comes back to where it was made."""

from __future__ import annotations

from collections.abc import Callable

from npuc.compiler.lint.flow import Flow, transfer


class Ways:
    """By node: `onward` to nodes of the same function, over calls; `callees` that are entered; `backward` to both."""

    def __init__(self, flow: Flow) -> None:
        count = len(flow.nodes)
        self.onward: list[list[int]] = [[] for _ in range(count)]
        self.callees: list[list[int]] = [[] for _ in range(count)]
        self.backward: list[list[int]] = [[] for _ in range(count)]
        for number, edges in enumerate(flow.predecessors):
            for edge in edges:
                if edge.kind == "call":
                    self.callees[edge.node].append(number)
                elif edge.kind == "return":
                    self._step_over(edge.call, number)
                    self.backward[number].append(edge.node)
                else:
                    self.onward[edge.node].append(number)
                    self.backward[number].append(edge.node)
        self._unknown_calls(flow)

    def _step_over(self, call: int, behind: int) -> None:
        if behind not in self.onward[call]:
            self.onward[call].append(behind)
            self.backward[behind].append(call)

    def _unknown_calls(self, flow: Flow) -> None:
        """A call through a register that nobody knows comes back too."""
        at = {node.address: number for number, node in enumerate(flow.nodes) if node.branch < 0}
        for number, node in enumerate(flow.nodes):
            if node.branch >= 0 and not (self.onward[number] or self.callees[number]):
                branch = flow.nodes[node.branch].effects.branch
                if branch is not None and transfer(branch).is_call and at.get(node.end, -1) in flow.unknown:
                    self._step_over(number, at[node.end])

    def between(self, first: int, last: int) -> frozenset[int]:
        """The nodes on ways from `first` to `last`, with those of functions called on the way."""
        ahead = _closure(first, last, lambda node: [*self.onward[node], *self.callees[node]])
        return frozenset(_closure(last, first, lambda node: [n for n in self.backward[node] if n in ahead]))


def _closure(start: int, stop: int, following: Callable[[int], list[int]]) -> set[int]:
    """What is reached from `start`, going on behind everything but `stop`."""
    found, work = {start}, [start]
    while work:
        number = work.pop()
        if number != stop:
            news = [node for node in following(number) if node not in found]
            found.update(news)
            work += news
    return found
