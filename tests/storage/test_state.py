"""The store behind STATE_URL: shared by threads and processes, claimed once, forgetful rather than failing."""

import multiprocessing
import os
import socket
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path

import pytest

from app import create_app
from config import SettingError, Settings
from core.store import KeyValueStore
from storage import key_value as store
from storage.key_value import RedisStore, SqliteStore, open_store
from tests.conftest import EVER, environment, free_port, until


def keeps_and_gives_once(one: KeyValueStore, other: KeyValueStore) -> None:
    """What any store must do; `one` and `other` are those of two processes."""
    one.put("key", "väluë", 60)
    assert other.get("key") == "väluë"
    one.put("key", "another", 60)
    with ThreadPoolExecutor(8) as pool:
        claims = list(pool.map(lambda at: (one, other)[at % 2].pop("key"), range(16)))
    assert sorted(filter(None, claims)) == ["another"]
    assert one.get("key") is other.pop("key") is None
    one.put("short", "lived", 0.05)
    until(lambda: other.get("short") is None, "it to expire")
    assert other.pop("short") is None


def test_a_file(tmp_path: Path) -> None:
    """Made on first use, with its folder."""
    folder = tmp_path / "new" / "data"
    one = open_store("", folder)
    assert not folder.exists()
    keeps_and_gives_once(one, open_store("", folder))
    assert list(folder.glob("state.sqlite3"))


@pytest.mark.parametrize("form", ["sqlite://{}/x.db", "{}/x.db"])
def test_a_file_elsewhere(tmp_path: Path, form: str) -> None:
    open_store(form.format(tmp_path), tmp_path / "data").put("a", "b", 60)
    assert (tmp_path / "x.db").exists()
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("url", ["memcached://:secret@host", "redis://:secret@host:port/0", "redis://host:secret"])
def test_an_address_of_another_kind_stops_the_start(url: str) -> None:
    with pytest.raises(SettingError, match="STATE_URL") as error:
        create_app(Settings.load(environment(STATE_URL=url)))
    assert "secret" not in str(error.value)


def test_what_has_expired_is_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Values past their lifetime are deleted, so a store does not grow for days."""
    monkeypatch.setattr(store, "SWEEP", 0.0)
    kept = SqliteStore(tmp_path / "x.db")
    for number in range(50):
        kept.put(f"key{number}", "value", -1)
    kept.put("last", "value", 60)
    with closing(sqlite3.connect(tmp_path / "x.db")) as connection:
        assert connection.execute("SELECT key FROM kept").fetchall() == [("last",)]


def test_a_fork_after_use(tmp_path: Path) -> None:
    """A connection is not carried into a child; both go on."""
    kept = SqliteStore(tmp_path / "x.db")
    kept.put("mine", "parent", 60)
    child = os.fork()
    if not child:
        kept.put("theirs", "child", 60)
        os._exit(0 if kept.pop("mine") == "parent" else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert kept.get("theirs") == "child"
    assert kept.get("mine") is None


def _write(path: Path, name: int, barrier: object) -> None:
    kept = SqliteStore(path)
    barrier.wait()  # type: ignore[attr-defined]
    lost = 0
    for number in range(100):
        kept.put(f"{name}-{number}", "x", 60)
        lost += kept.pop(f"{name}-{number}") is None
    raise SystemExit(lost)


@pytest.mark.thorough
def test_processes_that_open_and_write_at_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(4)
    workers = [context.Process(target=_write, args=(tmp_path / "x.db", name, barrier)) for name in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(30)
    assert [worker.exitcode for worker in workers] == [0] * 4


@pytest.mark.parametrize("spoilt", ["a folder", "a pipe", "nowhere"])
def test_a_file_that_cannot_be_used_forgets(tmp_path: Path, spoilt: str, caplog: pytest.LogCaptureFixture) -> None:
    """Said once."""
    path = tmp_path / "x.db"
    if spoilt == "a folder":
        path.mkdir()
    elif spoilt == "a pipe":
        os.mkfifo(path)
    else:
        path = Path("/dev/null/x.db")
    kept = SqliteStore(path)
    for _ in range(3):
        kept.put("a", "b", 60)
        assert kept.get("a") is kept.pop("a") is None
    assert caplog.text.count("out of reach") == 1


def _spoil(path: Path, how: str) -> None:
    kept = SqliteStore(path)
    for number in range(500):
        kept.put(f"key{number}", "value" * 20, 60)
    kept._file._close()
    content = path.read_bytes()
    if how == "no database":
        path.write_bytes(b"something else" * 1000)
    elif how == "a byte at its head":
        path.write_bytes(b"X" + content[1:])
    elif how == "cut off":
        path.write_bytes(content[: len(content) // 2])
    else:
        path.write_bytes(content[:4096] + os.urandom(len(content) - 4096))
    for journal in ("-wal", "-shm"):
        path.with_name(path.name + journal).unlink(missing_ok=True)


@pytest.mark.parametrize("how", ["no database", "a byte at its head", "cut off", "noise"])
def test_a_corrupt_file_is_set_aside_and_made_anew(tmp_path: Path, how: str, caplog: pytest.LogCaptureFixture) -> None:
    """By one of two processes, and both use the new one."""
    path = tmp_path / "x.db"
    _spoil(path, how)
    spoilt = path.read_bytes()
    one, other = SqliteStore(path), SqliteStore(path)
    for number in range(500):  # somewhere among them it is found out
        for kept in (one, other):
            kept.put(f"key{number}", "other", 60)
            kept.pop(f"key{number}")
    one.put("a", "b", 60)
    assert one.get("a") == other.pop("a") == "b"
    assert (tmp_path / "x.db.corrupt").read_bytes()[1:4000] == spoilt[1:4000] or how in ("cut off", "noise")
    assert caplog.text.count("set aside") == 1
    assert "out of reach" not in caplog.text
    assert "Traceback" not in caplog.text


def test_a_file_that_is_removed_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    one, other = SqliteStore(path), SqliteStore(path)
    one.put("a", "b", 60)
    other.put("c", "d", 60)
    for each in tmp_path.iterdir():
        each.unlink()
    one.put("a", "b", 60)
    assert other.get("a") == "b"


def test_a_store_that_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(store, "PAUSE", 0.0)
    caplog.set_level("INFO")
    path = tmp_path / "data" / "x.db"
    path.parent.write_text("in the way")
    kept = SqliteStore(path)
    kept.put("a", "b", 60)
    path.parent.unlink()
    kept.put("a", "b", 60)
    assert kept.get("a") == "b"
    assert "is back" in caplog.text


def test_a_server_out_of_reach_forgets_soon(caplog: pytest.LogCaptureFixture) -> None:
    """A caller is waiting: not even one that takes connections and says nothing holds a call for long."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        for port in (mute.getsockname()[1], free_port()):
            kept = RedisStore(f"redis://:secret@127.0.0.1:{port}")
            began = time.monotonic()
            for _ in range(50):
                kept.put("a", "b", 60)
                assert kept.get("a") is kept.pop("a") is None
            assert time.monotonic() - began < 3
    assert caplog.text.count("out of reach") == 2
    assert "secret" not in caplog.text


SENDINGS = {
    "a byte at a time": (b"$", b"1"),
    "no end of a line": (b"+" + b"x" * 65536,) * 2,
    "no end of a text": (b"$999999999999\r\n", b"x" * 65536),
    "no end of a list": (b"*999999999\r\n", b"+OK\r\n" * 10000),
    "lists in lists": (b"*1\r\n" * 20000,) * 2,
    "nonsense": (b"\xff\x00 no reply\r\n",) * 2,
    "a number where a text is due": (b":5\r\n",) * 2,
    "no number": (b"$many\r\n",) * 2,
}


def _send(server: socket.socket, first: bytes, then: bytes, pause: float) -> None:
    while True:
        try:
            sock, _ = server.accept()
        except OSError:
            return
        threading.Thread(target=_send_to, args=(sock, first, then, pause), daemon=True).start()


def _send_to(sock: socket.socket, first: bytes, then: bytes, pause: float) -> None:
    by = time.monotonic() + 10
    with sock, suppress(OSError):
        sock.sendall(first)
        while time.monotonic() < by:
            sock.sendall(then)
            time.sleep(pause)


@pytest.mark.parametrize("kind", SENDINGS)
def test_a_server_that_answers_anyhow_holds_no_call(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever it sends, for as long as it likes: bounded in time and in bytes, and nothing is raised."""
    first, then = SENDINGS[kind]
    with socket.create_server(("127.0.0.1", 0)) as server:
        pause = 0.1 if kind == "a byte at a time" else 0.0 if "no end" in kind else 0.02
        threading.Thread(target=_send, args=(server, first, then, pause), daemon=True).start()
        kept = RedisStore(f"redis://:secret@127.0.0.1:{server.getsockname()[1]}")
        began = time.monotonic()
        for _ in range(20):
            kept.put("a", "b", 60)
            assert kept.get("a") is kept.pop("a") is None
        assert time.monotonic() - began < 5
    assert "secret" not in caplog.text
    assert "Traceback" not in caplog.text


def test_a_name_that_takes_long_to_look_up_holds_no_call(monkeypatch: pytest.MonkeyPatch) -> None:
    found = threading.Event()

    def look_up(*_: object, **__: object) -> list[object]:
        found.wait(EVER)
        raise OSError("no such name")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    kept = RedisStore("redis://redis.example:6379/0")
    began = time.monotonic()
    assert kept.get("a") is None
    assert time.monotonic() - began < 3
    found.set()


@pytest.mark.services
def test_redis(redis_url: str) -> None:
    keeps_and_gives_once(RedisStore(redis_url), RedisStore(redis_url))


@pytest.mark.services
def test_redis_from_many_threads(redis_url: str) -> None:
    kept = RedisStore(redis_url)
    lost: list[str] = []

    def work(name: int) -> None:
        for number in range(50):
            kept.put(f"{name}-{number}", "x", 60)
            if kept.pop(f"{name}-{number}") != "x":
                lost.append(f"{name}-{number}")

    threads = [threading.Thread(target=work, args=(name,)) for name in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not lost


def test_a_file_does_not_grow_without_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "MOST_BYTES", 1_000_000)
    monkeypatch.setattr(store, "SWEEP", 0.0)
    kept = SqliteStore(tmp_path / "state.sqlite3")
    for number in range(60):
        kept.put(f"value-{number}", "x" * 50_000, 1000 + number)
    assert kept.get("value-0") is None
    assert kept.get("value-59") is not None
    kept.put("last", "y", 1)
    assert (tmp_path / "state.sqlite3").stat().st_size < 3_000_000
