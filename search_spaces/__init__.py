"""Search spaces: problems, buckets, configs and the rules that join them. Plain Python, no GPU."""

from search_spaces.bucket import Bucket, Skew, bucket_grid, bucket_range
from search_spaces.constraint import Constraint, Violation
from search_spaces.cost_model import Prediction
from search_spaces.errors import UserError
from search_spaces.fingerprint import template_fingerprint
from search_spaces.gpu import GPUS, GpuSpec, canonical_name, find_gpu, reference_gpu
from search_spaces.grouped_gemm import GroupedGemmConfig
from search_spaces.models import PRESETS, ModelShape, load_model
from search_spaces.parameter import Parameter
from search_spaces.prices import predict
from search_spaces.problem import Numerics, Problem
from search_spaces.ranking import rank
from search_spaces.shape import parse_shape
from search_spaces.space import SearchSpace, SpaceView
from search_spaces.spaces import SPACES, space_for

__all__ = [
    "GPUS",
    "PRESETS",
    "SPACES",
    "Bucket",
    "Constraint",
    "GpuSpec",
    "GroupedGemmConfig",
    "ModelShape",
    "Numerics",
    "Parameter",
    "Prediction",
    "Problem",
    "SearchSpace",
    "Skew",
    "SpaceView",
    "UserError",
    "Violation",
    "bucket_grid",
    "bucket_range",
    "canonical_name",
    "find_gpu",
    "load_model",
    "parse_shape",
    "predict",
    "rank",
    "reference_gpu",
    "space_for",
    "template_fingerprint",
]
