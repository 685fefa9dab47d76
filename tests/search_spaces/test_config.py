"""GroupedGemmConfig: names without loss, and which parameters reach the machine code."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_spaces import GroupedGemmConfig, UserError
from search_spaces.grouped_gemm_space import GROUPED_GEMM

NAME = "128x64x32_w2x1x4_s3_sw2.3.3_f16p4_r2x8_nm_cg_o1_g8_k2"
configs = st.builds(
    GroupedGemmConfig, **{p.name: st.sampled_from(p.values) for p in GROUPED_GEMM.parameters}
)


@given(configs)
def test_names_round_trip(config: GroupedGemmConfig) -> None:
    assert GroupedGemmConfig.parse(str(config)) == config
    assert "/" not in str(config)
    assert " " not in str(config)


@given(configs, configs)
def test_different_configs_have_different_names(
    one: GroupedGemmConfig, other: GroupedGemmConfig
) -> None:
    assert (str(one) == str(other)) == (one == other)


@given(configs)
def test_the_constructor_it_prints_as_makes_it(config: GroupedGemmConfig) -> None:
    assert eval(repr(config), {"GroupedGemmConfig": GroupedGemmConfig}) == config


def test_name_reads_as_documented() -> None:
    config = GroupedGemmConfig.parse(NAME)
    assert config == GroupedGemmConfig(
        tile_m=128, tile_n=64, tile_k=32, warps_m=2, warps_n=1, warps_k=4, stages=3,
        smem="sw2.3.3", acc="f16p4", fragments=2, k_step=8, swap=True, cache="cg", min_ctas=1,
        group_m=8, split_k=2,
    )  # fmt: skip
    assert config.threads == 2 * 1 * 4 * 32
    assert config.promote_every == 4
    assert config.row_halves == 32
    assert replace(config, smem="pad8").row_halves == 40
    assert replace(config, acc="f16").promote_every == 0
    for suffix, combine in (("_co", "ordered"), ("_ca", "atomic"), ("_cr", "reduce")):
        assert GroupedGemmConfig.parse(NAME + suffix) == replace(config, combine=combine)


@pytest.mark.parametrize(
    "text",
    ["", "128x64x32", NAME + "_x", NAME.replace("_s3", ""), NAME.replace("f16p4", "f64"),
     NAME.replace("_nm", "_xx"), NAME.replace("sw2.3.3", "sw2.3"), " " + NAME, NAME.upper(),
     NAME.replace("128", "-128"), NAME + "\n",
     NAME + "_cx", NAME + "_co_ca"],
)  # fmt: skip
def test_malformed_names_are_refused_with_an_example(text: str) -> None:
    with pytest.raises(UserError, match="is no grouped_gemm config: expected"):
        GroupedGemmConfig.parse(text)


@given(configs, st.sampled_from([p.name for p in GROUPED_GEMM.parameters]), st.data())
def test_only_launch_arguments_leave_the_machine_code_alone(
    config: GroupedGemmConfig, name: str, data: st.DataObject
) -> None:
    values = next(p.values for p in GROUPED_GEMM.parameters if p.name == name)
    value: Any = data.draw(st.sampled_from(values))
    changed = replace(config, **{name: value})
    same_code = changed.compile_key == config.compile_key
    assert same_code == (changed == config or name in ("group_m", "split_k"))
