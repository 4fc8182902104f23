/** Short runs of the proofs; `deno task prove NAME` runs them at full length. */

import { assert, assertEquals } from "@std/assert";
import { measureChurn } from "../proof/churn.ts";
import { measureJunk } from "../proof/junk.ts";
import { measureRendezvousFlood } from "../proof/rendezvous_flood.ts";
import { measureStreams } from "../proof/streams.ts";

const isLinux = Deno.build.os === "linux";

Deno.test({
  name: "connections that are closed or given up leave no descriptor, timer or listener",
  ignore: !isLinux,
  fn: async () => {
    const { failures, before, afterCycles, afterAborts } = await measureChurn(1, {
      cycles: 50,
      aborts: 50,
    });
    assertEquals(failures, 0);
    for (const after of [afterCycles, afterAborts]) {
      assert(after.files <= before.files, `${after.files} files, not ${before.files}`);
      assert(after.timers <= before.timers, `${after.timers} timers, not ${before.timers}`);
      assert(after.listeners <= before.listeners, `${after.listeners} listeners`);
    }
  },
});

Deno.test({
  name: "honest peers connect while 16 sources flood the rendezvous",
  ignore: !isLinux,
  fn: async () => {
    const figures = await measureRendezvousFlood(1, { seconds: 8, sources: 16 });
    assertEquals(figures.failed, 0);
    assert(figures.floodedMs <= 1000, `${figures.floodedMs} ms`); // the exact figure needs a quiet machine
  },
});

Deno.test({
  name: "the STUN server answers as well as a bare echo while junk arrives",
  ignore: !isLinux,
  fn: async () => {
    const figures = await measureJunk(1, { seconds: 3, rate: 40_000 });
    assert(figures.stun >= Math.min(0.8, figures.echo - 0.1), JSON.stringify(figures));
  },
});

Deno.test("500 streams over one connection that moves arrive whole, or are reset with a code", async () => {
  const figures = await measureStreams(1, { streams: 500, atOnce: 100, moves: 5 });
  assertEquals([figures.equal, figures.told], [figures.whole, figures.reset]);
  assertEquals([figures.leftStreams, figures.leftBytes, figures.moves], [0, 0, 5]);
});
