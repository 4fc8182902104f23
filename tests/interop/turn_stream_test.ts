// Byte streams relayed by coturn (RFC 6062), dialled and accepted.

import { assert, assertEquals, assertRejects, assertStrictEquals } from "@std/assert";
import { NetworkError } from "../../lib/base/errors.ts";
import { systemNetwork } from "../../lib/net/system.ts";
import type { TcpConnection } from "../../lib/net/network.ts";
import type { StreamRelay } from "../../lib/turn/stream_relay.ts";
import { COTURN, COTURN_TLS } from "./coturn.ts";
import { toolTest } from "./tool_test_case.ts";
import {
  CREDENTIAL,
  LOOPBACK,
  readPattern,
  startTurn,
  streams,
  uriOf,
  writePattern,
} from "./turn_server.ts";

const MEGABYTES = 4 * 1024 * 1024;

for (const transport of ["tcp", "tls"] as const) {
  for (const [direction, open] of [["dialled", dial], ["accepted", accept]] as const) {
    toolTest(
      `a stream ${direction} over ${transport} carries megabytes both ways`,
      COTURN_TLS,
      async () => {
        await using coturn = await startTurn({ tls: transport === "tls" });
        await using relay = await streams(coturn, { transport });
        const [relayed, peer] = await open(relay);
        using _closing = peer;
        assertEquals([relayed.local, relayed.remote], [relay.relayed[0], peer.local]);
        // One direction after the other: with both at full speed, coturn 4.6.1 sometimes never reads one side again.
        const [up] = await Promise.all([
          readPattern(peer, MEGABYTES),
          writePattern(relayed, MEGABYTES),
        ]);
        const [down] = await Promise.all([
          readPattern(relayed, MEGABYTES),
          writePattern(peer, MEGABYTES),
        ]);
        assertEquals([up, down], [0, 0]);
      },
    );
  }
}

toolTest(
  "data that the peer wrote before the stream was accepted is not lost",
  COTURN,
  async () => {
    await using coturn = await startTurn();
    await using relay = await streams(coturn);
    await relay.permit(["127.0.0.1"]);
    for (let i = 0; i < 20; i++) {
      using peer = await systemNetwork.connectTcp(relay.relayed[0]);
      await writePattern(peer, 1000);
      const relayed = await relay.accept();
      assertEquals(await readPattern(relayed, 1000), 0);
      relayed.close();
    }
  },
);

toolTest("many streams of one relay run at once", COTURN, async () => {
  await using coturn = await startTurn();
  await using relay = await streams(coturn);
  using open = new DisposableStack();
  const wrong = await Promise.all(Array.from({ length: 8 }, async (_, i) => {
    const [relayed, peer] = await dial(relay);
    open.use(peer);
    const [count] = await Promise.all([
      readPattern(peer, 100_000 + i),
      writePattern(relayed, 100_000 + i),
    ]);
    return count;
  }));
  assertEquals(wrong, Array(8).fill(0));
});

toolTest("a slow reader slows the writer, and nothing is lost", COTURN, async () => {
  await using coturn = await startTurn();
  await using relay = await streams(coturn);
  const [relayed, peer] = await dial(relay);
  using _closing = peer;
  const length = 64 * MEGABYTES;
  let written = 0;
  const writing = (async () => {
    const chunk = new Uint8Array(64 * 1024);
    while (written < length) written += await relayed.write(chunk);
  })();
  const stalled = await untilStill(() => written);
  assert(stalled < length, `${stalled} bytes were accepted although nothing was read`);
  let read = 0;
  const buffer = new Uint8Array(256 * 1024);
  while (read < length) read += await peer.read(buffer) ?? length;
  await writing;
  assertEquals([read, written], [length, length]);
});

toolTest("coturn resets a stream that is half-closed", COTURN, async () => {
  await using coturn = await startTurn();
  await using relay = await streams(coturn);
  for (const side of ["relayed", "peer"] as const) {
    const [relayed, peer] = await dial(relay);
    const [closing, other] = side === "relayed" ? [relayed, peer] : [peer, relayed];
    await writePattern(closing, 1000);
    assertEquals(await readPattern(other, 1000), 0);
    await closing.closeWrite();
    const error = await assertRejects(() => other.read(new Uint8Array(1)), NetworkError);
    assertEquals(error.reason, "reset");
    for (const one of [relayed, peer]) one.close();
  }
});

toolTest("accept() skips peers that have closed the connection", COTURN, async () => {
  await using coturn = await startTurn();
  await using relay = await streams(coturn);
  await relay.permit([LOOPBACK.ip]);
  for (let i = 0; i < 5; i++) {
    const gone = await systemNetwork.connectTcp(relay.relayed[0]);
    await new Promise((resolve) => setTimeout(resolve, i * 10)); // before or after the server has reported it
    gone.reset();
  }
  const [relayed, peer] = await accept(relay);
  assertEquals(relayed.remote.port, peer.local.port);
  for (const one of [relayed, peer]) one.close();
});

for (const transport of ["tcp", "tls"] as const) {
  toolTest(`a closed relay of streams is released over ${transport}`, COTURN_TLS, async () => {
    await using coturn = await startTurn({ tls: transport === "tls", args: ["--user-quota=1"] });
    for (let i = 0; i < 3; i++) await (await streams(coturn, { transport })).close();
  });
}

for (const transport of ["tcp", "tls"] as const) {
  toolTest(
    `unref() allows a program that waits for streams to end, over ${transport}`,
    COTURN_TLS,
    async () => {
      await using coturn = await startTurn({ tls: transport === "tls" });
      using listener = await systemNetwork.listenTcp(LOOPBACK);
      const program = `
      const { openStreamRelay } = await import("${import.meta.resolve("../../lib/turn/mod.ts")}");
      const caCerts = [${JSON.stringify(coturn.caCert)}];
      const options = { credential: ${JSON.stringify(CREDENTIAL)}, caCerts };
      const relay = await openStreamRelay("${uriOf(coturn, transport)}", options);
      const connection = await relay.connect(${JSON.stringify(listener.local)});
      connection.read(new Uint8Array(1));
      relay.accept();
      if (Deno.args[0] === "unref") for (const each of [connection, relay]) each.unref();
    `;
      for (const how of ["unref", "ref"]) {
        const command = new Deno.Command(Deno.execPath(), {
          args: ["eval", program, how],
          signal: AbortSignal.timeout(how === "unref" ? 20_000 : 3000),
        });
        const { success } = await command.output();
        assertEquals(success, how === "unref");
      }
    },
  );
}

toolTest("accept() rejects on abort, and works afterwards", COTURN, async () => {
  await using coturn = await startTurn();
  await using relay = await streams(coturn);
  const controller = new AbortController();
  const reason = new Error("enough");
  const accepting = relay.accept({ signal: controller.signal });
  controller.abort(reason);
  assertStrictEquals(await assertRejects(() => accepting), reason);
  const [, peer] = await accept(relay);
  peer.close();
});

toolTest("a closed relay closes its streams, and rejects pending calls", COTURN, async () => {
  await using coturn = await startTurn();
  const relay = await streams(coturn);
  const [relayed, peer] = await dial(relay);
  using _closing = peer;
  const accepting = assertRejects(() => relay.accept(), NetworkError, "it is closed");
  await relay.close();
  await accepting;
  await relay.finished;
  await assertRejects(() => relayed.read(new Uint8Array(1)), NetworkError);
});

/** A stream that the relay dials: the relay's end and the peer's end. */
async function dial(relay: StreamRelay): Promise<[TcpConnection, TcpConnection]> {
  using listener = await systemNetwork.listenTcp(LOOPBACK);
  const [relayed, peer] = await Promise.all([
    relay.connect(listener.local),
    listener.accept(),
  ]);
  assertEquals(peer.remote, relay.relayed[0]);
  return [relayed, peer];
}

/** A stream that a peer dials: the relay's end and the peer's end. */
async function accept(relay: StreamRelay): Promise<[TcpConnection, TcpConnection]> {
  await relay.permit(["127.0.0.1"]);
  return await Promise.all([relay.accept(), systemNetwork.connectTcp(relay.relayed[0])]);
}

/** The last of the values, once it has not changed for a while. */
async function untilStill(value: () => number): Promise<number> {
  for (let last = -1;;) {
    const now = value();
    if (now === last) return now;
    last = now;
    await new Promise((resolve) => setTimeout(resolve, 300));
  }
}
