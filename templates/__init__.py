"""Templates: a config becomes source, source becomes a cubin, a cubin becomes a kernel."""

from templates.build import build_batch
from templates.built import Binary, BuildError, Built, Target
from templates.cache import KernelCache
from templates.kernel import Kernel
from templates.launch_shape import LaunchShape, Pass
from templates.ops import launch_shape, render
from templates.pool import CompilePool
from templates.resources import Resources
from templates.toolchain import Toolchain, toolchain
from templates.variant import Variant

__all__ = [
    "Binary",
    "BuildError",
    "Built",
    "CompilePool",
    "Kernel",
    "KernelCache",
    "LaunchShape",
    "Pass",
    "Resources",
    "Target",
    "Toolchain",
    "Variant",
    "build_batch",
    "launch_shape",
    "render",
    "toolchain",
]
