"""Whose turn it is, with plain values in place of jobs."""

from whisperq_core.serve.fair_queue import FairQueue


def filled(**items_by_owner: int) -> FairQueue[str]:
    """A queue with so many items of each owner, such as "ada 0", one owner after the other."""
    queue: FairQueue[str] = FairQueue()
    for owner, count in items_by_owner.items():
        for number in range(count):
            queue.add(f"{owner} {number}", owner)
    return queue


def test_owners_take_turns():
    """Whoever queues a hundred does not keep the next one waiting for all of them."""
    queue, order = filled(ada=4, bob=1, session=1), []
    while item := queue.take():
        order.append(item)
        queue.remove(item)
    assert order == ["ada 0", "bob 0", "session 0", "ada 1", "ada 2", "ada 3"]


def test_nobody_has_two_running_while_another_has_none():
    queue = filled(ada=2)
    assert queue.take() == "ada 0"
    queue.add("bob 0", "bob")
    assert queue.take() == "bob 0" and queue.running == ["ada 0", "bob 0"]
    assert queue.take() == "ada 1" and queue.take() is None


def test_a_newcomer_does_not_wait_for_those_who_had_a_turn():
    queue = filled(ada=2, bob=2)
    for expected in ("ada 0", "bob 0"):
        assert queue.take() == expected
        queue.remove(expected)
    queue.add("eve 0", "eve")
    assert [queue.take() for _ in range(3)] == ["eve 0", "ada 1", "bob 1"]


def test_what_is_removed_has_no_turn():
    queue = filled(ada=2, bob=1)
    queue.remove("ada 0")
    queue.remove("never added")
    assert queue.waiting == ["ada 1", "bob 0"]
    assert (queue.unfinished("ada"), queue.unfinished("bob"), queue.unfinished("eve")) == (1, 1, 0)
    assert queue.take() == "ada 1" and queue.unfinished("ada") == 1


def test_owners_that_come_and_go_do_not_fill_the_memory(monkeypatch):
    """Those who had no turn for a long time are as new; the order among the others stays."""
    monkeypatch.setattr("whisperq_core.serve.fair_queue._MAX_OWNERS", 2)
    queue = filled(ada=2, bob=2, eve=2)
    for expected in ("ada 0", "bob 0", "eve 0"):
        assert queue.take() == expected
        queue.remove(expected)
    assert [queue.take() for _ in range(3)] == ["ada 1", "bob 1", "eve 1"]
