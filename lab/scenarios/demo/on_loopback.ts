/**
 * The demonstration without NATs: two programs on this machine.
 *
 * @module
 */

import { formatTransportAddress } from "../../../lib/net/address.ts";
import { systemNetwork } from "../../../lib/net/system.ts";
import { serveStun } from "../../../lib/stun/server/server.ts";
import { PunchProgram } from "../punches/punch_program.ts";
import { narrateOutcome, narratePlan, type Narrator, punchTogether } from "./story.ts";

/** Runs the demonstration. */
export async function playOnLoopback(narrator: Narrator): Promise<void> {
  await using server = await serveStun({
    network: systemNetwork,
    address: "127.0.0.1",
    port: 0,
  });
  const servers = server.addresses.map(formatTransportAddress);
  const programs = [new PunchProgram(thisMachine), new PunchProgram(thisMachine)] as const;

  await narrator.heading("The network");
  await narrator.print(`Alice and Bob are programs on this machine, and so is a STUN server.`);
  await narrator.heading("They exchange offers through a rendezvous server");
  await narrator.print(
    "An offer contains one side's addresses, the behavior of its NAT, and half of a secret.",
    "It travels over any channel, such as a WebSocket.",
  );
  const results = await punchTogether(...programs, {
    servers,
    reports: [null, null],
    signalDelayMs: 25,
  });
  await narratePlan(narrator, results[0]);
  await narrateOutcome(narrator, results);
  await Promise.all(programs.map((program) => program.close()));
}

/** Starts programs on this machine. */
const thisMachine = {
  spawn: (program: string, args: readonly string[], options: Omit<Deno.CommandOptions, "args">) =>
    new Deno.Command(program, { ...options, args: [...args] }).spawn(),
};
