/**
 * The demonstration without NATs: two programs on this machine.
 *
 * @module
 */

import { formatTransportAddress } from "../../../lib/net/address.ts";
import { systemNetwork } from "../../../lib/net/system.ts";
import { serveStun } from "../../../lib/stun/server/server.ts";
import { PunchProgram } from "../punches/punch_program.ts";
import { meet, tellOutcome, tellPlan } from "./meeting.ts";
import type { Teller } from "./teller.ts";

/** Plays it. */
export async function playOnLoopback(teller: Teller): Promise<void> {
  await using server = await serveStun({
    network: systemNetwork,
    address: "127.0.0.1",
    port: 0,
  });
  const servers = server.addresses.map(formatTransportAddress);
  const programs = [new PunchProgram(thisMachine), new PunchProgram(thisMachine)] as const;

  await teller.chapter("Who is where");
  await teller.say(`Alice and Bob are programs on this machine, and so is a STUN server.`);
  await teller.chapter("They exchange offers over a rendezvous");
  await teller.say(
    "An offer holds the addresses of one side, what its NAT does, and half of a secret.",
    "It goes by a channel that both can reach, such as a WebSocket.",
  );
  const results = await meet(...programs, { servers, reports: [null, null], signalDelayMs: 25 });
  await tellPlan(teller, results[0]);
  await tellOutcome(teller, results);
  await Promise.all(programs.map((program) => program.close()));
}

/** What starts programs here. */
const thisMachine = {
  spawn: (program: string, args: readonly string[], options: Omit<Deno.CommandOptions, "args">) =>
    new Deno.Command(program, { ...options, args: [...args] }).spawn(),
};
