"""The output of a run: line report, live view and tables."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from rstar.cli.line_report import LineReport
from rstar.cli.live_view import LiveView
from rstar.cli.progress_text import duration, figures
from rstar.cli.result_tables import result_rows, result_table
from rstar.cli.search_status import progress_text, search_status
from rstar.cli.solution_view import print_solution
from rstar.cli.status_tables import conditions_table, rounds_table
from rstar.config import SearchConfig
from rstar.interfaces import Verdict
from rstar.local.results import RunStatus
from rstar.problem import Problem
from rstar.record import LeadingTrajectory, NodeRecord, Progress, SearchRecord, Usage
from rstar.rounds.observed import STAGES, Observed, Stage, StageOutput
from rstar.rounds.pair_accuracy import PairAccuracy
from rstar.rounds.plan import plan
from rstar.rounds.status import RoundStatus
from tests.support.rounds.simulated_round import START, done, output, spec

METHOD = {"name": "mcts", "problems": 200, "accuracy": 0.48, "low": 0.41, "high": 0.55, "any": 0.61, "tokens": 1417.3}


def status(*stages: Stage) -> RoundStatus:
    return plan(spec(1, evaluates=False), "r1", Observed(attempts=done(*stages)), START).status


def evaluated() -> RoundStatus:
    metrics = {Stage.ROLLOUT: {"coverage": 0.9}, Stage.TRAIN_PPM: PairAccuracy(0.77, 0.63, 96, 31).metrics()}
    metrics[Stage.EVALUATE] = {"methods": [METHOD]}
    attempts = tuple(
        replace(a, output=StageOutput(output(a.stage).manifest, metrics.get(a.stage, {}))) for a in done(*STAGES)
    )
    return plan(spec(1), "r1", Observed(attempts=attempts), START).status


def rendered(item: object) -> str:
    console = Console(file=io.StringIO(), width=200)
    console.print(item)
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_the_line_report_writes_each_change_once() -> None:
    stream = io.StringIO()
    report = LineReport(stream)
    running = RunStatus({"r1": status(Stage.ROLLOUT)}, "r1", ())
    for _ in range(3):
        report(running)
    report(RunStatus({"r1": evaluated()}, "r1", ()))
    written = stream.getvalue().splitlines()
    assert sum("rollout done (rounds/x/rollout/0/manifest.json)" in line for line in written) == 1
    assert sum("select running" in line for line in written) == 1
    assert "r1: round r1 is complete" in written[-1]


def test_the_live_view_shows_every_round_and_the_progress_of_the_running_stage() -> None:
    stream = io.StringIO()
    progress = {
        "done": 30,
        "total": 100,
        "solved": 12,
        "tokens_per_second": 1500.0,
        "nodes_per_second": 210.0,
        "loss": 0.5,
    }
    running = status(Stage.ROLLOUT).model_copy(update={"progress": progress})
    with LiveView(["r1", "r2"], stream) as view:
        view(RunStatus({"r1": running}, "r1", ()))
        drawn = rendered(view._live.get_renderable())
    assert "✓ rollout" in drawn
    assert "▶ select" in drawn
    assert "r2" in drawn
    assert "30/100, 12 solved, loss 0.5000, 1,500 tokens/s, 210 nodes/s" in drawn


def test_the_result_shows_accuracy_beside_tokens() -> None:
    table = result_table({"r1": evaluated()})
    assert table is not None
    text = rendered(table)
    assert ".480 ± .070 | .610 | 1,417" in text
    assert ".900" in text
    assert ".770 > .630 | 96" in text
    row = result_rows({"r1": evaluated()})[0]
    assert row["methods"] == [METHOD]
    assert (row["pair_accuracy"], row["pair_accuracy_low"], row["problems_held_out_non_final"]) == (0.77, 0.63, 31)


def test_the_line_report_says_what_a_stage_skipped_and_why() -> None:
    attempts = done(*STAGES)
    metrics = {"skipped": "there is no preference pair, so no PPM was trained"}
    ended = tuple(
        replace(a, output=StageOutput(output(a.stage).manifest, metrics if a.stage is Stage.TRAIN_PPM else {}))
        for a in attempts
    )
    found = plan(spec(1), "r1", Observed(attempts=ended), START).status
    stream = io.StringIO()
    LineReport(stream)(RunStatus({"r1": found}, "r1", ()))
    line = next(line for line in stream.getvalue().splitlines() if "train-ppm done" in line)
    assert line.endswith("skipped: there is no preference pair, so no PPM was trained")


def test_there_is_no_result_table_without_results() -> None:
    assert result_table({"r1": status()}) is None


def test_the_status_shows_stages_reasons_and_rounds_without_a_status() -> None:
    text = rendered(rounds_table({"r1": status(Stage.ROLLOUT)}, missing={"r2": ""}))
    assert "✓ rollout" in text
    assert "not started" in text
    assert "EarlyRound" in rendered(conditions_table(status()))


def test_progress_text_leaves_out_figures_that_were_not_reported() -> None:
    assert figures({}) == ""
    assert figures({"done": 1, "total": 2, "eta_seconds": 61, "loss": None}) == "1/2, 1:01 left"
    assert duration(3723) == "1:02:03"


def test_the_line_of_a_search_shows_what_is_spent_and_the_answer_that_leads() -> None:
    config = SearchConfig(rollouts=16, trajectories=2, guidance="ppm")
    begun = Progress(Usage(5, 1_042, 2_100), 0, 0)
    assert progress_text(begun, config) == "rollout 5/32, 1,042 steps, 2,100 tokens, 0 solutions"
    found = replace(begun, trajectories=3, leading=LeadingTrajectory(("a",), "1\n 8" + "0" * 90, 0.314))
    text = progress_text(found, config)
    assert text.endswith(f"3 solutions, best so far: 1 8{'0' * 36}… (0.31)")
    unscored = replace(found, leading=LeadingTrajectory(("a",), "7"))
    assert progress_text(unscored, SearchConfig(method="majority")).endswith("3 solutions, best so far: 7")


def line_on_a_terminal(answer: str, width: int) -> str:
    """Return what is written on a terminal while a search is led by ``answer``."""
    file = io.StringIO()
    with search_status(SearchConfig(), Console(file=file, force_terminal=True, width=width)) as shown:
        assert shown is not None
        shown(Progress(Usage(1, 4, 9), 1, 0, LeadingTrajectory(("a",), answer, 0.5)))
    return file.getvalue()


def test_the_line_of_a_search_is_shown_on_a_terminal_only() -> None:
    written = line_on_a_terminal("[red]\x1b[2J", 100)
    assert "best so far: [red]" in written
    assert "\x1b[2J" not in written
    with search_status(SearchConfig()) as shown:
        assert shown is None


def test_the_line_of_a_search_is_one_line_on_a_narrow_terminal() -> None:
    written = line_on_a_terminal("9 - 8 = 1", 40)
    assert "…" in written
    assert "\x1b[1A" not in written.rpartition("\x1b[?25h")[0]


def test_a_printed_solution_cannot_control_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    bad = "\x1b]0;owned\x07\x1b[2J"
    steps = NodeRecord(0, text=f"<code>\nx = '{bad}'\n<end_of_code>"), NodeRecord(1, text="", terminal=True)
    end = replace(steps[1], answer=f"1{bad}", output=f"a\tb\nc{bad}")
    record = SearchRecord("p", (NodeRecord(-1), steps[0], end), Usage(), 2)
    print_solution(Problem("p", f"q{bad}"), record, None, Verdict(correct=False, reason=f"not {bad}"))
    shown = capsys.readouterr().out
    assert not set(shown) & {"\x1b", "\x07"}
    assert shown.count("\\x1b[2J") == 5
    assert "1\\x1b]0;owned" in shown
