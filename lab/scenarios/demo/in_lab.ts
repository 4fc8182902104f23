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
import { meet, tellOutcome, tellPlan } from "./meeting.ts";
import { readSyns, tellSyns } from "./syns.ts";
import type { Teller } from "./teller.ts";

/** Plays it. */
export async function playInLab(teller: Teller): Promise<void> {
  await using lab = await Lab.start({
    hosts: {
      server: { addresses: SERVER_IPS },
      alice: { behind: nat("portRestricted") },
      bob: { behind: nat("symmetricSequential") },
    },
    internet: { rttMs: RTT_MS },
  });
  await STUN_SERVERS.ours(lab.host("server"));
  const [alice, bob] = [lab.host("alice"), lab.host("bob")];
  const programs = [new PunchProgram(alice), new PunchProgram(bob)] as const;
  const testers = [new NatTester(alice), new NatTester(bob)] as const;

  await teller.chapter("Who is where");
  await teller.say(...drawing(lab));
  await teller.say(
    "",
    "Neither can simply dial the other: each NAT lets in only what answers something from",
    "inside. And Bob's NAT gives every connection of his another port, so nobody can know",
    "the next one for sure.",
  );

  await teller.chapter("Each asks a STUN server what its NAT does");
  const reports = await Promise.all([learn(testers[0]), learn(testers[1])] as const);
  await teller.say(...["Alice", "Bob"].flatMap((name, index) => learned(name, reports[index]!)));

  await teller.chapter("They exchange offers over a rendezvous");
  await teller.say(
    "An offer holds the addresses of one side, what its NAT does, the ports that it gave just",
    "now, and half of a secret. It goes by a channel that both can reach, such as a WebSocket.",
  );
  const path = await Deno.makeTempFile({ suffix: ".pcap" });
  await lab.trace(path);
  const results = await meet(...programs, { servers: SERVERS, reports, signalDelayMs: 25 });
  await tellPlan(teller, results[0]);

  await teller.chapter("SYNs cross: each opens the way for the other's");
  const names = { [alice.ip]: "Alice", [bob.ip]: "Bob" };
  await tellSyns(teller, readSyns(await Deno.readFile(path), names), RTT_MS);
  await Deno.remove(path);
  await tellOutcome(teller, results);
  await Promise.all([...programs, ...testers].map((program) => program.close()));
}

async function learn(tester: NatTester): Promise<FamilyReport> {
  const options = { servers: [SERVER_IPS[0]], transports: ["tcp"], families: [4] } as const;
  const answer = await tester.run(options);
  const report = "report" in answer ? answer.report.tcp.ipv4 : null;
  if (report === null) throw new Error("Cannot show a NAT test: the server did not answer");
  return report;
}

function learned(name: string, report: FamilyReport): string[] {
  const { mapping, filtering, allocation, external, unsolicitedSyn } = report;
  const indent = " ".repeat(name.length + 2);
  const ports = allocation.kind === "sequential"
    ? `, each ${allocation.delta} after the last one`
    : "";
  const which = mapping.behavior === "endpoint-independent"
    ? "one external port for all destinations"
    : "another external port for each destination";
  return [
    `${name}: seen from outside at ${external}`,
    `${indent}${which}${ports}`,
    `${indent}lets in only whom it has sent to, port and all`,
    `${indent}a SYN from anybody else is ${unsolicitedSyn}`,
    `${indent}(in the words of RFC 4787: mapping ${mapping.behavior},`,
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
    "  │ NAT of her home  │                      │ NAT of his carrier     │",
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
