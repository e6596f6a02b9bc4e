"""A contract of our own for import-linter: modules that import nothing but the standard library and each other.

import-linter's own types take a list of what is forbidden; this one takes the modules and allows only what Python ships.
"""

from __future__ import annotations

import sys
from typing import Any

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, fields, output


class StandardLibraryOnly(Contract):
    """``modules``: packages that may import the standard library and each other, and nothing else."""

    type_name = "standard_library_only"

    modules = fields.ListField(subfield=fields.StringField())

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        """Return every import of ``modules`` that leads elsewhere."""
        packages: list[str] = [str(package) for package in self.modules]  # type: ignore[attr-defined]
        inside = {module for package in packages for module in {package, *graph.find_descendants(package)}}
        found: list[Any] = []
        for module in sorted(inside):
            for imported in sorted(graph.find_modules_directly_imported_by(module)):
                if imported not in inside and imported.partition(".")[0] not in sys.stdlib_module_names:
                    found += graph.get_import_details(importer=module, imported=imported)
        return ContractCheck(kept=not found, metadata={"found": found})

    def render_broken_contract(self, check: ContractCheck) -> None:
        """Print one line per import."""
        for each in check.metadata["found"]:
            output.print_error(f"{each['importer']} imports {each['imported']} (line {each['line_number']})")
