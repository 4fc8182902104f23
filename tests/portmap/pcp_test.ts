import { assert, assertEquals, assertNotEquals, assertRejects, assertThrows } from "@std/assert";
import { MalformedMessageError, NoResponseError } from "../../lib/base/errors.ts";
import { MappingRefusedError } from "../../lib/portmap/mapper.ts";
import { PCP_ANYCAST, pcpMapper } from "../../lib/portmap/pcp/client.ts";
import { decodePcpRequest, decodePcpResponse } from "../../lib/portmap/pcp/message.ts";
import { requestPcpPeer } from "../../lib/portmap/pcp/peer.ts";
import { PCP_RESULT } from "../../lib/portmap/refusals.ts";
import { INTERACTIVE_WAITS_MS } from "../../lib/portmap/gateway.ts";
import { delay } from "@std/async/delay";
import { simulate } from "../simnet/simulate.ts";
import { FakeGateway, type Reply } from "./fake_gateway/fake_gateway.ts";
import { atHome, GATEWAY_IP, type Home, HOST_IP, TCP_8080, UDP_8080 } from "./fixtures.ts";

Deno.test("PCP maps a port in one round trip", () =>
  atHome({}, async ({ pcp, gateway }) => {
    const startMs = performance.now();
    const { handle, epoch, grantedAtMs, ...grant } = await pcp().map(TCP_8080);
    assertEquals(performance.now() - startMs, 2);
    assertEquals(grant, {
      mapper: "pcp",
      protocol: "tcp",
      internal: { ip: HOST_IP, port: 8080 },
      external: { ip: "203.0.113.7", port: 8080 },
      lifetimeSeconds: 3600,
      gateway: GATEWAY_IP,
    });
    assertEquals(grantedAtMs, startMs + 2);
    assertEquals(epoch, { seconds: 0, receivedAtMs: startMs + 2 });
    assertEquals(handle, gateway.table.entries[0]?.nonce);
  }));

Deno.test("PCP asks from the internal address, in the header and in the packet", () =>
  atHome({}, async ({ pcp, gateway }) => {
    await pcp().map(UDP_8080);
    const { data, from } = gateway.arrived[0]!;
    assertEquals([from.ip, decodePcpRequest(data).clientIp], [HOST_IP, HOST_IP]);
  }));

Deno.test("PCP asks for the same address and port with the same nonce when it renews", () =>
  atHome({ lifetimes: { minSeconds: 120, maxSeconds: 600 } }, async ({ pcp, gateway }) => {
    const mapper = pcp();
    const grant = await mapper.map({ ...TCP_8080, externalPort: 9000 });
    const renewed = await mapper.renew(grant, { lifetimeSeconds: 3600 });
    assertEquals(renewed.external, grant.external);
    assertEquals(renewed.lifetimeSeconds, 600);
    const [first, second] = gateway.arrived.map(({ data }) => decodePcpRequest(data));
    assert(first?.body.opcode === "MAP" && second !== undefined);
    assertEquals(second.body, { ...first.body, externalIp: "203.0.113.7" });
    assertEquals(second.lifetimeSeconds, 3600);
  }));

Deno.test("PCP releases a mapping", () =>
  atHome({}, async ({ pcp, gateway }) => {
    const mapper = pcp();
    await mapper.release(await mapper.map(TCP_8080));
    assertEquals(gateway.table.entries, []);
  }));

Deno.test("PCP releases TCP mappings as TCP, and leaves UDP alone", () =>
  atHome({}, async ({ pcp, gateway }) => {
    const mapper = pcp();
    await mapper.map(UDP_8080);
    await mapper.release(await mapper.map(TCP_8080));
    assertEquals(gateway.table.entries.map(({ protocol }) => protocol), ["udp"]);
  }));

Deno.test("PCP with the same secret renews and deletes the mappings of another run", () =>
  atHome({}, async ({ pcp, gateway }) => {
    const secret = new Uint8Array(16).fill(7);
    const left = await pcp({ secret }).map(TCP_8080);
    const found = await pcp({ secret }).map(TCP_8080);
    assertEquals(found.handle, left.handle);
    await pcp({ secret }).release(found);
    assertEquals(gateway.table.entries, []);
  }));

Deno.test("PCP closes what an aborted call may have opened, or release() does", () =>
  atHome({ script: ({ usual }) => (usual(), []) }, async ({ pcp, gateway }) => {
    const mapper = pcp();
    const signal = AbortSignal.timeout(100);
    let opened = 0;
    gateway.script = ({ data, usual }) => {
      const isDeletion = data.subarray(4, 8).every((byte) => byte === 0);
      if (!isDeletion) usual();
      opened = gateway.table.entries.length;
      return isDeletion ? undefined : [];
    };
    assertEquals(await assertRejects(() => mapper.map(TCP_8080, { signal })), signal.reason);
    assertEquals([opened, gateway.table.entries], [1, []]);
    gateway.script = ({ usual }) => (usual(), []);
    await assertRejects(() => mapper.map(TCP_8080, { signal: AbortSignal.timeout(100) }));
    gateway.script = undefined;
    await mapper.release({
      mapper: "pcp",
      protocol: "tcp",
      internal: TCP_8080.internal,
      external: TCP_8080.internal,
      lifetimeSeconds: 3600,
      grantedAtMs: 0,
      gateway: GATEWAY_IP,
      handle: "",
    });
    assertEquals(gateway.table.entries, []);
  }));

Deno.test("PCP without the secret cannot take another host's mapping", () =>
  atHome({}, async ({ pcp }) => {
    await pcp().map(TCP_8080);
    const error = await assertRejects(() => pcp().map(TCP_8080), MappingRefusedError);
    assertEquals(error.reason, "NOT_AUTHORIZED");
  }));

Deno.test("PCP reports the gateway, its answer and a remedy", () =>
  atHome({ script: refuseWith(8) }, async ({ pcp }) => {
    const error = await assertRejects(() => pcp().map(TCP_8080), MappingRefusedError);
    assertEquals(
      error.message,
      "Cannot map TCP 192.168.1.2:8080: gateway 192.168.1.1 answered NO_RESOURCES (8)",
    );
    assertEquals([error.code, error.mapper, error.retryAfterSeconds], [8, "pcp", 30]);
    assert(error.remedy.includes("table is full"));
  }));

for (const [reason, code] of Object.entries(PCP_RESULT).slice(1)) {
  Deno.test(`PCP reports ${reason} with a remedy`, () =>
    atHome({ script: refuseWith(code) }, async ({ pcp }) => {
      const error = await assertRejects(() => pcp().map(TCP_8080), MappingRefusedError);
      assertEquals([error.code, error.reason], [code, reason]);
      assertNotEquals(error.remedy, "");
    }));
}

Deno.test("PCP reports a code that no specification lists", () =>
  atHome({ script: refuseWith(99) }, async ({ pcp }) => {
    const error = await assertRejects(() => pcp().map(TCP_8080), MappingRefusedError);
    assertEquals([error.code, error.reason], [99, "UNKNOWN"]);
  }));

Deno.test("PCP repeats the same request until it is answered", () =>
  atHome({ script: ({ index }) => index < 2 ? [] : undefined }, async ({ pcp, gateway }) => {
    await pcp({ waitsMs: INTERACTIVE_WAITS_MS }).map(TCP_8080);
    assertEquals(gateway.arrived.length, 3);
    assertEquals(gateway.arrived[0]!.data, gateway.arrived[2]!.data);
    assertEquals(gateway.arrived[0]!.from, gateway.arrived[2]!.from);
  }));

Deno.test("PCP gives up on a silent gateway", () =>
  atHome({ speaks: [] }, async ({ pcp, gateway }) => {
    const startMs = performance.now();
    await assertRejects(
      () => pcp({ waitsMs: INTERACTIVE_WAITS_MS }).map(TCP_8080),
      NoResponseError,
    );
    assert(performance.now() - startMs <= 1.1 * (1750 + 100));
    assertEquals(gateway.arrived.length, 4); // the last tells it to close what it may have opened
  }));

Deno.test("PCP stops with the signal's reason", () =>
  atHome({ speaks: [] }, async ({ pcp }) => {
    const reason = new Error("enough");
    const controller = new AbortController();
    setTimeout(() => controller.abort(reason), 100);
    const error = await assertRejects(() => pcp().map(TCP_8080, { signal: controller.signal }));
    assertEquals(error, reason);
  }));

Deno.test("PCP reports answers that cannot be read", () =>
  atHome({ script: () => [{ data: new Uint8Array(5) }] }, async ({ pcp }) => {
    const mapper = pcp({ waitsMs: INTERACTIVE_WAITS_MS });
    await assertRejects(() => mapper.map(TCP_8080), MalformedMessageError, "not with PCP");
  }));

const ignored: Readonly<Record<string, (usual: Uint8Array) => Reply>> = {
  "from another port of the gateway": (data) => ({ data, fromElsewhere: true }),
  "with another nonce": (data) => ({ data: changed(data, 24) }),
  "for another protocol": (data) => ({ data: changed(data, 36) }),
  "for another internal port": (data) => ({ data: changed(data, 41) }),
  "with another opcode": (data) => ({ data: data.map((byte, i) => i === 1 ? 0x82 : byte) }),
  "that is truncated": (data) => ({ data: data.slice(0, 40) }),
  "that grants no port for no time at all": (data) => ({
    data: data.map((byte, i) => i >= 4 && i < 8 || i === 42 || i === 43 ? 0 : byte),
  }),
  "in another version without a refusal": (data) => ({
    data: data.map((byte, i) => i === 0 ? 3 : byte),
  }),
};
Deno.test("PCP takes a grant for 0 s for a refusal, and closes the port", () =>
  atHome({
    script: ({ data, usual }) =>
      usual().map((reply) =>
        data.subarray(4, 8).every((byte) => byte === 0)
          ? reply
          : { data: reply.data.map((byte, i) => i >= 4 && i < 8 ? 0 : byte) }
      ),
  }, async ({ gateway, pcp }) => {
    const error = await assertRejects(() => pcp().map(TCP_8080), MappingRefusedError);
    assertEquals(error.reason, "LIFETIME_0");
    await delay(10);
    assertEquals(gateway.table.entries, []);
  }));

for (const [which, spoil] of Object.entries(ignored)) {
  Deno.test(`PCP ignores a reply ${which}`, () =>
    atHome({
      script: ({ usual }) => {
        const [answer] = usual();
        const spoiled = spoil(answer!.data);
        return [spoiled, { ...answer!, delayMs: 10 }];
      },
    }, async ({ pcp }) => {
      const startMs = performance.now();
      const grant = await pcp().map(TCP_8080);
      assertEquals(performance.now() - startMs, 12);
      assertEquals(grant.external, { ip: "203.0.113.7", port: 8080 });
    }));
}

Deno.test("PCP accepts one of two equal replies", () =>
  atHome({ script: ({ usual }) => [...usual(), ...usual()] }, async ({ pcp }) => {
    assertEquals((await pcp().map(TCP_8080)).external.port, 8080);
  }));

Deno.test("PCP requests an exact external port by PREFER_FAILURE", () =>
  atHome({}, async ({ pcp, gateway }) => {
    gateway.table.put({
      protocol: "tcp",
      internal: { ip: "192.168.1.3", port: 1 },
      externalPort: 8080,
      lifetimeSeconds: 1,
      nonce: "",
    });
    assertEquals(
      (await pcp().map({ ...TCP_8080, internal: { ip: HOST_IP, port: 1000 } })).external.port,
      1000,
    );
    const exact = { ...TCP_8080, exactExternalPort: true };
    const error = await assertRejects(() => pcp().map(exact), MappingRefusedError);
    assertEquals(error.reason, "CANNOT_PROVIDE_EXTERNAL");
    assertEquals((await pcp().map(TCP_8080)).external.port, 8081);
  }));

Deno.test("PCP sends filters", () =>
  atHome({}, async ({ pcp, gateway }) => {
    const filter = {
      type: "FILTER",
      prefixLength: 128,
      remotePeerPort: 0,
      remotePeerIp: "198.51.100.7",
    } as const;
    await pcp({ filters: [filter] }).map(TCP_8080);
    assertEquals(decodePcpRequest(gateway.arrived[0]!.data).options, [filter]);
  }));

Deno.test("PCP maps for another host by THIRD_PARTY", () =>
  atHome({ thirdParty: true }, async ({ pcp, gateway }) => {
    const other = { ...TCP_8080, internal: { ip: "192.168.1.9", port: 80 } };
    const mapper = pcp({ thirdParty: true });
    const grant = await mapper.map(other);
    assertEquals(gateway.table.entries[0]?.internal, other.internal);
    await mapper.release(grant);
    assertEquals(gateway.table.entries, []);
  }));

Deno.test("PCP sends no THIRD_PARTY for the host's own address", () =>
  atHome({ thirdParty: true }, async ({ pcp, gateway }) => {
    await pcp({ thirdParty: true }).map(TCP_8080);
    assertEquals(decodePcpRequest(gateway.arrived[0]!.data).options, []);
  }));

Deno.test("PCP opens an IPv6 pinhole with the host's own address as the external one", () =>
  atHome({}, async ({ network, gatewayNetwork }) => {
    using gateway = await FakeGateway.start(gatewayNetwork, { ip: "fd00::1", port: 5351 });
    const mapper = pcpMapper("fd00::1", { network, localIp: "2001:db8::2" });
    const internal = { ip: "2001:db8::2", port: 8080 };
    const grant = await mapper.map({ ...TCP_8080, internal });
    assertEquals(grant.external, internal);
    const { body } = decodePcpRequest(gateway.arrived[0]!.data);
    assert("externalIp" in body);
    assertEquals(body.externalIp, "::");
    await mapper.release(grant);
    assertEquals(gateway.table.entries, []);
  }));

Deno.test("PCP asks the carrier's server at the anycast address", () =>
  simulate(async ({ internet }) => {
    const { network } = internet.host("carrier", { addresses: [PCP_ANYCAST.ipv4] });
    using _server = await FakeGateway.start(network, { ip: PCP_ANYCAST.ipv4, port: 5351 });
    const host = internet.host("host", { addresses: ["100.64.0.2"] });
    const mapper = pcpMapper(PCP_ANYCAST.ipv4, { network: host.network, localIp: "100.64.0.2" });
    const grant = await mapper.map({ ...TCP_8080, internal: { ip: "100.64.0.2", port: 8080 } });
    assertEquals(grant.gateway, "192.0.0.9");
  }));

Deno.test("PCP gets the external address from a mapping that it deletes at once", () =>
  atHome({}, async ({ pcp, gateway }) => {
    assertEquals(await pcp().externalIp(), "203.0.113.7");
    assertEquals(gateway.table.entries, []);
    const { body } = decodePcpRequest(gateway.arrived[0]!.data);
    assert("internalPort" in body);
    assertEquals([body.internalPort, body.protocol], [9, 17]);
  }));

Deno.test("PCP probes by ANNOUNCE, and changes nothing", () =>
  atHome({}, async ({ pcp, gateway }) => {
    const result = await pcp().probe();
    assert(result.kind === "supported");
    assertEquals([result.elapsedMs, result.epoch?.seconds], [2, 0]);
    assertEquals(gateway.table.entries, []);
  }));

Deno.test("PCP's probe distinguishes refusal, garbage and silence", async () => {
  await atHome({ speaks: ["nat-pmp"] }, async ({ pcp }) => {
    const result = await pcp().probe();
    assert(result.kind === "refused");
    assertEquals(result.error.reason, "UNSUPP_VERSION");
  });
  await atHome({ script: () => [{ data: new Uint8Array(3) }] }, async ({ pcp }) => {
    assertEquals((await pcp({ waitsMs: [100] }).probe()).kind, "garbled");
  });
  await atHome({ speaks: [] }, async ({ pcp }) => {
    assertEquals(await pcp({ waitsMs: [100, 200] }).probe(), { kind: "silent", waitedMs: 300 });
  });
});

Deno.test("requestPcpPeer() reports the external address of a connection", () =>
  atHome({}, async ({ network, gateway }) => {
    const { external, lifetimeSeconds } = await requestPeer({ network, gateway }, {
      protocol: "tcp",
      lifetimeSeconds: 7200,
    });
    assertEquals(external, { ip: "203.0.113.7", port: 50_000 });
    assertEquals(lifetimeSeconds, 7200);
    const { body } = decodePcpRequest(gateway.arrived[0]!.data);
    assertEquals(body.opcode, "PEER");
  }));

Deno.test("requestPcpPeer() ignores a reply about another peer", () =>
  atHome({
    script: ({ usual }) => {
      const [answer] = usual();
      const other = answer!.data.slice();
      other[other.length - 1]! ^= 1;
      other[43] = 1;
      return [{ data: other }, answer!];
    },
  }, async ({ network, gateway }) => {
    const { external } = await requestPeer({ network, gateway }, {
      protocol: "udp",
      lifetimeSeconds: 60,
    });
    assertEquals(external.port, 50_000);
  }));

Deno.test("pcpMapper() rejects a short secret", () =>
  atHome({}, ({ pcp }) => {
    assertThrows(() => pcp({ secret: new Uint8Array(15) }), RangeError, "16 bytes");
    return Promise.resolve();
  }));

Deno.test("PCP rejects a grant of another protocol", () =>
  atHome({}, async ({ pcp, natPmp }) => {
    const grant = await natPmp().map(TCP_8080);
    await assertRejects(() => pcp().renew(grant), TypeError, "granted by nat-pmp, not by pcp");
    await assertRejects(() => pcp().release(grant), TypeError);
  }));

function refuseWith(code: number) {
  return ({ usual }: { usual: () => readonly Reply[] }): Reply[] =>
    usual().map(({ data }) => {
      const refused = data.slice();
      refused[3] = code;
      refused.set([0, 0, 0, 30], 4);
      assertEquals(decodePcpResponse(refused).resultCode, code);
      return { data: refused };
    });
}

function changed(data: Uint8Array, at: number): Uint8Array {
  const copy = data.slice();
  copy[at]! ^= 0xff;
  return copy;
}

function requestPeer(
  { network, gateway }: Pick<Home, "network" | "gateway">,
  { protocol, lifetimeSeconds }: { protocol: "tcp" | "udp"; lifetimeSeconds: number },
): ReturnType<typeof requestPcpPeer> {
  return requestPcpPeer({ network, address: gateway.address, waitsMs: INTERACTIVE_WAITS_MS }, {
    protocol,
    internal: { ip: HOST_IP, port: 50_000 },
    remotePeer: { ip: "198.51.100.7", port: 443 },
    lifetimeSeconds,
    nonce: new Uint8Array(12).fill(1),
  });
}
