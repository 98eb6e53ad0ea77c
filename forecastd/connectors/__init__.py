"""Sources and sinks by the name a configuration gives as `type`.

To add one: a file here, a line in its table, a docs line; the conformance suite does the rest.
"""

from __future__ import annotations

from forecastd.connectors.file import FileSink, FileSource
from forecastd.connectors.reply import ReplySink
from forecastd.connectors.socket import SocketSource
from forecastd.connectors.stdin import StdinSource
from forecastd.connectors.stdout import StdoutSink

SOURCES = {
    "stdin": StdinSource,
    "file": FileSource,
    "tcp": SocketSource,
    "unix": SocketSource,
}

SINKS = {
    "stdout": StdoutSink,
    "file": FileSink,
    "reply": ReplySink,
}
