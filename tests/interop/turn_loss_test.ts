// A server that loses its state: nonces that expire, and restarts.

import { assert, assertEquals, assertRejects } from "@std/assert";
import { NetworkError, RefusedError } from "../../lib/base/errors.ts";
import { systemNetwork } from "../../lib/net/system.ts";
import { RFC8656_TIMINGS } from "../../lib/turn/protocol.ts";
import { COTURN } from "./coturn.ts";
import { freePorts } from "./free_ports.ts";
import { toolTest } from "./tool_test_case.ts";
import { datagrams, echoed, LOOPBACK, startEcho, startTurn, streams } from "./turn_server.ts";

/** Everything is renewed every half second. */
const HASTY = {
  ...RFC8656_TIMINGS,
  permissionLifetimeMs: 1000,
  channelLifetimeMs: 1000,
  udpKeepaliveMs: 500,
};

toolTest("nonces that keep expiring are renewed, also in refreshes", COTURN, async () => {
  await using coturn = await startTurn({ args: ["--stale-nonce=1"] });
  await using relay = await datagrams(coturn, { timings: HASTY });
  using peer = await startEcho();
  for (let i = 0; i < 5; i++) {
    await new Promise((resolve) => setTimeout(resolve, 1000));
    assertEquals((await echoed(relay.socket, peer.local, `${i}`)).text, `${i}`);
  }
});

toolTest("streams are dialled and accepted although nonces expire", COTURN, async () => {
  await using coturn = await startTurn({ args: ["--stale-nonce=1"] });
  await using relay = await streams(coturn);
  for (let i = 0; i < 2; i++) {
    await new Promise((resolve) => setTimeout(resolve, 2100));
    using listener = await systemNetwork.listenTcp(LOOPBACK);
    using _dialled = await relay.connect(listener.local);
    (await listener.accept()).close();
    await relay.permit(["127.0.0.1"]);
    using _peer = await systemNetwork.connectTcp(relay.relayed[0]);
    (await relay.accept()).close();
  }
});

toolTest("a restart of the server is detected over UDP", COTURN, async () => {
  const [port] = freePorts(1);
  const before = await startTurn({ port });
  const relay = await datagrams(before, { timings: HASTY });
  await before[Symbol.asyncDispose]();
  await using _after = await startTurn({ port });
  const receiving = assertRejects(() => relay.socket.receive(), RefusedError);
  const error = await assertRejects(() => relay.finished, RefusedError);
  assertEquals(error.code, 437);
  assert(error.remedy !== undefined);
  assertEquals(await receiving, error);
  await assertRejects(() => relay.socket.send(new Uint8Array(1), LOOPBACK), RefusedError);
  await relay.close();
});

toolTest(
  "the end of the server is detected over TCP, and rejects all pending calls",
  COTURN,
  async () => {
    const coturn = await startTurn();
    const relay = await streams(coturn);
    const accepting = assertRejects(() => relay.accept(), NetworkError);
    await coturn[Symbol.asyncDispose]();
    const error = await assertRejects(() => relay.finished, NetworkError);
    assert(error.reason === "reset", error.message);
    assertEquals(await accepting, error);
    await relay.close();
  },
);
