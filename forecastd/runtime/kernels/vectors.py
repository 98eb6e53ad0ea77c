"""Vectors of LANES float32 as values of compiled functions, and memory by address.

numba has no vector type, and what its optimiser makes of a loop depends on the loop's length. A
forecast must not depend on how many others are computed with it, so the kernels say themselves
which numbers share a register. An address is an int64, in bytes.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, overload, register_model

_FEATURES = binding.get_host_cpu_features()
LANES = 16 if _FEATURES.get("avx512f") else 8 if _FEATURES.get("avx2") else 4
"""How many float32 a register of this machine holds."""

VECTOR_BYTES = 4 * LANES
F32 = ir.FloatType()
F64 = ir.DoubleType()
I64 = ir.IntType(64)
_I32, _I8 = ir.IntType(32), ir.IntType(8)
VECTOR = ir.VectorType(F32, LANES)
_INTEGERS = ir.VectorType(_I32, LANES)
_UNDEFINED = ir.Constant(VECTOR, ir.Undefined)
_FLUSH_TO_ZERO = 0x8040
_EXPONENT_BIAS, _MANTISSA_BITS = 127, 23

codes: Any = cgutils
"""numba's tools for emitting code, which have no types."""

Vector = Any
"""LANES float32 in a register, as the compiled functions see them."""


class VectorType(types.Type):
    """numba's type of a Vector."""

    def __init__(self) -> None:
        super().__init__(name=f"float32x{LANES}")


vector = VectorType()


@register_model(VectorType)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, VECTOR)  # type: ignore[no-untyped-call]


def instruction(kind: Any, arguments: list[Any], emit: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function for compiled code that becomes the LLVM code `emit` makes.

    kind, arguments: numba's types. emit: takes LLVM's builder and the arguments' values, and
    returns the result, None where `kind` is void.
    """

    def typed() -> Any:
        def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            result = emit(builder, *args)
            return context.get_dummy_value() if result is None else result

        return kind(*arguments), lower

    made: Callable[..., Any] = intrinsic(_OF_ARITY[len(arguments)](typed))
    return made


_OF_ARITY: dict[int, Callable[[Callable[[], Any]], Callable[..., Any]]] = {
    0: lambda typed: lambda typing: typed(),
    1: lambda typed: lambda typing, a: typed(),
    2: lambda typed: lambda typing, a, b: typed(),
    3: lambda typed: lambda typing, a, b, c: typed(),
    7: lambda typed: lambda typing, a, b, c, d, e, f, g: typed(),
}
"""numba counts the parameters of the function that types an instruction."""


def pointer(builder: Any, address: Any, element: Any) -> Any:
    """Return an address as a pointer to elements of an LLVM type."""
    return builder.inttoptr(address, element.as_pointer())


def load_vector(builder: Any, place: Any) -> Any:
    """Emit the load of a vector from any float's boundary."""
    value = builder.load(place)
    value.align = 4
    return value


def spread_value(builder: Any, value: Any) -> Any:
    """Emit a vector with `value` in all lanes."""
    first = builder.insert_element(_UNDEFINED, value, ir.Constant(_I32, 0))
    return builder.shuffle_vector(first, _UNDEFINED, ir.Constant(_INTEGERS, [0] * LANES))


def vector_function(builder: Any, name: str, arity: int) -> Any:
    """Return a function of vectors that LLVM knows by name."""
    signature = ir.FunctionType(VECTOR, [VECTOR] * arity)
    return codes.get_or_insert_function(builder.module, signature, f"{name}.v{LANES}f32")


def _reader(kind: Any, element: Any) -> Callable[[int, int], Any]:
    """Return the function (address, index) that reads element `index` from an address."""

    def emit(builder: Any, address: Any, index: Any) -> Any:
        return builder.load(builder.gep(pointer(builder, address, element), [index]))

    return instruction(kind, [types.int64, types.int64], emit)


def _writer(kind: Any, element: Any) -> Callable[[int, int, Any], None]:
    """Return the function (address, index, value) that writes element `index` from an address."""

    def emit(builder: Any, address: Any, index: Any, value: Any) -> None:
        builder.store(value, builder.gep(pointer(builder, address, element), [index]))

    return instruction(types.void, [types.int64, types.int64, kind], emit)


read_f32, write_f32 = _reader(types.float32, F32), _writer(types.float32, F32)
read_f64, write_f64 = _reader(types.float64, F64), _writer(types.float64, F64)
read_i64, write_i64 = _reader(types.int64, I64), _writer(types.int64, I64)
read_i32, write_i32 = _reader(types.int32, _I32), _writer(types.int32, _I32)
read_u8, write_u8 = _reader(types.uint8, _I8), _writer(types.uint8, _I8)


def _emit_load(builder: Any, address: Any) -> Any:
    return load_vector(builder, pointer(builder, address, VECTOR))


def _emit_store(builder: Any, address: Any, value: Any) -> None:
    builder.store(value, pointer(builder, address, VECTOR), align=4)


def _emit_prefetch(builder: Any, address: Any) -> None:
    byte = _I8.as_pointer()
    kinds = ir.FunctionType(ir.VoidType(), [byte, _I32, _I32, _I32])
    function = codes.get_or_insert_function(builder.module, kinds, "llvm.prefetch.p0")
    for_reading, keep, data = (ir.Constant(_I32, number) for number in (0, 2, 1))
    builder.call(function, [builder.inttoptr(address, byte), for_reading, keep, data])


def _emit_sum(builder: Any, value: Any) -> Any:
    width = LANES
    while width > 1:
        width //= 2
        lanes = [(place + width) % LANES for place in range(LANES)]
        moved = builder.shuffle_vector(value, _UNDEFINED, ir.Constant(_INTEGERS, lanes))
        value = builder.fadd(value, moved)
    return builder.extract_element(value, ir.Constant(_I32, 0))


def _emit_power(builder: Any, exponent: Any) -> Any:
    whole = builder.fptosi(exponent, _INTEGERS)
    biased = builder.add(whole, ir.Constant(_INTEGERS, [_EXPONENT_BIAS] * LANES))
    shift = ir.Constant(_INTEGERS, [_MANTISSA_BITS] * LANES)
    return builder.bitcast(builder.shl(biased, shift), VECTOR)


load: Callable[[int], Vector] = instruction(vector, [types.int64], _emit_load)
"""Read the vector at an address."""

store: Callable[[int, Vector], None] = instruction(types.void, [types.int64, vector], _emit_store)
"""Write a vector to an address."""

spread: Callable[[Any], Vector] = instruction(vector, [types.float32], spread_value)
"""Return a vector with one number in all lanes."""

prefetch: Callable[[int], None] = instruction(types.void, [types.int64], _emit_prefetch)
"""Ask the second cache for the line at an address, which need not be valid; returns at once."""

sum_lanes: Callable[[Vector], Any] = instruction(types.float32, [vector], _emit_sum)
"""Return the sum of a vector's lanes, always in the same order."""

power_of_two: Callable[[Vector], Vector] = instruction(vector, [vector], _emit_power)
"""Return 2 ** x for whole x from -126 to 127."""


def _of_llvm(name: str, arity: int) -> Callable[..., Vector]:
    def emit(builder: Any, *values: Any) -> Any:
        return builder.call(vector_function(builder, name, arity), values)

    return instruction(vector, [vector] * arity, emit)


fma = _of_llvm("llvm.fma", 3)
"""Return a * b + c, rounded once."""

smaller = _of_llvm("llvm.minnum", 2)
larger = _of_llvm("llvm.maxnum", 2)
magnitude = _of_llvm("llvm.fabs", 1)
rounded = _of_llvm("llvm.rint", 1)


def _teach_operator(symbol: Any, name: str) -> None:
    """Let vectors be added, subtracted, multiplied and divided like numbers."""
    compute = instruction(
        vector, [vector, vector], lambda builder, a, b: getattr(builder, name)(a, b)
    )

    @overload(symbol)  # type: ignore[untyped-decorator, unused-ignore]
    def known(a, b):  # type: ignore[no-untyped-def]  # numba compares this signature with the next
        if isinstance(a, VectorType) and isinstance(b, VectorType):
            return lambda a, b: compute(a, b)
        return None


_teach_operator(operator.add, "fadd")
_teach_operator(operator.sub, "fsub")
_teach_operator(operator.mul, "fmul")
_teach_operator(operator.truediv, "fdiv")


def _control_register(builder: Any, name: str, place: Any) -> None:
    """Emit the store or the load of x86's register of floating-point modes."""
    byte = _I8.as_pointer()
    kind = ir.FunctionType(ir.VoidType(), [byte])
    function = codes.get_or_insert_function(builder.module, kind, f"llvm.x86.sse.{name}")
    builder.call(function, [builder.bitcast(place, byte)])


def _emit_flush(builder: Any) -> Any:
    if not _FEATURES.get("sse2"):
        return ir.Constant(_I32, 0)
    place = codes.alloca_once(builder, _I32)
    _control_register(builder, "stmxcsr", place)
    before = builder.load(place)
    builder.store(builder.or_(before, ir.Constant(_I32, _FLUSH_TO_ZERO)), place)
    _control_register(builder, "ldmxcsr", place)
    return before


def _emit_restore(builder: Any, before: Any) -> None:
    if _FEATURES.get("sse2"):
        _control_register(builder, "ldmxcsr", codes.alloca_once_value(builder, before))


flush_denormals: Callable[[], int] = instruction(types.int32, [], _emit_flush)
"""Treat denormals as zero in this thread, and return what undoes it.

Idle series decay into denormals, which are a hundred times slower. Does nothing where the
processor is not x86.
"""

restore_denormals: Callable[[int], None] = instruction(types.void, [types.int32], _emit_restore)
"""Undo flush_denormals."""
