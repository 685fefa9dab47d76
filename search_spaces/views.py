"""Views: the valid configs of any op's problem, composed ones included."""

from __future__ import annotations

from search_spaces import space_for
from search_spaces.gpu import GpuSpec
from search_spaces.layer_problem import LayerProblem
from search_spaces.layer_space import MOE_LAYER, LayerView
from search_spaces.problems import AnyProblem
from search_spaces.space import SpaceView


def view_of(problem: AnyProblem, gpu: GpuSpec) -> SpaceView | LayerView:
    """What tells which configs a problem has on a GPU, why others are none, and its default."""
    if isinstance(problem, LayerProblem):
        return MOE_LAYER.view(problem, gpu)
    return space_for(problem.op).view(problem, gpu)
