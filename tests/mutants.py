"""`make mutants`: removes one safeguard after the other, in a copy, and shows which test notices.

Each mutant is one replacement in one file; the named test must pass without it and fail with it. Exit code 1 when a
mutant survives, or when a replacement does not fit the code any more.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SECONDS = 240


@dataclass(frozen=True)
class Mutant:
    """What is taken away (`old` becomes `new` in `file`), and the test that must notice."""

    name: str
    file: str
    old: str
    new: str
    test: str


MUTANTS = (
    Mutant(
        "the advisory lock of the writers",
        "storage/postgres/recorder.py",
        'cursor.execute("SELECT pg_advisory_xact_lock(%s)", (self._attached().lock_key(self.LOCK),))',
        'cursor.execute("SELECT 1")',
        "tests/contract/test_postgres_writer.py::test_four_processes_at_once_leave_no_hole_and_no_lost_update",
    ),
    Mutant(
        "the check of what other writers changed",
        "storage/postgres/claims.py",
        "return {name for name, version in rows if (version or 0) != expected[name]}",
        "return set()",
        "tests/contract/test_postgres_writer.py::test_a_wallet_frozen_by_another_process_signs_no_more",
    ),
    Mutant(
        "the tracking of what was taken over",
        "storage/postgres/recorder.py",
        "        if tracking is not None:\n            self._track(c, tracking)\n",
        "",
        "tests/contract/test_library_postgres.py::test_events_and_what_they_were_made_from_are_tracked_in_one_transaction",
    ),
    Mutant(
        "the seek to the processor's own position",
        "streams/kafka/app.py",
        "                await self.seek(partition, offset)\n",
        "",
        "tests/contract/test_processors_kafka.py::test_a_group_that_committed_more_than_the_database_has_skips_nothing",
    ),
    Mutant(
        "the look whether the group has given us the topic",
        "streams/kafka/app.py",
        "            elif monotonic() - since > UNASSIGNED_SECONDS:\n",
        "            elif False:\n",
        "tests/contract/test_processors_kafka.py"
        "::test_a_member_that_joined_while_the_topic_was_missing_is_given_it_after_a_restart",
    ),
    Mutant(
        "the number of a lane's opening",
        "storage/postgres/lane_store.py",
        "        if [number for (number,) in found] != [self._opened]:\n",
        "        if False:\n",
        "tests/contract/test_postgres_vault.py"
        "::test_whoever_opened_a_lane_last_has_it_and_the_one_before_writes_nothing_more",
    ),
    Mutant(
        "plans that follow their table's size",
        "storage/postgres/database.py",
        '"plan_cache_mode": "force_custom_plan"',
        '"plan_cache_mode": "auto"',
        "tests/contract/test_postgres_writer.py"
        "::test_a_look_up_planned_for_a_small_table_uses_the_index_once_it_has_grown",
    ),
    Mutant(
        "the parcels of a group",
        "storage/writer.py",
        "                recorder.insert_parcels(group.cursor, parcels)\n",
        "                pass\n",
        "tests/contract/test_inbox.py::test_what_came_is_in_the_inbox_with_the_position_of_its_entry",
    ),
    Mutant(
        "the gap alarm of processors",
        "streams/processor.py",
        "        if number != expected:\n            raise GapError(expected, number)\n",
        "        pass\n",
        "tests/unit/test_processor.py",
    ),
    Mutant(
        "the gap alarm of topics",
        "streams/topic_reader.py",
        "            raise GapError(due, position)\n",
        "            return\n",
        "tests/contract/test_processors_kafka.py::test_what_cannot_be_true_stops_a_processor_for_good_and_changes_nothing",
    ),
    Mutant(
        "the look at the topic's tail before anything is sent",
        "streams/relay_session.py",
        "        records = self._tail(reader, first)\n",
        "        records: list[TopicRecord] = []\n",
        "tests/integration/test_relay.py::test_the_tail_of_the_topic_says_where_to_go_on_whatever_position_was_saved",
    ),
    Mutant(
        "the comparison of the topic's tail with the store",
        "streams/relay_session.py",
        "        self._require_ours(records)\n",
        "",
        "tests/integration/test_relay.py::test_a_topic_ahead_of_its_store_stops_the_relay",
    ),
    Mutant(
        "the question before another contract is requested",
        "domain/purchase.py",
        "        if self.asked_before and not asked:\n",
        "        if False:\n",
        "tests/unit/test_purchase.py::test_nobody_posts_again_without_asking",
    ),
    Mutant(
        "the memory of contracts of earlier rounds",
        "domain/purchase.py",
        "return bool(self.rounds_at_billing)",
        "return self.attempt > 0",
        "tests/unit/test_purchase.py::test_a_reopened_purchase_asks_before_it_posts",
    ),
    Mutant(
        "the way back through the billing system",
        "domain/purchase_table.py",
        "    Step.START: Step.CANCEL_CONTRACT,\n",
        "    Step.START: Step.UNBIND,\n",
        "tests/unit/test_purchase_walks.py::test_what_is_turned_back_while_nobody_knows_of_a_contract_leaves_none",
    ),
    Mutant(
        "the second person",
        "domain/case.py",
        "        if by == self.proposed_by:\n",
        "        if False:\n",
        "tests/unit/test_case.py::test_what_one_proposes_another_approves",
    ),
)


def main() -> int:
    """Try every mutant, or those whose name holds a word of the command line. The exit code."""
    wanted = [mutant for mutant in MUTANTS if all(word in mutant.name for word in sys.argv[1:])]
    survivors = 0
    with tempfile.TemporaryDirectory(prefix="daicho-mutants-") as folder:
        copy = Path(folder) / "copy"
        subprocess.run(["git", "worktree", "add", "--quiet", "--detach", str(copy)], cwd=ROOT, check=True)
        try:
            for name in ("kafka-jars", "npm"):
                if (ROOT / "build" / name).exists():
                    (copy / "build").mkdir(exist_ok=True)
                    (copy / "build" / name).symlink_to(ROOT / "build" / name)
            for mutant in wanted:
                survivors += not noticed(mutant, copy)
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", str(copy)], cwd=ROOT, check=False)
            shutil.rmtree(copy, ignore_errors=True)
    print(f"{len(wanted) - survivors} of {len(wanted)} mutants were noticed")
    return 1 if survivors or not wanted else 0


def noticed(mutant: Mutant, copy: Path) -> bool:
    """Whether the test passes as things are and fails with the mutant."""
    file = copy / mutant.file
    text = file.read_text("utf-8")
    if text.count(mutant.old) != 1:
        print(f"DOES NOT FIT  {mutant.name}: {mutant.file} has it {text.count(mutant.old)} times")
        return False
    if (sound := run(mutant.test, copy)) != 0:
        print(f"BROKEN        {mutant.name}: {mutant.test} fails without it ({sound})")
        return False
    file.write_text(text.replace(mutant.old, mutant.new), "utf-8")
    try:
        caught = run(mutant.test, copy) == 1
    finally:
        file.write_text(text, "utf-8")
    print(f"{'noticed' if caught else 'SURVIVED':13} {mutant.name}: {mutant.test}")
    return caught


def run(test: str, copy: Path) -> int:
    """pytest's exit code for a test in the copy; a run that hangs counts as noticed."""
    path = os.pathsep.join((str(copy), str(copy / "verifier")))
    command = [sys.executable, "-m", "pytest", "-q", "-x", "--timeout", "120", test]
    try:
        done = subprocess.run(
            command, cwd=copy, env={**os.environ, "PYTHONPATH": path}, capture_output=True, timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return 1
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
