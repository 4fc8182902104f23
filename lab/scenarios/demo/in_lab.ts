/**
 * The demonstration behind two NATs, on real kernels.
 *
 * @module
 */

import type { FamilyReport } from "../../../lib/nat/behavior.ts";
import { Lab } from "../../kernel/lab.ts";
import { nat } from "../../kernel/topology.ts";
import { PunchProgram } from "../punches/punch_program.ts";
import { NatTester } from "../verdicts/nat_tester.ts";
import { STUN_SERVERS } from "../verdicts/stun_servers.ts";
import { narrateOutcome, narratePlan, type Narrator, punchTogether } from "./story.ts";
import { narrateSyns, readSyns } from "./syns.ts";

/** Runs the demonstration. */
export async function playInLab(narrator: Narrator): Promise<void> {
  await using lab = await Lab.start({
    hosts: {
      server: { addresses: SERVER_IPS },
      alice: { behind: nat("portRestricted") },
      bob: { behind: nat("symmetricSequential") },
    },
    internet: { rttMs: RTT_MS },
  });
  await STUN_SERVERS.punchline(lab.host("server"));
  const [alice, bob] = [lab.host("alice"), lab.host("bob")];
  const programs = [new PunchProgram(alice), new PunchProgram(bob)] as const;
  const testers = [new NatTester(alice), new NatTester(bob)] as const;

  await narrator.heading("The network");
  await narrator.print(...drawing(lab));
  await narrator.print(
    "",
    "Neither can simply dial the other: each NAT admits only answers to packets from inside.",
    "And Bob's NAT uses a new external port for each of his connections, so the next one can",
    "only be predicted.",
  );

  await narrator.heading("Each tests its NAT with a STUN server");
  const reports = await Promise.all([learn(testers[0]), learn(testers[1])] as const);
  await narrator.print(
    ...["Alice", "Bob"].flatMap((name, index) => learnedLines(name, reports[index]!)),
  );

  await narrator.heading("They exchange offers through a rendezvous server");
  await narrator.print(
    "An offer contains one side's addresses, the behavior of its NAT and the ports that it",
    "just assigned, and half of a secret. It travels over any channel, such as a WebSocket.",
  );
  const path = await Deno.makeTempFile({ suffix: ".pcap" });
  await lab.trace(path);
  const results = await punchTogether(...programs, {
    servers: SERVERS,
    reports,
    signalDelayMs: 25,
  });
  await narratePlan(narrator, results[0]);

  await narrator.heading("SYNs cross: each one opens a NAT for the other");
  const names = { [alice.ip]: "Alice", [bob.ip]: "Bob" };
  await narrateSyns(narrator, readSyns(await Deno.readFile(path), names), RTT_MS);
  await Deno.remove(path);
  await narrateOutcome(narrator, results);
  await Promise.all([...programs, ...testers].map((program) => program.close()));
}

async function learn(tester: NatTester): Promise<FamilyReport> {
  const options = { servers: [SERVER_IPS[0]], transports: ["tcp"], families: [4] } as const;
  const answer = await tester.run(options);
  const report = "report" in answer ? answer.report.tcp.ipv4 : null;
  if (report === null) throw new Error("Cannot show a NAT test: the server did not answer");
  return report;
}

function learnedLines(name: string, report: FamilyReport): string[] {
  const { mapping, filtering, allocation, external, unsolicitedSyn } = report;
  const indent = " ".repeat(name.length + 2);
  const ports = allocation.kind === "sequential"
    ? `, each ${allocation.delta} above the last one`
    : "";
  const which = mapping.behavior === "endpoint-independent"
    ? "one external port for all destinations"
    : "a new external port for each destination";
  return [
    `${name}: external address ${external}`,
    `${indent}${which}${ports}`,
    `${indent}admits packets only from addresses and ports it has sent to`,
    `${indent}a SYN from anywhere else is ${unsolicitedSyn}`,
    `${indent}(in the terms of RFC 4787: mapping ${mapping.behavior},`,
    `${indent} filtering ${filtering.behavior})`,
  ];
}

function drawing(lab: Lab): string[] {
  const ips = ["alice", "bob"].map((name) => lab.host(name).ip.padEnd(14));
  const outside = ["alice/nat", "bob/nat"].map((name) => lab.nat(name).externalIps[0]!.padEnd(14));
  return [
    "    Alice                                     Bob",
    `    ${ips[0]}                            ${ips[1]}`,
    "      │                                         │",
    "  ┌───┴──────────────┐                      ┌───┴────────────────────┐",
    "  │ her home NAT     │                      │ his carrier's NAT      │",
    "  │ port-restricted  │                      │ symmetric, sequential  │",
    "  └───┬──────────────┘                      └───┬────────────────────┘",
    `    ${outside[0]}                            ${outside[1]}`,
    `      └──────────── the internet, ${RTT_MS} ms ───────────┘`,
    "                          │",
    `              STUN server ${SERVER_IPS[0]}`,
  ];
}

const RTT_MS = 80;
const SERVER_IPS = ["203.0.113.10", "203.0.113.11"] as const;
const SERVERS = [SERVER_IPS[0], `${SERVER_IPS[1]}:3479`];
