"""ModelShape: what a Hugging Face config.json says about a model's MoE layers."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from search_spaces.errors import UserError
from search_spaces.gate_problem import GateProblem
from search_spaces.layer_problem import LayerProblem
from search_spaces.problem import ALIGNMENT, Numerics, Problem
from search_spaces.router import Router

_PRESETS = Path(__file__).parent / "presets"
PRESETS: tuple[str, ...] = tuple(sorted(file.stem for file in _PRESETS.glob("*.json")))
LAYERS = ("gate_up", "down")


@dataclass(frozen=True)
class Family:
    """The names under which one ``model_type`` keeps its numbers in config.json.

    ``norm_topk`` is the class default of ``norm_topk_prob``; ``reads_norm`` tells whether the
    model reads that field at all.
    """

    experts: str
    intermediate: str
    norm_topk: bool = False
    reads_norm: bool = True


FAMILIES: Mapping[str, Family] = {
    # Mixtral always renormalises its top-k weights and has no field for it.
    "mixtral": Family("num_local_experts", "intermediate_size", norm_topk=True, reads_norm=False),
    "qwen2_moe": Family("num_experts", "moe_intermediate_size"),
    "qwen3_moe": Family("num_experts", "moe_intermediate_size"),
    "olmoe": Family("num_experts", "intermediate_size"),
    # transformers' DeepSeek-V2 ignores the field that its config carries.
    "deepseek_v2": Family("n_routed_experts", "moe_intermediate_size", reads_norm=False),
    "deepseek_v3": Family("n_routed_experts", "moe_intermediate_size", norm_topk=True),
}
_DEEPSEEK = ("deepseek_v2", "deepseek_v3")
# How transformers' DeepSeek-V2 chooses: among all experts, or among those of its best groups.
_TOPK_METHODS = ("greedy", "group_limited_greedy")

_ALIASES = {"num_experts": "num_local_experts"}  # as transformers 5 saves Qwen3-MoE's

# Far above any published model: a number beyond is a typing error or a broken file.
_LARGEST = {"size": 1 << 20, "experts": 4096, "layers": 4096}


@dataclass(frozen=True)
class ModelShape:
    """The MoE side of a model. Sizes count elements.

    ``intermediate`` is one routed expert's; ``shared_intermediate`` that of all always-on experts
    together, 0 without any. ``moe_layers`` of the ``layers`` have experts, the others are dense.
    ``norm_topk`` tells whether the top-k weights are scaled to sum to 1, ``router`` what else
    their gate does.
    """

    name: str
    model_type: str
    hidden: int
    intermediate: int
    experts: int
    top_k: int
    layers: int
    moe_layers: int
    shared_intermediate: int
    norm_topk: bool
    router: Router

    @property
    def shared(self) -> int:
        """The shared experts as experts of the size of a routed one, the last one padded."""
        return -(-self.shared_intermediate // self.intermediate)

    def gate(self, *, logits: bool = False) -> GateProblem:
        """The fused gate of a layer: [tokens, hidden], or given ``logits`` [tokens, experts], in
        fp16. Raises UserError for what no kernel has: a shared gate without hidden states, say."""
        router = self.router
        return GateProblem(
            experts=self.experts,
            hidden=0 if logits else self.hidden,
            top_k=self.top_k,
            score=router.score,
            bias=router.bias,
            groups=router.groups,
            topk_group=router.topk_group,
            group_score=router.group_score,
            renormalise=self.norm_topk,
            shared=self.shared,
            shared_gate=router.shared_gate and self.shared > 0,
            label=f"{self.name}/gate",
        )

    def layer(self, numerics: Numerics = Numerics.PROMOTED) -> LayerProblem:
        """The whole layer: gate, both GEMMs with shared experts among theirs. Raises UserError for
        what no kernel has."""
        return LayerProblem(self.gate(), self.intermediate, numerics, label=self.name)

    def problem(
        self,
        layer: str,
        numerics: Numerics = Numerics.PROMOTED,
        *,
        epilogue: str = "plain",
        gather: bool = False,
        combine: str = "",
    ) -> Problem:
        """The grouped GEMM of a layer.

        ``gate_up`` is both input projections at once, [rows, hidden] -> [rows, 2 x intermediate],
        or -> [rows, intermediate] with a gated ``epilogue``; with ``gather`` it reads [tokens,
        hidden]. ``down`` goes back to [rows, hidden], or with ``combine`` to [tokens, hidden].
        Raises UserError for any other name, for a ``down`` that is asked to gate or gather, and
        for a ``gate_up`` that is asked to combine.
        """
        shapes = {
            "gate_up": (2 * self.intermediate, self.hidden),
            "down": (self.hidden, self.intermediate),
        }
        if layer not in shapes:
            raise UserError(f"unknown layer '{layer}': choose one of {', '.join(LAYERS)}")
        if layer == "down" and (gather or epilogue != "plain"):
            raise UserError(
                "layer down has neither gate columns nor tokens to gather: an epilogue and gather "
                "go with gate_up"
            )
        if layer == "gate_up" and combine:
            raise UserError(
                f"combine {combine} goes with layer down, whose rows are those of the result"
            )
        n, k = shapes[layer]
        return Problem(
            op="grouped_gemm",
            experts=self.experts,
            n=n,
            k=k,
            top_k=self.top_k,
            numerics=numerics,
            epilogue=epilogue,
            gather=gather,
            combine=combine,
            label=f"{self.name}/{layer}",
        )


class _Fields:
    """Checked access to one config.json: every complaint names its ``source`` and the field."""

    def __init__(self, values: Mapping[str, object], source: str) -> None:
        self._values, self._source = values, source

    def text(self, field: str) -> str:
        value = self._get(field)
        if not isinstance(value, str):
            raise self.wrong(field, "must be a text")
        return value

    def count(self, field: str, largest: int, *, least: int = 1, default: int | None = None) -> int:
        """A whole number in least..largest; ``default`` answers for a field that is absent."""
        value = self._get(field, default)
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.wrong(field, "must be a whole number")
        if not least <= value <= largest:
            raise self.wrong(field, f"must lie in {least}..{largest}")
        return value

    def size(self, field: str, *, least: int = 1, default: int | None = None) -> int:
        """A count of elements that 128-bit loads can read."""
        value = self.count(field, _LARGEST["size"], least=least, default=default)
        if value % ALIGNMENT:
            raise self.wrong(field, f"must be a multiple of {ALIGNMENT} (16-byte rows)")
        return value

    def factor(self, field: str, default: float) -> float:
        """A positive, finite number."""
        value = self._get(field, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self.wrong(field, "must be a number")
        if not 0 < value < math.inf:
            raise self.wrong(field, "must be above 0 and finite")
        return float(value)

    def choice(self, field: str, choices: Sequence[str], default: str) -> str:
        value = self._get(field, default)
        if not isinstance(value, str) or value not in choices:
            raise self.wrong(field, f"supported are {', '.join(choices)}")
        return value

    def flag(self, field: str, default: bool) -> bool:
        value = self._get(field, default)
        if not isinstance(value, bool):
            raise self.wrong(field, "must be true or false")
        return value

    def layer_numbers(self, field: str, layers: int) -> set[int]:
        value = self._get(field, [])
        if not isinstance(value, list) or not all(type(i) is int for i in value):
            raise self.wrong(field, "must be a list of layer numbers")
        return {i for i in value if 0 <= i < layers}

    def wrong(self, field: str, rule: str) -> UserError:
        shown = json.dumps(self._values.get(field), default=repr)
        shown = shown if len(shown) <= 40 else shown[:37] + "..."
        return UserError(f"{self._source}: field '{field}' is {shown}: {rule}")

    def _get(self, field: str, default: object = None) -> object:
        value = self._values.get(field, self._values.get(_ALIASES.get(field, field)))
        if value is None:  # absent, or null as transformers writes an unset field
            if default is None:
                raise UserError(f"{self._source}: field '{field}' is missing")
            return default
        return value


def load_model(name_or_path: str | Path) -> ModelShape:
    """A preset by name, else a directory with config.json, or that file itself.

    Raises UserError for an unknown name (suggesting the nearest preset) and for a file that lacks
    a field or has a wrong or absurd value in it (naming both).
    """
    text = str(name_or_path)
    if text.lower() in PRESETS:
        return _read(_PRESETS / f"{text.lower()}.json", text.lower())
    path = Path(text)
    try:
        is_dir, is_file = path.is_dir(), path.is_file()
    except (OSError, ValueError):  # longer than a path may be, or with a null byte in it
        is_dir = is_file = False
    is_dir = is_dir and bool(text)  # Path("") would be the folder we are in
    if is_dir:
        file = path / "config.json"
        if not file.is_file():
            raise UserError(f"{path}: has no config.json, so it is no model directory")
        return _read(file, path.resolve().name)
    if is_file:
        return _read(path, path.resolve().parent.name)
    near = difflib.get_close_matches(text.lower(), PRESETS, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise UserError(
        f"unknown model '{text}': give a directory with config.json or one of "
        f"{', '.join(PRESETS)}{hint}"
    )


def _read(file: Path, name: str) -> ModelShape:
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError):
        raise UserError(f"{file}: is not JSON; --model wants a config.json") from None
    if not isinstance(values, dict):
        raise UserError(f"{file}: holds no JSON object; --model wants a config.json")
    return read_model(values, name, str(file))


def read_model(values: Mapping[str, object], name: str, source: str) -> ModelShape:
    """The model ``name`` of a config.json's fields, which complaints call ``source``.

    Raises UserError for a field that is missing, and for a wrong or absurd value.
    """
    fields = _Fields(values, source)
    model_type = fields.text("model_type")
    if model_type not in FAMILIES:
        raise fields.wrong("model_type", f"supported are {', '.join(FAMILIES)}")
    family = FAMILIES[model_type]
    experts = fields.count(family.experts, _LARGEST["experts"])
    layers = fields.count("num_hidden_layers", _LARGEST["layers"])
    intermediate = fields.size(family.intermediate)
    norm = fields.flag("norm_topk_prob", family.norm_topk)
    return ModelShape(
        name=name,
        model_type=model_type,
        hidden=fields.size("hidden_size"),
        intermediate=intermediate,
        experts=experts,
        top_k=fields.count("num_experts_per_tok", experts),
        layers=layers,
        moe_layers=_moe_layers(fields, model_type, layers),
        shared_intermediate=_shared(fields, model_type, intermediate),
        norm_topk=norm if family.reads_norm else family.norm_topk,
        router=_router(fields, model_type, experts),
    )


def _router(fields: _Fields, model_type: str, experts: int) -> Router:
    if model_type == "deepseek_v2":
        scaling = fields.factor("routed_scaling_factor", 1.0)
        if fields.choice("topk_method", _TOPK_METHODS, "greedy") == "greedy":
            return Router(scaling=scaling)
        groups, topk_group = _groups(fields, experts, None, None)
        return Router(groups=groups, topk_group=topk_group, scaling=scaling)
    if model_type == "deepseek_v3":
        groups, topk_group = _groups(fields, experts, 8, 4)
        return Router(
            "sigmoid", bias=True, groups=groups, topk_group=topk_group,
            group_score="top2" if groups > 1 else "max",
            scaling=fields.factor("routed_scaling_factor", 2.5),
        )  # fmt: skip
    return Router(shared_gate=model_type == "qwen2_moe")


def _groups(
    fields: _Fields, experts: int, groups: int | None, topk_group: int | None
) -> tuple[int, int]:
    """Groups of experts and how many are chosen from; the defaults are None where a model must
    tell."""
    groups = fields.count("n_group", experts, default=groups)
    if experts % groups:
        raise fields.wrong("n_group", f"must divide the {experts} experts")
    return groups, fields.count("topk_group", groups, default=topk_group)


def _moe_layers(fields: _Fields, model_type: str, layers: int) -> int:
    if model_type in ("qwen2_moe", "qwen3_moe"):
        step = fields.count("decoder_sparse_step", layers, default=1)
        dense = fields.layer_numbers("mlp_only_layers", layers)
        return sum((i + 1) % step == 0 and i not in dense for i in range(layers))
    if model_type in _DEEPSEEK:
        first = fields.count("first_k_dense_replace", layers, least=0, default=0)
        every = fields.count("moe_layer_freq", layers, default=1)
        return sum(i >= first and i % every == 0 for i in range(layers))
    return layers


def _shared(fields: _Fields, model_type: str, intermediate: int) -> int:
    if model_type == "qwen2_moe":
        return fields.size("shared_expert_intermediate_size", least=0, default=0)
    if model_type in _DEEPSEEK:
        shared = fields.count("n_shared_experts", _LARGEST["experts"], least=0, default=0)
        return shared * intermediate
    return 0
