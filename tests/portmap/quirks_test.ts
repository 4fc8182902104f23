/** The quirks of devices in the field, with their names. */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { MappingRefusedError } from "../../lib/portmap/mapper.ts";
import { decodePcpRequest, encodePcpResponse } from "../../lib/portmap/pcp/message.ts";
import { pcpFirst } from "../../lib/portmap/pcp/nat_pmp_fallback.ts";
import { INTERACTIVE_WAITS_MS } from "../../lib/portmap/gateway.ts";
import { NAT_PMP_ONLY } from "../vectors/pcp_messages.ts";
import type { Reply } from "./fake_gateway/fake_gateway.ts";
import { atHome, HOST_IP, TCP_8080, UDP_8080 } from "./fixtures.ts";

Deno.test("MikroTik refuses external port 0: the internal port is requested", () =>
  atHome({ refusesPortZero: true }, async ({ pcp }) => {
    assertEquals((await pcp().map(TCP_8080)).external.port, 8080);
  }));

Deno.test("an all-ports mapping is a DMZ: port 0 is never requested", () =>
  atHome({}, async ({ pcp, natPmp, gateway }) => {
    for (const mapper of [pcp(), natPmp()]) {
      const internal = { ip: HOST_IP, port: 0 };
      await assertRejects(() => mapper.map({ ...TCP_8080, internal }), RangeError, "internal port");
      const request = { ...TCP_8080, externalPort: 0 };
      await assertRejects(() => mapper.map(request), RangeError, "external port");
    }
    assertEquals(gateway.arrived.length, 0);
  }));

Deno.test("renewals keep the internal port", () =>
  atHome({}, async ({ pcp, natPmp, gateway }) => {
    for (const [mapper, request] of [[pcp(), TCP_8080], [natPmp(), UDP_8080]] as const) {
      const grant = await mapper.map({ ...request, externalPort: 9000 });
      const renewed = await mapper.renew(await mapper.renew(grant));
      assertEquals(renewed.internal.port, 8080);
      assertEquals(renewed.external.port, 9000);
    }
    assertEquals(gateway.table.entries.length, 2);
  }));

Deno.test("a stale reply to a deletion does not count as a grant", async () => {
  let deletion: Reply | undefined;
  await atHome({
    script: ({ data, usual }) => {
      if (data.length === 2) return undefined;
      const [answer] = usual();
      const stale = deletion === undefined ? [] : [deletion];
      deletion = answer;
      return [...stale, { ...answer!, delayMs: 20 }];
    },
  }, async ({ natPmp }) => {
    const mapper = natPmp();
    await mapper.release(await mapper.map(TCP_8080));
    assertEquals((await mapper.map(TCP_8080)).external.port, 8080);
  });
});

Deno.test("a late reply does not reach the next request, which has another port", () =>
  atHome({
    script: ({ index, usual }) => index === 0 ? [{ ...usual()[0]!, delayMs: 200 }] : undefined,
  }, async ({ pcp, gateway }) => {
    const mapper = pcp({ waitsMs: [100] });
    await assertRejects(() => mapper.map(TCP_8080));
    await mapper.map(TCP_8080);
    assert(gateway.arrived[0]!.from.port !== gateway.arrived[1]!.from.port);
  }));

Deno.test("FRITZ!Box speaks only PCP: NAT-PMP says so, PCP maps", () =>
  atHome({ speaks: ["pcp"] }, async ({ pcp, natPmp }) => {
    const error = await assertRejects(() => natPmp().map(TCP_8080), MappingRefusedError);
    assertEquals(error.reason, "UNSUPPORTED_VERSION");
    assert(error.remedy.includes("PCP"));
    assertEquals((await pcp().map(TCP_8080)).mapper, "pcp");
  }));

Deno.test("Archer A7 refuses PCP with 8 bytes of NAT-PMP", () =>
  atHome({ script: ({ data }) => data[0] === 2 ? [{ data: NAT_PMP_ONLY }] : undefined }, async (
    { pcp, natPmp },
  ) => {
    const error = await assertRejects(() => pcp().map(TCP_8080), MappingRefusedError);
    assertEquals([error.reason, error.code], ["UNSUPP_VERSION", 1]);
    assertEquals((await pcpFirst(pcp(), natPmp()).map(TCP_8080)).mapper, "nat-pmp");
  }));

Deno.test("a refusal of PCP in 8 bytes with PCP's version counts, too", () =>
  atHome(
    { script: () => [{ data: Uint8Array.of(2, 0x81, 0, 1, 0, 0, 7, 8) }] },
    async ({ pcp }) => {
      const error = await assertRejects(() => pcp().map(TCP_8080), MappingRefusedError);
      assertEquals(error.reason, "UNSUPP_VERSION");
    },
  ));

Deno.test("a NAT-PMP gateway that answers PCP with UNSUPP_VERSION is asked by NAT-PMP", () =>
  atHome({ speaks: ["nat-pmp"] }, async ({ pcp, natPmp, gateway }) => {
    const mapper = pcpFirst(pcp(), natPmp());
    const grant = await mapper.map(TCP_8080);
    assertEquals(grant.mapper, "nat-pmp");
    assertEquals((await mapper.renew(grant)).mapper, "nat-pmp");
    assertEquals((await mapper.probe()).kind, "supported");
    assertEquals(await mapper.externalIp(), "203.0.113.7");
    await mapper.release(grant);
    assertEquals(gateway.table.entries, []);
  }));

Deno.test("a NAT-PMP gateway that ignores PCP is asked by NAT-PMP", () =>
  atHome({ script: ({ data }) => data[0] === 2 ? [] : undefined }, async ({ pcp, natPmp }) => {
    const mapper = pcpFirst(pcp({ waitsMs: INTERACTIVE_WAITS_MS }), natPmp());
    assertEquals((await mapper.map(TCP_8080)).mapper, "nat-pmp");
    assertEquals((await mapper.probe()).kind, "supported");
  }));

Deno.test("a gateway that refuses by PCP for another reason is not asked by NAT-PMP", () =>
  atHome({}, async ({ pcp, natPmp, gateway }) => {
    await pcp().map(TCP_8080);
    const mapper = pcpFirst(pcp(), natPmp());
    await assertRejects(() => mapper.map(TCP_8080), MappingRefusedError, "NOT_AUTHORIZED");
    assert(gateway.arrived.every(({ data }) => data[0] === 2));
  }));

Deno.test("the grant has the lifetime that the gateway clamped", () =>
  atHome({ lifetimes: { minSeconds: 120, maxSeconds: 86_400 } }, async ({ pcp, natPmp }) => {
    const short = await pcp().map({ ...TCP_8080, lifetimeSeconds: 1 });
    assertEquals(short.lifetimeSeconds, 120);
    const long = await natPmp().map({ ...UDP_8080, lifetimeSeconds: 0xffff_ffff });
    assertEquals(long.lifetimeSeconds, 86_400);
  }));

Deno.test("the grant has the 60 s that VPN gateways grant", () =>
  atHome({ lifetimes: { minSeconds: 60, maxSeconds: 60 } }, async ({ natPmp }) => {
    assertEquals((await natPmp().map(TCP_8080)).lifetimeSeconds, 60);
  }));

Deno.test("the remedy for ADDRESS_MISMATCH names a second NAT", () =>
  atHome({
    script: ({ data, usual }) => {
      // As if through a NAT, the server sees another address than the one in the header.
      assertEquals(decodePcpRequest(data).clientIp, HOST_IP);
      return usual().map(({ data }) => ({ data: data.map((byte, i) => i === 3 ? 12 : byte) }));
    },
  }, async ({ pcp }) => {
    const error = await assertRejects(() => pcp().map(TCP_8080), MappingRefusedError);
    assertEquals(error.reason, "ADDRESS_MISMATCH");
    assert(error.remedy.includes("second NAT"));
  }));

Deno.test("miniupnpd refuses to delete a mapping that is gone, which is not a failure", async () => {
  for (const code of [NOT_AUTHORIZED, NO_RESOURCES]) {
    await atHome({}, async ({ pcp, gateway }) => {
      const mapper = pcp();
      const grant = await mapper.map(TCP_8080);
      gateway.table.forget();
      gateway.script = ({ data }) => {
        const isGone = isDeletion(data) && gateway.table.entries.length === 0;
        return isGone ? [refusal(data, code)] : undefined;
      };
      await mapper.release(grant);
      assertEquals(gateway.table.entries, []);
    });
  }
});

Deno.test("miniupnpd refuses to delete a renewed pinhole: it expires soon, and the error says when", () =>
  atHome({ lifetimes: { minSeconds: 120, maxSeconds: 86_400 } }, async ({ pcp, gateway }) => {
    gateway.script = ({ data }) => isDeletion(data) ? [refusal(data, NOT_AUTHORIZED)] : undefined;
    const mapper = pcp();
    const grant = await mapper.map(TCP_8080);
    const error = await assertRejects(() => mapper.release(grant), MappingRefusedError);
    assertEquals(
      error.message,
      "Cannot release TCP 192.168.1.2:8080: gateway 192.168.1.1 answered NOT_AUTHORIZED (2): " +
        "it stays open for 120 s",
    );
    assertEquals(gateway.table.entries[0]?.lifetimeSeconds, 120);
  }));

Deno.test("a mapping that now belongs to another host is not released", () =>
  atHome({}, async ({ pcp, gateway }) => {
    const grant = await pcp().map(TCP_8080);
    gateway.table.restart();
    const others = await pcp().map(TCP_8080);
    await pcp().release(grant);
    assertEquals(gateway.table.entries[0]?.nonce, others.handle);
  }));

function isDeletion(data: Uint8Array): boolean {
  return decodePcpRequest(data).lifetimeSeconds === 0;
}

function refusal(request: Uint8Array, resultCode: number): Reply {
  const { body, options } = decodePcpRequest(request);
  const header = { version: 2, resultCode, lifetimeSeconds: 30, epochSeconds: 0 };
  return { data: encodePcpResponse({ ...header, body, options }) };
}

/** RFC 6887 §7.4. */
const NOT_AUTHORIZED = 2;
const NO_RESOURCES = 8;
