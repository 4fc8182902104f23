/** What `mapPort()` costs a network without a gateway that answers, and a caller that aborts. */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { NoMappingError } from "../../lib/portmap/mapper.ts";
import { atMapPortHome, type MapPortHome, type MapPortHomeOptions } from "./map_port_home.ts";

/** Counts what the host sends. */
function countSent({ internet }: MapPortHome): { packets: number; bytes: number } {
  const sent = { packets: 0, bytes: 0 };
  internet.onPacket = ({ at, what, packet }) => {
    if (at !== "host" || what !== "sent") return;
    sent.packets++;
    if (packet.protocol !== "icmp-error") sent.bytes += packet.data.length;
  };
  return sent;
}

Deno.test("mapPort() fails within 5.3 s and 60 packets if no gateway answers", async () => {
  await atMapPortHome({ udp: { speaks: [] } }, async (home) => {
    const sent = countSent(home);
    const startMs = performance.now();
    await assertRejects(() => home.map(), NoMappingError);
    assert(performance.now() - startMs <= 5300, `${performance.now() - startMs} ms`);
    assert(sent.packets <= 60 && sent.bytes <= 6000, JSON.stringify(sent));
  });
});

Deno.test("mapPort() takes one packet each way, and one to release", async () => {
  await atMapPortHome({}, async (home) => {
    const sent = countSent(home);
    const mapping = await home.map({ lifetimeSeconds: 120, checkSeconds: Infinity });
    assertEquals(mapping.lifetimeSeconds, 120);
    await mapping[Symbol.asyncDispose]();
    assertEquals(home.open(), []);
    // The request, what the slower protocols had sent by then, and the release.
    assert(sent.packets <= 6, JSON.stringify(sent));
  });
});

Deno.test("mapPort() ends after an abort as soon as late answers can no longer open a port", async () => {
  for (const delayMs of [0, 0.5, 1.5, 5, 50, 500]) {
    assert(await settledMs({}, delayMs) <= 50, `aborted after ${delayMs} ms`);
    assert(
      await settledMs({ udp: { speaks: [] } }, delayMs) <= 1110,
      `aborted after ${delayMs} ms`,
    );
  }
  for (const delayMs of [1200, 3000]) { // PCP takes some of it to close its port
    const silentMs = await settledMs({ udp: { speaks: [] } }, delayMs);
    assert(silentMs <= 210, `${silentMs} ms, aborted after ${delayMs} ms`);
  }
});

/** How long after an abort the call is over, or the mapping released. */
async function settledMs(options: MapPortHomeOptions, delayMs: number): Promise<number> {
  let settled = NaN;
  await atMapPortHome(options, async ({ map, open }) => {
    const abort = new AbortController();
    let abortedMs = 0;
    setTimeout(() => {
      abortedMs = performance.now();
      abort.abort("enough");
    }, delayMs);
    try {
      const mapping = await map({ signal: abort.signal });
      for await (const _event of mapping.events); // until it is released
    } catch (error) {
      assertEquals(error, "enough");
    }
    settled = performance.now() - abortedMs;
    assertEquals(open(), []);
  });
  return settled;
}
