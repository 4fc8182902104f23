/**
 * How much people have to copy with manual signaling.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import { generateKeyPair } from "../../lib/noise/handshake.ts";
import { InitiatorHandshake, ResponderHandshake } from "../../lib/peer/signaling_handshake.ts";
import { decodeConnectionRequest, decodeEnvelope } from "../../lib/peer/signaling_message.ts";
import { CHANNELS, InitiatorSession, ResponderSession } from "../../lib/peer/signaling_session.ts";
import { TicketSecrets } from "../../lib/peer/ticket.ts";
import type { Candidate } from "../../lib/punch/candidates.ts";
import { keyFromSeed, type PunchOffer } from "../../lib/punch/offer.ts";
import { decodeCompactOffer, encodeCompactOffer } from "../../lib/punch/offer_message.ts";
import { encodeManualMessage } from "../../lib/signal/manual.ts";
import { hostCandidate, punchSide, reflexive } from "../punch/fixtures.ts";

const NO_SECRET = new Uint8Array(0);
const [TCP_PORT, UDP_PORT] = [40_000, 50_000];

/** Behind a NAT that preserves no port, with one candidate a family: ports that are the punch port take no room. */
const USUAL: Both = {
  tcp: [reflexive("203.0.113.2", 61_001), hostCandidate("2001:db8::1", TCP_PORT)],
  udp: [reflexive("203.0.113.2", 61_002), hostCandidate("2001:db8::1", UDP_PORT)],
};

Deno.test("the usual texts have fewer than 300 characters: IPv4 and IPv6 with both transports, and the profile", async () => {
  const { request, answer } = await textLengths(USUAL);
  assert(request < 300, `the request has ${request}`);
  assert(answer < 300, `the answer has ${answer}`);
});

Deno.test("each further candidate takes at most 64 characters, with both transports", async () => {
  const further: readonly [Candidate["kind"], string][] = [
    ["host", "192.168.1.2"],
    ["host", "fd00::1"],
    ["host", "fe80::1%enp0s31f6"],
    ["mapped", "2001:db8::7"],
  ];
  let both = USUAL;
  let before = await textLengths(both);
  for (const [kind, ip] of further) {
    both = {
      tcp: [...both.tcp, { kind, address: { ip, port: 61_003 } }],
      udp: [...both.udp, { kind, address: { ip, port: 61_004 } }],
    };
    const now = await textLengths(both);
    assert(now.request - before.request <= 64 && now.answer - before.answer <= 64, ip);
    before = now;
  }
});

Deno.test("the texts hold what the punch by UDP needs", () => {
  const sent = offer("controlling", USUAL);
  const { udp } = decodeCompactOffer(encodeCompactOffer(sent, NO_SECRET), NO_SECRET);
  assertEquals(udp, sent.udp);
  assertEquals(udp!.candidates, USUAL.udp);
});

interface Both {
  readonly tcp: readonly Candidate[];
  readonly udp: readonly Candidate[];
}

async function textLengths(both: Both) {
  const [ours, theirs] = [generateKeyPair(), generateKeyPair()];
  const secrets = new TicketSecrets({
    publicKey: theirs.publicKey,
    secret: crypto.getRandomValues(new Uint8Array(16)),
  });
  const sent: Uint8Array[] = [];
  const publish = (message: Uint8Array) => sent.push(message);
  const request = { sentAtMs: Date.now(), protocol: "punchline-files/1" };
  using initiator = new InitiatorSession(
    new InitiatorHandshake(
      { secrets, staticKey: ours, ephemeralKey: generateKeyPair() },
      theirs.publicKey,
    ),
    () => ({ ...request, ageMs: null, resumes: null, wants: "any" }),
    publish,
  );
  initiator.isManual = true;
  await initiator.channel(CHANNELS.punch).send(encoded("controlling", both));
  const envelope = decodeEnvelope(sent[0]!);
  assert(envelope.kind === "request");
  const handshake = new ResponderHandshake(envelope, {
    secrets,
    staticKey: theirs,
    ephemeralKey: generateKeyPair(),
  });
  const decoded = decodeConnectionRequest(handshake.content.body);
  assertEquals([decoded.protocol, decoded.sentAtMs], [request.protocol, request.sentAtMs]);
  using responder = new ResponderSession(handshake, decoded.body, publish);
  responder.isManual = true;
  await responder.channel(CHANNELS.punch).send(encoded("controlled", both));
  const topic = secrets.topicAt(Date.now());
  const lengths = sent.map((message) => encodeManualMessage({ topic, message }).length);
  return { request: lengths[0]!, answer: lengths[1]! };
}

function encoded(role: PunchOffer["role"], both: Both): Uint8Array {
  return encodeCompactOffer(offer(role, both), NO_SECRET);
}

function offer(role: PunchOffer["role"], { tcp, udp }: Both): PunchOffer {
  const seed = crypto.getRandomValues(new Uint8Array(16));
  const side = punchSide("203.0.113.2", {}, { candidates: tcp, punchPort: TCP_PORT });
  return {
    role,
    key: keyFromSeed(seed),
    answers: role === "controlling" ? null : keyFromSeed(seed),
    isWaiting: role === "controlling",
    round: 1,
    sampleAgeMs: 0,
    side,
    udp: { ...side, candidates: udp, punchPort: UDP_PORT },
  };
}
