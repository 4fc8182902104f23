/**
 * Proof: connections that are opened and closed, or given up at random moments, leave no descriptor, timer or listener
 * behind, and memory stays flat.
 *
 * @module
 */

import { median } from "../../bench/median.ts";
import { systemNetwork } from "../../lib/net/system.ts";
import { serveRendezvous } from "../../lib/signal/rendezvous/server.ts";
import { startCommand, startProgram } from "./process.ts";

/** What a process holds. */
export interface Holdings {
  readonly files: number;
  readonly timers: number;
  /** Listeners of abort signals. */
  readonly listeners: number;
}

/** What one run measured. */
export interface ChurnFigures {
  /** Connections that failed although they were not given up. */
  readonly failures: number;
  readonly before: Holdings;
  readonly afterCycles: Holdings;
  readonly afterAborts: Holdings;
  /** After both peers were closed. */
  readonly afterPeers: Holdings;
  /** How much the resident memory of the fourth quarter is above that of the third, as a share of it. */
  readonly growth: number;
}

/** Runs the cycles in a process of their own. */
export async function measureChurn(
  seed: number,
  { cycles, aborts }: { cycles: number; aborts: number },
): Promise<ChurnFigures> {
  await using server = startCommand([
    ...["serve", "--json", "--port", "0", "--alternate-port", "0", "--rendezvous-port", "0"],
  ]);
  const { stun } = JSON.parse(await server.prints(/^(.*"listening".*)\n/));
  // One that does not slow down a source that connects thirty times a second, or what is given up would wait in a queue.
  await using rendezvous = await serveRendezvous({
    network: systemNetwork,
    local: { ip: "127.0.0.1", port: 0 },
    limits: { topicBurst: Number.MAX_SAFE_INTEGER, sourceBurst: Number.MAX_SAFE_INTEGER },
  });
  await using program = startProgram("churn", [rendezvous.url, stun[0], cycles, aborts, seed], {
    allowAll: true,
  });
  const report = JSON.parse(await program.prints(/^(\{"failures".*\})\n/m));
  const { resident, ...figures } = report as ChurnFigures & { resident: number[] };
  const quarter = Math.floor(resident.length / 4);
  const third = median(resident.slice(2 * quarter, 3 * quarter));
  const fourth = median(resident.slice(3 * quarter));
  return { ...figures, growth: fourth / third - 1 };
}
