"""Which operation is rewritten how, by torch's name of it."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from torch import Tensor

from hemitwin.interpret.engine import arithmetic_operations as arithmetic
from hemitwin.interpret.engine import linear_operations as linear
from hemitwin.interpret.engine import norm_operations as norms
from hemitwin.interpret.engine.propagation import Native, Propagation

Handler = Callable[..., object]
"""(propagation, native operation, *its arguments) to the rewritten result."""


def _route(flow: Propagation, native: Native, /, *args: object, **named: object) -> object:
    """Run as it is: input x gradient of a sum, choice or rearrangement is its relevance."""
    del flow
    return native(*args, **named)


def _rearrange(
    flow: Propagation, native: Native, /, x: object, *args: object, **named: object
) -> object:
    """Run as it is, and remember where the voxels came from."""
    result = native(x, *args, **named)
    if isinstance(x, Tensor):
        flow.follow(x, result, lambda other: native(other, *args, **named))
    return result


_REARRANGED = """
view reshape flatten unflatten permute transpose movedim moveaxis swapaxes swapdims t contiguous
clone to float double type type_as cpu cuda squeeze unsqueeze expand expand_as repeat tile
repeat_interleave broadcast_to view_as reshape_as interpolate upsample
"""

_ROUTED = """
split split_with_sizes chunk tensor_split unbind
narrow select index_select gather take_along_dim getitem flip roll rot90 mean sum neg abs amax amin
max_pool1d max_pool2d max_pool3d max_pool1d_with_indices max_pool2d_with_indices
max_pool3d_with_indices adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d
adaptive_max_pool1d_with_indices adaptive_max_pool2d_with_indices adaptive_max_pool3d_with_indices
avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d
pixel_shuffle pixel_unshuffle channel_shuffle topk relu leaky_relu prelu
vector_norm norm linalg_vector_norm linalg_norm
"""
# Piecewise linear or of degree one: by Euler's theorem x . grad f(x) = f(x), the winner takes all.

_GATED = """
logsigmoid tanh silu mish gelu elu celu selu softplus softsign hardswish
hardtanh relu6 clamp clip clamp_min clamp_max exp expm1 log1p sqrt square pow
"""

_SPECIAL: dict[str, Handler] = {
    **dict.fromkeys(
        ("conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d"),
        linear.convolve,
    ),
    "linear": linear.dense,
    **dict.fromkeys(("matmul", "mm", "bmm"), linear.multiply_matrices),
    **dict.fromkeys(("sigmoid", "hardsigmoid"), arithmetic.switch),
    "batch_norm": norms.batch_norm,
    "instance_norm": norms.instance_norm,
    "group_norm": norms.group_norm,
    "layer_norm": norms.layer_norm,
    "normalize": norms.normalise,
    "add": arithmetic.add,
    "sub": arithmetic.subtract,
    "subtract": arithmetic.subtract,
    "rsub": arithmetic.subtract_from,
    "mul": arithmetic.multiply,
    "multiply": arithmetic.multiply,
    "div": arithmetic.divide,
    "divide": arithmetic.divide,
    "true_divide": arithmetic.divide,
    **dict.fromkeys(("cat", "concat", "concatenate", "stack"), arithmetic.join),
    "where": arithmetic.select,
    "masked_fill": arithmetic.fill_masked,
    **dict.fromkeys(("maximum", "minimum"), arithmetic.extreme),
    "pad": arithmetic.pad_edges,
    **dict.fromkeys(
        ("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout"), arithmetic.dropout
    ),
    "cosine_similarity": arithmetic.cosine,
    "pairwise_distance": arithmetic.distance,
}

OPERATIONS: Mapping[str, Handler] = MappingProxyType(
    {
        **dict.fromkeys(_REARRANGED.split(), _rearrange),
        **dict.fromkeys(_ROUTED.split(), _route),
        **dict.fromkeys(_GATED.split(), arithmetic.gate),
        **_SPECIAL,
    }
)
"""Name without dunders and in-place marks to its rewriting."""

_OPERATORS = {
    "radd": "add",
    "iadd": "add",
    "isub": "sub",
    "rmul": "mul",
    "imul": "mul",
    "truediv": "div",
    "itruediv": "div",
    "idiv": "div",
    "ipow": "pow",
}


def operation_name(function: Callable[..., object]) -> str:
    """
    Name an operation as the table does.

    Examples
    --------
    >>> from torch import Tensor
    >>> operation_name(Tensor.__iadd__), operation_name(Tensor.relu_)
    ('add', 'relu')
    """
    name = getattr(function, "__name__", type(function).__name__)
    bare = name.strip("_")
    return _OPERATORS.get(bare, bare) if name.startswith("__") else bare


def changes_in_place(function: Callable[..., object]) -> bool:
    """
    Tell whether torch writes into the first argument.

    Examples
    --------
    >>> from torch import Tensor
    >>> [changes_in_place(f) for f in (Tensor.__iadd__, Tensor.add, Tensor.add_)]
    [True, False, True]
    """
    name = getattr(function, "__name__", "")
    if name.startswith("__"):
        return name.strip("_") in {"setitem", "iadd", "isub", "imul", "itruediv", "idiv", "ipow"}
    return name.endswith("_")
