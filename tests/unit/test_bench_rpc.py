# SPDX-License-Identifier: Apache-2.0
"""The benchmark of the listeners: its parts do what they say, and it runs; its figures mean nothing here."""

import csv
import json
import os
import signal
import struct
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from sidecar.core import Image, authorize
from sidecar.wire.sidecar.v1 import authorization_pb2 as pb
from tests.bench import bench_core, bench_rpc, cerbos, hostile, load, rpc_latency, rpc_report, rpc_runs
from tests.bench.bench_rpc import Scope
from tests.bench.inputs import KEPT, compile_inputs
from tests.bench.load import Cores, LoadError, Shape, UnavailableError
from tests.bench.servers import Server, free_port, nothing
from tests.e2e.sidecar_process import eventually

pytestmark = pytest.mark.peer

REQUEST = b"r" * 200
ANSWER_BYTES = 150
CORES = Cores.of_this_machine()
FOUR = Shape(4, 16)

REPORT = """
finished in 1.90s, 262748.56 req/s, 58.91MB/s
requests: 500 total, 500 started, 500 done, 500 succeeded, 0 failed, 0 errored, 0 timeout
status codes: 500 2xx, 0 3xx, 0 4xx, 0 5xx
traffic: 1B (1) total, 1B (1) headers (space savings 0.00%), 1B (1) data
                     min         max         mean         sd        +/- sd
time for request:       67us      6.66ms       1.70ms       126us    93.72%
"""


@pytest.fixture(scope="module", autouse=True)
def programs() -> None:
    """See that what makes load is there."""
    try:
        load.h2load_program()
        load.nothing_server()
        load.open_loop_program()
    except UnavailableError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder with one request, as both generators read it."""
    path = tmp_path_factory.mktemp("rpc")
    (path / "body").write_bytes(load.framed(REQUEST))
    (path / "requests").write_bytes(struct.pack("<I", len(REQUEST)) + REQUEST)
    return path


@pytest.fixture(scope="module")
def idle(folder: Path) -> Iterator[Server]:
    """Give a do-nothing server."""
    with nothing("nothing", ANSWER_BYTES, folder, REQUEST, core=CORES.server) as server:
        yield server


def test_report_of_h2load_when_all_succeeded_then_it_is_read() -> None:
    assert load.parse_h2load(REPORT) == load.H2load(500, 1.9, 262748.56, 1700.0)


@pytest.mark.parametrize(
    ("was", "now"),
    [("500 2xx", "499 2xx"), ("0 failed", "1 failed"), ("0 errored", "2 errored"), ("finished in", "ended in")],
)
def test_report_of_h2load_when_a_call_failed_then_it_is_refused(was: str, now: str) -> None:
    with pytest.raises(LoadError):
        load.parse_h2load(REPORT.replace(was, now))


@pytest.mark.parametrize("transport", ["tcp", "unix"])
def test_h2load_when_it_has_run_then_the_server_has_counted_as_many(idle: Server, folder: Path, transport: str) -> None:
    before = idle.answered()
    run = rpc_runs.measure_run(
        idle, transport, FOUR, 0, 2000, rpc_runs.with_h2load(folder / "body", FOUR, CORES.generator)
    )

    # Two more are those whose answers were looked at before and after.
    assert idle.answered() == before + 2000 + 2
    assert run.requests_per_s > 0
    assert run.mean_us > 0


def test_answer_when_it_has_another_length_then_the_check_fails(folder: Path) -> None:
    with nothing("other", ANSWER_BYTES, folder, REQUEST, core=CORES.server) as server:
        server.check("tcp")
        with pytest.raises(LoadError, match="150 bytes instead of 151"):
            replace(server, verify=wants_one_more).check("tcp")


def wants_one_more(answer: bytes) -> None:
    """Refuse every answer but those of another server."""
    if len(answer) != ANSWER_BYTES + 1:
        raise LoadError(f"{len(answer)} bytes instead of {ANSWER_BYTES + 1}")


def test_count_when_somebody_else_calls_too_then_it_is_noticed(idle: Server) -> None:
    before = idle.answered()
    idle.ask(REQUEST)

    with pytest.raises(LoadError, match=r"\+1 calls"):
        rpc_runs.wait_for_count(idle, before)


@pytest.mark.parametrize("transport", ["tcp", "unix"])
def test_listener_when_it_is_another_process_then_it_is_noticed(idle: Server, transport: str) -> None:
    assert load.listens(idle.pid, idle.addresses[transport])
    assert not load.listens(os.getpid(), idle.addresses[transport])
    assert not load.listens(idle.pid, f"127.0.0.1:{free_port()}")


def wait_until_connected(generator: subprocess.Popen[str]) -> None:
    """Wait until a generator has a connection, which is when it begins."""

    def is_connected() -> bool:
        try:
            return any(os.readlink(one).startswith("socket:") for one in Path(f"/proc/{generator.pid}/fd").iterdir())
        except OSError:
            # A file that it had just closed.
            return False

    eventually(is_connected)


def test_open_loop_when_a_count_is_given_then_so_many_are_answered(idle: Server, folder: Path) -> None:
    before = idle.answered()
    figures = load.run_open_loop(
        idle.target("unix"), folder / "requests", core=CORES.generator, connections=2, streams=8, count=3000
    )

    assert figures["answered"] == idle.answered() - before == 3000
    assert figures["answer_bytes"] == 3000 * (5 + ANSWER_BYTES)
    assert figures["all_us"]["p50"] <= figures["all_us"]["p99"] <= figures["all_us"]["max"]


def test_open_loop_when_the_server_stalls_then_calls_that_were_due_meanwhile_tell(idle: Server, folder: Path) -> None:
    command = load.open_loop_command(
        idle.target("tcp"), folder / "requests", connections=1, rate=500, seconds=1.0, sleep=True
    )
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as generator:
        wait_until_connected(generator)
        os.kill(idle.pid, signal.SIGSTOP)
        time.sleep(0.4)
        os.kill(idle.pid, signal.SIGCONT)
        figures = json.loads(generator.communicate()[0])

    # A generator that waits for its answers would have met the stall with one call of each connection.
    assert figures["answered"] == figures["begun"]
    assert figures["all_us"]["p90"] > 100_000


def test_open_loop_when_it_is_stopped_itself_then_it_says_so(idle: Server, folder: Path) -> None:
    command = load.open_loop_command(
        idle.target("tcp"), folder / "requests", connections=1, rate=500, seconds=1.5, log=str(folder / "log.csv")
    )
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as generator:
        wait_until_connected(generator)
        time.sleep(0.1)
        os.kill(generator.pid, signal.SIGSTOP)
        time.sleep(0.3)
        os.kill(generator.pid, signal.SIGCONT)
        figures = json.loads(generator.communicate()[0])

    assert figures["stalls"] >= 1
    assert figures["stalled_s"] > 0.2
    assert figures["disturbed"] > 50
    with (folder / "log.csv").open(newline="") as file:
        assert sum(int(row["all"]) for row in csv.DictReader(file)) == figures["all_us"]["count"]


def test_open_loop_when_the_server_dies_then_the_calls_under_way_are_lost(folder: Path) -> None:
    with nothing("dies", ANSWER_BYTES, folder, REQUEST, core=CORES.server) as server:
        command = load.open_loop_command(
            server.target("tcp"), folder / "requests", connections=1, rate=2000, seconds=5.0, sleep=True
        )
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as generator:
            wait_until_connected(generator)
            os.kill(server.pid, signal.SIGSTOP)
            time.sleep(0.2)
            os.kill(server.pid, signal.SIGKILL)
            figures = json.loads(generator.communicate()[0])

    assert figures["lost"] > 0
    assert figures["begun"] == figures["answered"] + figures["refused"] + figures["lost"]


@pytest.mark.parametrize("cut", [b"\x05\0\0\0abc", b""])
def test_open_loop_when_the_file_is_cut_then_it_is_refused(idle: Server, folder: Path, cut: bytes) -> None:
    (folder / "cut").write_bytes(cut)

    with pytest.raises(LoadError, match="does not hold requests"):
        load.run_open_loop(idle.target("tcp"), folder / "cut", core=CORES.generator, connections=1, count=10)


def test_cpu_time_when_a_process_works_then_the_busiest_thread_is_found() -> None:
    before = load.thread_cpu_seconds(os.getpid())
    began = load.cpu_seconds(os.getpid())
    while load.cpu_seconds(os.getpid()) < began + 0.05:
        pass

    thread, _, share = load.busiest_thread(os.getpid(), before)
    assert str(thread) in os.listdir("/proc/self/task")
    assert 0 < share <= 1


def test_ratio_when_rounds_differ_then_it_is_that_of_the_medians() -> None:
    runs = [
        rpc_runs.Run(server, "tcp", "4x16", number, 1000, cpu, 1.0, 1.0)
        for server, times in (("ours", (3.0, 4.0, 9.0)), ("nothing", (2.0, 2.0, 3.0)))
        for number, cpu in enumerate(times)
    ]

    assert rpc_runs.ratio(runs, "ours", "nothing") == {"ratio": 2.0, "least": 1.5, "greatest": 3.0}
    assert rpc_runs.ratio(runs, "ours", "grpcio") is None


def test_cerbos_questions_then_our_core_allows_some_and_denies_some(tmp_path: Path) -> None:
    cerbos.write_source(tmp_path / "source")
    image = Image.from_bytes(compile_inputs(tmp_path / "source"))
    now = int(time.time())

    answers = [
        pb.AuthorizeResponse.FromString(authorize(image, cerbos.ask_us(one).SerializeToString(), seconds=now, nanos=0))
        for one in cerbos.questions()
    ]

    decided = {answer.decision for answer in answers}
    assert decided == {pb.DECISION_ALLOW, pb.DECISION_IMPLICIT_DENY, pb.DECISION_EXPLICIT_DENY}


def test_cerbos_when_asked_the_same_then_it_decides_the_same(tmp_path: Path) -> None:
    try:
        program = cerbos.install(folder=KEPT / "cerbos", is_asked=False)
    except UnavailableError as error:
        pytest.skip(str(error))
    cerbos.write_source(tmp_path / "source")
    image = Image.from_bytes(compile_inputs(tmp_path / "source"))
    asked = cerbos.questions()[::7]

    with cerbos.running(program, tmp_path, core=CORES.server, ports=(free_port(), free_port())) as peer:
        theirs = [peer.is_allowed(one) for one in asked]
        counted = peer.answered()

    now = int(time.time())
    ours = [authorize(image, cerbos.ask_us(one).SerializeToString(), seconds=now, nanos=0) for one in asked]
    decisions = [pb.AuthorizeResponse.FromString(answer).decision for answer in ours]
    assert theirs == [decision == pb.DECISION_ALLOW for decision in decisions]
    assert counted == len(asked)


@pytest.fixture(scope="module")
def scope(tmp_path_factory: pytest.TempPathFactory) -> Scope:
    """Give a measurement that is over at once."""
    return Scope(
        principals=40,
        requests=400,
        shapes=(FOUR,),
        transports=("tcp",),
        rounds=1,
        other_rounds=1,
        seconds=0.05,
        latency_rounds=1,
        latency_seconds=0.3,
        kept=tmp_path_factory.mktemp("bench"),
    )


@pytest.fixture(scope="module")
def figures(scope: Scope) -> bench_rpc.Json:
    """Give what is measured without peers that have to be installed."""
    return bench_rpc.measure_all(scope, ("cpu", "check", "mix", "latency"))


def test_bench_when_run_then_the_promised_keys_are_there(figures: bench_rpc.Json) -> None:
    for key in (
        "authorize_cpu_ratio",
        "authorize_grpcio_ratio",
        "check_cpu_ratio",
        "p99_ratio",
        "p99_ratio_swapping",
    ):
        assert key in figures
    assert set(figures["cpu"]["tcp 4x16"]) == {"nothing", "ours", "constant", "grpcio"}
    assert set(figures["latency"]) == {"nothing", "ours", "ours_swapping", "nothing_swaps_aside"}
    assert figures["latency"]["ours_swapping"]["swaps"] >= 1
    assert figures["latency"]["ours"]["swaps"] == 0
    assert figures["worker_thread"].startswith("data-")
    assert figures["mix_answers_checked"] == 50
    assert isinstance(figures["quiet"], bool)


def test_bench_when_run_then_the_raw_figures_are_kept(figures: bench_rpc.Json, scope: Scope) -> None:
    (raw,) = (scope.kept / "rpc").iterdir()

    assert json.loads((raw / "figures.json").read_text()) == figures
    with (raw / "runs.csv").open(newline="") as file:
        assert [row["server"] for row in csv.DictReader(file)] == ["nothing", "ours", "constant", "grpcio"]
    assert len(list(raw.glob("latency-*.csv"))) == 4


def test_tables_when_put_into_a_page_then_they_stand_between_the_marks(figures: bench_rpc.Json, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n\n{rpc_report.MARKS[0]}\nearlier\n{rpc_report.MARKS[1]}\n\nafter\n")

    rpc_report.update_page(rpc_report.markdown(figures), page)

    text = page.read_text()
    assert text.startswith(f"before\n\n{rpc_report.MARKS[0]}\n\n| what |")
    assert "| tcp 4x16 | ours |" in text
    assert "| ours swapping |" in text
    assert "earlier" not in text


def test_page_then_it_has_the_marks() -> None:
    text = bench_core.PAGE.read_text()

    assert [text.count(mark) for mark in rpc_report.MARKS] == [1, 1]


def test_latency_when_the_generator_never_ran_then_there_is_no_ratio() -> None:
    nobody = {"us_p99": 0.0, "all_us_p99": 10.0}
    row = {"us_p99": 2.0, "all_us_p99": 20.0}
    latency = {"nothing": nobody, "ours": row, "ours_swapping": row, "nothing_swaps_aside": nobody}

    assert bench_rpc.latency_ratios(latency) == {
        "p99_ratio": None,
        "p99_ratio_swapping": None,
        "p99_ratio_swapping_all": 2.0,
    }


def test_bad_clients_then_each_is_an_own_one() -> None:
    attacker = hostile.Attacker("127.0.0.1:1", "/a.B/C", b"x", b"y", seed=1)

    attacks = attacker.attacks()

    assert len({attack.__name__ for attack in attacks.values()}) == len(attacks) >= 15
    assert rpc_latency.GREATEST.connections * rpc_latency.GREATEST.streams == 512
