"""/metrics under real gunicorn: the sum over workers, also over those that have died, and nothing left behind."""

import logging
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import requests

from telemetry.metric_files import KINDS, MEMORY, MetricFiles, prepare_files, remove_abandoned
from tests.conftest import EVER, Served, until
from tests.support.frames import chat_body, post
from tests.telemetry.test_metrics import samples

Serve = Callable[..., Served]
CHATS = "thinkline_requests_total{endpoint=chat,model=demo/demo,outcome=done,provider=demo,status=200}"


def read(app: Served) -> dict[str, float]:
    response = requests.get(f"http://127.0.0.1:{app.port}/metrics", timeout=EVER)
    assert response.status_code == 200, response.text
    return samples(response.text)


def folder_of(app: Served) -> Path:
    """Where the workers of this server share their metrics."""
    for number in (each for pid in app.workers for each in Path(f"/proc/{pid}/fd").iterdir()):
        target = str(number.readlink())
        if "thinkline-metrics-" in target:
            return Path(target).parent
    raise AssertionError("no worker has a file of metrics open")


def test_the_metrics_of_four_workers_survive_them(serve: Serve) -> None:
    app = serve(WORKERS=4, DEMO_PACE_MS=0)
    until(lambda: len(app.workers) == 4, "four workers")
    for _ in range(40):
        assert post(app.port, chat_body())[0] == 200
    until(lambda: read(app).get(CHATS) == 40, "the sum of all workers")
    folder = folder_of(app)
    first = app.workers
    for pid in first:
        os.kill(pid, signal.SIGKILL)
    until(lambda: len(app.workers) == 4 and not set(first) & set(app.workers), "new workers")
    until(lambda: read(app).get(CHATS) == 40, "what dead workers had counted")
    assert post(app.port, chat_body())[0] == 200
    until(lambda: read(app)[CHATS] == 41, "one more")
    dead = {f"_{pid}.db" for pid in first}
    until(lambda: not [file for file in folder.iterdir() if file.name.endswith(tuple(dead))], "no file of the dead")
    assert read(app)["thinkline_requests_in_flight"] == 0


def test_what_runs_is_seen_in_all_workers(serve: Serve) -> None:
    app = serve(WORKERS=2, DEMO_PACE_MS=300)
    until(lambda: len(app.workers) == 2, "two workers")
    streams = [
        requests.post(
            f"{app.url}/chat/completions", json=chat_body("word " * 60, stream=True), stream=True, timeout=EVER
        )
        for _ in range(6)
    ]
    until(lambda: read(app)["thinkline_requests_in_flight"] == 6, "six in flight")
    for stream in streams:
        stream.close()
    until(lambda: read(app)["thinkline_requests_in_flight"] == 0, "none in flight")
    until(lambda: read(app).get("thinkline_hang_ups_total{model=demo/demo}") == 6, "six hang-ups")


def test_a_reload_keeps_the_counts(serve: Serve) -> None:
    app = serve(DEMO_PACE_MS=0)
    first = app.workers
    assert post(app.port, chat_body())[0] == 200
    app.process.send_signal(signal.SIGHUP)
    until(lambda: app.workers and not set(first) & set(app.workers), "another worker")
    assert post(app.port, chat_body())[0] == 200
    until(lambda: read(app).get(CHATS) == 2, "the counts of both workers")


def test_the_folder_ends_with_the_server(serve: Serve) -> None:
    app = serve(DEMO_PACE_MS=0)
    folder = folder_of(app)
    assert folder.is_dir()
    app.process.send_signal(signal.SIGTERM)
    app.process.wait(EVER)
    assert not folder.exists()


@pytest.mark.slow
def test_a_worker_without_room_for_its_files_counts_for_itself(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    logging.getLogger("thinkline").propagate = True
    assert prepare_files(tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {f"{kind}_{os.getpid()}.db" for kind in KINDS}
    assert not prepare_files(tmp_path / "nowhere")
    assert "the metrics of this worker are its own alone" in caplog.text


def test_what_a_killed_server_has_left_is_removed_and_nothing_else() -> None:
    here, killed = MetricFiles(), MetricFiles()
    killed._in_use.close()
    remove_abandoned(MEMORY)
    assert here.folder.is_dir()
    assert not killed.folder.exists()
    here.remove()
    assert not here.folder.exists()
