import { assert, assertEquals } from "@std/assert";
import { NAT_BEHAVIORS } from "../../lab/model/nat_behavior.ts";
import type { PeerOptions } from "../../lib/peer/options.ts";
import { serveRendezvous } from "../../lib/signal/rendezvous/server.ts";
import { behindNat64, NAT64_PAIRS } from "../scenes/nat64_scene.ts";
import { linkOfRoundTrip } from "../scenes/homes.ts";
import { inPeerScene, nextOf } from "../scenes/peer_scene.ts";
import { readText, toBytes } from "../simnet/fixtures.ts";

const { portRestricted, symmetric, fullCone } = NAT_BEHAVIORS;

for (const [nat64, other, isDirect] of NAT64_PAIRS) {
  for (const from of ["IPv6", "IPv4"] as const) {
    Deno.test(`a host with IPv6 alone behind a ${nat64} NAT64 and one with IPv4 alone behind a ${other} NAT, from ${from}: ${isDirect ? "direct" : "relayed"}, as two with IPv4`, async () => {
      const found = await connect(nat64, other, from, true);
      assertEquals(found, await connect(nat64, other, from, false));
      assertEquals(found.isDirect, isDirect);
    });
  }
}

/** How two hosts connect by a rendezvous that is given by its IPv4 address; the first may have IPv6 alone. */
async function connect(
  first: keyof typeof BEHAVIORS,
  second: keyof typeof BEHAVIORS,
  from: "IPv6" | "IPv4",
  isIpv6Alone: boolean,
): Promise<{ isDirect: boolean; transport: string }> {
  let found: { isDirect: boolean; transport: string } | undefined;
  const nats = { a: BEHAVIORS[first], b: BEHAVIORS[second] };
  await inPeerScene({ ...nats, rttMs: 50, limitMs: 600_000 }, async ({ internet, a, b, open }) => {
    const host = internet.host("rendezvous", { link: linkOfRoundTrip(50) });
    const local = { ip: host.addresses[0]!, port: 3480 };
    await using server = await serveRendezvous({ network: host.network, local });
    const network = isIpv6Alone ? behindNat64(a.network) : a.network;
    const options: PeerOptions = { signaling: [server.url] };
    await using one = await open(a, { ...options, network });
    await using other = await open(b, options);
    const [dialer, listener] = from === "IPv6" ? [one, other] : [other, one];
    const accepted = nextOf(listener).then((incoming) => incoming.accept());
    await using conn = await dialer.connect(listener.ticket);
    await using end = await accepted;
    await conn.write(toBytes("hello"));
    assertEquals(await readText(end, 5), "hello");
    const { relayed, transport } = conn.path;
    assert(end.path.relayed === relayed);
    found = { isDirect: !relayed, transport };
  });
  return found!;
}

const BEHAVIORS = { portRestricted, symmetric, fullCone };
