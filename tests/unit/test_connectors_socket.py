"""The protocol of docs/formats/ndjson.md, spoken by real sockets."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import numpy as np
import pytest
from connector_harness import (
    FakeClock,
    SocketSourceHarness,
    read_line,
    surroundings,
    take,
)

from forecastd.connectors import connections
from forecastd.connectors.contract import ForecastLines
from forecastd.connectors.reply import ReplySettings, ReplySink
from forecastd.connectors.socket import (
    STREAMS_MAX,
    SocketSource,
    TcpSettings,
    UnixSettings,
    check_listen,
    listen_tcp,
    listen_unix,
    parse_listen,
)
from forecastd.errors import UserError


class Served(SocketSourceHarness):
    """A source with clients, and the sink that answers them."""

    def __init__(self, folder: Path, stack: ExitStack, kind: str) -> None:
        super().__init__(folder, stack, kind)
        self.clock = FakeClock()
        self.surroundings = surroundings(folder, self.clock, line_bytes_max=1000)
        self.sink = ReplySink("out", ReplySettings(type="reply"), self.surroundings)
        self.open()
        stack.callback(lambda: self.source.close())

    def commit(self) -> None:
        self.source.acknowledge(self.source.position())

    def hear(self, client: socket.socket) -> dict:
        return json.loads(read_line(client, self.source))

    def client(self, stream: str | None = None) -> socket.socket:
        client = self.connect()
        if stream is not None:
            client.sendall(b'{"stream":"%s"}\n' % stream.encode())
        return client

    def is_closed(self, client: socket.socket) -> bool:
        """Let the source work until the client sees the end of its connection."""
        client.setblocking(False)
        for _ in range(10_000):
            self.source.next_batch()
            try:
                if client.recv(1 << 16) == b"":
                    return True
            except BlockingIOError:
                continue
            except ConnectionError:
                return True
        return False


@pytest.fixture(params=["unix", "tcp"])
def served(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Served]:
    with ExitStack() as stack:
        yield Served(tmp_path, stack, request.param)


def test_a_new_stream_begins_at_zero_and_is_acknowledged_after_a_commit(served: Served) -> None:
    client = served.client("meter")
    assert served.hear(client) == {"stream": "meter", "position": 0}
    client.sendall(b"one\ntwo\n")
    assert take(served.source, 2) == [b"one", b"two"]
    served.commit()
    assert served.hear(client) == {"ack": 2}


def test_rejected_and_blank_lines_count_in_the_position(served: Served) -> None:
    client = served.client("meter")
    served.hear(client)
    client.sendall(b"x" * 5000 + b"\n\nlast\n")
    assert take(served.source, 2) == [b"", b"last"]
    assert served.source.position() == {"streams": {"meter": 3}}


def test_a_stream_goes_on_in_another_life(served: Served) -> None:
    client = served.client("meter")
    served.hear(client)
    client.sendall(b"one\ntwo\n")
    take(served.source, 2)
    position = served.source.position()
    served.source.close()
    served.open(position)
    assert served.hear(served.client("meter")) == {"stream": "meter", "position": 2}


def test_end_asks_for_a_commit_and_a_last_acknowledgement(served: Served) -> None:
    client = served.client("meter")
    served.hear(client)
    assert not served.source.commit_wanted
    client.sendall(b'one\n{"end": true}\n')
    assert take(served.source, 1) == [b"one"]
    assert served.source.commit_wanted
    served.commit()
    assert not served.source.commit_wanted
    assert served.hear(client) == {"ack": 1}
    client.sendall(b'{"end":true}\n')
    while not served.source.commit_wanted:
        assert served.source.next_batch().lines == []
    served.commit()
    assert served.hear(client) == {"ack": 1}


def test_clients_without_a_name_are_served_and_hear_nothing(served: Served) -> None:
    client = served.client()
    client.sendall(b"one\n")
    assert take(served.source, 1) == [b"one"]
    served.commit()
    client.setblocking(False)
    with pytest.raises(BlockingIOError):
        client.recv(1)
    assert served.source.position() == {"streams": {}}


def test_a_second_client_of_a_stream_replaces_the_first(served: Served) -> None:
    first = served.client("meter")
    served.hear(first)
    first.sendall(b"one\n")
    take(served.source, 1)
    second = served.client("meter")
    while not served.source.commit_wanted:
        served.source.next_batch()
    served.commit()
    assert served.hear(second) == {"stream": "meter", "position": 1}
    assert served.is_closed(first)


def test_a_torn_last_line_is_kept_only_of_a_client_without_a_name(served: Served) -> None:
    named = served.client("meter")
    served.hear(named)
    named.sendall(b"one\ntor")
    named.close()
    assert take(served.source, 1) == [b"one"]
    nameless = served.client()
    nameless.sendall(b"two\nlast")
    nameless.close()
    assert take(served.source, 2) == [b"two", b"last"]
    assert served.source.position() == {"streams": {"meter": 1}}


def test_a_control_line_later_is_an_ordinary_line(served: Served) -> None:
    client = served.client()
    client.sendall(b'one\n{"stream":"late"}\n')
    assert take(served.source, 2) == [b"one", b'{"stream":"late"}']


@pytest.mark.parametrize("name", ["", "x" * 129, "a\\u0000b", "a\\nb"])
def test_a_bad_name_is_refused(served: Served, name: str) -> None:
    client = served.client(name)
    assert "1 to 128 printable" in served.hear(client)["error"]
    assert served.is_closed(client)
    assert served.source.position() == {"streams": {}}


def test_at_most_so_many_streams_are_remembered(served: Served) -> None:
    streams = {f"s{number}": 1 for number in range(STREAMS_MAX)}
    served.source.close()
    served.open({"streams": streams})
    client = served.client("new")
    assert served.hear(client)["position"] == 0
    remembered = served.source.position()["streams"]
    assert len(remembered) == STREAMS_MAX
    assert "s0" not in remembered
    assert "new" in remembered


def test_answers_go_to_the_client_that_asked(served: Served) -> None:
    clients = [served.client(), served.client()]
    for number, client in enumerate(clients):
        client.sendall(b"from %d\n" % number)
    seen: dict[bytes, int] = {}
    while len(seen) < 2:
        batch = served.source.next_batch()
        seen |= dict(zip(batch.lines, batch.tags.tolist(), strict=True))
    lines = [b"to 1\n", b"to 0\n"]
    tags = np.array([seen[b"from 1"], seen[b"from 0"]], np.int32)
    served.sink.write(ForecastLines.of(lines, tags))
    served.sink.flush()
    assert [client.recv(100) for client in clients] == [b"to 0\n", b"to 1\n"]


def test_lines_of_a_client_that_has_left_are_still_used(served: Served) -> None:
    client = served.client()
    client.sendall(b"".join(b"line %d\n" % number for number in range(100)))
    client.close()
    object.__setattr__(served.surroundings, "batch_rows", 10)
    lines = []
    while len(lines) < 100:
        batch = served.source.next_batch()
        lines += batch.lines
        served.sink.write(ForecastLines.of([b"answer\n"] * len(batch.lines), batch.tags))
    assert lines == [b"line %d" % number for number in range(100)]
    while len(served.surroundings.connections):
        served.source.next_batch()


def test_a_client_that_reads_nothing_is_paused_and_closed(served: Served) -> None:
    client = served.client()
    client.sendall(b"ask\n")
    while not (batch := served.source.next_batch()).lines:
        pass
    answer = ForecastLines.of([b"x" * 1000 + b"\n"], batch.tags)
    connection = served.surroundings.connections._by_tag[int(batch.tags[0])]
    while connection.unsent_bytes <= connections.UNSENT_BYTES_MAX:
        served.sink.write(answer)
    client.sendall(b"more\n")
    for _ in range(10):
        assert served.source.next_batch().lines == []
    assert served.source.poll_interval_s == 1.0
    served.clock.now += 31
    while len(served.surroundings.connections):
        served.source.next_batch()
    assert served.surroundings.connections.closed == {"slow": 1}


def test_a_flush_gives_up_on_a_client_that_reads_nothing(served: Served) -> None:
    client = served.client()
    client.sendall(b"ask\n")
    while not (batch := served.source.next_batch()).lines:
        pass
    connection = served.surroundings.connections._by_tag[int(batch.tags[0])]
    while connection.unsent_bytes == 0:
        served.sink.write(ForecastLines.of([b"x" * 100_000 + b"\n"], batch.tags))
    object.__setattr__(served.surroundings.connections, "_clock", RunningClock())
    served.sink.flush()
    assert connection.deaf
    assert served.surroundings.connections.closed == {"slow": 1}


class RunningClock:
    """A clock that is a second later each time."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


def test_a_line_of_ten_megabytes_does_not_stop_the_connection(served: Served) -> None:
    client = served.client()
    client.setblocking(False)
    rest = memoryview(b"x" * 10_000_000 + b"\ngood\n")
    lines, rejects = [], []
    while not lines:
        if rest:
            with suppress(BlockingIOError):
                rest = rest[client.send(rest) :]
        batch = served.source.next_batch()
        lines += batch.lines
        rejects += batch.rejects
    assert lines == [b"good"]
    assert [(each.reason, each.line) for each in rejects] == [("line_too_long", b"x" * 200)]


def test_one_loud_client_does_not_starve_another(served: Served) -> None:
    object.__setattr__(served.surroundings, "batch_rows", 10)
    loud, quiet = served.client(), served.client()
    loud.sendall(b"loud\n" * 5000)
    quiet.sendall(b"quiet\n")
    lines = []
    while b"quiet" not in lines:
        lines += served.source.next_batch().lines
    assert len(lines) < 200


def test_too_many_clients_are_refused(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "CONNECTIONS_MAX", 2)
    clients = [served.client() for _ in range(3)]
    for client in clients:
        client.sendall(b"line\n")
    assert take(served.source, 2) == [b"line", b"line"]
    assert b"too many connections" in read_line(clients[2], served.source)
    assert served.surroundings.connections.closed == {"refused": 1}


def test_a_stale_socket_file_is_replaced_and_a_live_one_is_not(tmp_path: Path) -> None:
    with ExitStack() as stack:
        harness = SocketSourceHarness(tmp_path, stack, "unix")
        path = Path(f"{harness._short}/stale.sock")
        with socket.socket(socket.AF_UNIX) as gone:
            gone.bind(str(path))
        listener = stack.enter_context(listen_unix(path, "source in"))
        assert listener.getsockname() == str(path)
        assert path.stat().st_mode & 0o777 == 0o660
        with pytest.raises(UserError, match=r"source in cannot listen on .*Address already in use"):
            listen_unix(path, "source in")


def test_a_socket_file_goes_with_its_source(tmp_path: Path) -> None:
    with ExitStack() as stack:
        harness = SocketSourceHarness(tmp_path, stack, "unix")
        source = harness.open()
        path = Path(source.address)
        assert path.is_socket()
        source.close()
        assert not path.exists()


def test_a_path_too_long_for_a_socket_is_an_error_in_a_sentence(tmp_path: Path) -> None:
    settings = UnixSettings(type="unix", path=str(tmp_path / ("x" * 200)))
    with pytest.raises(UserError, match="choose another path"):
        SocketSource("in", settings, surroundings(tmp_path))


def test_a_port_in_use_is_an_error_in_a_sentence() -> None:
    with listen_tcp("127.0.0.1:0", "source a") as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(UserError, match=f"source b cannot listen on {address}") as caught:
            listen_tcp(address, "source b")
    assert "choose another port" in str(caught.value)


@pytest.mark.parametrize("text", ["8798", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:70000", "host:1"])
def test_an_address_that_is_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not (address:port|an IP address)"):
        parse_listen(text)


def test_addresses() -> None:
    assert parse_listen("localhost:1") == ("127.0.0.1", 1)
    assert parse_listen("[::1]:2") == ("::1", 2)


@pytest.mark.parametrize("listen", ["0.0.0.0:8798", "[::]:8798", "192.0.2.1:8798"])
def test_other_machines_are_let_in_only_on_request(listen: str) -> None:
    with pytest.raises(ValueError, match="allow_remote = true"):
        TcpSettings(type="tcp", listen=listen)
    assert TcpSettings(type="tcp", listen=listen, allow_remote=True).listen == listen
    check_listen("127.8.8.8:1", allow_remote=False)
