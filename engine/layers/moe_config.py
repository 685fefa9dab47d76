"""MoEConfig: an MoE layer's sizes and rules, as its model's config.json gives them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from search_spaces import Numerics, UserError
from search_spaces.layer_problem import LayerProblem
from search_spaces.models import read_model
from search_spaces.problem import ALIGNMENT

# What transformers calls the activation of gate columns, and the epilogue that has it.
_EPILOGUES = {
    "silu": "swiglu",
    "swish": "swiglu",
    "gelu_pytorch_tanh": "geglu",
    "relu": "reglu",
}


@dataclass(frozen=True)
class MoEConfig:
    """A layer's problem, and what its kernels take as an argument or do not see.

    ``scaling`` multiplies the weights of chosen experts. ``shared_intermediate`` is the size of
    all always-on experts together, of which the problem makes experts of its own size, the last
    filled up with zeros; 0 stands for experts that are full. Raises UserError where it does not
    fit the problem's number of shared experts.
    """

    problem: LayerProblem
    scaling: float = 1.0
    shared_intermediate: int = 0

    def __post_init__(self) -> None:
        shared, size = self.problem.gate.shared, self.problem.intermediate
        if self.shared_intermediate == 0:
            object.__setattr__(self, "shared_intermediate", shared * size)
        needed = -(-self.shared_intermediate // size)
        if needed != shared:
            raise UserError(
                f"a shared size of {self.shared_intermediate} needs {needed} experts of {size}: "
                f"the gate has {shared} shared ones"
            )
        if self.shared_intermediate % ALIGNMENT:
            raise UserError(
                f"a shared size of {self.shared_intermediate} is no multiple of {ALIGNMENT}: rows "
                "are read 16 bytes at a time"
            )

    @classmethod
    def from_hf(cls, config: Any, numerics: Numerics = Numerics.PROMOTED) -> MoEConfig:
        """From a model's config: an object of transformers, or the fields of a config.json.

        Raises UserError for a field that is missing or wrong, for an unknown model type, and for
        an activation that no kernel has.
        """
        fields: Mapping[str, object] = config if isinstance(config, Mapping) else config.to_dict()
        model = read_model(fields, str(fields.get("model_type")), "the model's config")
        activation = fields.get("hidden_act")
        if activation not in _EPILOGUES:
            raise UserError(
                f"the model's config: field 'hidden_act' is {activation!r}: supported are "
                f"{', '.join(_EPILOGUES)}"
            )
        problem = replace(model.layer(numerics), epilogue=_EPILOGUES[str(activation)])
        return cls(problem, model.router.scaling, model.shared_intermediate)
