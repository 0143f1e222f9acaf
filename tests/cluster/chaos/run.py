"""One chaos run: start the cluster, load it, break it, let it come to rest, audit it."""

import asyncio
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.chaos.audit import ChaosAudit, Verdict
from tests.cluster.chaos.faults import Chaos, Fault, Flow, longest_stalls
from tests.cluster.chaos.load import ChaosLoad
from tests.cluster.local_cluster import LocalCluster

ANSWER_SECONDS = 180.0


@dataclass(frozen=True)
class Outcome:
    """What a run did and found. Stalls in seconds: of answers to commands, and of the published log's growth."""

    seed: int
    seconds: float
    commands: int
    faults: list[Fault]
    answer_stalls: dict[str, float]
    flow_stalls: dict[str, float]
    verdict: Verdict

    def text(self) -> str:
        """For people."""
        kinds = Counter(f"{fault.service} {fault.kind}" for fault in self.faults)
        lines = [
            f"seed {self.seed}: {self.commands:,} commands in {self.seconds:.0f} s, {len(self.faults)} faults",
            f"entries {self.verdict.entries:,}, lost {self.verdict.lost}, doubled {self.verdict.doubled}",
            f"repeats in the topic {self.verdict.repeats_in_topic}, trades replayed equal {self.verdict.trades:,}",
            f"{'fault':28}{'times':>6}{'answers stood still':>22}{'log stood still':>18}",
        ]
        for kind, times in sorted(kinds.items()):
            answers, flow = self.answer_stalls.get(kind, 0.0), self.flow_stalls.get(kind, 0.0)
            lines.append(f"{kind:28}{times:>6}{answers:>20.1f} s{flow:>16.1f} s")
        return "\n".join(lines)


def play(
    folder: Path,
    *,
    seed: int,
    seconds: float,
    commands: int,
    between_seconds: tuple[float, float] = (3.0, 8.0),
    with_replay: bool = True,
) -> Outcome:
    """Load and break a cluster for so long, and until so many commands were answered; then audit it."""
    with LocalCluster(folder / "cluster", variables={"DAICHO_LOG_LEVEL": "warning"}) as cluster:
        began = time.monotonic()
        load, chaos, flow = asyncio.run(_broken(cluster, seed, seconds, commands, between_seconds))
        lasted = time.monotonic() - began
        end = load.answered_at[-1]
        verdict = ChaosAudit(cluster, load.acknowledged).run(folder, with_replay=with_replay)
    return Outcome(
        seed,
        lasted,
        load.commands,
        chaos.faults,
        longest_stalls(chaos.faults, load.answered_at, end),
        longest_stalls(chaos.faults, flow.grew_at, end),
        verdict,
    )


async def _broken(
    cluster: LocalCluster, seed: int, seconds: float, commands: int, between_seconds: tuple[float, float]
) -> tuple[ChaosLoad, Chaos, Flow]:
    load, chaos, flow = ChaosLoad(cluster, seed, commands), Chaos(cluster, seed, between_seconds), Flow(cluster)
    await load.sign_up()
    ending = asyncio.Event()
    breaking, watching = asyncio.create_task(chaos.run(ending)), asyncio.create_task(flow.watch(ending))
    try:
        async with asyncio.timeout(seconds + ANSWER_SECONDS):
            await load.run(seconds)
    finally:
        ending.set()
        await asyncio.gather(breaking, watching, return_exceptions=True)
        await load.close()
    return load, chaos, flow
