"""tools/bench: the upstream says what it should in every dialect, the callers notice what is wrong, nothing is guessed.

What is measured here is thrown away: figures are taken by `make bench`, on a quiet machine.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest

from tests.emulators import OpenAIUpstream, ScriptedAnswer, faults
from tools.bench import peers, report, run
from tools.bench.measures import PROVIDER_MEASURES, Bench, WrongAnswers, measure
from tools.bench.processes import NotStarted, Server, build_programs, choose_cores, run_upstream, upstream_counts

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="the upstream and the callers are in C")

STAMPS = [f"~{place:07},1234567890123456~ " for place in range(4)]


@pytest.fixture(scope="module")
def bench(tmp_path_factory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("bench")
    build_programs(folder)
    _, other = choose_cores()
    with run_upstream(other, folder) as direct:
        yield Bench(direct, folder, other, seconds=0.3, stream_counts=(5,))


@pytest.fixture(scope="module")
def served(bench, tmp_path_factory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("thinkline")
    settings = {**peers.provider_settings(bench.upstream.port, folder), "WARM": "false"}
    with peers.thinkline(choose_cores()[0], bench.upstream.port, folder, settings) as server:
        yield server


def test_every_token_of_every_stream_arrives(bench):
    seen = bench.run_load(bench.upstream, "bench:burst:50", tokens=50, connections=4, count=8, seconds=20)
    assert (seen["answers"], seen["failed"], seen["tokens"]) == (8, 0, 400)
    assert seen["transit_ms"]["p99"] is not None
    assert seen["ttft_ms"]["p50"] <= seen["latency_ms"]["max"]
    seen = bench.run_load(bench.upstream, "bench:whole", stream=False, tokens=1, connections=4, count=8, seconds=20)
    assert (seen["answers"], seen["failed"]) == (8, 0)


def test_paced_streams_keep_their_pace(bench):
    seen = bench.run_load(bench.upstream, "bench:paced:10", tokens=10, connections=3, count=3, seconds=20)
    assert (seen["answers"], seen["failed"], seen["tokens"]) == (3, 0, 30)
    assert seen["latency_ms"]["p50"] >= 9 * 20, "nine gaps of 20 ms"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("answer", "good"),
    [
        (ScriptedAnswer(texts=STAMPS), True),
        (ScriptedAnswer(texts=["".join(STAMPS)]), True),
        (ScriptedAnswer(texts=[STAMPS[0], STAMPS[2], STAMPS[1], STAMPS[3]]), False),
        (ScriptedAnswer(texts=STAMPS[:3]), False),
        (ScriptedAnswer(texts=[*STAMPS, STAMPS[3]]), False),
        (ScriptedAnswer(texts=STAMPS, fault=faults.cut), False),
        (ScriptedAnswer(texts=STAMPS, fault=faults.reset), False),
        (ScriptedAnswer(texts=STAMPS, fault=faults.stalled), False),
        (ScriptedAnswer(status=500), False),
    ],
    ids=["good", "together", "swapped", "one lacks", "one twice", "cut", "reset", "stalled", "refused"],
)
def test_the_callers_notice_a_wrong_answer(bench, answer, good):
    with OpenAIUpstream() as emulator:
        emulator.always(answer)
        server = Server(emulator.port, os.getpid(), {"Authorization": f"Bearer {emulator.key}"}, {"temperature": 1})
        seen = bench.run_load(server, "hi", tokens=4, connections=1, count=1, seconds=2)
        assert (seen["answers"], seen["failed"]) == ((1, 0) if good else (0, 1)), seen
        assert bool(seen["problem"]) != good
        if not good:
            with pytest.raises(WrongAnswers):
                bench.run_checked_load(server, "hi", tokens=4, connections=1, count=1, seconds=2)


def test_the_upstream_counts_who_leaves(bench, served):
    before = upstream_counts(bench.upstream)["hangups"]
    bench.run_load(bench.upstream, "bench:hold", tokens=1, connections=3, seconds=0.3)
    assert upstream_counts(bench.upstream)["hangups"] == before + 3


@pytest.mark.slow
@pytest.mark.parametrize("name", run.PROVIDERS)
def test_every_provider_can_be_measured(bench, served, name):
    figures = measure(bench, replace(served, extra_body=run.PROVIDERS[name]), PROVIDER_MEASURES)
    assert set(figures) == {"idle", *PROVIDER_MEASURES}
    assert not [each for each in figures.values() if "problem" in each], figures
    assert figures["burst"]["tokens_per_second"] > 0
    assert [row["failed"] for row in figures["paced"]["rows"]] == [0]
    assert None not in figures["hangup"].values()


@pytest.mark.slow
def test_what_cannot_be_installed_is_named_and_left_out(monkeypatch, tmp_path):
    @contextmanager
    def missing(*_: object) -> Iterator[Server]:
        raise NotStarted("It is not installed.")
        yield

    both = {"bare": peers.bare, "nginx": missing}
    monkeypatch.setattr(peers, "servers", lambda _: both)
    monkeypatch.setattr(peers, "versions", dict)
    figures = run.run(0.2, list(both), {}, stream_counts=(5,))
    assert figures["left_out"] == {"nginx": "It is not installed."}
    assert set(figures["servers"]) == {"bare"}
    assert figures["servers"]["bare"]["requests_64"]["per_second"] > 0
    assert "- Left out: nginx. It is not installed." in report.describe_run(figures)
    assert "nginx" not in report.table_of_peers(figures)
    assert "| Burst tokens a second, times nginx's | - |" in report.table_of_ratios(figures)
    report.draw(figures, tmp_path / "picture.svg")
    assert (tmp_path / "picture.svg").read_bytes().startswith(b"<?xml")


def test_what_went_wrong_is_told_and_has_no_figure():
    figures = deepcopy(dict(report.load()))
    figures["servers"]["thinkline"]["burst"] = {"problem": "1 of 9 answers: a token out of its order"}
    assert "Thinkline, `burst`: not measured, 1 of 9 answers" in report.describe_run(figures)
    row = next(
        line for line in report.table_of_peers(figures).splitlines() if line.startswith("| Burst tokens a second")
    )
    assert row.split(" | ")[1] == "-"


def test_a_rate_that_the_harness_may_have_limited_is_marked():
    figures = deepcopy(dict(report.load()))
    figures["servers"] = {"nginx": {"burst": {"tokens_per_second": 1000, "cpu_us": 4.0, "harness_share": 0.97}}}
    assert r"| Burst tokens a second | 1,000\* |" in report.table_of_peers(figures)


def test_the_picture_is_the_same_for_the_same_figures(tmp_path: Path):
    for name in ("one.svg", "two.svg"):
        report.draw(report.load(), tmp_path / name)
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()
