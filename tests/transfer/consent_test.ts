/**
 * What the application is asked, and when.
 *
 * @module
 */

import { assert, assertEquals, assertMatch } from "@std/assert";
import { type IncomingOffer, receiveFiles } from "../../lib/transfer/mod.ts";
import { sendFiles } from "../../lib/transfer/sender.ts";
import { VirtualTime } from "../simnet/virtual_time.ts";
import { MemoryFiles } from "./memory_files.ts";
import { connectionSources } from "./pipe.ts";
import { failureOf, inbox, play, valueOf } from "./scene.ts";

Deno.test("after breaks the application is not asked again about the same offer", async () => {
  let asked = 0;
  const here = new MemoryFiles().put("/data/big", BIG);
  const { received } = await play({
    here,
    cuts: [200_000, 200_000],
    receive: { onOffer: () => ++asked > 0 },
  });
  assertEquals([valueOf(received).breaks, asked], [2, 1]);
});

for (const isAccepted of [true, false]) {
  Deno.test(`an offer that differs after a break is asked about again, and ${isAccepted ? "accepted" : "declined"}`, async () => {
    const asked: IncomingOffer[] = [];
    const there = inbox();
    const { sender, receiver } = connectionSources();
    const interrupt = new AbortController();
    using time = new VirtualTime();
    const [first, second, received] = await time.run(async () => {
      const receiving = receiveFiles(receiver, "/in", {
        files: there,
        onOffer: (offer) => {
          asked.push(offer);
          return isAccepted || asked.length === 1;
        },
        onProgress: ({ bytes }) => bytes > 300_000 && interrupt.abort(new Error("replaced")),
      });
      const [first] = await Promise.allSettled([
        sendFiles(sender, ["/data"], {
          files: new MemoryFiles().put("/data/big", BIG),
          signal: interrupt.signal,
        }),
      ]);
      const others = new MemoryFiles().put("/data/big", BIG).put("/data/.more", "more");
      const [second, received] = await Promise.allSettled([
        sendFiles(sender, ["/data"], { files: others }),
        receiving,
      ]);
      return [first, second, received];
    });
    assertMatch(failureOf(first!), /replaced/);
    assertEquals(asked.map(({ isChanged, hidden }) => [isChanged, hidden.length]), [
      [false, 0],
      [true, 1],
    ]);
    // What this transfer has made itself counts as made by it, although the offer is another.
    assertEquals([asked[1]!.existingFolders, asked[1]!.needAllowHidden], [[], []]);
    if (isAccepted) {
      assertEquals(valueOf(received!).files, 2);
      assertEquals(there.below("/in"), ["data", "data/.more", "data/big"]);
    } else {
      assertMatch(failureOf(received!), /^TransferError declined: /);
      assertMatch(failureOf(second!), /^TransferError declined: /);
      assert(!there.below("/in").includes("data/.more"));
    }
  });
}

Deno.test("an offer that was declined leaves nothing, not even a record", async () => {
  const there = inbox();
  const written: string[] = [];
  there.fault = (what) => {
    if (/create|make|probe/.test(what)) written.push(what);
  };
  const here = new MemoryFiles().put("/data/big", BIG);
  await play({ here, there, receive: { onOffer: () => ({ accept: false, merge: true }) } });
  assertEquals([there.below("/in"), written], [[], []]);
});

Deno.test("DONE is sent when everything would survive a power failure, and not before", async () => {
  const here = new MemoryFiles().put("/data/sub/a", "alpha").put("/data/b", "beta")
    .putOther("/data/l", "link", "b");
  const there = inbox();
  const { sender, receiver } = connectionSources();
  let checked = 0;
  using time = new VirtualTime();
  await time.run(() =>
    Promise.all([
      sendFiles(sender, ["/data"], { files: here }),
      receiveFiles(
        async (options) => {
          const connection = await receiver(options);
          const write = connection.write.bind(connection);
          connection.write = (data) => {
            if (data[0] === 6) { // DONE
              checked++;
              for (const path of ["/in/data/sub/a", "/in/data/b"]) {
                assert(there.isSynced(path), path);
              }
              for (const path of ["/in", "/in/data", "/in/data/sub"]) {
                assert(there.syncedFolders.has(path), path);
              }
            }
            return write(data);
          };
          return connection;
        },
        "/in",
        { files: there, onOffer: () => true },
      ),
    ])
  );
  assertEquals(checked, 1);
});

Deno.test("a transfer with another id does not continue the incomplete file", async () => {
  const here = new MemoryFiles().put("/data/big", BIG);
  const there = inbox();
  const controller = new AbortController();
  const { signal } = controller;
  const onProgress = ({ bytes }: { bytes: number }) => bytes > 300_000 && controller.abort();
  await play({ here, there, send: { signal }, receive: { id: "one", signal, onProgress } });
  const { received } = await play({ here, there, receive: { id: "two", merge: true } });
  assertEquals(valueOf(received).resumedBytes, 0);
});

Deno.test("an incomplete file that another process holds is left to it", async () => {
  const here = new MemoryFiles().put("/data/big", BIG);
  const there = inbox();
  const controller = new AbortController();
  const { signal } = controller;
  const onProgress = ({ bytes }: { bytes: number }) => bytes > 300_000 && controller.abort();
  await play({ here, there, send: { signal }, receive: { signal, onProgress } });
  const part = there.below("/in").find((path) => path.endsWith("-part"))!;
  there.lock(`/in/${part}`);
  const held = there.text(`/in/${part}`);
  const { received } = await play({ here, there });
  assertEquals(valueOf(received).resumedBytes, 0);
  assertEquals(there.text("/in/data/big"), BIG);
  assertEquals(there.text(`/in/${part}`), held);
});

/** A few pieces long. */
const BIG = Array.from({ length: 100_000 }, (_, index) => `${index}`.padStart(10)).join("");
