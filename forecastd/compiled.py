"""Functions over arrays that numba compiles to machine code on their first call.

No compiler is needed on the user's machine, and the code is kept on disk for the next start.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

import llvmlite.binding
import numba
from numba.core import environment
from numba.core.caching import FunctionCache, NullCache
from numba.core.runtime import nrt

_Function = TypeVar("_Function", bound=Callable[..., object])


QUICK_VERSIONS = ((0, 68),)
"""The versions of numba whose machine code is known to load alone; test_compiled.py tries it."""


class _Announcement:
    """Told once in the life of a process, when it first compiles."""

    tell: Callable[[str], None] | None = None

    def make(self, how_often: str) -> None:
        if self.tell is not None:
            self.tell(f"compiling for this machine, {how_often}; this takes up to a minute")
        self.tell = None


_announcement = _Announcement()


def announce_compiling(tell: Callable[[str], None]) -> None:
    """Have `tell` called, once, when this process first has to wait for something to compile."""
    _announcement.tell = tell


def compiled(function: _Function) -> _Function:
    """Compile a function that runs without the interpreter's lock.

    Where no folder for the machine code can be written, it is compiled anew at each start.
    """
    made: Any = once_a_type(numba.njit(nogil=True)(function))
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

    Where it is inlined, a constant is known all the same.
    """
    template: Any = made.get_call_template
    unliteral: Any = numba.types.unliteral

    def plain(args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        return template(tuple(unliteral(kind) for kind in args), keywords)

    made.get_call_template = plain
    return made


def inlined(function: _Function) -> _Function:
    """Make a function part of the compiled functions that call it.

    For small leaves that take arrays: each real call would count references to them.
    """
    return cast("_Function", numba.njit(inline="always")(function))


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
        with own._guard_against_spurious_io_errors(), _without_names() if quick else nullcontext():
            found = own._load_overload(sig, target_context)
        if found is None:
            _announcement.make("once")
        return found


class _NoCache(NullCache):
    """Keeps nothing, and says so."""

    def load_overload(self, sig: Any, target_context: Any) -> None:
        """Return nothing."""
        _announcement.make("at each start unless NUMBA_CACHE_DIR names a folder it can be kept in")


@contextmanager
def _without_names() -> Iterator[None]:
    """Load machine code without the modules of numba whose functions are part of it.

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
