// Codes over the ways to signal themselves: a rendezvous server, and the LAN. For MQTT, see tests/interop/codes_test.ts.

import { assert, assertEquals } from "@std/assert";
import { type CodeEvent, CodeOffering } from "../../lib/code/offer.ts";
import { parseCode } from "../../lib/code/code.ts";
import { redeemCode } from "../../lib/code/redeem.ts";
import { openSignaling } from "../../lib/signal/open.ts";
import type { SignalingConnection } from "../../lib/signal/transport.ts";
import { NAT_BEHAVIORS } from "../../lab/model/nat_behavior.ts";
import { LINK, withRendezvous } from "../signal/rendezvous_fixtures.ts";
import { simulate } from "../simnet/simulate.ts";

Deno.test("a rendezvous server allocates a number of one digit, two round trips after the connection", () =>
  withRendezvous(async ({ server, newHost, time }) => {
    const open = async () => await openSignaling(server.url, { network: newHost().network });
    await using sender = await open();
    await using receiver = await open();
    const startMs = time.nowMs;
    await using offer = await offered([sender]);
    assertEquals(time.nowMs - startMs, 2 * 4 * LINK.delayMs);
    assert(/^[1-9]-/.test(offer.code), offer.code);
    assertEquals(await redeem(offer.code, [receiver]), "punchline:ticket");
  }));

Deno.test("codes work in the LAN, without a server", () =>
  simulate(async ({ internet }) => {
    const home = internet.router("home", { behavior: NAT_BEHAVIORS.fullCone });
    const [one, other] = ["a", "b"].map((name) => internet.host(name, { behind: home }));
    await using sender = await openSignaling("lan:", { network: one!.network });
    await using receiver = await openSignaling("lan:", { network: other!.network });
    await using offer = await offered([sender]);
    assertEquals(await redeem(offer.code, [receiver]), "punchline:ticket");
  }));

Deno.test("codes of many senders at one rendezvous have different numbers, and find their own", () =>
  withRendezvous(async ({ server, newHost }) => {
    await using opened = new AsyncDisposableStack();
    const open = async () =>
      opened.use(await openSignaling(server.url, { network: newHost().network }));
    const offers: Offered[] = [];
    for (let i = 0; i < 20; i++) {
      offers.push(opened.use(await offered([await open()], `punchline:${i}`)));
    }
    const numbers = offers.map(({ code }) => parseCode(code).number);
    assertEquals(new Set(numbers).size, 20);
    assert(numbers.every((number) => number < 100));
    const receiver = await open();
    for (const [index, { code }] of offers.entries()) {
      assertEquals(await redeem(code, [receiver]), `punchline:${index}`);
    }
  }));

Deno.test("a code outlives a rendezvous server that is lost and comes back", () =>
  withRendezvous(async ({ server, newHost }) => {
    const connections: SignalingConnection[] = [];
    const { webSocketTransport } = await import("../../lib/signal/rendezvous/transport.ts");
    const transport = webSocketTransport(server.url);
    const { network } = newHost();
    await using sender = await openSignaling({
      url: server.url,
      open: async (options) => {
        const connection = await transport.open(options);
        connections.push(connection);
        return connection;
      },
    }, { network });
    await using receiver = await openSignaling(server.url, { network: newHost().network });
    await using offer = await offered([sender]);
    await connections[0]![Symbol.asyncDispose]();
    assertEquals(await redeem(offer.code, [receiver]), "punchline:ticket");
    assertEquals(connections.length, 2);
  }));

interface Offered extends AsyncDisposable {
  readonly code: string;
}

async function offered(
  connections: readonly SignalingConnection[],
  ticket = "punchline:ticket",
): Promise<Offered> {
  const first = Promise.withResolvers<string>();
  const offering = new CodeOffering({
    ways: connections.map((each) => Promise.resolve(each)),
    ticket: () => ticket,
    expiresMs: 3_600_000,
    onEvent: (event: CodeEvent) => {
      if (event.kind === "offered") first.resolve(event.code);
      else if (event.kind === "unavailable") first.reject(new Error(event.reason));
    },
  });
  const code = await first.promise;
  return { code, [Symbol.asyncDispose]: () => offering[Symbol.asyncDispose]() };
}

async function redeem(code: string, connections: readonly SignalingConnection[]): Promise<string> {
  const ways = connections.map((each) => Promise.resolve(each));
  return await redeemCode(parseCode(code), { ways, timeoutMs: 30_000 });
}
