"""A models file that changes while calls are under way: it is read within seconds, and no call fails."""

import http.client
import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from secrets import token_hex
from typing import Any

import pytest

from dispatch.routing.catalogue import Catalogue
from dispatch.sources.file_watcher import FileWatcher
from dispatch.sources.sources import Sources
from tests.conftest import EVER, Served, served, until
from tests.emulators import OpenAIUpstream, ScriptedAnswer
from tests.support.frames import chat_body, completion, post, streamed_text
from tests.support.http import GUNICORN, fails_to_start

SOON = 5.0
"""Seconds, generously: the promise is two."""

HOUSE = "providers: {house: {kind: demo}}\n"


def naming(*names: str) -> str:
    """A file with models of these names, which the demo answers for."""
    return HOUSE + "models:\n" + "".join(f"- {{name: {name}, provider: house}}\n" for name in names)


def callable_at(app: Served, model: str) -> bool:
    status, _, data = post(app.port, chat_body(model=model))
    return status == 200 and completion(data)["model"] == model


def soon_callable(app: Served, model: str) -> None:
    until(lambda: callable_at(app, model), f"{model} to be callable:\n{app.log()[-2000:]}", SOON)


def soon_gone(app: Served, model: str) -> None:
    until(lambda: not callable_at(app, model), f"{model} to be gone", SOON)


@pytest.fixture(scope="module")
def followed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Served, Path]]:
    """The app, and its models file, which stands where Kubernetes mounts a ConfigMap:
    models.yaml -> ..data/models.yaml, and ..data -> the version that holds.
    """
    folder = tmp_path_factory.mktemp("mounted")
    (folder / "..version0").mkdir()
    (folder / "..version0" / "models.yaml").write_text(naming("first"))
    (folder / "..data").symlink_to("..version0")
    (folder / "models.yaml").symlink_to("..data/models.yaml")
    with served(folder / "log", MODELS_FILE=folder / "models.yaml", DEMO_PACE_MS=0, THREADS=8) as app:
        yield app, folder / "models.yaml"


def in_place(file: Path, text: str) -> None:
    file.write_text(text)


def by_rename(file: Path, text: str) -> None:
    """As editors save."""
    real = file.resolve()
    new = real.with_name("models.yaml.new")
    new.write_text(text)
    new.replace(real)


def by_symlink(file: Path, text: str) -> None:
    """As Kubernetes updates: https://pkg.go.dev/k8s.io/kubernetes/pkg/volume/util#AtomicWriter"""
    folder = file.parent
    old = (folder / "..data").readlink()
    version = folder / f"..{token_hex(8)}"
    version.mkdir()
    (version / "models.yaml").write_text(text)
    (folder / "..data_tmp").symlink_to(version.name)
    (folder / "..data_tmp").replace(folder / "..data")
    shutil.rmtree(folder / old)


def with_its_old_time(file: Path, text: str) -> None:
    """As `cp -p` and rsync do."""
    before = file.stat()
    by_rename(file, text)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


WAYS = [in_place, by_rename, by_symlink, with_its_old_time]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_a_model_that_is_added_can_be_called(followed: tuple[Served, Path], way: Callable[[Path, str], None]) -> None:
    app, file = followed
    name = f"added-{way.__name__}"
    assert not callable_at(app, name)
    way(file, naming(name))
    soon_callable(app, name)
    way(file, naming("other"))
    soon_gone(app, name)
    assert "Traceback" not in app.log()


BROKEN = [
    ("models:\n- {name: a, provider: house\n", 3, "did not find expected"),
    (naming("a", "a"), 4, "'a' is given for the second time"),
    (naming("a") + "modles: []\n", 4, "modles: Unknown field"),
    (naming("a") + "- {name: b, provider: house, owned_by: '${NOT_SET}'}\n", 4, "NOT_SET is not set"),
    ("#" * 6_000_000, 1, "larger than"),
]


def wait_for_changes(app: Served, count: int) -> str:
    """What the log says of the file, for the so-manieth time."""

    def lines() -> list[str]:
        return [line for line in app.log().splitlines() if "stays in use" in line]

    until(lambda: len(lines()) >= count, f"the log to tell:\n{app.log()[-2000:]}", SOON)
    return lines()[count - 1]


def test_a_file_that_breaks_is_told_and_the_last_good_one_kept(followed: tuple[Served, Path]) -> None:
    app, file = followed
    in_place(file, naming("good"))
    soon_callable(app, "good")
    for count, (text, line, reason) in enumerate(BROKEN, start=app.log().count("stays in use") + 1):
        by_rename(file, text)
        said_of_it = wait_for_changes(app, count)
        assert f"ERROR   thinkline.follow: {file}, line {line}: " in said_of_it
        assert reason in said_of_it
        assert ".;" not in said_of_it
        assert callable_at(app, "good")
    by_rename(file, naming("mended"))
    soon_callable(app, "mended")
    assert not callable_at(app, "good")


EMPTIED = ["", "# all of it\n# commented out\n", "{}", "[]", "models: []\n", "providers: {house: {kind: demo}}\n"]


@pytest.mark.parametrize("text", EMPTIED)
def test_a_file_that_is_emptied_is_a_mistake(followed: tuple[Served, Path], text: str) -> None:
    """As an editor, a full disk or a failed template leave it."""
    app, file = followed
    in_place(file, naming("filled"))
    soon_callable(app, "filled")
    count = app.log().count("stays in use") + 1
    in_place(file, text)
    assert f"WARNING thinkline.sources: {file} has no model any more" in wait_for_changes(app, count)
    assert callable_at(app, "filled")
    in_place(file, naming("filled-again"))
    soon_callable(app, "filled-again")
    assert "removed=['filled']" in app.log()


def test_a_first_file_is_kept_too(tmp_path: Path) -> None:
    """Where there was none at the start: what one process reads, those that are started later know."""
    file = tmp_path / "models.yaml"

    def sources() -> Sources:
        return Sources(
            upstreams={}, variables={}, clouds={}, demo_pace_ms=0, models_file=file, required=False,
            list_url="", list_token="", list_refresh=300, folder=tmp_path,
        )  # fmt: skip

    catalogue = Catalogue(sources().listings())
    file.write_text(naming("first"))
    sources()._take_over(catalogue)
    assert "first" in catalogue.snapshot.names
    for spoil in (lambda: file.write_text(""), file.unlink):
        spoil()
        assert [row.name for row in sources().listings()["file"].rows] == ["first"]


@pytest.mark.parametrize("spoil", [lambda file: file.write_text(""), Path.unlink], ids=["emptied", "removed"])
def test_a_new_worker_keeps_what_the_others_keep(
    serve: Callable[..., Served], tmp_path: Path, spoil: Callable[[Path], object]
) -> None:
    """Also where the file has changed since the start, and was emptied or removed only then."""
    file = tmp_path / "models.yaml"
    file.write_text(naming("at-the-start"))
    app = serve(MODELS_FILE=file, THREADS=4)
    file.write_text(naming("later"))
    soon_callable(app, "later")
    spoil(file)
    wait_for_changes(app, 1)
    for process, number in ((app.workers[0], signal.SIGKILL), (app.process.pid, signal.SIGHUP)):
        before = app.workers
        os.kill(process, number)
        until(lambda before=before: has_new_workers(app, before), "a new worker", SOON)
        assert callable_at(app, "later")


def test_a_provider_that_goes_does_not_leave_the_demo_in_its_place(
    serve: Callable[..., Served], tmp_path: Path
) -> None:
    file = tmp_path / "models.yaml"
    with OpenAIUpstream() as upstream:
        lab = f"providers: {{lab: {{base_url: '{upstream.base_url}', api_key: '{upstream.key}'}}}}\n"
        file.write_text(f"{lab}models: [{{name: gpt-4o, provider: lab}}]\n")
        app = serve(MODELS_FILE=file)
        assert post(app.port, chat_body(model="gpt-4o"))[0] == 200
        file.write_text("models: [{name: gpt-4o, provider: demo}]\n")
        app.logged("ERROR .*without 'lab' there is no provider but the demo; the last good one stays in use")
        assert post(app.port, chat_body(model="gpt-4o"))[0] == 200
        assert len(upstream.received) == 2


def test_a_file_that_vanishes_leaves_its_models(followed: tuple[Served, Path]) -> None:
    app, file = followed
    in_place(file, naming("stays"))
    soon_callable(app, "stays")
    count = app.log().count("stays in use") + 1
    real = file.resolve()
    real.rename(real.with_name("away"))
    assert f"{file}, line 1: it cannot be read" in wait_for_changes(app, count)
    assert callable_at(app, "stays")
    real.write_text(naming("back"))
    soon_callable(app, "back")


def test_a_running_stream_is_not_disturbed(serve: Callable[..., Served], tmp_path: Path) -> None:
    """Not even when its model and its provider go."""
    file = tmp_path / "models.yaml"
    with OpenAIUpstream() as upstream:
        lab = f"{{base_url: '{upstream.base_url}', api_key: '{upstream.key}', models: {{gpt-4o: }}}}"
        file.write_text(f"providers: {{lab: {lab}}}\nmodels: [{{name: paced, provider: demo}}]\n")
        app = serve(MODELS_FILE=file, DEMO_PACE_MS=40)
        upstream.enqueue(ScriptedAnswer(texts=["word "] * 60, frame_delay=0.04))
        words = "Say: " + " ".join(f"word{number}" for number in range(60))
        streams = [open_stream(app.port, chat_body(words, model=name, stream=True)) for name in ("paced", "lab/gpt-4o")]
        starts = [stream.readline() for stream in streams]
        file.write_text(naming("new"))
        soon_callable(app, "new")
        assert not callable_at(app, "lab/gpt-4o")
        spoken = [streamed_text(start + stream.read()) for start, stream in zip(starts, streams, strict=True)]
    assert spoken == [words.removeprefix("Say: "), "word " * 60]
    assert app.log().count("outcome=done") >= 2
    assert "outcome=failed" not in app.log()


def open_stream(port: int, body: Any) -> Any:
    """A stream that has begun."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=EVER)
    connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
    response = connection.getresponse()
    assert response.status == 200
    return response


def test_every_worker_follows(serve: Callable[..., Served], tmp_path: Path) -> None:
    file = tmp_path / "models.yaml"
    file.write_text(naming("a"))
    app = serve(MODELS_FILE=file, WORKERS=2, THREADS=4)
    file.write_text(naming("a", "b"))
    until(lambda: app.log().count("models=2") >= 2, f"two workers to read it:\n{app.log()}", SOON)


def test_a_new_worker_does_not_stumble_over_a_broken_file(serve: Callable[..., Served], tmp_path: Path) -> None:
    """Killed for want of memory, or replaced by `systemctl reload`, in the minute between the slip and its mending."""
    file = tmp_path / "models.yaml"
    file.write_text(naming("a"))
    app = serve(MODELS_FILE=file, THREADS=4)
    file.write_text("models: [")
    app.logged("stays in use")
    for process, number in ((app.workers[0], signal.SIGKILL), (app.process.pid, signal.SIGHUP)):
        before = app.workers
        os.kill(process, number)
        until(
            lambda before=before: app.process.poll() is not None or has_new_workers(app, before), "a new worker", SOON
        )
        assert app.process.poll() is None, app.log()[-2000:]
        assert callable_at(app, "a")


def has_new_workers(app: Served, before: list[int]) -> bool:
    workers = app.workers
    return bool(workers) and not set(workers) & set(before) and app.log().count("Booting worker") >= 2


def test_a_change_that_would_lose_the_default_is_refused(serve: Callable[..., Served], tmp_path: Path) -> None:
    file = tmp_path / "models.yaml"
    file.write_text(naming("a"))
    app = serve(MODELS_FILE=file, PROVIDER_NAME="house")
    file.write_text("providers: {cottage: {kind: demo}}\nmodels: [{name: b, provider: cottage}]\n")
    app.logged("ERROR .*PROVIDER_NAME is 'house'.*stays in use")
    assert callable_at(app, "a")


# at the start


@pytest.mark.thorough
@pytest.mark.parametrize("command", [GUNICORN, ("app.py",)], ids=["gunicorn", "app.py"])
def test_a_broken_file_stops_the_start(tmp_path: Path, command: tuple[str, ...]) -> None:
    file = tmp_path / "models.yaml"
    file.write_text(naming("a") + "- {name: b, provider: hause}\n")
    expected = f"Thinkline cannot start. {file}, line 4: 'b' is at the provider 'hause', which is not known"
    assert fails_to_start(*command, MODELS_FILE=file) == expected


@pytest.mark.thorough
@pytest.mark.parametrize(
    "text", ["[", "[" * 100_000, "models: [{name: a, provider: openai, <<: 5}]"], ids=["open", "deep", "merged"]
)
def test_whatever_is_wrong_stops_the_start_with_one_line(tmp_path: Path, text: str) -> None:
    file = tmp_path / "models.yaml"
    file.write_text(text)
    assert f" {file}, line " in fails_to_start("app.py", MODELS_FILE=file)


@pytest.mark.thorough
def test_a_file_that_was_asked_for_must_be_there(tmp_path: Path) -> None:
    missing = tmp_path / "nowhere.yaml"
    output = fails_to_start(*GUNICORN, MODELS_FILE=missing)
    assert output == f"Thinkline cannot start. {missing}, line 1: it cannot be read (No such file or directory)"
    assert "(Is a directory)" in fails_to_start(*GUNICORN, MODELS_FILE=tmp_path)


def test_nobody_needs_a_file(app_with: Callable[..., Any]) -> None:
    assert app_with().post("/v1/chat/completions", json=chat_body()).status_code == 200


# the follower itself


def poll_twice(follower: FileWatcher) -> None:
    """A change is taken when two looks find the same."""
    follower.poll_once()
    follower.poll_once()


def test_it_looks_at_what_changes_and_at_nothing_else(tmp_path: Path) -> None:
    file, seen = tmp_path / "models.yaml", []
    file.write_text("a")
    follower = FileWatcher(file, lambda: seen.append(file.read_text()))
    poll_twice(follower)
    assert seen == ["a"]
    for text, way in (("bb", in_place), ("cc", by_rename), ("dd", with_its_old_time), ("ee", with_its_old_time)):
        way(file, text)
        poll_twice(follower)
        assert seen.pop() == text
    poll_twice(follower)
    assert seen == ["a"]


def test_a_file_that_is_still_being_written_is_not_read(tmp_path: Path) -> None:
    file, seen = tmp_path / "models.yaml", []
    follower = FileWatcher(file, lambda: seen.append(file.read_text()))
    for text in ("h", "ha", "hal", "half"):
        file.write_text(text)
        follower.poll_once()
    assert seen == []
    follower.poll_once()
    assert seen == ["half"]


def test_it_tells_of_a_failure_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "models.yaml"

    def fail() -> None:
        raise ValueError(f"{file}, line 7: it is broken")

    follower = FileWatcher(file, fail)
    file.write_text("x")
    with caplog.at_level("ERROR", "thinkline.follow"):
        poll_twice(follower)
        poll_twice(follower)
    assert [each.getMessage() for each in caplog.records] == [
        f"{file}, line 7: it is broken; the last good one stays in use"
    ]


def test_a_fault_of_our_own_does_not_end_the_following(tmp_path: Path) -> None:
    file, seen = tmp_path / "models.yaml", []

    def changed() -> None:
        seen.append(file.read_text())
        raise TypeError

    follower = FileWatcher(file, changed)
    follower.start()
    for text in ("a", "bb"):
        file.write_text(text)
        until(lambda text=text: text in seen, f"{text} to be seen", SOON)
    follower.stop()


def test_a_file_that_comes_later_is_followed(tmp_path: Path) -> None:
    """models.yaml, once somebody writes the first."""
    file, seen = tmp_path / "models.yaml", []
    follower = FileWatcher(file, lambda: seen.append(file.exists()))
    poll_twice(follower)
    file.touch()
    poll_twice(follower)
    file.unlink()
    poll_twice(follower)
    assert seen == [True, False]


def test_a_change_between_the_first_look_and_the_following_is_seen(tmp_path: Path) -> None:
    """While a worker starts."""
    file = tmp_path / "models.yaml"
    file.write_text(naming("a"))
    sources = Sources(
        upstreams={},
        variables={},
        clouds={},
        demo_pace_ms=0,
        models_file=file,
        required=True,
        list_url="",
        list_token="",
        list_refresh=300,
        folder=tmp_path,
    )
    catalogue = Catalogue(sources.listings())
    file.write_text(naming("a", "b"))
    sources.follow(catalogue)
    until(lambda: "b" in catalogue.snapshot.names, "the change to be seen", SOON)
