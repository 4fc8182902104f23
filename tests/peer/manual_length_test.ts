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
import { encodeCompactOffer } from "../../lib/punch/offer_message.ts";
import { encodeManualMessage } from "../../lib/signal/manual.ts";
import { hostCandidate, punchSide, reflexive } from "../punch/fixtures.ts";

const USUAL = [reflexive("203.0.113.2", 40_000), hostCandidate("2001:db8::1", 40_000)];

Deno.test("the usual texts have fewer than 300 characters, with UDP in either candidate, too", async () => {
  for (const udpBytes of [0, 2 * USUAL.length]) {
    const { request, answer } = await textLengths(USUAL, udpBytes);
    assert(request < 300, `the request has ${request}`);
    assert(answer < 300, `the answer has ${answer}`);
  }
});

Deno.test("each further candidate takes at most 64 characters", async () => {
  const further = [hostCandidate("192.168.1.2", 40_000), hostCandidate("fd00::1", 40_000)];
  let before = await textLengths(USUAL);
  for (const count of [1, 2]) {
    const now = await textLengths([...USUAL, ...further.slice(0, count)]);
    assert(now.request - before.request <= 64 && now.answer - before.answer <= 64);
    before = now;
  }
});

/** @param udpBytes room for the ports of a second transport */
async function textLengths(candidates: readonly Candidate[], udpBytes = 0) {
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
  await initiator.channel(CHANNELS.punch).send(offer("controlling", candidates, udpBytes));
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
  await responder.channel(CHANNELS.punch).send(offer("controlled", candidates, udpBytes));
  const topic = secrets.topicAt(Date.now());
  const lengths = sent.map((message) => encodeManualMessage({ topic, message }).length);
  return { request: lengths[0]!, answer: lengths[1]! };
}

function offer(role: PunchOffer["role"], candidates: readonly Candidate[], udpBytes: number) {
  const seed = crypto.getRandomValues(new Uint8Array(16));
  const offer: PunchOffer = {
    role,
    key: keyFromSeed(seed),
    answers: role === "controlling" ? null : keyFromSeed(seed),
    isWaiting: role === "controlling",
    round: 1,
    sampleAgeMs: 0,
    side: punchSide("203.0.113.2", {}, { candidates }),
  };
  const bytes = encodeCompactOffer(offer, new Uint8Array(0));
  return Uint8Array.from([...bytes, ...new Uint8Array(udpBytes)]);
}
