import { assertEquals } from "@std/assert";
import { concat, toHex } from "../../lib/base/bytes.ts";
import { pcapHeader, pcapRecord, readCapture } from "../../lab/kernel/pcap.ts";

Deno.test("a capture has a header of 24 bytes, and packets with seconds, nanoseconds and lengths", () => {
  const capture = concat(pcapHeader(), pcapRecord(Uint8Array.of(0x45, 0xaa), 1_700_000_000_250));
  assertEquals(
    toHex(capture),
    "a1b23c4d" + "00020004" + "00000000" + "00000000" + "0000ffff" + "00000065" +
      "6553f100" + "0ee6b280" + "00000002" + "00000002" + "45aa",
  );
});

Deno.test("readCapture() reads the packets that were written, but not a truncated one at the end", () => {
  const [first, second] = [Uint8Array.of(0x45, 0xaa), Uint8Array.of(0x46)];
  const capture = concat(
    pcapHeader(),
    pcapRecord(first, 1_700_000_000_250),
    pcapRecord(second, 1_700_000_001_000),
    new Uint8Array(7),
  );
  assertEquals(readCapture(capture), [
    { timeMs: 1_700_000_000_250, packet: first },
    { timeMs: 1_700_000_001_000, packet: second },
  ]);
});
