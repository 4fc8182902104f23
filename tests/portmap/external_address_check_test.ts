/** The external-address check: a STUN server confirms, or contradicts, what the gateway reports. */

import { assert, assertEquals, assertMatch } from "@std/assert";
import type { MappingVerdictKind } from "../../lib/portmap/verdict.ts";
import { serveStun } from "../../lib/stun/server/server.ts";
import { destinationIp } from "../../lab/model/nat_packet.ts";
import { ipScope } from "../../lib/net/address.ts";
import { atMapPortHome, nextEvent } from "./map_port_home.ts";

const SERVER = "198.51.100.9";

/** The simulated router's address, as servers see it. */
const SEEN_AS = "203.0.113.2";

const CASES: readonly (readonly [string, MappingVerdictKind, RegExp])[] = [
  [SEEN_AS, "public", /servers see .*, as the router reports/],
  ["44.0.0.7", "double-nat", /servers see .*, but the router reports 44\.0\.0\.7/],
  ["100.64.0.7", "cgnat", /100\.64\.0\.7 is the provider's/],
  ["0.0.0.0", "unverified", /does not report its external address; servers see/],
  ["10.1.2.3", "double-nat", /10\.1\.2\.3 is private.*; servers see/],
  ["2.113.0.203", "public", /servers see .*; the router reports 2\.113\.0\.203, .* reverse order/],
];

for (const [externalIp, kind, evidence] of CASES) {
  Deno.test(`mapPort() judges ${externalIp} ${kind} if a server sees ${SEEN_AS}`, async () => {
    await atMapPortHome({ udp: { speaks: ["nat-pmp"], externalIp } }, async ({ internet, map }) => {
      const { network } = internet.host("server", { addresses: [SERVER] });
      await using _server = await serveStun({ network, address: SERVER });
      await using mapping = await map({ servers: [SERVER] });
      assertEquals(mapping.verdict.kind, kind, mapping.verdict.evidence);
      assertMatch(mapping.verdict.evidence, evidence);
    });
  });
}

Deno.test("mapPort() reports the address that servers see, if the router reports it in reverse order", async () => {
  await atMapPortHome({ udp: { externalIp: "2.113.0.203" } }, async ({ internet, map }) => {
    const { network } = internet.host("server", { addresses: [SERVER] });
    await using _server = await serveStun({ network, address: SERVER });
    await using mapping = await map({ servers: [SERVER] });
    assertEquals(mapping.report.external, `${SEEN_AS}:8080`);
    assertEquals(mapping.verdict.kind, "public");
  });
});

Deno.test("mapPort() asks no other gateway if a server sees another address than the router's public one", async () => {
  await atMapPortHome({ udp: { externalIp: "44.0.0.7" } }, async ({ internet, map }) => {
    const { network } = internet.host("server", { addresses: [SERVER] });
    await using _server = await serveStun({ network, address: SERVER });
    const asked = new Set<string>();
    internet.onPacket = ({ at, what, packet }) => {
      if (at === "host" && what === "sent") asked.add(destinationIp(packet));
    };
    await using mapping = await map({ servers: [SERVER] });
    assertEquals(mapping.verdict.kind, "double-nat");
    assertEquals([...asked].filter((ip) => ipScope(ip) === "global"), []);
  });
});

Deno.test("mapPort() waits at most 1.5 s for a silent server, and then confirms nothing", async () => {
  await atMapPortHome({ udp: { externalIp: SEEN_AS } }, async ({ internet, map }) => {
    internet.host("server", { addresses: [SERVER] });
    const startMs = performance.now();
    await using mapping = await map({ servers: [SERVER] });
    assert(performance.now() - startMs <= 1500, `${performance.now() - startMs} ms`);
    assertEquals(mapping.verdict.kind, "unverified");
  });
});

Deno.test("mapPort() asks the server again when the external address has changed", async () => {
  await atMapPortHome({ udp: { externalIp: "44.0.0.7" } }, async ({ internet, gateway, map }) => {
    const { network } = internet.host("server", { addresses: [SERVER] });
    await using _server = await serveStun({ network, address: SERVER });
    await using mapping = await map({ servers: [SERVER], checkSeconds: 5 });
    assertEquals(mapping.verdict.kind, "double-nat");
    gateway.externalIp = SEEN_AS;
    const changed = await nextEvent(mapping, "changed");
    assertEquals([changed.external, changed.verdict], [`${SEEN_AS}:8080`, "public"]);
  });
});
