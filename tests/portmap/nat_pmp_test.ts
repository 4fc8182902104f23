import { assert, assertEquals, assertNotEquals, assertRejects, assertThrows } from "@std/assert";
import { MalformedMessageError, NoResponseError } from "../../lib/base/errors.ts";
import { MappingRefusedError } from "../../lib/portmap/mapper.ts";
import { natPmpMapper } from "../../lib/portmap/nat_pmp/client.ts";
import { decodeNatPmpRequest } from "../../lib/portmap/nat_pmp/message.ts";
import { NAT_PMP_RESULT } from "../../lib/portmap/refusals.ts";
import { INTERACTIVE_WAITS_MS, RFC6886_WAITS_MS } from "../../lib/portmap/gateway.ts";
import type { Reply, Script } from "./fake_gateway/fake_gateway.ts";
import { atHome, GATEWAY_IP, HOST_IP, TCP_8080, UDP_8080 } from "./fixtures.ts";

Deno.test("NAT-PMP maps a port and learns the external address in one round trip", () =>
  atHome({}, async ({ natPmp }) => {
    const startMs = performance.now();
    const grant = await natPmp().map(TCP_8080);
    assertEquals(performance.now() - startMs, 2);
    assertEquals(grant, {
      mapper: "nat-pmp",
      protocol: "tcp",
      internal: { ip: HOST_IP, port: 8080 },
      external: { ip: "203.0.113.7", port: 8080 },
      lifetimeSeconds: 3600,
      grantedAtMs: startMs + 2,
      gateway: GATEWAY_IP,
      handle: "",
      epoch: { seconds: 0, receivedAtMs: startMs + 2 },
    });
  }));

Deno.test("NAT-PMP asks for the same external port when it renews", () =>
  atHome({ lifetimes: { minSeconds: 120, maxSeconds: 600 } }, async ({ natPmp, gateway }) => {
    const grant = await natPmp().map({ ...UDP_8080, externalPort: 9000 });
    assertEquals([grant.external.port, grant.lifetimeSeconds], [9000, 600]);
    const renewed = await natPmp().renew(grant, { lifetimeSeconds: 3600 });
    assertEquals(renewed.external, grant.external);
    assertEquals(mappingRequests(gateway.arrived), [
      { opcode: "map-udp", internalPort: 8080, suggestedExternalPort: 9000, lifetimeSeconds: 3600 },
      { opcode: "map-udp", internalPort: 8080, suggestedExternalPort: 9000, lifetimeSeconds: 3600 },
    ]);
  }));

Deno.test("NAT-PMP releases TCP mappings with the TCP opcode, and leaves UDP alone", () =>
  atHome({}, async ({ natPmp, gateway }) => {
    const mapper = natPmp();
    await mapper.map(UDP_8080);
    await mapper.release(await mapper.map(TCP_8080));
    assertEquals(gateway.table.entries.map(({ protocol }) => protocol), ["udp"]);
    assertEquals(mappingRequests(gateway.arrived).at(-1), {
      opcode: "map-tcp",
      internalPort: 8080,
      suggestedExternalPort: 0,
      lifetimeSeconds: 0,
    });
  }));

Deno.test("NAT-PMP releases any other port than the exact one requested", () =>
  atHome({}, async ({ natPmp, gateway }) => {
    const taken = {
      protocol: "tcp",
      internal: { ip: "192.168.1.3", port: 1 },
      externalPort: 8080,
      lifetimeSeconds: 1,
      nonce: "",
    } as const;
    gateway.table.put(taken);
    const exact = { ...TCP_8080, exactExternalPort: true };
    const error = await assertRejects(() => natPmp().map(exact), MappingRefusedError);
    assertEquals(error.reason, "OTHER_PORT_GRANTED");
    assertEquals(gateway.table.entries, [taken]);
    assertEquals((await natPmp().map(TCP_8080)).external.port, 8081);
  }));

for (const [reason, code] of Object.entries(NAT_PMP_RESULT).slice(1)) {
  Deno.test(`NAT-PMP reports ${reason} with a remedy`, () =>
    atHome({ script: refuseMappingsWith(code) }, async ({ natPmp }) => {
      const error = await assertRejects(() => natPmp().map(TCP_8080), MappingRefusedError);
      assertEquals([error.code, error.reason, error.mapper], [code, reason, "nat-pmp"]);
      assertEquals(
        error.message,
        `Cannot map TCP 192.168.1.2:8080: gateway 192.168.1.1 answered ${reason} (${code})`,
      );
      assertNotEquals(error.remedy, "");
    }));
}

Deno.test("NAT-PMP asks nine times in 127.75 s before it gives up, as in RFC 6886 §3.1", () =>
  atHome({ speaks: [] }, async ({ natPmp, gateway }) => {
    const startMs = performance.now();
    await assertRejects(() => natPmp().externalIp(), NoResponseError);
    assertEquals(performance.now() - startMs, 127_750);
    assertEquals(gateway.arrived.length, RFC6886_WAITS_MS.length);
  }));

Deno.test("NAT-PMP stops with the signal's reason", () =>
  atHome({ speaks: [] }, async ({ natPmp }) => {
    const reason = new Error("enough");
    const controller = new AbortController();
    setTimeout(() => controller.abort(reason), 100);
    const error = await assertRejects(() => natPmp().map(TCP_8080, { signal: controller.signal }));
    assertEquals(error, reason);
  }));

Deno.test("NAT-PMP maps without an external address if the gateway does not report it", async () => {
  const keepToItself: Script[] = [
    ({ data }) => data.length === 2 ? [] : undefined,
    ({ data, usual }) => data.length === 2 ? [refused(usual()[0]!, 3)] : undefined,
    ({ data }) => data.length === 2 ? [{ data: new Uint8Array(3) }] : undefined,
  ];
  for (const script of keepToItself) {
    await atHome({ script }, async ({ natPmp }) => {
      const grant = await natPmp().map(TCP_8080);
      assertEquals(grant.external, { ip: "0.0.0.0", port: 8080 });
    });
  }
});

const ignored: Readonly<Record<string, (usual: Reply) => Reply>> = {
  "from another port of the gateway": (usual) => ({ ...usual, fromElsewhere: true }),
  "for another internal port": ({ data }) => ({ data: changed(data, 9) }),
  "for another protocol": ({ data }) => ({ data: data.map((byte, i) => i === 1 ? 0x81 : byte) }),
  "that is truncated": ({ data }) => ({ data: data.slice(0, 15) }),
  "that grants no port for no time at all": ({ data }) => ({
    data: data.map((byte, i) => i >= 10 ? 0 : byte),
  }),
  "that refuses something else": (usual) => ({
    data: refused(usual, 2).data.map((byte, i) => i === 1 ? 0x81 : byte),
  }),
};
for (const [which, spoil] of Object.entries(ignored)) {
  Deno.test(`NAT-PMP ignores a reply ${which}`, () =>
    atHome({
      script: ({ data, usual }) => {
        if (data.length === 2) return undefined;
        const [answer] = usual();
        return [spoil(answer!), { ...answer!, delayMs: 10 }];
      },
    }, async ({ natPmp }) => {
      const startMs = performance.now();
      assertEquals((await natPmp().map(TCP_8080)).external.port, 8080);
      assertEquals(performance.now() - startMs, 12);
    }));
}

Deno.test("NAT-PMP takes a grant for 0 s for a refusal, and closes the port", () =>
  atHome({
    script: ({ data, usual }) =>
      data.length === 2 || data[11] === 0
        ? undefined
        : usual().map(({ data }) => ({ data: data.map((byte, i) => i >= 12 ? 0 : byte) })),
  }, async ({ gateway, natPmp }) => {
    const error = await assertRejects(() => natPmp().map(TCP_8080), MappingRefusedError);
    assertEquals(error.reason, "LIFETIME_0");
    assertEquals(gateway.table.entries, []);
  }));

Deno.test("NAT-PMP rejects an external port 0", () =>
  atHome({
    script: ({ data, usual }) => {
      if (data.length === 2) return undefined;
      return [{ data: usual()[0]!.data.map((byte, i) => i === 10 || i === 11 ? 0 : byte) }];
    },
  }, async ({ natPmp }) => {
    await assertRejects(() => natPmp().map(TCP_8080), MalformedMessageError, "external port 0");
  }));

Deno.test("NAT-PMP probes by asking for the external address", () =>
  atHome({}, async ({ natPmp, gateway }) => {
    const result = await natPmp().probe();
    assert(result.kind === "supported");
    assertEquals([result.externalIp, result.elapsedMs], ["203.0.113.7", 2]);
    assertEquals(gateway.arrived.length, 1);
  }));

Deno.test("NAT-PMP's probe distinguishes refusal from silence", async () => {
  await atHome({ speaks: ["pcp"] }, async ({ natPmp }) => {
    const result = await natPmp().probe();
    assert(result.kind === "refused");
    assertEquals(result.error.reason, "UNSUPPORTED_VERSION");
  });
  await atHome({ speaks: [] }, async ({ natPmp }) => {
    const result = await natPmp({ waitsMs: INTERACTIVE_WAITS_MS }).probe();
    assertEquals(result, { kind: "silent", waitedMs: 1750 });
  });
});

Deno.test("natPmpMapper() rejects an IPv6 gateway", () =>
  atHome({}, ({ network }) => {
    assertThrows(() => natPmpMapper("fe80::1", { network }), TypeError, "IPv4 only");
    return Promise.resolve();
  }));

function mappingRequests(arrived: readonly { readonly data: Uint8Array }[]) {
  return arrived.map(({ data }) => decodeNatPmpRequest(data))
    .filter(({ opcode }) => opcode !== "external-address");
}

function refuseMappingsWith(code: number): Script {
  return ({ data, usual }) => data.length === 2 ? undefined : [refused(usual()[0]!, code)];
}

function refused({ data }: Reply, code: number): Reply {
  return { data: data.map((byte, index) => index === 3 ? code : byte) };
}

function changed(data: Uint8Array, at: number): Uint8Array {
  return data.map((byte, index) => index === at ? byte ^ 0xff : byte);
}
