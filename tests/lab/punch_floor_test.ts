/**
 * Why the earlier of two sides connects after one and a half round trips if its SYN arrives too early: the packets
 * on the wire.
 *
 * ```text
 * one-way delay d        earlier side                       later side
 * before                 SYN ───────────────────────────X   its filter is still closed
 * 0                                                     ┌── SYN, which opens it
 * d                      SYN/ACK ──┐  ◀─────────────────┘
 * 2 d                              └────────────────────▶   connected ──┐
 * 3 d                    connected  ◀───────────────────────────────────┘ ACK
 * ```
 *
 * A side is connected once it knows that one of its SYNs was acknowledged. The earlier side's first SYN that gets through
 * leaves at d, when it first hears from the later side, or by chance between -d and 0. Redialling every d would achieve
 * that, but would cost some hundred SYNs for each wait.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import type { TransportAddress } from "../../lib/net/address.ts";
import { Lab } from "../../lab/kernel/lab.ts";
import { labTest } from "./lab_test_case.ts";
import { parsePacket } from "../../lab/kernel/ip_packet.ts";
import { readCapture } from "../../lab/kernel/pcap.ts";
import { NAT_KINDS, reportOf } from "../../lab/scenarios/punches/nat_kinds.ts";
import { SERVER_IPS, SERVERS } from "../../lab/scenarios/punches/punch_lab.ts";
import { punchPair } from "../../lab/scenarios/punches/punch_pair.ts";
import { PunchProgram } from "../../lab/scenarios/punches/punch_program.ts";
import { nat } from "../../lab/kernel/topology.ts";
import { STUN_SERVERS } from "../../lab/scenarios/verdicts/stun_servers.ts";

labTest(
  "the earlier side waits for the last ACK, half a round trip longer than the later side",
  async () => {
    const path = await Deno.makeTempFile({ suffix: ".pcap" });
    try {
      const home = () => nat("portRestricted");
      await using lab = await Lab.start({
        hosts: {
          servers: { addresses: [...SERVER_IPS] },
          earlier: { behind: home() },
          later: { behind: home() },
        },
        internet: { rttMs: 2 * DELAY_MS },
      });
      await STUN_SERVERS.punchline(lab.host("servers"));
      const [earlier, later] = [lab.host("earlier"), lab.host("later")];
      const programs = [earlier, later].map((host) => new PunchProgram(host));
      const report = reportOf(NAT_KINDS.portRestricted);
      const [a, b] = programs.map((program) => ({ program, report }));
      await lab.trace(path);
      const result = await punchPair([a!, b!], { servers: SERVERS, skewMs: 500 });
      await Promise.all(programs.map((program) => program.close()));
      assertEquals(result.kind, "connected");

      const segments = readSegments(await Deno.readFile(path));
      const at = (found: (segment: Segment) => boolean) => segments.find(found)!.timeMs;
      const isTo = (ip: string) => ({ destination }: Segment) => destination.ip === ip;
      const isFrom = (ip: string) => ({ source }: Segment) => source.ip === ip;
      const [toEarlier, toLater] = [isTo(earlier.ip), isTo(later.ip)];
      const startMs = at((each) => isFrom(later.ip)(each) && each.flags === "S");
      const early = segments.filter((each) => isFrom(earlier.ip)(each) && each.timeMs < startMs);
      assert(early.length > 0, "the earlier side has not dialled before");
      const arrivals = [
        at((each) => toEarlier(each) && each.flags === "S"),
        at((each) => toLater(each) && each.flags === "SA"),
        at((each) => toEarlier(each) && each.flags === "A"),
      ].map((timeMs) => Math.round((timeMs - startMs) / DELAY_MS));
      assertEquals(arrivals, [1, 2, 3]);
      assertEquals(segments.filter((each) => toLater(each) && each.flags === "S"), []);
    } finally {
      await Deno.remove(path);
    }
  },
);

interface Segment {
  readonly timeMs: number;
  readonly source: TransportAddress;
  readonly destination: TransportAddress;
  /** Flags as tcpdump prints them. */
  readonly flags: "S" | "SA" | "A" | "other";
}

/** The packets between the two, without those to and from servers. */
function readSegments(capture: Uint8Array): Segment[] {
  return readCapture(capture).flatMap(({ timeMs, packet }) => {
    const parsed = parsePacket(packet);
    if (parsed === undefined || parsed.protocol !== "tcp") return [];
    const { source, destination, tcpFlags } = parsed;
    if ([source, destination].some(({ ip }) => ip.startsWith("203.0.113."))) return [];
    const { syn, ack } = tcpFlags!;
    const flags = syn ? ack ? "SA" : "S" : ack ? "A" : "other";
    return [{ timeMs, source, destination, flags }];
  });
}

/** Long enough to dominate all other delays. */
const DELAY_MS = 100;
