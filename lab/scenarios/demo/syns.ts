/**
 * The SYNs in a capture, as lines for people.
 *
 * @module
 */

import { formatTransportAddress } from "../../../lib/net/address.ts";
import { parsePacket } from "../../kernel/ip_packet.ts";
import { readCapture } from "../../kernel/pcap.ts";
import type { Narrator } from "./story.ts";

/** Consecutive SYNs that one host sent or received. */
export interface SynGroup {
  readonly who: string;
  readonly direction: "sends" | "gets";
  readonly kind: "SYN" | "SYN+ACK";
  /** The remote addresses, in order. */
  readonly remotes: readonly string[];
  readonly timeMs: number;
}

/**
 * Reads the SYNs between hosts, in order, without those to servers.
 *
 * @param names the hosts' names by address
 */
export function readSyns(file: Uint8Array, names: Readonly<Record<string, string>>): SynGroup[] {
  const groups: { -readonly [Key in keyof SynGroup]: SynGroup[Key] }[] = [];
  for (const { timeMs, packet } of readCapture(file)) {
    const segment = parsePacket(packet);
    if (segment?.protocol !== "tcp" || !segment.tcpFlags?.syn) continue;
    const { source, destination, tcpFlags } = segment;
    const isSent = source.ip in names;
    const remote = isSent ? destination : source;
    if (!remote.ip.startsWith(NATS)) continue;
    const who = names[isSent ? source.ip : destination.ip];
    if (who === undefined) continue;
    const direction = isSent ? "sends" : "gets";
    const kind = tcpFlags.ack ? "SYN+ACK" : "SYN";
    const last = groups.at(-1);
    if (last?.who === who && last.direction === direction && last.kind === kind) {
      last.remotes = [...last.remotes, formatTransportAddress(remote)];
    } else {
      groups.push({ who, direction, kind, remotes: [formatTransportAddress(remote)], timeMs });
    }
  }
  return groups;
}

/** Shows the first SYNs, and how many got through. */
export async function narrateSyns(
  narrator: Narrator,
  groups: readonly SynGroup[],
  rttMs: number,
): Promise<void> {
  const startMs = groups[0]?.timeMs ?? 0;
  await narrator.print(...groups.slice(0, MAX_LINES).map((group) => line(group, startMs)));
  const [sent, got] = (["sends", "gets"] as const).map((direction) =>
    groups.filter((group) => group.direction === direction && group.kind === "SYN")
      .reduce((sum, { remotes }) => sum + remotes.length, 0)
  );
  await narrator.print(
    `${sent} SYNs were sent and ${got} arrived; a NAT that did not expect them dropped the others.`,
    `A SYN takes ${rttMs / 2} ms, and so does its answer: one round trip is enough.`,
  );
}

function line({ who, direction, kind, remotes, timeMs }: SynGroup, startMs: number): string {
  const preposition = direction === "sends" ? "to" : "from";
  const where = remotesText([...new Set(remotes)]);
  const count = remotes.length === 1 ? "" : ` (${remotes.length} of them)`;
  const time = `${(timeMs - startMs).toFixed(1)} ms`.padStart(9);
  return `${time}  ${who.padEnd(5)} ${direction.padEnd(5)} ${
    kind.padEnd(7)
  } ${preposition} ${where}${count}`;
}

function remotesText(remotes: readonly string[]): string {
  const last = remotes.at(-1)!.split(":").at(-1);
  return remotes.length === 1 ? remotes[0]! : `${remotes[0]} to ${last}`;
}

/** The lab's address range for NATs. */
const NATS = "198.51.100.";

/** Few enough to read. */
const MAX_LINES = 16;
