/** Faulty and hostile gateways: `mapPort()` does the right thing next, or ends with one clear error in time. */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { NoMappingError } from "../../lib/portmap/mapper.ts";
import type { Script } from "./fake_gateway/fake_gateway.ts";
import type { FakeIgdOptions } from "./fake_gateway/fake_igd.ts";
import { destinationIp } from "../../lab/model/nat_packet.ts";
import { atMapPortHome } from "./map_port_home.ts";

/** Changes what the gateway answers. */
function answering(change: (data: Uint8Array) => Uint8Array[]): Script {
  return ({ usual }) => usual().flatMap(({ data }) => change(data)).map((data) => ({ data }));
}

function withByte(data: Uint8Array, index: number, value: number): Uint8Array {
  const changed = data.slice();
  changed[index] = value;
  return changed;
}

const NOTHING_GOOD: Readonly<Record<string, Script>> = {
  "is silent": () => [],
  "sends garbage": answering(() => [new TextEncoder().encode("<html>")]),
  "sends only headers": answering((data) => [data.subarray(0, 4)]),
  "sends megabytes of zeros": answering(() => [new Uint8Array(1400)]),
  "answers from another port": ({ usual }) =>
    usual().map((reply) => ({ ...reply, fromElsewhere: true })),
  "repeats requests": ({ data }) => [{ data }],
  "grants external port 0": answering((data) => [
    data[0] === 2 ? withByte(withByte(data, 42, 0), 43, 0) : withByte(withByte(data, 10, 0), 11, 0),
  ]),
  "answers too late": ({ usual }) => usual().map((reply) => ({ ...reply, delayMs: 20_000 })),
};

for (const [what, script] of Object.entries(NOTHING_GOOD)) {
  Deno.test(`mapPort() with a gateway that ${what} uses UPnP if it can, and otherwise ends in time`, async () => {
    await atMapPortHome({ udp: { script }, igd: {} }, async ({ map }) => {
      await using mapping = await map();
      assertEquals(mapping.protocol, "upnp");
    });
    await atMapPortHome({ udp: { script } }, async ({ map }) => {
      const startMs = performance.now();
      await assertRejects(() => map(), NoMappingError);
      assert(performance.now() - startMs <= 5300, `${performance.now() - startMs} ms`);
    });
  });
}

const GOOD_ALL_THE_SAME: Readonly<Record<string, Script>> = {
  "sends everything twice": answering((data) => [data, data]),
  "sends garbage before the answer": answering((data) => [Uint8Array.of(2, 1), data]),
  "sends the wrong nonce before the right one": answering((data) => [
    ...data.length === 60 ? [withByte(data, 24, data[24]! ^ 0xff)] : [],
    data,
  ]),
  "answers the third time": ({ index, usual }) => index < 4 ? [] : usual(),
  "takes a while to answer": ({ usual }) => usual().map((reply) => ({ ...reply, delayMs: 600 })),
};

for (const [what, script] of Object.entries(GOOD_ALL_THE_SAME)) {
  Deno.test(`mapPort() with a gateway that ${what} maps the port, and leaves nothing open`, async () => {
    await atMapPortHome({ udp: { script } }, async ({ gateway, map, open }) => {
      const mapping = await map();
      assertEquals(open(), [8080]);
      gateway.script = undefined;
      await mapping[Symbol.asyncDispose]();
      assertEquals(open(), []);
    });
  });
}

for (let code = 1; code <= 14; code++) {
  Deno.test(`mapPort() reports PCP's result code ${code} with a remedy, and maps by another protocol`, async () => {
    const script = answering((data) => [data[0] === 2 ? withByte(data, 3, code) : data]);
    await atMapPortHome({ udp: { speaks: ["pcp"], script } }, async ({ map }) => {
      const error = await assertRejects(() => map({ protocols: ["pcp"] }), NoMappingError);
      const [attempt] = error.attempts;
      assertEquals(attempt!.outcome, "refused");
      assert(attempt!.reason.includes(`(${code})`) && attempt!.remedy.length > 10);
    });
    await atMapPortHome({ udp: { speaks: ["pcp"], script }, igd: {} }, async ({ map }) => {
      await using mapping = await map();
      assertEquals(mapping.protocol, "upnp");
    });
  });
}

for (let code = 1; code <= 5; code++) {
  Deno.test(`mapPort() reports NAT-PMP's result code ${code} with a remedy`, async () => {
    const script = answering((data) => [withByte(data, 3, code)]);
    await atMapPortHome({ udp: { speaks: ["nat-pmp"], script } }, async ({ map }) => {
      const error = await assertRejects(() => map({ protocols: ["nat-pmp"] }), NoMappingError);
      assert(error.attempts[0]!.reason.includes(`(${code})`));
    });
  });
}

Deno.test("mapPort() understands the 8-byte reply of a router that speaks only NAT-PMP", async () => {
  const script: Script = ({ data, usual }) =>
    data[0] === 2 ? [{ data: Uint8Array.of(0, 128, 0, 1, 0, 0, 0, 1) }] : usual();
  await atMapPortHome({ udp: { speaks: ["nat-pmp"], script } }, async ({ map }) => {
    await using mapping = await map();
    assertEquals(mapping.protocol, "nat-pmp");
  });
});

Deno.test("mapPort() prefers any other grant to one with an implausible external address", async () => {
  for (const externalIp of ["0.0.0.0", "127.0.0.1", "224.0.0.5", "169.254.1.1"]) {
    await atMapPortHome({ udp: { speaks: ["nat-pmp"], externalIp }, igd: {} }, async ({ map }) => {
      await using mapping = await map();
      assertEquals([mapping.protocol, mapping.external.ip], ["upnp", "44.0.0.7"]);
    });
    await atMapPortHome({ udp: { speaks: ["nat-pmp"], externalIp } }, async ({ map }) => {
      await using mapping = await map();
      assert(mapping.verdict.kind !== "public");
    });
  }
});

const HOSTILE_IGDS: Readonly<Record<string, FakeIgdOptions>> = {
  "names loopback as its LOCATION": { location: "http://127.0.0.1:5001/rootDesc.xml" },
  "names a public address as its LOCATION": { location: "http://203.0.113.66:5001/rootDesc.xml" },
  "names a host by name": { location: "http://victim.example:5001/rootDesc.xml" },
  "redirects to loopback": {
    onGet: () => ({
      kind: "response",
      status: 302,
      body: "",
      fields: { Location: "http://127.0.0.1:5000/rootDesc.xml" },
    }),
  },
  "sends an endless description": {
    onGet: () => ({ kind: "raw", pieces: forever("<x>"), end: "close" }),
  },
  "sends a byte at a time": {
    onGet: () => ({ kind: "raw", pieces: forever("H"), pauseMs: 900, end: "stay" }),
  },
  "sends an entity bomb": {
    description: `<?xml version="1.0"?><!DOCTYPE r [<!ENTITY a "${"x".repeat(1000)}">` +
      `<!ENTITY b "${"&a;".repeat(1000)}">]><root>&b;</root>`,
  },
  "sends its SOAP answers a byte at a time": {
    onSoap: () => ({ kind: "raw", pieces: forever("H"), pauseMs: 900, end: "stay" }),
  },
};

for (const [what, igd] of Object.entries(HOSTILE_IGDS)) {
  Deno.test(`mapPort() with a UPnP device that ${what} ends with one error, and contacts no other host`, async () => {
    await atMapPortHome({ udp: { speaks: [] }, igd }, async ({ internet, map }) => {
      const victim = internet.host("victim", { addresses: ["203.0.113.66"] });
      const dialled: string[] = [];
      internet.onPacket = ({ at, what, packet }) => {
        if (at !== "host" || what !== "sent" || packet.protocol !== "tcp") return;
        dialled.push(destinationIp(packet));
      };
      const startMs = performance.now();
      const error = await assertRejects(() => map(), NoMappingError);
      assert(performance.now() - startMs <= 30_100, `${performance.now() - startMs} ms`);
      assert(!error.message.includes("\n"));
      assertEquals(dialled.filter((ip) => ip !== "192.168.1.1"), []);
      assertEquals(victim.openSockets(), []);
    });
  });
}

function* forever(piece: string): Generator<string> {
  while (true) yield piece;
}
