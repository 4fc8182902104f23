/**
 * What a capture shows of SYNs that cross.
 *
 * @module
 */

import { formatTransportAddress } from "../../../lib/net/address.ts";
import { parsePacket } from "../../kernel/ip_packet.ts";
import { readCapture } from "../../kernel/pcap.ts";
import type { Teller } from "./teller.ts";

/** SYNs that one host sent or got one after the other, at the same address of the other side. */
export interface SynGroup {
  readonly who: string;
  readonly direction: "sends" | "gets";
  readonly kind: "SYN" | "SYN+ACK";
  /** The other side, from the first to the last. */
  readonly remotes: readonly string[];
  readonly timeMs: number;
}

/**
 * SYNs between hosts of which none speaks to a server, in their order.
 *
 * @param names the hosts by their addresses
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

/** Tells of them until each side has what it needs. */
export async function tellSyns(
  teller: Teller,
  groups: readonly SynGroup[],
  rttMs: number,
): Promise<void> {
  const startMs = groups[0]?.timeMs ?? 0;
  await teller.say(...groups.slice(0, MAX_LINES).map((group) => line(group, startMs)));
  const [sent, got] = (["sends", "gets"] as const).map((direction) =>
    groups.filter((group) => group.direction === direction && group.kind === "SYN")
      .reduce((sum, { remotes }) => sum + remotes.length, 0)
  );
  await teller.say(
    `${sent} SYNs were sent and ${got} let in; the others ended at a NAT that knew nothing of them.`,
    `A SYN needs ${rttMs / 2} ms, and its answer as long: a round trip is all that it takes.`,
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

/** Where the lab puts NATs. */
const NATS = "198.51.100.";

/** For reading. */
const MAX_LINES = 16;
