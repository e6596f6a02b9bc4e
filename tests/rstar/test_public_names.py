"""The names of ``import rstar``: all there, and loaded only when they are used."""

import json
import subprocess
import sys

import pytest

import rstar
from rstar.interfaces import ExecutionLimits, Policy, State
from rstar.problem import Problem
from rstar.search.solve import solve

PROGRAM = """
import json, sys
import rstar
alone = [name for name in sys.modules if name.startswith("rstar") or "." not in name]
names = [getattr(rstar, name).__name__ for name in rstar.__all__]
print(json.dumps([alone, names, list(sys.modules)]))
"""


def loaded() -> list[list[str]]:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    result: list[list[str]] = json.loads(done.stdout)
    return result


def test_a_name_is_the_object_of_its_module() -> None:
    assert (rstar.Problem, rstar.State, rstar.Policy, rstar.ExecutionLimits, rstar.solve) == (
        Problem,
        State,
        Policy,
        ExecutionLimits,
        solve,
    )
    assert set(rstar.__all__) <= set(dir(rstar))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'rstar' has no attribute 'Problems'"):
        _ = rstar.Problems


def test_the_package_loads_nothing_by_itself_and_no_model_wire_or_table_with_its_names() -> None:
    alone, names, modules = loaded()
    assert [name for name in alone if name.startswith("rstar")] == ["rstar"]
    assert "pydantic" not in alone
    assert names == rstar.__all__
    assert not {"torch", "transformers", "grpc", "pyarrow", "minio", "kubernetes", "typer"} & set(modules)
