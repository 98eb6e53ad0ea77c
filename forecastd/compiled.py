"""Functions over arrays that numba compiles to machine code on their first call.

No compiler is needed on the user's machine, and the code is kept on disk for the next start.
"""

from __future__ import annotations

import ctypes
import hashlib
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeVar, cast

import llvmlite.binding
import numba
from numba import _dynfunc  # type: ignore[attr-defined, unused-ignore]
from numba.core import environment, registry
from numba.core.caching import FunctionCache, NullCache
from numba.core.codegen import JITCodeLibrary
from numba.core.runtime import nrt

_Function = TypeVar("_Function", bound=Callable[..., object])


QUICK_VERSIONS = ((0, 68),)
"""The versions of numba that are known to load machine code alone, and to compile parts as parts.

test_compiled.py tries both; any other does all in its own way.
"""


class _Announcement:
    """Told once in the life of a process, when it first compiles."""

    tell: Callable[[str], None] | None = None
    beside: Callable[[], None] | None = None

    def make(self, how_often: str, *, kept: bool) -> None:
        if self.tell is not None:
            self.tell(f"compiling for this machine, {how_often}; this takes up to half a minute")
        if self.beside is not None and kept:
            self.beside()
        self.tell = self.beside = None


_announcement = _Announcement()


def announce_compiling(
    tell: Callable[[str], None], beside: Callable[[], None] | None = None
) -> None:
    """Have `tell` called, once, when this process first has to wait for something to compile.

    beside: called then too, if what is compiled is kept on disk: it may have more compiled.
    """
    _announcement.tell, _announcement.beside = tell, beside


def compiled(function: _Function) -> _Function:
    """Compile a function that runs without the interpreter's lock.

    Where no folder for the machine code can be written, it is compiled anew at each start.
    """
    made: Any = _plain_types(numba.njit(nogil=True)(function), _whole)
    make_cache: Any = _QuickCache
    try:
        made._cache = make_cache(function)
    except RuntimeError:  # numba found no place for it
        made._cache = _NoCache()
    return cast("_Function", made)


def compiled_until_changed(make: Callable[[int], _Function], sources: Iterable[Path]) -> _Function:
    """Compile a function, and keep it on disk until any of the source files changes.

    make: takes a number that the function mentions and returns the function. numba keys its cache
    by the function's own code and such numbers, and does not see a change in what it calls.
    """
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).digest()
    return compiled(make(int.from_bytes(digest[:7], "little")))


def once_a_type(made: Any) -> Any:
    """Have a function of numba compiled once for integers, not again for each constant it is given.

    Where it is inlined, a constant is known all the same. For parts of compiled functions: one that
    they call gets no machine code of its own, and is compiled again where Python calls it as well.
    """
    melts = numba.version_info.short in QUICK_VERSIONS
    return _plain_types(made, partial(_melting, made) if melts else nullcontext)


def _plain_types(made: Any, how: Callable[[], AbstractContextManager[None]]) -> Any:
    template: Any = made.get_call_template
    unliteral: Any = numba.types.unliteral

    def plain(args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        with how():
            return template(tuple(unliteral(kind) for kind in args), keywords)

    made.get_call_template = plain
    return made


def inlined(function: _Function) -> _Function:
    """Make a function part of the compiled functions that call it.

    For small leaves that take arrays: each real call would count references to them.
    """
    return cast("_Function", numba.njit(inline="always")(function))


_FROM_PYTHON: Any = ctypes.PYFUNCTYPE(
    ctypes.py_object, ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p
)
"""How Python calls a compiled function: with itself, the arguments, and NULL for keywords."""


class _Part(JITCodeLibrary):
    """What a part is compiled to: code that is linked into what calls it, and optimised there."""

    def _optimize_final_module(self) -> None:
        pass

    def _finalize_final_module(self) -> None:
        own: Any = self  # numba has few types
        own._finalize_dynamic_globals()
        own._verify_declare_only_symbols()
        own._finalized = True


@contextmanager
def _melting(made: Any) -> Iterator[None]:
    """Compile a function of numba into those that call it, and no more.

    numba would optimise each part by itself and again in all that call it, and translate it for
    callers that it does not have: half of the time of a first start.
    """
    compiler = made._compiler
    options = compiler.targetoptions
    by_itself = cache(lambda: numba.njit(**options)(made.py_func))

    def executable(library: Any, about: Any, names: Any) -> Any:
        def call(_function: int, arguments: tuple[Any, ...], _keywords: int) -> Any:
            if about.qualname != made.py_func.__qualname__:  # compiled along with it
                message = f"{about.qualname} is part of compiled functions; Python cannot call it"
                raise NotImplementedError(message)
            return by_itself()(*arguments)

        callback = _FROM_PYTHON(call)
        place = ctypes.cast(callback, ctypes.c_void_p).value
        module, name = about.lookup_module(), about.qualname
        return _dynfunc.make_function(module, name, "", place, names, (library, callback))

    compiler.targetoptions = {**options, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
    try:
        with _compiling(_Part, executable):
            yield
    finally:
        compiler.targetoptions = options


def _whole(library: type[JITCodeLibrary] = JITCodeLibrary) -> AbstractContextManager[None]:
    """Compile a function that Python may call, wherever it is met first."""
    context: Any = registry.cpu_target.target_context
    return _compiling(library, partial(type(context).get_executable, context))


@contextmanager
def _compiling(library: type[JITCodeLibrary], executable: Callable[..., Any]) -> Iterator[None]:
    """Have what numba compiles meanwhile held by such a library, and called by such a function."""
    context: Any = registry.cpu_target.target_context
    generator = context.codegen()
    before = generator._library_class, context.get_executable
    generator._library_class, context.get_executable = library, executable
    try:
        yield
    finally:
        generator._library_class, context.get_executable = before


class _Loaded(JITCodeLibrary):
    """Machine code from disk; what it was translated from is read when something links it."""

    @classmethod
    def _unserialize(cls, generator: Any, state: Any) -> Any:
        name, kind, data = state
        if kind != "object":
            message = f"the machine code of {name} on disk is not understood"
            raise ValueError(message)
        own: Any = cls(generator, name)
        code, own._source = data
        own.enable_object_caching()
        own._set_compiled_object(code)
        own._finalize_final_module()
        return own

    def _get_module_for_linking(self) -> Any:
        own: Any = self
        if own._shared_module is None:
            own._shared_module = llvmlite.binding.parse_bitcode(own._source)
            own._codegen._engine._load_defined_symbols(own._shared_module)
        return own._shared_module

    def get_pointer_to_function(self, name: str) -> Any:
        own: Any = self
        return own._codegen._engine.get_function_address(name)


class _QuickCache(FunctionCache):
    """The cache of `njit(cache=True)`, which loads machine code without what only compiling needs.

    numba would import and register all it can compile and compile its own run time, a fifth of a
    second and 35 MB; a function that is not found on disk does that later, when it is compiled.
    The code on disk is whole but for the addresses of the run time. A numba that is not known to
    keep it so loads in its own way.
    """

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return the machine code for a signature, None where there is none."""
        own: Any = self  # numba has few types
        quick = numba.version_info.short in QUICK_VERSIONS
        if quick:
            _name_run_time()
        else:
            target_context.refresh()
        with own._guard_against_spurious_io_errors(), _loading() if quick else nullcontext():
            found = own._load_overload(sig, target_context)
        if found is None:
            _announcement.make("once", kept=True)
        return found


class _NoCache(NullCache):
    """Keeps nothing, and says so."""

    def load_overload(self, sig: Any, target_context: Any) -> None:
        """Return nothing."""
        how_often = "at each start unless NUMBA_CACHE_DIR names a folder it can be kept in"
        _announcement.make(how_often, kept=False)


@contextmanager
def _loading() -> Iterator[None]:
    """Load machine code alone, also without the modules of numba whose functions are part of it.

    Their names are for the interpreter, which compiled functions never ask; importing them takes a
    twentieth of a second.
    """
    usual: Any = environment._rebuild_env

    def bare(module: str, constants: list[Any], name: str) -> Any:
        if not module.startswith("numba.") or module in sys.modules:
            return usual(module, constants, name)
        found: Any = environment.Environment._memo.get(name)
        if found is None:
            found = environment.Environment({"__name__": module})
            found.consts[:] = constants
            found.env_name = name
        return found

    environment._rebuild_env = bare
    try:
        with _whole(_Loaded):
            yield
    finally:
        environment._rebuild_env = usual


@cache
def _name_run_time() -> None:
    """Tell the linker where numba's run time is, as numba does when it compiles it."""
    run_time: Any = nrt
    for name, address in run_time._nrt.c_helpers.items():
        full_name = name if name.startswith("_") else f"NRT_{name}"
        llvmlite.binding.add_symbol(full_name, address)
