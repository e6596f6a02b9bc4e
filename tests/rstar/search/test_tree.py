"""Selection and backup against brute-force references on random trees."""

import math

from hypothesis import given
from hypothesis import strategies as st

from rstar.search.tree import Node, backup, close, records, select_child


def grow(shape: list[int]) -> list[Node]:
    """Return the nodes of a tree in which node i+1 hangs below node ``shape[i] mod (i + 1)``."""
    nodes = [Node()]
    for i, choice in enumerate(shape):
        parent = nodes[choice % len(nodes)]
        node = Node(parent, f"step {i}")
        parent.children = [*(parent.children or ()), node]
        nodes.append(node)
    return nodes


def uct(child: Node, parent: Node, c: float) -> float:
    """Equation 1, as the paper writes it."""
    return child.value / child.visits + c * math.sqrt(math.log(parent.visits) / child.visits)


trees = st.lists(st.integers(0, 1000), min_size=1, max_size=40).map(grow)


@given(trees, st.lists(st.tuples(st.integers(0, 1000), st.sampled_from([-1.0, 1.0])), max_size=60))
def test_backup_gives_every_node_the_rewards_of_all_terminals_below_it(nodes: list[Node], rewards: list) -> None:
    for choice, reward in rewards:
        backup(nodes[choice % len(nodes)], reward)

    def below(node: Node) -> set[int]:
        return {id(n) for n in node.walk()}

    for node in nodes:
        mine = [r for choice, r in rewards if id(nodes[choice % len(nodes)]) in below(node)]
        assert node.visits == len(mine)
        assert node.value == sum(mine)


@given(trees, st.lists(st.tuples(st.integers(0, 1000), st.floats(-1, 1)), max_size=80), st.sampled_from([0.3, 1, 2.0]))
def test_selection_takes_the_child_with_the_highest_uct(nodes: list[Node], rewards: list, c: float) -> None:
    for choice, reward in rewards:
        backup(nodes[choice % len(nodes)], reward)
    for node in nodes:
        chosen = select_child(node, c, "first")
        children = node.children or []
        if not children:
            assert chosen is None
        elif unvisited := [child for child in children if not child.visits]:
            assert chosen is unvisited[0]
        else:
            assert chosen is not None
            values = [uct(child, node, c) for child in children]
            assert chosen is children[values.index(max(values))]


def test_an_unvisited_child_scores_zero_under_the_rule_of_the_release() -> None:
    root = Node()
    good, fresh = Node(root, "good"), Node(root, "fresh")
    root.children = [good, fresh]
    backup(good, 1.0)
    assert select_child(root, 2.0, "zero") is good
    assert select_child(root, 2.0, "first") is fresh


def test_closing_the_last_open_child_closes_the_exhausted_ancestors_alone() -> None:
    nodes = grow([0, 1, 1])
    root, middle, left, right = nodes
    middle.exhausted = True
    close(left)
    assert not middle.closed
    close(right)
    assert middle.closed
    assert not root.closed  # it may still be widened


@given(trees)
def test_records_keep_every_node_with_parents_before_children(nodes: list[Node]) -> None:
    rows = records([nodes[0]])
    assert sorted(row.text for row in rows) == sorted(node.text for node in nodes)
    position = {row.text: i for i, row in enumerate(rows)}
    for node in nodes:
        row = rows[position[node.text]]
        assert row.parent < position[node.text]
        assert (row.parent == -1) == (node.parent is None)
        if node.parent is not None:
            assert rows[row.parent].text == node.parent.text
