"""What a name means inside a block (PTX ISA, "Grouping Instructions")."""

from __future__ import annotations

from typing import TypeAlias

from tuner.emulator.ptx.operand import Label, Register, Symbol

Meaning: TypeAlias = Register | Symbol | Label


class Names:
    """Hands out names that are unique within one kernel and differ from those ``outside`` it."""

    def __init__(self, outside: Scope) -> None:
        self._outside = outside
        self._uses: dict[str, int] = {}

    def unique(self, name: str) -> str:
        """``name``, or ``name#2`` and so on: '#' occurs in no PTX identifier."""
        uses = self._uses.get(name) or int(self._outside.find(name) is not None)
        uses += 1
        self._uses[name] = uses
        return name if uses == 1 else f"{name}#{uses}"


class Scope:
    """The names of one block; what it does not know is looked up in the block around it."""

    def __init__(self, outer: Scope | None, labels: dict[str, Label]) -> None:
        """A block knows its labels from the start, everything else from the declaration on."""
        self.outer = outer
        self._names: dict[str, Meaning] = dict(labels)

    def declare(self, name: str, meaning: Meaning) -> bool:
        """False when this very block has the name already."""
        if name in self._names:
            return False
        self._names[name] = meaning
        return True

    def find(self, name: str) -> Meaning | None:
        scope: Scope | None = self
        while scope is not None:
            meaning = scope._names.get(name)
            if meaning is not None:
                return meaning
            scope = scope.outer
        return None
