import { assert, assertEquals } from "@std/assert";
import { delay } from "@std/async/delay";
import { encodeConnectionRequest } from "../../lib/peer/signaling_message.ts";
import { InitiatorHandshake } from "../../lib/peer/signaling_handshake.ts";
import type { Peer } from "../../lib/peer/peer.ts";
import { decodeTicket, TicketSecrets } from "../../lib/peer/ticket.ts";
import { generateKeyPair } from "../../lib/noise/handshake.ts";
import { encodeOffer } from "../../lib/punch/offer.ts";
import type { TransportAddress } from "../../lib/net/address.ts";
import { countSyns, inPeerScene, nextOf } from "../scenes/peer_scene.ts";

Deno.test("a replayed request leads to no connection and no dial", () =>
  inPeerScene({}, async ({ connect, hub, internet, b }) => {
    await using ends = await connect();
    const recorded = [...hub.published];
    await ends.conn.closeWrite();
    await ends.other.closeWrite();
    await ends.conn.finished;
    await delay(60_000);
    const shown = countShown(ends.bob);
    const syns = countSyns(internet, b.name);
    for (const { topic, message } of recorded) hub.deliver(topic, message);
    await delay(60_000);
    assertEquals([shown(), syns()], [0, 0]);
    const { topic, message } = requestAt(ends.bob.ticket); // a new one is taken
    hub.deliver(topic, message);
    await delay(1000);
    assertEquals(shown(), 1);
  }));

Deno.test("ten thousand requests without the ticket are dropped unread", () =>
  inPeerScene({}, async ({ open, b, hub, internet }) => {
    await using bob = await open(b);
    await delay(2000); // the base socket is ready, and nothing else is dialled
    const syns = countSyns(internet, b.name);
    const { topic, message } = requestAt(bob.ticket);
    const shown = countShown(bob);
    for (let i = 0; i < 10_000; i++) {
      const forged = message.slice();
      crypto.getRandomValues(forged.subarray(17, 49));
      hub.deliver(topic, forged);
    }
    await delay(10_000);
    assertEquals([shown(), syns()], [0, 0]);
    hub.deliver(topic, message); // the one that they were made of
    await delay(1000);
    assertEquals(shown(), 1);
  }));

Deno.test("a ticket holder cannot flood a peer with requests", () =>
  inPeerScene({}, async ({ open, b, hub }) => {
    await using bob = await open(b);
    const staticKey = generateKeyPair();
    for (let i = 0; i < 400; i++) {
      const { topic, message } = requestAt(bob.ticket, { staticKey });
      hub.deliver(topic, message);
    }
    const shown = countShown(bob);
    await delay(1000);
    assert(shown() <= 256 + 8, `${shown()}`);
    await delay(60_000);
    const before = shown();
    const { topic, message } = requestAt(bob.ticket); // later, one is taken again
    hub.deliver(topic, message);
    await delay(1000);
    assertEquals(shown(), before + 1);
  }));

Deno.test("an offer cannot make a peer dial itself, its LAN's router, or a cloud's metadata service", () =>
  inPeerScene({}, async ({ open, b, hub, internet }) => {
    await using bob = await open(b, { timings: { connectMs: 5000 } });
    const forbidden = ["127.0.0.1", "169.254.169.254", "224.0.0.1", "192.168.77.1", "0.0.0.0"];
    const allowed = "198.51.100.77";
    const targets = [...forbidden, allowed].map((ip) => ({ ip, port: 8080 }));
    await delay(2000); // the base socket is ready, and nothing else is dialled
    const dialled: string[] = [];
    internet.onPacket = ({ at, what, packet }) => {
      const isSyn = packet.protocol === "tcp" && packet.tcpFlags.syn;
      if (at === b.name && what === "sent" && isSyn) dialled.push(packet.destination.ip);
    };
    const { topic, message } = requestAt(bob.ticket, { offer: offerWith(targets) });
    const accepted = nextOf(bob).then((incoming) => incoming.accept()).catch((error) => error);
    hub.deliver(topic, message);
    await accepted;
    assertEquals(dialled.filter((ip) => forbidden.includes(ip)), []);
    assert(dialled.includes(allowed), `it dialled only ${dialled}`);
  }));

Deno.test("a changed ticket reaches no peer", () =>
  inPeerScene({}, async ({ open, a, b, hub }) => {
    await using alice = await open(a, { listen: false });
    await using bob = await open(b);
    const { ticket } = bob;
    for (let index = 10; index < ticket.length; index += 9) {
      const other = ticket[index] === "A" ? "B" : "A";
      const changed = ticket.slice(0, index) + other + ticket.slice(index + 1);
      const outcome = await alice.connect(changed).then(() => "connected", () => "refused");
      assertEquals(outcome, "refused");
    }
    assertEquals(hub.published, []);
    const accepted = nextOf(bob).then((incoming) => incoming.accept());
    await using _conn = await alice.connect(ticket); // as it was issued
    await using _other = await accepted;
  }));

/** A first message, as any ticket holder can write it. */
function requestAt(
  ticketText: string,
  { staticKey = generateKeyPair(), offer = new Uint8Array(0) } = {},
): { topic: string; message: Uint8Array } {
  const ticket = decodeTicket(ticketText);
  const secrets = new TicketSecrets(ticket);
  const options = { secrets, staticKey, ephemeralKey: generateKeyPair() };
  const handshake = new InitiatorHandshake(options, ticket.publicKey);
  const request = {
    sentAtMs: Date.now(),
    ageMs: null,
    protocol: "",
    resumes: null,
    wants: "any",
    body: offer,
  } as const;
  const message = handshake.writeRequest({ channel: 0, body: encodeConnectionRequest(request) });
  return { topic: secrets.topicAt(Date.now()), message };
}

function offerWith(targets: readonly TransportAddress[]): Uint8Array<ArrayBuffer> {
  return encodeOffer({
    role: "controlling",
    key: "ab".repeat(32),
    answers: null,
    isWaiting: true,
    round: 1,
    sampleAgeMs: 0,
    side: {
      profile: {
        mapping: "endpoint-independent",
        filtering: "unknown",
        unsolicitedSyn: "unknown",
        allocation: { kind: "preserving", delta: 0, range: null },
        onlyForNeighbours: false,
        externalIp: "203.0.113.200",
        samples: [],
      },
      candidates: targets.flatMap((address) => [
        { kind: "host" as const, address },
        { kind: "mapped" as const, address },
      ]),
      punchPort: 8080,
      canListenBeside: true,
    },
  }, new Uint8Array(0));
}

/** Counts the requests that the peer is shown from now on, and ignores them. */
function countShown(peer: Peer): () => number {
  let count = 0;
  (async () => {
    for await (const incoming of peer) {
      count++;
      incoming.ignore();
    }
  })();
  return () => count;
}
