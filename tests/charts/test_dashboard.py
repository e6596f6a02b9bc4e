"""The Grafana dashboard: what it reads, and that its panels have a place of their own."""

from __future__ import annotations

import json
import re
from itertools import combinations
from typing import Any

import pytest

from tests.docs.test_docs import exported_metrics
from tests.support.paths import CHARTS

DASHBOARD: dict[str, Any] = json.loads((CHARTS / "rstar/files/dashboard.json").read_text())
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]
QUERIES = [(panel["title"], target) for panel in PANELS for target in panel.get("targets", ())]


def test_every_metric_is_shown_and_every_shown_metric_is_exported() -> None:
    read = {name for _, target in QUERIES for name in re.findall(r"\brstar_\w+", target["expr"])}
    assert read <= exported_metrics()
    shown = {re.sub(r"_(bucket|count|sum)$", "", name) for name in read}
    exported = {re.sub(r"_(bucket|count|sum)$", "", name) for name in exported_metrics()}
    # The tokens generated for searches are those of the policy; steps scored and candidates running follow the batches.
    assert exported - shown == {
        "rstar_search_generated_tokens_total",
        "rstar_ppm_scored_total",
        "rstar_policy_running_candidates",
        "rstar_executor_snapshots",
    }


@pytest.mark.parametrize(("title", "target"), QUERIES)
def test_a_query_is_of_the_chosen_namespaces_and_keeps_the_labels_of_its_legend(
    title: str, target: dict[str, str]
) -> None:
    kept = {label.strip() for labels in re.findall(r"by \(([^)]*)\)", target["expr"]) for label in labels.split(",")}
    assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) <= kept, title
    of_namespace = re.findall(r"\brstar_\w+(?!\w)({[^}]*})?", target["expr"])
    # The operator serves all namespaces.
    if not re.search(r"rstar_operator_(pass|api)", target["expr"]):
        assert all(selector == '{namespace=~"$namespace"}' for selector in of_namespace), title


def test_panels_have_ids_and_places_of_their_own() -> None:
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    places = [panel["gridPos"] for panel in PANELS]
    for a, b in combinations(places, 2):
        apart = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
        assert apart or a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"]
    assert all(place["x"] + place["w"] <= 24 for place in places)


def test_rounds_and_each_service_have_a_row() -> None:
    rows = [panel["title"] for panel in PANELS if panel["type"] == "row"]
    assert rows == ["Rounds", "Search coordinators", "Policy and PPM", "Executors", "OpenAI endpoint", "Operator"]
