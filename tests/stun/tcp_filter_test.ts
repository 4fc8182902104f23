import { assert, assertEquals, assertRejects } from "@std/assert";
import { NetworkError, NoResponseError, RefusedError } from "../../lib/base/errors.ts";
import type { Network, TcpConnection } from "../../lib/net/network.ts";
import { systemNetwork } from "../../lib/net/system.ts";
import { writeAll } from "../../lib/base/reader.ts";
import { readMessages } from "../../lib/stun/framing.ts";
import { BINDING, decodeMessage, encodeMessage, type StunMessage } from "../../lib/stun/message.ts";
import type { RawStunAttribute, StunAttribute } from "../../lib/stun/attributes.ts";
import { serveStun } from "../../lib/stun/server/server.ts";
import { judge, testTcpFilter } from "../../lib/stun/tcp_filter/client.ts";
import {
  type DialOutcome,
  encodeTcpFilterResult,
  getTcpFilterRequest,
} from "../../lib/stun/tcp_filter/message.ts";

const LOOPBACK = { ip: "127.0.0.1", port: 0 };

/** A server for one connection that answers its first request as the test tells it to. */
async function withServer<T>(
  respond: (request: StunMessage, connection: TcpConnection) => Promise<StunMessage | undefined>,
  run: (server: { ip: string; port: number }) => Promise<T>,
): Promise<T> {
  using listener = await systemNetwork.listenTcp(LOOPBACK);
  const serving = (async () => {
    using connection = await listener.accept();
    for await (const bytes of readMessages(connection)) {
      const response = await respond(decodeMessage(bytes), connection);
      if (response !== undefined) await writeAll(connection, encodeMessage(response));
      return;
    }
  })();
  const [result] = await Promise.all([run(listener.local), serving]);
  return result;
}

function success(request: StunMessage, ...attributes: StunAttribute[]): StunMessage {
  return { class: "success", method: BINDING, transactionId: request.transactionId, attributes };
}

function reported(outcome: DialOutcome): RawStunAttribute {
  const dial = { outcome, dials: 1, elapsedMs: 1 };
  return encodeTcpFilterResult({ sameAddress: dial, alternateAddress: dial });
}

async function greet(
  target: { ip: string; port: number },
  transactionId: Uint8Array,
  claimedIp: string,
): Promise<void> {
  using dial = await systemNetwork.connectTcp(target);
  const origin = { ip: claimedIp, port: dial.local.port };
  await writeAll(
    dial,
    encodeMessage({
      class: "indication",
      method: BINDING,
      transactionId,
      attributes: [{ type: "RESPONSE-ORIGIN", value: origin }],
    }),
  );
}

Deno.test("testTcpFilter() finds no filter on loopback", async () => {
  await using server = await serveStun({
    network: systemNetwork,
    address: "127.0.0.1",
    alternateAddress: "127.0.0.2",
    port: 0,
    alternatePort: 0,
  });
  for (const address of server.addresses) {
    const report = await testTcpFilter(systemNetwork, address);
    assertEquals([report.sameAddress, report.alternateAddress], ["accepted", "accepted"]);
    assertEquals(report.mapped, report.local);
    assertEquals(report.evidence.listening, true);
    assertEquals(report.evidence.server?.sameAddress.dials, 1);
  }
  assertEquals(server.counters.filterTests, 4);
});

Deno.test("testTcpFilter() runs from the given port", async () => {
  await using server = await serveStun({ network: systemNetwork, address: "127.0.0.1", port: 0 });
  const port = await freePort();
  const local = { ip: "127.0.0.1", port };
  const report = await testTcpFilter(systemNetwork, server.addresses[0]!, { local });
  assertEquals(report.local, local);
  assertEquals([report.sameAddress, report.alternateAddress], ["accepted", "unknown"]);
});

Deno.test("testTcpFilter() works over IPv6", async () => {
  await using server = await serveStun({ network: systemNetwork, address: "::1", port: 0 });
  const report = await testTcpFilter(systemNetwork, server.addresses[0]!);
  assertEquals([report.sameAddress, report.alternateAddress], ["accepted", "unknown"]);
});

Deno.test("testTcpFilter() sends 1024 bytes, with the given window", async () => {
  const asked = Promise.withResolvers<StunMessage>();
  await withServer(async (request) => {
    asked.resolve(request);
    return await Promise.resolve(success(request));
  }, (server) => testTcpFilter(systemNetwork, server, { windowMs: 321 }));
  const request = await asked.promise;
  assertEquals(getTcpFilterRequest(request), { windowMs: 321 });
  assertEquals(encodeMessage(request).length, 1024);
});

Deno.test("testTcpFilter() reports unknown for a server that does not support the test", async () => {
  const report = await withServer(
    (request) => Promise.resolve(success(request)),
    (server) => testTcpFilter(systemNetwork, server),
  );
  assertEquals([report.sameAddress, report.alternateAddress], ["unknown", "unknown"]);
  assertEquals(report.evidence.server, undefined);
});

Deno.test("testTcpFilter() trusts an accepted dial only if its greeting arrived", async () => {
  const report = await withServer(
    async (request, { remote }) => {
      await greet(remote, request.transactionId, "127.0.0.1");
      await greet(remote, new Uint8Array(12), "127.0.0.2"); // not ours
      return success(request, reported("accepted"));
    },
    (server) => testTcpFilter(systemNetwork, server),
  );
  assertEquals([report.sameAddress, report.alternateAddress], ["accepted", "unknown"]);
  assertEquals(report.evidence.arrived, { sameAddress: true, alternateAddress: false });
});

Deno.test("testTcpFilter() trusts a greeting that arrived, whatever the server reports", async () => {
  const report = await withServer(
    async (request, { remote }) => {
      await greet(remote, request.transactionId, "127.0.0.2");
      // The client waits for greetings that are still in flight only if the server announces them.
      await greet(remote, request.transactionId, "127.0.0.1");
      return success(request, reported("accepted"));
    },
    (server) => testTcpFilter(systemNetwork, server),
  );
  assertEquals([report.sameAddress, report.alternateAddress], ["accepted", "accepted"]);
});

Deno.test("testTcpFilter() ignores garbage and silent connections on its port", async () => {
  const report = await withServer(
    async (request, { remote }) => {
      using garbage = await systemNetwork.connectTcp(remote);
      using _silent = await systemNetwork.connectTcp(remote);
      await garbage.write(new TextEncoder().encode("GET / HTTP/1.1\r\n\r\n"));
      return success(request, reported("silent"));
    },
    (server) => testTcpFilter(systemNetwork, server),
  );
  assertEquals([report.sameAddress, report.alternateAddress], ["dropped", "dropped"]);
});

Deno.test("testTcpFilter() does not blame a NAT for a RST if it could not listen", async () => {
  const notListening: Network = {
    ...systemNetwork,
    listenTcp: () => Promise.reject(new NetworkError("Cannot listen", "address-in-use")),
  };
  const report = await withServer(
    (request) => Promise.resolve(success(request, reported("refused"))),
    (server) => testTcpFilter(notListening, server),
  );
  assertEquals([report.sameAddress, report.alternateAddress], ["unknown", "unknown"]);
  assertEquals(report.evidence.listening, false);
});

Deno.test("testTcpFilter() rejects with the server's error code", async () => {
  const error = await assertRejects(() =>
    withServer(
      (request) =>
        Promise.resolve<StunMessage>({
          ...success(request, { type: "ERROR-CODE", value: { code: 400, reason: "Bad Request" } }),
          class: "error",
        }),
      (server) => testTcpFilter(systemNetwork, server),
    ), RefusedError);
  assertEquals(error.code, 400);
});

Deno.test("testTcpFilter() rejects if the server closes the connection or is not there", async () => {
  await assertRejects(
    () =>
      withServer(
        () => Promise.resolve(undefined),
        (server) => testTcpFilter(systemNetwork, server),
      ),
    NoResponseError,
  );
  const server = { ip: "127.0.0.1", port: await freePort() };
  const error = await assertRejects(() => testTcpFilter(systemNetwork, server), NetworkError);
  assertEquals(error.reason, "refused");
});

Deno.test("testTcpFilter() rejects with the reason of an abort", async () => {
  const controller = new AbortController();
  const reason = new Error("enough");
  const error = await assertRejects(() =>
    withServer(
      () => {
        controller.abort(reason);
        return Promise.resolve(undefined);
      },
      (server) => testTcpFilter(systemNetwork, server, { signal: controller.signal }),
    )
  );
  assert(error === reason);
});

Deno.test("judge() trusts arrival most, then silence, and a RST only if this side was listening", () => {
  const outcomes: DialOutcome[] = ["accepted", "refused", "silent", "unreachable", "not-tested"];
  const verdicts = (arrived: boolean, listening: boolean) =>
    outcomes.map((outcome) => judge({ outcome, dials: 1, elapsedMs: 1 }, arrived, { listening }));
  assertEquals(verdicts(true, true), outcomes.map(() => "accepted"));
  assertEquals(verdicts(false, true), ["unknown", "reset", "dropped", "unknown", "unknown"]);
  assertEquals(verdicts(false, false), ["unknown", "unknown", "dropped", "unknown", "unknown"]);
  assertEquals(judge(undefined, false, { listening: true }), "unknown");
});

async function freePort(): Promise<number> {
  using listener = await systemNetwork.listenTcp(LOOPBACK);
  return listener.local.port;
}
