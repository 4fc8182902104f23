/** What answers on the host itself, or among its neighbours, is no gateway. */

import { assert, assertEquals, assertRejects } from "@std/assert";
import type { Network } from "../../lib/net/network.ts";
import { probeGateways } from "../../lib/portmap/admin.ts";
import { mapPort } from "../../lib/portmap/map_port.ts";
import { NoMappingError } from "../../lib/portmap/mapper.ts";
import { NAT_BEHAVIORS } from "../../lab/model/nat_behavior.ts";
import { simulate } from "../simnet/simulate.ts";
import { FakeIgd, type FakeIgdOptions } from "./fake_gateway/fake_igd.ts";
import { HOST_IP } from "./fixtures.ts";

/** A host that does not know its gateway, on a link where only this address answers searches. */
function whereOnly(
  ip: string,
  options: FakeIgdOptions,
  job: (network: Network, igd: FakeIgd) => Promise<void>,
): Promise<void> {
  return simulate(async ({ internet }) => {
    const behind = internet.router("router", {
      behavior: NAT_BEHAVIORS.portRestricted,
      lan: "192.168.1",
    });
    const host = internet.host("host", { behind, addresses: [HOST_IP], gateways: "unknown" });
    const answering = ip === HOST_IP
      ? host
      : internet.host("neighbour", { behind, addresses: [ip] });
    using igd = await FakeIgd.start(answering.network, ip, options);
    await job(host.network, igd);
  });
}

const MAP = { protocol: "tcp", internalPort: 8080, protocols: ["upnp"] } as const;

const FAULTS: Readonly<Record<string, FakeIgdOptions>> = {
  "answers as a gateway": {},
  "answers with a location elsewhere": { location: "http://192.168.1.254:5000/rootDesc.xml" },
  "answers with junk": { onSearch: () => [{ text: "HTTP/1.1 200 OK\r\n\r\n" }] },
};

for (const [what, options] of Object.entries(FAULTS)) {
  Deno.test(`a program of the host itself that ${what} is no gateway`, () =>
    whereOnly(HOST_IP, options, async (network, igd) => {
      const error = await assertRejects(() => mapPort({ ...MAP, network }), NoMappingError);
      assert(/UPnP (?:silent|garbled)/.test(error.message), error.message);
      assertEquals(igd.table.entries, []);
      assertEquals(await probeGateways({ network }), []);
    }));
}

Deno.test("a neighbour that answers with junk does not make a gateway of a guessed address", () =>
  whereOnly("192.168.1.9", FAULTS["answers with junk"]!, async (network) => {
    assertEquals(await probeGateways({ network }), []);
    const error = await assertRejects(() => mapPort({ ...MAP, network }), NoMappingError);
    assertEquals(error.attempts.map(({ outcome }) => outcome), ["timed-out"]);
  }));
