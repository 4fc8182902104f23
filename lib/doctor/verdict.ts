/**
 * The verdict: what stands in the way of connections, the cause before its consequences, and what to do in which order.
 *
 * @module
 */

import { explainNetwork, isTcpSilent, tcpBlocked, UDP_BLOCKED } from "../nat/findings.ts";
import { isUdpBlocked } from "../nat/verdict.ts";
import { CLOCK_REMEDY, clockState, clockText, mtuCause, RELAY_REMEDY } from "./check_plan.ts";
import { type DoctorFacts, isConnected, valueOf } from "./facts.ts";
import type { Cause, CheckState, DoctorReport } from "./report_message.ts";

/** What a network suffers from. */
export type Judgement = Pick<DoctorReport, "verdict" | "findings" | "remedies">;

/** Judges everything that was found out. */
export function judge(facts: DoctorFacts): Judgement {
  const found = isConnected(facts) ? limits(facts) : cutOff(facts);
  const graded = found.filter(({ cause }, index) =>
    found.findIndex((each) => each.cause.kind === cause.kind) === index
  );
  const [worst] = graded;
  const findings = graded.map(({ cause }) => cause);
  const isTelling = worst !== undefined && worst.state !== "ok";
  return {
    verdict: {
      state: worst?.state ?? "ok",
      kind: isTelling ? worst.cause.kind : null,
      summary: isTelling ? worst.cause.summary : allIsWell(facts),
    },
    findings,
    remedies: [...new Set(graded.map(({ cause }) => cause.remedy))],
  };
}

interface Graded {
  /** `"ok"`: worth knowing, and no reason to act. */
  readonly state: CheckState;
  readonly cause: Cause;
}

/** Nothing came back from any server. */
function cutOff(facts: DoctorFacts): Graded[] {
  const { nat, evidence } = facts;
  const found = valueOf(evidence);
  const wrong = [
    ...nat.kind === "failed" ? [nat.fault] : [],
    ...(valueOf(facts.servers) ?? []).flatMap(({ fault }) => fault ?? []),
  ];
  const tested = valueOf(nat)?.findings ?? [];
  const hasWrongAnswer = wrong.some(({ isWrongAnswer }) => isWrongAnswer) ||
    tested.some(({ kind }) => kind === "captive-portal");
  const causes: Cause[] = found === undefined
    ? [...tested]
    : explainNetwork({ ...found, hasWrongAnswer: hasWrongAnswer || found.hasWrongAnswer });
  // A server that says itself what is wrong says it best, if nothing else was found.
  const [said] = wrong.filter(({ isWrongAnswer }) => isWrongAnswer);
  if (said !== undefined && causes[0]?.kind === "silent-server") {
    causes.unshift({ kind: "server", summary: said.message, remedy: said.remedy ?? NO_REMEDY });
  }
  const all = causes.length > 0 ? causes : [NOTHING_CAME_BACK];
  return [...all.map((cause) => ({ state: "fail", cause } as const)), ...clockCause(facts)];
}

/** Servers answer; what is left in the way, the worst first. */
function limits(facts: DoctorFacts): Graded[] {
  const servers = valueOf(facts.servers) ?? [];
  const names = valueOf(facts.names) ?? [];
  const nat = valueOf(facts.nat);
  const closed = servers.filter(({ isOpen }) => !isOpen);
  const isMeetingImpossible = servers.length > 0 && closed.length === servers.length;
  const isRelayed = servers.some(({ relay }) => relay === "works");
  const isNameless = names.length > 0 && names.every(({ fault }) => fault !== null);
  const graded: Graded[] = [];
  const add = (state: CheckState, cause: Cause) => graded.push({ state, cause });
  const proxy = valueOf(facts.proxy);
  if (isNameless && (isMeetingImpossible || nat === undefined && !proxy)) {
    const fault = names[0]!.fault!;
    add("fail", { kind: "dns", summary: DNS_SUMMARIES[fault], remedy: DNS_REMEDY });
  }
  const clock = clockCause(facts);
  graded.push(...clock.filter(({ state }) => state === "fail"));
  if (isMeetingImpossible) {
    const [{ name, fault }] = closed as [typeof closed[number]];
    const found = valueOf(facts.evidence);
    const hasUdp = nat !== undefined &&
      [nat.udp.ipv4, nat.udp.ipv6].some((each) => each?.reachable);
    const isTcpBlocked = hasUdp && !isNameless && found !== undefined && isTcpSilent(found);
    if (isTcpBlocked) {
      const tried = closed.map(({ name }) => Number(/:(\d+)$/.exec(name)?.[1])).filter(
        Number.isFinite,
      );
      add("fail", tcpBlocked([...found.dials.map(({ port }) => port), ...tried]));
    }
    add("fail", {
      kind: "rendezvous",
      summary: `No way to find peers: ${name} cannot be reached (${fault?.message ?? "no answer"})`,
      remedy: fault?.remedy ?? "Name a server that can be reached with --rendezvous",
    });
  }
  const isDirect = isConnected({ nat: facts.nat, servers: NO_SERVERS });
  if (proxy && !isDirect) {
    add("warn", {
      kind: "proxy",
      summary: `Nothing gets out but through the proxy ${proxy.url}: peers connect by a relay`,
      remedy: isRelayed
        ? "Ask whoever runs this network to allow UDP or TCP to leave directly"
        : RELAY_REMEDY,
    });
  } else if (nat !== undefined && isUdpBlocked(nat.udp)) add("warn", UDP_BLOCKED);
  const hole = mtuCause(facts);
  if (hole !== undefined) add("warn", hole);
  if (facts.nat.kind === "failed" && !proxy) {
    const { message, remedy } = facts.nat.fault;
    add("warn", { kind: "server", summary: message, remedy: remedy ?? NO_REMEDY });
  }
  const difficulty = nat?.verdict.difficulty;
  const isHard = difficulty === "hard" || difficulty === "moderate";
  const opensPorts = (valueOf(facts.gateways) ?? []).some(({ verdict }) => verdict === "public");
  if (isHard && !opensPorts) {
    add("warn", {
      kind: "symmetric-nat",
      summary: nat!.verdict.summary,
      remedy: isRelayed
        ? "Turn on UPnP, NAT-PMP or PCP in the router, or use IPv6; until then the relay carries what cannot connect directly"
        : RELAY_REMEDY,
    });
  }
  graded.push(...clock);
  // What else was noticed: the NAT test puts what it is sure of first.
  for (const finding of nat?.findings ?? []) if (isNoticed(finding, isDirect)) add("ok", finding);
  return graded;
}

/** What the NAT test has noticed, rather than why it found nothing. */
function isNoticed({ kind }: Cause, isDirect: boolean): boolean {
  return isDirect && kind !== "udp-blocked";
}

function clockCause({ clock }: DoctorFacts): Graded[] {
  const offsetMs = valueOf(clock);
  if (offsetMs === undefined || offsetMs === null || clockState(offsetMs) === "ok") return [];
  return [{
    state: clockState(offsetMs),
    cause: {
      kind: "clock",
      summary: `This machine's clock is ${clockText(offsetMs)}: ${
        CLOCK_EFFECTS[clockState(offsetMs)]
      }`,
      remedy: CLOCK_REMEDY,
    },
  }];
}

function allIsWell({ nat }: DoctorFacts): string {
  return valueOf(nat)?.verdict.summary ?? "Servers answer, and nothing stands in the way";
}

const CLOCK_EFFECTS: Readonly<Record<CheckState, string>> = {
  ok: "nothing comes of it",
  unknown: "nothing comes of it",
  warn: "codes and tickets that expire may not work",
  fail: "peers do not find each other",
};

const NOTHING_CAME_BACK: Cause = {
  kind: "blocked",
  summary: "Nothing came back from any server in time",
  remedy: "Check that web pages open, turn off the VPN, and try again",
};

const NO_SERVERS = { kind: "done", value: [], elapsedMs: 0 } as const;

const NO_REMEDY = "Use another server";

const DNS_SUMMARIES = {
  silent: "No name server answers within 2 s, so no server can be found by its name",
  refused: "The name server refuses to answer, or none is set",
  "not found": "None of the servers' names exists",
} as const;

const DNS_REMEDY = "Set a name server that works in this machine's network settings";
