"""Parameter: one named dimension of a search space."""

from __future__ import annotations

from dataclasses import dataclass

Value = int | str | bool


@dataclass(frozen=True)
class Parameter:
    """``values`` in their natural order, so that neighbours mean something."""

    name: str
    values: tuple[Value, ...]

    def __post_init__(self) -> None:
        assert len(set(self.values)) == len(self.values) > 0

    def neighbours(self, value: Value) -> tuple[Value, ...]:
        """The values just before and after ``value`` for numbers, all others for names."""
        if isinstance(value, str):
            return tuple(v for v in self.values if v != value)
        index = self.values.index(value)
        return self.values[max(0, index - 1) : index] + self.values[index + 1 : index + 2]
