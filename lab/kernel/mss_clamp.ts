/**
 * MSS clamping: a router with a smaller MTU lowers the maximum segment size that both ends announce (RFC 9293 §3.7.1), so
 * that their segments fit.
 *
 * @module
 */

import { adjustChecksum } from "./checksum.ts";
import { parseIpHeader, SYN, TCP, viewOf } from "./ip_header.ts";

/** Lowers the maximum segment size in a SYN so that segments fit into the MTU. Leaves all other packets as they are. */
export function clampMss(packet: Uint8Array, mtu: number): void {
  const ip = parseIpHeader(packet, 0);
  if (ip?.protocol !== TCP || (packet[ip.payload + 13]! & SYN) === 0) return;
  const view = viewOf(packet);
  const end = Math.min(packet.length, ip.payload + (packet[ip.payload + 12]! >> 4) * 4);
  const most = mtu - (ip.family === 4 ? 20 : 40) - 20;
  for (let at = ip.payload + 20; at < end && packet[at] !== END_OF_OPTIONS;) {
    const length = packet[at] === NO_OPERATION ? 1 : packet[at + 1] ?? 0;
    if (length === 0 || at + length > end) return;
    if (packet[at] === MAXIMUM_SEGMENT_SIZE && length === 4) {
      const announced = view.getUint16(at + 2);
      if (announced <= most) return;
      view.setUint16(at + 2, most);
      const sum = ip.payload + 16;
      // An option at an odd offset lies across two words of the checksum.
      const isOdd = (at + 2 - ip.payload) % 2 === 1;
      const [before, after] = isOdd ? [swap(announced), swap(most)] : [announced, most];
      view.setUint16(sum, adjustChecksum(view.getUint16(sum), before, after));
      return;
    }
    at += length;
  }
}

function swap(word: number): number {
  return (word & 0xff) << 8 | word >> 8;
}

/** RFC 9293 §3.2. */
const END_OF_OPTIONS = 0;
const NO_OPERATION = 1;
const MAXIMUM_SEGMENT_SIZE = 2;
