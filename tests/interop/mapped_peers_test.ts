// Peers behind NATs that no punch passes, one of which is miniupnpd's and forwards ports on request:
//
//   home.host    home.router          home.outside            router       host
//   192.168.1.2    44.0.0.7   ----   44.0.0.9   45.0.0.1   ----   45.0.0.7    192.168.2.2
//
// Both routers choose a random port for each connection, in the kernel: `masquerade fully-random`.

import { assertEquals, assertMatch } from "@std/assert";
import { denoArgs } from "../../lab/kernel/lab_host.ts";
import { labTest } from "../lab/lab_test_case.ts";
import type { PathKind } from "../../lib/base/path_kind.ts";
import { PeerProgram } from "../../lab/scenarios/peers/peer_program.ts";
import type { PeerResult } from "../../lab/scenarios/peers/peer_runner.ts";
import { HOME_ROUTER, HOME_ROUTER_PROGRAMS, HomeRouter } from "./miniupnpd.ts";
import { NetworkPlace, wire } from "./network_place.ts";

const CLI = new URL("../../cli.ts", import.meta.url);
const NEEDS = { programs: HOME_ROUTER_PROGRAMS };

labTest("two sides with random ports connect by a port that miniupnpd forwards", async () => {
  await using home = await startHome();
  await using far = await Far.open(home);
  const result = await connect(far.host, home.host, { mapPorts: true });
  assertConnected(result, "mapped");
}, NEEDS);

labTest(
  "the side whose port is forwarded may be the one that calls: it is still the one that is dialled",
  async () => {
    await using home = await startHome();
    await using far = await Far.open(home);
    const result = await connect(home.host, far.host, { mapPorts: true });
    assertConnected(result, "mapped");
  },
  NEEDS,
);

labTest("without a forwarded port, no path connects the two", async () => {
  await using home = await startHome();
  await using far = await Far.open(home);
  const result = await connect(home.host, far.host, { mapPorts: false });
  assertEquals(result.outcome, "failed");
  assertMatch(
    JSON.stringify(result),
    /UnreachableError.*neither side's port can be known.*a port mapped on a router/,
  );
}, NEEDS);

function assertConnected(result: PeerResult, kind: PathKind): void {
  assertEquals(
    result.outcome === "connected" ? [result.kind, result.relayed] : result,
    [kind, false],
  );
}

/** A connection from one to the other, without a relay. */
async function connect(
  a: NetworkPlace,
  b: NetworkPlace,
  { mapPorts }: { readonly mapPorts: boolean },
): Promise<PeerResult> {
  const [caller, listener] = [new PeerProgram(a), new PeerProgram(b)];
  try {
    const options = {
      mapPorts,
      servers: SERVERS,
      signaling: [`ws://${HOME_ROUTER.outside}:3480`],
      timings: { connectMs: 5000 },
    };
    const [, ticket] = await Promise.all([caller.open(options), listener.open(options)]);
    return await caller.do({ command: "connect", ticket });
  } finally {
    await Promise.all([caller.close(), listener.close()]);
  }
}

/** With a rendezvous and STUN servers outside. */
async function startHome(): Promise<HomeRouter> {
  const home = await HomeRouter.start();
  await home.router.sh(`
    nft flush chain inet filter postrouting
    nft add rule inet filter postrouting jump postrouting_miniupnpd
    nft add rule inet filter postrouting meta nfproto ipv4 oifname wan0 masquerade fully-random
  `);
  await home.outside.sh(`
    sysctl -qw net.ipv4.ip_forward=1
    ip addr add ${ALTERNATE}/24 dev wan
  `);
  const args = [
    "serve",
    "--address",
    HOME_ROUTER.outside,
    "--alternate",
    ALTERNATE,
    "--no-relay",
    "--json",
  ];
  await home.outside.serve(Deno.execPath(), denoArgs(CLI, args), { ready: /listening/ });
  return home;
}

/** The other side. */
class Far implements AsyncDisposable {
  readonly host: NetworkPlace;
  readonly #router: NetworkPlace;

  private constructor(host: NetworkPlace, router: NetworkPlace) {
    this.host = host;
    this.#router = router;
  }

  static async open({ outside }: HomeRouter): Promise<Far> {
    const router = await NetworkPlace.open("far router", outside);
    const far = new Far(await NetworkPlace.open("far host", outside), router);
    await wire({ place: outside, name: "far" }, { place: router, name: "wan0" });
    await wire({ place: router, name: "lan0" }, { place: far.host, name: "lan" });
    await outside.sh("ip addr add 45.0.0.1/24 dev far");
    await router.sh(ROUTER);
    await far.host.sh(`
      ip addr add 192.168.2.2/24 dev lan
      ip route add default via 192.168.2.1
    `);
    return far;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.host[Symbol.asyncDispose]();
    await this.#router[Symbol.asyncDispose]();
  }
}

const ALTERNATE = "44.0.0.10";
const SERVERS = [HOME_ROUTER.outside, `${ALTERNATE}:3479`];

const ROUTER = `
  sysctl -qw net.ipv4.ip_forward=1
  ip addr add 45.0.0.7/24 dev wan0
  ip addr add 192.168.2.1/24 dev lan0
  ip route add default via 45.0.0.1
  nft -f - <<'RULES'
    table ip far {
      chain forward {
        type filter hook forward priority 0; policy drop;
        ct state established,related accept
        iifname "lan0" accept
      }
      chain postrouting {
        type nat hook postrouting priority 100;
        oifname "wan0" masquerade fully-random
      }
    }
RULES
`;
