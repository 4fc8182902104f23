/**
 * Each faulty gateway in virtual time: what `mapPort()` reports is right, and the gateway's table holds exactly that, with
 * what stood there before, after the start, renewals, a restart of the router, every kind of end, and an abort at any time.
 */

import { assert, assertEquals, assertMatch } from "@std/assert";
import { delay } from "@std/async/delay";
import { mapPort, type MapPortOptions } from "../../lib/portmap/map_port.ts";
import { NoMappingError } from "../../lib/portmap/mapper.ts";
import type { PortMapping } from "../../lib/portmap/mapping.ts";
import { NAT_BEHAVIORS } from "../../lab/model/nat_behavior.ts";
import { destinationIp } from "../../lab/model/nat_packet.ts";
import { simulate } from "../simnet/simulate.ts";
import { GATEWAY_IP, HOST_IP } from "./fixtures.ts";
import { REPORTED } from "./gateways/reported.ts";
import { FIELD } from "./gateways/field.ts";
import { MORE } from "./gateways/more.ts";
import { type GatewayScenario, ScenarioGateway } from "./gateways/scenario.ts";

interface Home {
  readonly gateway: ScenarioGateway;
  map(options?: Partial<MapPortOptions>): Promise<PortMapping>;
  /** What stood in the table before. */
  readonly stood: readonly string[];
}

function atHome(scenario: GatewayScenario, job: (home: Home) => Promise<void>): Promise<void> {
  return simulate(async ({ internet }) => {
    const behind = internet.router("router", {
      behavior: NAT_BEHAVIORS.portRestricted,
      lan: "192.168.1",
    });
    const there = internet.host("gateway", { behind, addresses: [GATEWAY_IP] });
    internet.host("other", { behind, addresses: ["192.168.1.9"] });
    const { network } = internet.host("host", {
      behind,
      addresses: [HOST_IP],
      link: { delayMs: 1 },
    });
    const dialled = new Set<string>();
    internet.onPacket = ({ at, what, packet }) => {
      if (at === "host" && what === "sent" && packet.protocol === "tcp") {
        dialled.add(destinationIp(packet));
      }
    };
    using gateway = await ScenarioGateway.start(there.network, GATEWAY_IP, scenario);
    const stood = gateway.open();
    await job({
      gateway,
      stood,
      map: (options) =>
        mapPort({
          protocol: "tcp",
          internalPort: 8080,
          protocols: ["upnp"],
          network,
          ...scenario.options,
          ...options,
        }),
    });
    assertEquals([...dialled].filter((ip) => ip !== GATEWAY_IP), [], "another host was dialled");
  });
}

/** The mapping is what the table holds, besides what stood there. */
function assertAnnounced({ gateway, stood }: Home, mapping: PortMapping): void {
  const { external, internal, transport } = mapping;
  const own = `${transport} ${external.port} to ${internal.ip}:${internal.port}`;
  assertEquals(gateway.open(), [...stood, own].sort());
}

for (const scenario of [...REPORTED, ...MORE, ...FIELD]) {
  const { name, does, right, limitMs = 1000 } = scenario;
  const title = `a gateway that ${does} (${name})`;

  if (right instanceof RegExp) {
    Deno.test(`${title} is told as it is`, () =>
      atHome(scenario, async (home) => {
        const startMs = performance.now();
        const error = await home.map().then(() => undefined, (error: unknown) => error);
        assert(error instanceof NoMappingError, String(error));
        assert(performance.now() - startMs <= (scenario.limitMs ?? 5300), "it took too long");
        const attempts = error.attempts.map(({ reason, remedy }) => `${reason}. ${remedy}`);
        assertMatch([error.message, ...attempts].join("\n"), right);
        await delay(20_000);
        assertEquals(home.gateway.open(), home.stood);
      }));
  } else {
    Deno.test(`${title} maps the port`, () =>
      atHome(scenario, async (home) => {
        const startMs = performance.now();
        const mapping = await home.map();
        const tookMs = performance.now() - startMs;
        assert(tookMs <= limitMs, `it took ${tookMs} ms`);
        const { external = "44.0.0.7:8080", evidence = /./, description = /./ } = right;
        const pattern = external.replaceAll(".", "\\.").replace("*", "\\d+");
        assertMatch(mapping.report.external, new RegExp(`^${pattern}$`));
        assertMatch(mapping.verdict.evidence, evidence);
        assertAnnounced(home, mapping);
        const own = home.gateway.entries().find(({ internalClient }) => internalClient === HOST_IP);
        if (own !== undefined) assertMatch(own.description, description);
        await mapping[Symbol.asyncDispose]();
        assertEquals(home.gateway.open(), home.stood);
        const events = await Array.fromAsync(mapping.events);
        assertEquals(events.at(-1)?.event, "released");
        assertEquals(events.at(-1)?.reason, undefined, "the release was not confirmed");
        await delay(20_000);
        assertEquals(home.gateway.open(), home.stood);
      }));

    Deno.test(`${title} keeps the port through renewals and a restart`, () =>
      atHome(scenario, async (home) => {
        const mapping = await home.map({ lifetimeSeconds: 600 });
        const { port } = mapping.external;
        for (let renewal = 0; renewal < 3; renewal++) {
          await delay(400_000);
          assertEquals(mapping.external.port, port);
          assertAnnounced(home, mapping);
        }
        home.gateway.restart();
        await delay(120_000);
        assertEquals(mapping.isLost, false);
        if (!scenario.movesAfterRestart) assertEquals(mapping.external.port, port);
        assertAnnounced({ ...home, stood: [] }, mapping);
        await mapping[Symbol.asyncDispose]();
        assertEquals(home.gateway.open(), []);
      }));

    Deno.test(`${title} has nothing open after an abort at any time`, async () => {
      for (const afterMs of [1, 6, 12, 20, 100, 1000, 2600, 3100, 4500, 8000]) {
        await atHome(scenario, async (home) => {
          const abort = new AbortController();
          setTimeout(() => abort.abort(new Error("enough")), afterMs);
          try {
            const mapping = await home.map({ signal: abort.signal });
            for await (const _event of mapping.events);
          } catch (error) {
            assertEquals(error, abort.signal.reason);
          }
          await delay(20_000);
          assertEquals(home.gateway.open(), home.stood, `aborted after ${afterMs} ms`);
        });
      }
    });
  }
}
