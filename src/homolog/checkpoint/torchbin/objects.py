"""The stand-ins that a torch pickle may name, and what calling one means.

A pickle is a program whose only dangerous instructions are to look a name up and to call it. Here looking up yields a `Global`, an
inert name out of the table below, and calling one is a function of this module that builds an inert description. Nothing is imported.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from homolog.checkpoint.dtypes import DTYPES, DType
from homolog.checkpoint.extent import MOST_AXES

__all__ = ["GLOBALS", "Global", "Misuse", "Opaque", "Storage", "Tensor", "call_global", "load_persistent"]


class Misuse(Exception):  # noqa: N818  (never leaves the package: the machine turns it into a CheckpointError with a place)
    """A permitted name was used in a way that torch does not."""


@dataclass(frozen=True, slots=True)
class Global:
    """A permitted name; inert."""

    name: str
    dtype: DType | None = None
    """For storage classes and dtypes: the numbers they hold."""


@dataclass(frozen=True, slots=True)
class Opaque:
    """A value of which only the kind is kept."""

    kind: str


@dataclass(frozen=True, slots=True)
class Storage:
    """A run of numbers kept outside the pickle, possibly part of a longer one (only in the old layout)."""

    key: str
    dtype: DType
    count: int
    start: int = 0
    """First number of a view, counted in the storage that ``key`` names."""
    root_count: int = 0
    """Numbers of the storage that ``key`` names."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor over a storage; offset and strides in numbers."""

    storage: Storage
    dtype: DType
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


_STORAGE_KINDS = {
    "DoubleStorage": "F64",
    "FloatStorage": "F32",
    "HalfStorage": "F16",
    "BFloat16Storage": "BF16",
    "CharStorage": "I8",
    "ShortStorage": "I16",
    "IntStorage": "I32",
    "LongStorage": "I64",
    "ByteStorage": "U8",
    "BoolStorage": "BOOL",
    "ComplexFloatStorage": "C64",
    "ComplexDoubleStorage": "C128",
}
_DTYPE_KINDS = {
    "float64": "F64",
    "double": "F64",
    "float32": "F32",
    "float": "F32",
    "float16": "F16",
    "half": "F16",
    "bfloat16": "BF16",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
    "float8_e4m3fnuz": "F8_E4M3FNUZ",
    "float8_e5m2fnuz": "F8_E5M2FNUZ",
    "float8_e8m0fnu": "F8_E8M0",
    "int8": "I8",
    "int16": "I16",
    "short": "I16",
    "int32": "I32",
    "int": "I32",
    "int64": "I64",
    "long": "I64",
    "uint8": "U8",
    "uint16": "U16",
    "uint32": "U32",
    "uint64": "U64",
    "bool": "BOOL",
    "complex64": "C64",
    "complex128": "C128",
}
# Arguments are bounded because a pickle can pass one long tuple a million times for one opcode each.
_MOST_ARGUMENTS = 16
_ORDERED_DICT = "collections.OrderedDict"
_UNTYPED = "torch.storage.UntypedStorage"
_TENSOR_CLASSES = ("torch.Tensor", "torch._tensor.Tensor", "torch.nn.parameter.Parameter", "torch.nn.parameter.Buffer")
# Training scripts leave numbers such as a best score behind as numpy scalars; their kind is all that is kept.
_NUMPY = (
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray.scalar",
    "numpy.core.multiarray._reconstruct",
    "numpy._core.multiarray._reconstruct",
    "numpy.ndarray",
    "numpy.dtype",
    "_codecs.encode",
)


def _ordered_dict(*pairs: object) -> object:
    if pairs:
        raise Misuse("an OrderedDict made from a list, which torch under Python 3 never writes")
    return {}


def _tensor(storage: object, offset: object, shape: object, strides: object, *_: object) -> Tensor:
    if not isinstance(storage, Storage):
        raise Misuse("a tensor over something that is no storage")
    return _make_tensor(storage, storage.dtype, offset, shape, strides)


def _tensor_of_dtype(storage: object, offset: object, shape: object, strides: object, *rest: object) -> Tensor:
    dtype = rest[2] if len(rest) > 2 else None
    if not isinstance(storage, Storage) or not isinstance(dtype, Global) or dtype.dtype is None:
        raise Misuse("a tensor without a storage or dtype")
    return _make_tensor(storage, dtype.dtype, offset, shape, strides)


def _make_tensor(storage: Storage, dtype: DType, offset: object, shape: object, strides: object) -> Tensor:
    if type(offset) is not int:
        raise Misuse("a tensor whose offset is no whole number")
    return Tensor(storage, dtype, offset, _sizes(shape), _sizes(strides))


def _sizes(value: object) -> tuple[int, ...]:
    if (
        not isinstance(value, (tuple, list))
        or len(value) > MOST_AXES
        or any(type(length) is not int for length in value)
    ):
        raise Misuse("sizes or strides that are no short list of whole numbers")
    return tuple(value)


def _parameter(data: object, *_: object) -> object:
    if not isinstance(data, Tensor):
        raise Misuse("a parameter that is no tensor")
    return data


def _subclass(function: object, kind: object, arguments: object, *_: object) -> object:
    if not isinstance(function, Global) or not isinstance(kind, Global) or kind.name not in _TENSOR_CLASSES:
        raise Misuse("a tensor of an unknown class")
    if function.name not in _REBUILDERS or not isinstance(arguments, tuple) or len(arguments) > _MOST_ARGUMENTS:
        raise Misuse("a tensor made by something other than torch's own functions")
    return _REBUILDERS[function.name](*arguments)


def _size(*arguments: object) -> object:
    return _sizes(arguments[0]) if arguments else ()


def _opaque(kind: str) -> Callable[..., object]:
    return lambda *_: Opaque(kind)


_REBUILDERS: dict[str, Callable[..., object]] = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor_of_dtype,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
}
_CALLS: Mapping[str, Callable[..., object]] = {
    **_REBUILDERS,
    _ORDERED_DICT: _ordered_dict,
    "torch._tensor._rebuild_from_type_v2": _subclass,
    "torch.Size": _size,
    "torch.device": _opaque("torch.device"),
    **{name: _opaque("numpy value") for name in _NUMPY},
}

GLOBALS: Mapping[str, Global] = MappingProxyType(
    {
        **{name: Global(name) for name in (*_CALLS, *_TENSOR_CLASSES)},
        **{f"torch.{name}": Global(f"torch.{name}", DTYPES[kind]) for name, kind in _STORAGE_KINDS.items()},
        **{f"torch.{name}": Global(f"torch.{name}", DTYPES[kind]) for name, kind in _DTYPE_KINDS.items()},
        # Bytes without a kind of their own; the tensor over them brings its dtype.
        _UNTYPED: Global(_UNTYPED, DTYPES["U8"]),
    }
)
"""Every name that a pickle may mention."""


def call_global(function: Global, arguments: tuple[object, ...]) -> object:
    """What calling a permitted name yields."""
    call = _CALLS.get(function.name)
    if call is None or len(arguments) > _MOST_ARGUMENTS:
        raise Misuse(f"a call of {function.name} with {len(arguments)} arguments")
    try:
        return call(*arguments)
    except TypeError as error:
        raise Misuse(f"a call of {function.name} with {len(arguments)} arguments") from error


def load_persistent(reference: object) -> Storage:
    """The storage that a persistent id names: ``('storage', class, key, device, count[, view])``."""
    if not isinstance(reference, tuple) or len(reference) not in (5, 6) or reference[0] != "storage":
        raise Misuse("a persistent id that is no storage")
    kind, key, count = reference[1], reference[2], reference[4]
    if (
        not isinstance(kind, Global)
        or kind.dtype is None
        or not isinstance(key, str)
        or type(count) is not int
        or count < 0
    ):
        raise Misuse("a storage without class, key or count")
    view = reference[5] if len(reference) == 6 else None
    if view is None:
        return Storage(key, kind.dtype, count, 0, count)
    if not isinstance(view, tuple) or len(view) != 3 or type(view[1]) is not int or type(view[2]) is not int:
        raise Misuse("a storage's view that is no (key, offset, count)")
    if not 0 <= view[1] <= count - view[2] <= count:
        raise Misuse("a storage's view beyond its storage")
    return Storage(key, kind.dtype, view[2], view[1], count)
