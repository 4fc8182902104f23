/**
 * Packet captures in tcpdump's savefile format, with nanosecond timestamps.
 *
 * @module
 */

/** The header of a capture file with `LINKTYPE_RAW`: packets begin with their IP header. */
export function pcapHeader(): Uint8Array<ArrayBuffer> {
  const header = new Uint8Array(24);
  const view = new DataView(header.buffer);
  view.setUint32(0, 0xa1b23c4d); // the magic number for nanosecond timestamps
  view.setUint16(4, 2);
  view.setUint16(6, 4);
  view.setUint32(16, SNAP_LENGTH);
  view.setUint32(20, LINKTYPE_RAW);
  return header;
}

/**
 * One packet of a capture file.
 *
 * @param timeMs since the Unix epoch, with a fraction
 */
export function pcapRecord(packet: Uint8Array, timeMs: number): Uint8Array<ArrayBuffer> {
  const record = new Uint8Array(16 + packet.length);
  const view = new DataView(record.buffer);
  const seconds = Math.floor(timeMs / 1000);
  view.setUint32(0, seconds);
  view.setUint32(4, Math.floor((timeMs - seconds * 1000) * 1e6));
  view.setUint32(8, packet.length);
  view.setUint32(12, packet.length);
  record.set(packet, 16);
  return record;
}

/** The packets of a capture file, each with its time in milliseconds since the Unix epoch. A truncated last one is left out. */
export function readCapture(
  file: Uint8Array,
): { readonly timeMs: number; readonly packet: Uint8Array }[] {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  const packets: { timeMs: number; packet: Uint8Array }[] = [];
  for (let at = 24; at + 16 <= file.length;) {
    const [seconds, nanoseconds, length] = [0, 4, 8].map((field) => view.getUint32(at + field));
    const packet = file.subarray(at + 16, at + 16 + length!);
    packets.push({ timeMs: seconds! * 1000 + nanoseconds! / 1e6, packet });
    at += 16 + length!;
  }
  return packets;
}

const SNAP_LENGTH = 65535;
const LINKTYPE_RAW = 101;
