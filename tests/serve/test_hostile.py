"""What strangers send: too much, too slowly, without a key, from other sites, or after files of the server."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from coldpress import Client, ColdpressError
from coldpress.errors import ServerError
from coldpress.serve import new_key, read_keys
from coldpress.serve.keys import owner_of


@pytest.fixture(scope="module")
def key_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys") / "keys.txt"


@pytest.fixture(scope="module")
def keyed(start: Callable[..., Any], index: Path, key_file: Path) -> Iterator[tuple[Any, str]]:
    """A server that asks for keys and has little patience, and one of its keys."""
    key = new_key(key_file, "alice")
    with start("--index", index, "--api-keys", key_file, "--deadline", 1, "--max-body", 0.1) as started:
        yield started, key


def answer_to(server: Any, *sent: bytes, pause_s: float = 0.0) -> bytes:
    """What comes back for raw bytes, until the server closes the connection."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=15) as connection:
        try:
            for part in sent:
                connection.sendall(part)
                time.sleep(pause_s)
        except (BrokenPipeError, ConnectionResetError):
            pass
        received = b""
        while part := connection.recv(65536):
            received += part
        return received


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def status_of(server: Any, method: str, path: str, **headers: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.putrequest(method, path, skip_host="Host" in headers)
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders()
    return connection.getresponse().status


def test_without_a_key_there_is_no_answer(keyed: tuple[Any, str]) -> None:
    server, key = keyed
    for wrong in (None, "", "cp-wrong", key[:-1], key + "a", "\u00e9", "0" * 100_00):
        with pytest.raises(ServerError) as error:
            Client(server.url, key=wrong and wrong.encode("utf-8").decode("latin-1"), retries=0).info()
        assert error.value.status == 401, wrong
    assert Client(server.url, key=key).info()["index"]["rows"] == 300
    assert status_of(server, "GET", "/metrics") == 401
    assert status_of(server, "GET", "/metrics", Authorization=f"bearer {key}") == 200
    assert status_of(server, "GET", "/health") == 200


def test_a_key_is_good_until_its_line_is_gone(keyed: tuple[Any, str], key_file: Path) -> None:
    server, _ = keyed

    def status(key: str) -> int:
        return status_of(server, "GET", "/v1/info", Authorization=f"Bearer {key}")

    before = key_file.read_text()
    gone, new = new_key(key_file, "gone"), new_key(key_file, "new")
    for lines, expected in (
        (key_file.read_text(), (200, 200)),
        (before + key_file.read_text().splitlines()[-1], (401, 200)),
    ):
        key_file.write_text(lines)
        server.process.send_signal(signal.SIGHUP)
        wait_for(lambda expected=expected: (status(gone), status(new)) == expected)
    key_file.write_text("nonsense")
    server.process.send_signal(signal.SIGHUP)
    wait_for(lambda: any("the keys of before are good on" in line for line in server.said))
    assert status(new) == 200


def test_keys_are_kept_as_hashes_in_a_file_of_their_owner(tmp_path: Path) -> None:
    file = tmp_path / "keys.txt"
    alice, bob = new_key(file, "alice"), new_key(file, "bob")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert alice not in file.read_text()
    assert alice != bob
    keys = read_keys(file)
    assert [owner_of(key, keys) for key in (alice, bob, alice[:-1], "")] == ["alice", "bob", None, None]
    file.write_text(file.read_text().removesuffix("\n"))  # as an editor may leave it
    new_key(file, "carol")
    assert list(read_keys(file)) == ["alice", "bob", "carol"]
    with pytest.raises(ColdpressError, match="has a key of 'bob' already"):
        new_key(file, "bob")
    with pytest.raises(ColdpressError, match="letters, digits"):
        new_key(file, "a: b")
    file.write_text("alice: secret\n")
    with pytest.raises(ColdpressError, match=r"keys.txt:1: not 'name: sha256'"):
        read_keys(file)
    file.write_text("# nobody\n")
    with pytest.raises(ColdpressError, match="has no key"):
        read_keys(file)


def test_who_sends_a_head_too_slowly_is_cut_off(keyed: tuple[Any, str]) -> None:
    server, _ = keyed
    begun = time.monotonic()
    drip = [b"GET /health HTTP/1.1\r\n", *[f"X-{i}: a\r\n".encode() for i in range(50)]]
    assert b"408 Request Timeout" in answer_to(server, *drip, pause_s=0.05)
    assert answer_to(server, b"").startswith(b"HTTP/1.1 408")
    assert time.monotonic() - begun < 10


def test_who_sends_a_body_too_slowly_is_cut_off(keyed: tuple[Any, str]) -> None:
    server, key = keyed
    head = f"POST /v1/embed HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {key}\r\nContent-Length: 9999\r\n\r\n"
    answer = answer_to(server, head.encode(), *[b"{"] * 30, pause_s=0.05)
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"did not arrive within 1 s" in answer


def test_a_head_without_end_is_cut_off(keyed: tuple[Any, str]) -> None:
    server, _ = keyed
    assert b"431" in answer_to(server, b"GET /health HTTP/1.1\r\nX-Long: ", *[b"a" * 16_000] * 4, pause_s=0.01)


def test_many_who_say_nothing_keep_nobody_out(keyed: tuple[Any, str]) -> None:
    server, _ = keyed
    silent = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(200)]
    assert status_of(server, "GET", "/health") == 200
    for connection in silent:
        connection.close()


@pytest.mark.parametrize("announced", [True, False])
def test_a_body_that_is_too_large_is_refused(keyed: tuple[Any, str], announced: bool) -> None:
    server, key = keyed
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    body = json.dumps({"text": "a" * 200_000}).encode()
    sent = body if announced else iter([body])
    connection.request("POST", "/v1/embed", sent, {"Authorization": f"Bearer {key}"}, encode_chunked=not announced)
    answer = connection.getresponse()
    assert answer.status == 413
    assert "limit 100000" in json.load(answer)["error"]["message"]


def test_other_sites_and_other_names_are_turned_away(server: Any) -> None:
    """A page that a browser on this machine shows must not use a server on it, under whatever name."""
    own = f"127.0.0.1:{server.port}"
    assert status_of(server, "GET", "/v1/info") == 200
    assert status_of(server, "GET", "/v1/info", Origin=f"http://{own}") == 200
    assert status_of(server, "GET", "/v1/info", Origin="https://evil.example") == 403
    assert status_of(server, "POST", "/v1/reload", Origin="null") == 403
    assert status_of(server, "GET", "/v1/info", Host="evil.example") == 403
    assert status_of(server, "GET", "/v1/info", Host="localhost:1") == 200
    assert status_of(server, "OPTIONS", "/v1/search", Origin=f"http://{own}") == 405  # no CORS


def test_a_proxy_may_call_the_server_by_another_name(gallery: Any) -> None:
    assert status_of(gallery, "GET", "/v1/info", Host="photos.example", Origin="https://photos.example") == 200
    assert status_of(gallery, "GET", "/v1/info", Host="photos.example", Origin="https://evil.example") == 403
    assert status_of(gallery, "GET", "/v1/info", Host="evil.example") == 403


@pytest.mark.parametrize(
    "path",
    [
        "/../../etc/passwd",
        "/static/../app.py",
        "/static/..%2f..%2fapp.py",
        "/static/%2e%2e/%2e%2e/keys.py",
        "/static//etc/passwd",
        "/static/..\\app.py",
        "/v1/info/../../etc/passwd",
        "/%00",
    ],
)
def test_no_path_leads_to_a_file(server: Any, path: str) -> None:
    answer = answer_to(server, f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    assert answer.split(b" ", 2)[1] in (b"404", b"400")
    assert b"root:" not in answer
    assert b"import" not in answer


def test_answers_tell_browsers_to_be_careful(server: Any) -> None:
    answer = answer_to(server, b"GET /v1/info HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").lower()
    assert b"content-security-policy: default-src 'self'" in answer
    assert b"x-content-type-options: nosniff" in answer
    assert b"access-control" not in answer
    assert b"uvicorn" not in answer
