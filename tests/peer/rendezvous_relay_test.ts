import { assert, assertEquals, assertRejects } from "@std/assert";
import { NetworkError, UnreachableError } from "../../lib/base/errors.ts";
import type { PeerOptions } from "../../lib/peer/options.ts";
import {
  type RendezvousLimits,
  type RendezvousServer,
  serveRendezvous,
} from "../../lib/signal/rendezvous/server.ts";
import { NAT_BEHAVIORS } from "../../lab/model/nat_behavior.ts";
import {
  inPeerScene,
  nextOf,
  type PeerScene,
  type PeerSceneOptions,
} from "../scenes/peer_scene.ts";
import { linkOfRoundTrip } from "../scenes/homes.ts";
import { withStunFault } from "../scenes/stun_faults.ts";
import { readText, toBytes } from "../simnet/fixtures.ts";

const { symmetric, portRestricted } = NAT_BEHAVIORS;

Deno.test("two peers that no punch connects meet at the relay of their rendezvous", () =>
  withRendezvous({ a: symmetric, b: symmetric }, {}, async ({ a, b, open, time, server }) => {
    await using alice = await open(a, { listen: false });
    await using bob = await open(b);
    const accepted = nextOf(bob).then((incoming) => incoming.accept());
    await new Promise((resolve) => setTimeout(resolve, 2000)); // base sockets are ready now
    const startedMs = time.nowMs;
    await using conn = await alice.connect(bob.ticket);
    await conn.write(toBytes("hello"));
    await using other = await accepted;
    assertEquals(await readText(other, 5), "hello");
    assert(time.nowMs - startedMs <= 700, `${time.nowMs - startedMs} ms`);
    for (const { path } of [conn, other]) {
      assertEquals([path.kind, path.relayed, path.transport], ["relay", true, "tcp"]);
    }
    assertEquals(server.relays, 1);
  }));

Deno.test("a relay is not opened later because UDP is blocked", () =>
  withRendezvous({ a: symmetric, b: symmetric }, {}, async ({ a, b, open, time }) => {
    const times: number[] = [];
    for (const lostRequests of [0, Infinity]) {
      const openAt = (host: typeof a, listen: boolean) =>
        open(host, { listen, network: withStunFault(host.network, { lostRequests }) });
      await using alice = await openAt(a, false);
      await using bob = await openAt(b, true);
      const accepted = nextOf(bob).then((incoming) => incoming.accept());
      const startedMs = time.nowMs;
      await using conn = await alice.connect(bob.ticket);
      times.push(time.nowMs - startedMs);
      await using _other = await accepted;
      assertEquals(conn.path.kind, "relay");
    }
    const [usual, blocked] = times as [number, number];
    assert(blocked <= usual + 250, `${usual} ms, then ${blocked} ms`);
  }));

Deno.test("the relay ends when the connection does", () =>
  withRendezvous({ a: symmetric, b: symmetric }, {}, async ({ a, b, open, server }) => {
    await using alice = await open(a, { listen: false });
    await using bob = await open(b);
    const accepted = nextOf(bob).then((incoming) => incoming.accept());
    const conn = await alice.connect(bob.ticket);
    const other = await accepted;
    await Promise.all([conn[Symbol.asyncDispose](), other[Symbol.asyncDispose]()]);
    await new Promise((resolve) => setTimeout(resolve, 3000));
    assertEquals(server.relays, 0);
  }));

Deno.test("without a relay at the rendezvous, both sides learn why", () =>
  withRendezvous({ a: symmetric, b: symmetric }, { maxRelays: 0 }, async ({ a, b, open }) => {
    await using alice = await open(a, { listen: false });
    await using bob = await open(b);
    const accepted = nextOf(bob).then((incoming) => incoming.accept());
    await Promise.all(
      [alice.connect(bob.ticket), accepted].map((each) =>
        assertRejects(() => each, UnreachableError, "neither side has a relay")
      ),
    );
  }));

Deno.test("relayOnly needs no TURN server where a rendezvous was named", () =>
  withRendezvous({ a: portRestricted, b: portRestricted }, {}, async (place) => {
    const { a, b, open, internet, server } = place;
    const sent = new Set<string>();
    internet.onPacket = ({ at, what, packet }) => {
      if (at !== a.name || what !== "sent" || packet.protocol === "icmp-error") return;
      sent.add(packet.destination.ip);
    };
    await using alice = await open(a, { listen: false, relayOnly: true });
    await using bob = await open(b);
    const accepted = nextOf(bob).then((incoming) => incoming.accept());
    await using conn = await alice.connect(bob.ticket);
    await using other = await accepted;
    await conn.write(toBytes("hello"));
    assertEquals(await readText(other, 5), "hello");
    assertEquals([conn.path.relayed, other.path.relayed], [true, true]);
    assertEquals([...sent], [server.local.ip]);
  }));

Deno.test("relayOnly without TURN contacts no server of a ticket that was not named", () =>
  withRendezvous({}, {}, async ({ a, b, open, internet }) => {
    const sent = new Set<string>();
    internet.onPacket = ({ at, what, packet }) => {
      if (at !== a.name || what !== "sent" || packet.protocol === "icmp-error") return;
      sent.add(packet.destination.ip);
    };
    await using bob = await open(b);
    await using alice = await open(a, {
      listen: false,
      relayOnly: true,
      signaling: ["ws://192.0.2.99:3480"],
    });
    const error = await assertRejects(
      () => alice.connect(bob.ticket),
      NetworkError,
      "names none that you have named",
    );
    assertEquals(error.remedy, "Name a server of the other side in `signaling`, too");
    assertEquals([...sent], []);
  }));

interface RendezvousScene extends PeerScene {
  readonly server: RendezvousServer;
}

/** A scene whose peers meet at a rendezvous server. */
function withRendezvous(
  nats: PeerSceneOptions,
  limits: Partial<RendezvousLimits>,
  test: (place: RendezvousScene) => Promise<void>,
): Promise<void> {
  return inPeerScene({ ...nats, limitMs: 600_000 }, async (scene) => {
    const host = scene.internet.host("rendezvous", { link: linkOfRoundTrip(51) });
    const local = { ip: host.addresses[0]!, port: 3480 };
    await using server = await serveRendezvous({ network: host.network, local, limits });
    const open = (at: typeof scene.a, options: PeerOptions = {}) =>
      scene.open(at, { signaling: [server.url], ...options });
    await test({ ...scene, open, server });
  });
}
