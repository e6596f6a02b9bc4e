"""One export, from the store to folders with cards."""

from __future__ import annotations

from pathlib import Path

from rstar.hub_export.cards import CardSettings, data_card, lineage, model_card
from rstar.hub_export.plan import CHECKPOINT, DATA, ExportPlan
from rstar.hub_export.tables import exported_paths
from rstar.hub_export.writing import Notify, Written, complete, write_model, write_tables
from rstar.store.store import Store


def write_export(
    store: Store, plan: ExportPlan, out: Path, settings: CardSettings, unreadable: list[str], notify: Notify
) -> Written:
    """Write all folders below ``out``. ``unreadable``: manifests that were left out of the plan.

    Raises ``ExportError`` and ``StoreError``.
    """
    written = Written(left_out=list(unreadable))
    if plan.tables:
        notify(f"writing {len(plan.tables)} shards to {out / DATA}")
        write_tables(store, plan, out, notify, written)
        folder = out / DATA
        keep = [path for shard in plan.tables for path in exported_paths(shard).values() if (folder / path).exists()]
        card = data_card(plan, written.rows, written.left_out, settings)
        complete(folder, keep, card, lineage(plan.rounds, settings, written.left_out))
    for model in plan.models:
        notify(f"writing {out / model.folder}")
        if write_model(store, model, out, notify, written):
            keep = [source.output.path.removeprefix(CHECKPOINT) for source in model.files]
            complete(out / model.folder, keep, model_card(model, settings), lineage([model.round], settings, ()))
    return written
