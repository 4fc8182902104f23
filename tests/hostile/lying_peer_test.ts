/**
 * An accepted peer that lies about itself, to make its victim connect to others: to services of the victim's own host and
 * network, and to strangers. What leaves the victim's host is counted on the wire of the simulated internet.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import { delay } from "@std/async/delay";
import { NAT_BEHAVIORS } from "../../lab/model/nat_behavior.ts";
import { formatTransportAddress, type TransportAddress } from "../../lib/net/address.ts";
import { generateKeyPair, type KeyPair } from "../../lib/noise/handshake.ts";
import { encodeRelayState } from "../../lib/peer/relay_message.ts";
import type { Candidate, PunchDescription } from "../../lib/punch/candidates.ts";
import { decodeOffer, encodeOffer, type PunchOffer } from "../../lib/punch/offer.ts";
import { ScriptedDialer } from "../peer/scripted_dialer.ts";
import { hostCandidate, punchSide, RANDOM, reflexive, SEQUENTIAL } from "../punch/fixtures.ts";
import { inPeerScene, nextOf, type PeerScene } from "../scenes/peer_scene.ts";

const STRANGER = "203.0.113.99";

/** What the liar wants the victim to connect to, and how it lies. */
const WANTED: readonly (readonly [what: string, target: string, lie: Lie])[] = [
  ["a database on its own host", "127.0.0.1:6379", offering],
  ["a database on its own host, over IPv6", "[::1]:6379", offering],
  ["a database on its own host, as the same host", "127.0.0.1:6379", copying],
  ["a database on its own host, over IPv6, as the same host", "[::1]:6379", copying],
  ["a database on its own host, as a port forwarded there", "127.0.0.1:6379", mapping],
  ["a database on its own host, as what STUN saw", "127.0.0.1:6379", seeing],
  ["itself, at its own address", "192.168.1.2:6379", offering],
  ["itself, at its own address, as the same host", "192.168.1.2:6379", copying],
  ["itself, at its own IPv6 address", "[2001:db8:a::2]:6379", copying],
  ["a printer in its LAN", "192.168.1.9:9100", offering],
  ["a printer in its LAN, from behind the same NAT", "192.168.1.9:9100", sharing],
  ["SSH of an IPv6 neighbour", "[2001:db8:a::9]:22", offering],
  ["the web server of an IPv6 neighbour", "[2001:db8:a::9]:80", mapping],
  ["a database of an IPv6 neighbour", "[2001:db8:a::9]:6379", mapping],
  ["the web page of its router", "198.51.100.77:80", mapping],
  ["the mail server of a stranger", `${STRANGER}:25`, mapping],
  ["the mail server of a stranger, as what STUN saw", `${STRANGER}:25`, seeing],
  ["the web server of a stranger", `${STRANGER}:443`, offering],
  ["a cloud's credentials through NAT64", "[64:ff9b::a9fe:a9fe]:8080", mapping],
  ["a host in a private network through NAT64", "[64:ff9b::a00:1]:8080", mapping],
  ["its own host through an IPv4-mapped address", "[::ffff:127.0.0.1]:6379", mapping],
];

for (const [what, wanted, lie] of WANTED) {
  Deno.test(`a lying peer cannot make its victim connect to ${what}`, () =>
    inPeerScene({}, async (scene) => {
      await using victim = await openVictim(scene);
      const sent = countSent(scene);
      const target = parse(wanted);
      using liar = await victim.meet();
      const own = await liar.learn();
      await liar.tell(lie(target, own.side));
      await delay(6000);
      const at = [...sent().keys()].filter((to) => to === formatTransportAddress(target));
      assertEquals(at, []);
    }));
}

Deno.test("a lying peer cannot make its victim connect to a port that the victim's router forwards to it", () =>
  inPeerScene({}, async (scene) => {
    await using victim = await openVictim(scene);
    const sent = countSent(scene);
    using liar = await victim.meet();
    const own = await liar.learn();
    const mapped = own.side.candidates.find(({ kind }) => kind === "reflexive")!.address;
    await liar.tell(mapping(mapped));
    await delay(3000);
    assertEquals(sent().get(formatTransportAddress(mapped)) ?? 0, 0);
  }));

for (const ip of ["127.0.0.1", "192.168.1.2", "10.1.2.3", "64:ff9b::7f00:1", STRANGER]) {
  const port = ip === STRANGER ? 25 : 6379;
  Deno.test(`a lying peer cannot make its victim connect to ${ip} port ${port} as a relay`, () =>
    inPeerScene({}, async (scene) => {
      await using victim = await openVictim(scene, ["relay"]);
      const sent = countSent(scene);
      using liar = await victim.meet();
      await liar.name({ ip, port });
      await delay(6000);
      assertEquals([...sent().keys()].filter((to) => to.includes(ip)), []);
    }));
}

for (
  const [name, profile] of [
    ["a known port", {}],
    ["a known port that resets", { unsolicitedSyn: "reset" as const }],
    ["an address-restricted filter", { filtering: "address-dependent" as const }],
    ["predicted ports", SEQUENTIAL],
    ["predicted ports that reset", { ...SEQUENTIAL, unsolicitedSyn: "reset" as const }],
    ["random ports", RANDOM],
  ] as const
) {
  for (const closedPorts of ["reset", "drop"] as const) {
    Deno.test(`a lying peer cannot flood a stranger that answers with ${closedPorts}, by ${name}`, () =>
      inPeerScene({}, async (scene) => {
        await using victim = await openVictim(scene);
        const link = { delayMs: 10 };
        scene.internet.host("stranger", { addresses: [STRANGER, OTHER], closedPorts, link });
        const sent = countSent(scene);
        const key = generateKeyPair();
        // Two searches in a minute, each with ever new offers: at six ports, and twelve addresses.
        for (let search = 0; search < 2; search++) {
          using liar = await victim.meet(key);
          await liar.learn();
          for (let offers = 0; offers < 12; offers++) {
            const port = 8000 + offers % 6;
            const more = Array.from({ length: 10 }, (_, i): Candidate => ({
              kind: i % 2 === 0 ? "mapped" : "host",
              address: { ip: OTHER, port: 9000 + i },
            }));
            await liar.tell(punchSide(STRANGER, profile, {
              punchPort: port,
              candidates: [reflexive(STRANGER, port), ...more],
            }));
            await delay(2000);
          }
        }
        const at = (ip: string) =>
          [...sent()].filter(([to]) => to.startsWith(`${ip}:`)).map(([, count]) => count);
        const [main, other] = [at(STRANGER), at(OTHER)];
        const sum = (counts: number[]) => counts.reduce((a, b) => a + b, 0);
        assert(sum(main) <= 1300, `${sum(main)} at the stranger`);
        assert(sum(other) <= 16, `${sum(other)} at another address`);
        assert(main.filter((count) => count > 8).length <= 6, `${main}`);
        const beyond = main.filter((count) => count > 8);
        assert(sum(beyond) <= 200 + 6 * 8, `${main}`);
        const mayRepeat = closedPorts === "reset" || name === "random ports";
        if (!mayRepeat) assert(Math.max(0, ...main) <= 8, `${main}`);
      }));
  }
}

Deno.test("what a lying peer makes its victim write to a printer in its LAN has no line and no letter", () =>
  inPeerScene({}, async (scene) => {
    const { internet } = scene;
    await using victim = await openVictim(scene);
    const printer = { ip: "192.168.1.9", port: 9100 };
    const network = internet.host("printer", { behind: victim.router, addresses: [printer.ip] })
      .network;
    using listener = await network.listenTcp(printer);
    const printed: number[] = [];
    const printing = (async () => {
      for (;;) {
        const connection = await listener.accept();
        const buffer = new Uint8Array(1000);
        for (let count: number | null = 0; count !== null;) {
          printed.push(...buffer.subarray(0, count));
          count = await connection.read(buffer).catch(() => null);
        }
      }
    })().catch(() => {});
    using liar = await victim.meet();
    await liar.learn();
    // The one port that may be dialled in the victim's own network: the one that the liar says it dials from.
    await liar.tell({ ...offering(printer), punchPort: printer.port });
    await delay(6000);
    listener.close();
    await printing;
    assert(
      printed.length > 0 && printed.every((byte) => byte >= 0xb0 && byte <= 0xbf),
      `${printed}`,
    );
  }));

type Lie = (target: TransportAddress, own: PunchDescription) => PunchDescription;

/** The address of an interface. */
function offering(target: TransportAddress): PunchDescription {
  return punchSide("203.0.113.50", {}, { candidates: [hostCandidate(target.ip, target.port)] });
}

/** A port that a router forwards. */
function mapping(target: TransportAddress): PunchDescription {
  const candidates: Candidate[] = [{ kind: "mapped", address: target }];
  return punchSide("203.0.113.50", {}, { candidates });
}

/** What STUN saw. */
function seeing({ ip, port }: TransportAddress): PunchDescription {
  return punchSide(ip, {}, { punchPort: port, candidates: [reflexive(ip, port)] });
}

/** The victim's own offer, from the port that is wanted: the same host, as it seems. */
function copying(target: TransportAddress, own: PunchDescription): PunchDescription {
  const hosts = own.candidates.filter(({ kind }) => kind === "host")
    .map(({ address }) => hostCandidate(address.ip, target.port));
  const candidates: Candidate[] = [{ kind: "mapped", address: target }, ...hosts];
  return { ...own, candidates, punchPort: target.port };
}

/** Behind the victim's NAT, as it seems. */
function sharing(target: TransportAddress, own: PunchDescription): PunchDescription {
  return { ...own, candidates: [hostCandidate(target.ip, target.port)], punchPort: 40_000 };
}

const OTHER = "203.0.113.98";

function parse(text: string): TransportAddress {
  const [, ip, port] = /^\[?(.*?)\]?:(\d+)$/.exec(text)!;
  return { ip: ip!, port: Number(port) };
}

/** The packets that leave the victim, by destination. */
function countSent({ internet }: PeerScene): () => ReadonlyMap<string, number> {
  const counts = new Map<string, number>();
  internet.onPacket = ({ at, what, packet }) => {
    if (at !== "victim" || what !== "sent" || packet.protocol === "icmp-error") return;
    if (packet.protocol === "tcp" && (!packet.tcpFlags.syn || packet.tcpFlags.ack)) return;
    const to = formatTransportAddress(packet.destination);
    counts.set(to, (counts.get(to) ?? 0) + 1);
  };
  return () => counts;
}

/** A peer that accepts whoever has its ticket, behind a router of its own, and liars that have it. */
async function openVictim({ internet, hub, open }: PeerScene, strategies?: ["relay"]) {
  const router = internet.router("victim/router", {
    behavior: NAT_BEHAVIORS.portRestricted,
    externalIps: ["198.51.100.77"],
    link: { delayMs: 10 },
  });
  const host = internet.host("victim", {
    behind: router,
    addresses: ["192.168.1.2", "2001:db8:a::2"],
    reusePort: true,
  });
  const peer = await open(host, { strategies });
  const accepting: Promise<unknown>[] = [];
  return {
    router,
    async meet(staticKey: KeyPair = generateKeyPair()) {
      accepting.push(nextOf(peer).then((incoming) => incoming.accept()).catch(() => {}));
      const dialer = await ScriptedDialer.open(hub, peer.ticket, { staticKey });
      const channel = dialer.channel("punch");
      let keys = 0;
      const tell = async (side: PunchDescription, changes: Partial<PunchOffer> = {}) =>
        await channel.send(encodeOffer({
          role: "controlling",
          key: crypto.getRandomValues(new Uint8Array(32)).toHex(),
          answers: null,
          isWaiting: keys++ === 0,
          round: 1,
          sampleAgeMs: 0,
          side,
          ...changes,
        }, NO_SECRET));
      return {
        tell,
        /** The victim's own offer, which it answers a first offer with. */
        async learn(): Promise<PunchOffer> {
          await tell(punchSide("203.0.113.50"));
          return decodeOffer(await channel.receive(), NO_SECRET);
        },
        async name(relay: TransportAddress) {
          await dialer.channel("relay").send(encodeRelayState({
            nonce: "00".repeat(16),
            mayOffer: true,
            version: 1,
            acknowledged: 0,
            ips: [],
            relayed: [relay],
            rendezvous: [],
            refusalCode: null,
          }));
        },
        [Symbol.dispose]: () => dialer[Symbol.dispose](),
      };
    },
    async [Symbol.asyncDispose]() {
      await peer.close();
      await Promise.all(accepting);
    },
  };
}

const NO_SECRET = new Uint8Array(0);
