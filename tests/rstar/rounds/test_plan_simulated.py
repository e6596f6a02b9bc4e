"""The planner with a simulated round that fails, hangs, loses machines and jumps in time."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import example, given, settings
from hypothesis import strategies as st

from rstar.rounds.observed import STAGES, EndReason
from rstar.rounds.spec import EvolutionRoundSpec
from tests.support.rounds.simulated_round import SimulatedRound, previous, spec

ENDED = {"Succeeded", "Failed"}
EVENT_NAMES = st.sampled_from(
    [
        "tick",
        "jump",
        "attempt-done",
        "attempt-done",
        "attempt-failed",
        "attempt-without-manifest",
        "attempt-lost",
        "attempt-refused",
        "service-ready",
        "service-ready",
        "service-ready",
        "service-failed",
    ]
)
EVENTS = st.lists(st.tuples(EVENT_NAMES, st.integers(0, 5)), max_size=60)
PASSES = st.integers(0, 25)
SPECS = st.builds(
    spec,
    st.integers(1, 4),
    max_attempts=st.integers(1, 3),
    evaluates=st.booleans(),
    use=st.sampled_from(["auto", "never"]),
)


@settings(max_examples=150, deadline=None)
@given(SPECS, st.floats(0.5, 1.0), st.booleans(), PASSES, EVENTS)
@example(
    spec(1, max_attempts=1, evaluates=False, use="auto"), 1.0, True, 3, [("service-failed", 0), ("service-ready", 0)]
)
def test_from_any_reachable_state_the_round_reaches_an_end(
    round_spec: EvolutionRoundSpec, accuracy: float, has_ppm: bool, passes: int, events: list[tuple[str, int]]
) -> None:
    simulated = SimulatedRound(round_spec, previous(accuracy, **({} if has_ppm else {"skipped": "no pairs"})))
    simulated.run(passes, events)
    for _ in range(300):
        ended = simulated.plan_and_apply().status.phase in ENDED
        # Attempts and services take their time to end.
        if ended and not simulated.observed.services and not any(a.live for a in simulated.observed.attempts):
            break
        simulated.succeed()
    final = simulated.plan()
    assert final.status.phase in ENDED
    assert final.actions == ()
    assert final.requeue_after is None
    assert not simulated.observed.services
    assert not any(a.live for a in simulated.observed.attempts)


@settings(max_examples=100, deadline=None)
@given(SPECS, PASSES, EVENTS, st.booleans())
def test_a_suspended_round_releases_everything_has_no_actions_and_can_be_resumed(
    round_spec: EvolutionRoundSpec, passes: int, events: list[tuple[str, int]], deleted: bool
) -> None:
    simulated = SimulatedRound(round_spec, previous())
    simulated.run(passes, events)
    simulated.plan_and_apply()
    # An attempt that is being ended for its deadline when the suspension comes has failed already.
    faults = {
        stage: sum(a.counts or (a.live and a.ending is EndReason.DEADLINE) for a in simulated.observed.of(stage))
        for stage in STAGES
    }
    simulated.observed = replace(simulated.observed, suspended=not deleted, deleted=deleted)
    for _ in range(4):
        simulated.plan_and_apply()
        simulated.succeed()
    assert not simulated.observed.services
    assert not any(a.live for a in simulated.observed.attempts)
    assert simulated.plan_and_apply().actions == ()
    status = simulated.plan().status
    assert status.phase in ({"Deleted"} if deleted else {"Suspended", *ENDED})
    if status.phase == "Suspended":
        after = {stage: sum(a.counts for a in simulated.observed.of(stage)) for stage in STAGES}
        assert after == faults, "a suspension does not count as a failure"
        simulated.observed = replace(simulated.observed, suspended=False)
        for _ in range(200):
            if simulated.plan_and_apply().status.phase in ENDED:
                break
            simulated.succeed()
        assert simulated.plan().status.phase == "Succeeded"
