/**
 * The messages of peers and of signaling servers: each kind's decoder, with valid messages to mutate.
 *
 * @module
 */

import { concat, toBase64url, toHex } from "../../lib/base/bytes.ts";
import * as signaling from "../../lib/peer/signaling_message.ts";
import { decodeRelayState } from "../../lib/peer/relay_message.ts";
import { decodeForwardRequest, encodeForwardRequest } from "../../lib/peer/forward_message.ts";
import { decodeTicket } from "../../lib/peer/ticket.ts";
import { hash } from "../../lib/base/crypto.ts";
import { MalformedMessageError } from "../../lib/base/errors.ts";
import { decodeOffer, encodeOffer, keyFromSeed, type PunchOffer } from "../../lib/punch/offer.ts";
import { decodeCompactOffer, encodeCompactOffer } from "../../lib/punch/offer_message.ts";
import * as proxy from "../../lib/net/proxy/message.ts";
import * as session from "../../lib/session/frame.ts";
import { decodeManualMessage } from "../../lib/signal/manual.ts";
import { decodeLanMessage, encodeLanMessage } from "../../lib/signal/lan.ts";
import * as mqtt from "../../lib/signal/mqtt/packet.ts";
import { parseCode } from "../../lib/code/code.ts";
import { decodeCodeMessage, encodeCodeMessage } from "../../lib/code/message.ts";
import { decodeNotice, encodeNotice } from "../../lib/signal/rendezvous/message.ts";
import { decodeNumberNotice, encodeNumberNotice } from "../../lib/signal/rendezvous/message.ts";
import { decodeTopicMessage, encodeTopicMessage } from "../../lib/signal/rendezvous/message.ts";
import * as websocket from "../../lib/signal/websocket/frame.ts";
import * as upgrade from "../../lib/signal/websocket/handshake.ts";
import * as transfer from "../../lib/transfer/message.ts";
import { decodeChannelData, encodeChannelData } from "../../lib/turn/protocol.ts";
import { hostCandidate, OFFER as SAMPLE_OFFER, reflexive } from "../punch/fixtures.ts";
import { type Random, randomInteger } from "../simnet/random.ts";
import { mutate, mutateJson, pick, randomBytes } from "./mutate.ts";

/** A kind of message. */
export interface Target {
  readonly name: string;
  /** A message to decode: usually a mutated valid one. */
  next(random: Random): Uint8Array;
  /** Throws nothing but a {@linkcode MalformedMessageError}. */
  decode(bytes: Uint8Array): unknown;
}

/**
 * Whether the decoder accepts the message.
 *
 * @throws {Error} if it throws what it should not
 */
export function isAccepted({ name, decode }: Target, bytes: Uint8Array): boolean {
  try {
    decode(bytes);
    return true;
  } catch (cause) {
    if (cause instanceof MalformedMessageError) return false;
    throw new Error(`Cannot decode ${name} ${toHex(bytes)}`, { cause });
  }
}

/** @param finish completes a message, for example with a checksum, which no random change would match */
function bytesTarget(
  name: string,
  decode: Target["decode"],
  samples: readonly Uint8Array[],
  finish: (bytes: Uint8Array) => Uint8Array = (bytes) => bytes,
): Target {
  const next = (random: Random) =>
    random() < 0.1
      ? randomBytes(random, randomInteger(random, 0, 80))
      : finish(mutate(random, pick(random, samples)));
  return { name, decode, next };
}

/** @param encode turns JSON into a message */
function jsonTarget(
  name: string,
  decode: Target["decode"],
  sample: unknown,
  encode: (value: unknown) => Uint8Array = (value) => utf8(JSON.stringify(value)),
): Target {
  const next = (random: Random) =>
    random() < 0.8 ? encode(mutateJson(random, sample)) : mutate(random, encode(sample));
  return { name, decode, next };
}

function textTarget(
  name: string,
  decode: (text: string) => unknown,
  samples: readonly Uint8Array[],
  finish?: (bytes: Uint8Array) => Uint8Array,
): Target {
  const toText = (bytes: Uint8Array) => new TextDecoder("latin1").decode(bytes);
  return bytesTarget(name, (bytes) => decode(toText(bytes)), samples, finish);
}

function withChecksum(prefix: string): (content: Uint8Array) => Uint8Array {
  return (content) =>
    utf8(prefix + toBase64url(concat(content, hash("sha256", content).subarray(0, 4))));
}

function utf8(text: string): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(text);
}

const TOPIC = "AAAAAAAAAAAAAAAAAAAAAA";
const HASH = new Uint8Array(32).fill(0xab);
const BODY = new Uint8Array(20).fill(7);
const SECRET = utf8("secret");
const KEY = "dGhlIHNhbXBsZSBub25jZQ==";

const OFFER: PunchOffer = {
  ...SAMPLE_OFFER,
  side: {
    ...SAMPLE_OFFER.side,
    profile: {
      ...SAMPLE_OFFER.side.profile,
      allocation: { kind: "sequential", delta: 2, range: [20_000, 20_003] },
    },
    candidates: [reflexive("203.0.113.2", 40_000), hostCandidate("2001:db8::1")],
  },
};

const SEEDED = keyFromSeed(BODY.subarray(0, 16));

const LINK_LOCAL: PunchOffer["side"] = {
  ...OFFER.side,
  candidates: [hostCandidate("fe80::1%eth0"), hostCandidate("192.0.2.1")],
};

const STREAM_FRAMES: readonly Uint8Array[] = [
  session.encodeStreamFrame({ kind: "open", id: 3 }),
  session.encodeStreamFrame({ kind: "data", id: 3, length: 2 }),
  session.encodeStreamFrame({ kind: "window", id: 0, limit: 2 ** 40 }),
  session.encodeStreamFrame({ kind: "end", id: 3 }),
  session.encodeStreamFrame({ kind: "reset", id: 3, code: 77 }),
];

const FORWARD_REQUESTS: readonly Uint8Array[] = [
  encodeForwardRequest({ kind: "target", name: "22" }),
  encodeForwardRequest({ kind: "dial", host: "example.org", port: 443 }),
];

const SESSION_FRAMES: readonly Uint8Array[] = [
  session.encodeSessionFrame({
    kind: "hello",
    version: 2,
    pathNumber: 3,
    received: 10,
    limit: 65_546,
  }),
  session.encodeSessionFrame({ kind: "start", offset: 10 }),
  session.encodeSessionFrame({ kind: "ack", received: 2 ** 40, limit: 2 ** 40 + 1 }),
  session.encodeSessionFrame({ kind: "fin", offset: 2 ** 52 }),
  session.encodeSessionFrame({ kind: "ping", token: 7 }),
  session.encodeSessionFrame({ kind: "message", message: BODY }),
  session.encodeSessionFrame({ kind: "done" }),
  Uint8Array.of(0, 0, 0),
];

const MQTT_PACKETS: readonly mqtt.MqttPacket[] = [
  { type: "connect", clientId: "pl-1", keepAliveSeconds: 60, username: "ann", password: "x" },
  { type: "connack", code: 0 },
  { type: "publish", topic: TOPIC, payload: BODY, isRetained: true },
  { type: "subscribe", id: 1, topic: TOPIC },
  { type: "unsubscribe", id: 2, topic: TOPIC },
  { type: "suback", id: 1, codes: [0, 0x80] },
  { type: "pingreq" },
  { type: "disconnect", code: 0x8b },
];

const FILES: readonly transfer.TransferMessage[] = [
  { type: "offer" },
  {
    type: "entries",
    entries: [
      { kind: "folder", path: "a", size: 0, modifiedMs: 0, isExecutable: false },
      { kind: "file", path: "a/é", size: 2 ** 40, modifiedMs: 258, isExecutable: true },
      { kind: "link", path: "a/l", size: 0, modifiedMs: 0, isExecutable: false, target: "é" },
    ],
  },
  { type: "skipped", skipped: [{ path: "a/null", reason: "other" }] },
  { type: "offered", entries: 3, skipped: 1 },
  {
    type: "held",
    held: [
      { index: 0, state: "done" },
      { index: 1, state: "part", length: 5, hash: HASH },
      { index: 2, state: "compare" },
    ],
  },
  { type: "answer", held: 3 },
  { type: "plan", steps: ["keep", "send", "continue", "compare"] },
  { type: "end", hash: HASH },
  { type: "failed", reason: "changed" },
  { type: "done", refused: [{ index: 1, reason: "name" }] },
  { type: "refusal", code: "failed", reason: "no room" },
];

/** All of them. */
export const TARGETS: readonly Target[] = [
  bytesTarget("answer to CONNECT", proxy.decodeConnectAnswer, [
    utf8("HTTP/1.1 200 OK\r\n\r\nrest"),
    utf8('HTTP/1.0 407 No\r\nProxy-Authenticate: Digest realm="a, b", Basic realm="c"\r\n\r\n'),
  ]),
  bytesTarget("SOCKS5 method", proxy.decodeSocksMethod, [new Uint8Array([5, 0])]),
  bytesTarget("answer to a SOCKS5 login", proxy.decodeSocksLoginAnswer, [new Uint8Array([1, 0])]),
  bytesTarget("SOCKS5 answer", proxy.decodeSocksAnswer, [
    new Uint8Array([5, 0, 0, 1, 192, 0, 2, 1, 0, 80]),
    new Uint8Array([5, 4, 0, 3, 2, 0x61, 0x62, 0, 80]),
    new Uint8Array([5, 0, 0, 4, ...new Array(18).fill(1)]),
  ]),
  bytesTarget("envelope", signaling.decodeEnvelope, [
    signaling.encodeEnvelope({ kind: "request", mac: new Uint8Array(16), handshake: BODY }),
    signaling.encodeEnvelope({
      kind: "transport",
      sessionId: new Uint8Array(8),
      counter: 5n,
      ciphertext: BODY,
    }),
  ]),
  bytesTarget("content", signaling.decodeContent, [
    signaling.encodeContent({ channel: 1, body: BODY }, "transport").subarray(0, 60),
  ]),
  jsonTarget(
    "connection request",
    signaling.decodeConnectionRequest,
    {
      sentAtMs: 1_790_000_000_000,
      ageMs: 61_000,
      protocol: "chat",
      resumes: "ab".repeat(16),
      wants: "direct",
    },
    (value) => {
      const json = utf8(JSON.stringify(value));
      return concat(Uint8Array.of(json.length >> 8, json.length), json, BODY);
    },
  ),
  jsonTarget("rejection", signaling.decodeRejection, { why: "clock", timeMs: 1_790_000_000_000 }),
  jsonTarget("relay state", decodeRelayState, {
    nonce: "ab".repeat(16),
    mayOffer: true,
    version: 3,
    heard: 2,
    ips: ["192.0.2.1", "2001:db8::1"],
    relayed: ["192.0.2.1:3478", "[2001:db8::1]:1"],
  }),
  jsonTarget(
    "punch offer",
    (bytes) => decodeOffer(bytes, SECRET),
    OFFER,
    (value) => encodeOffer(value as PunchOffer, SECRET),
  ),
  textTarget("ticket", decodeTicket, [
    concat(
      Uint8Array.of(1),
      HASH,
      HASH.subarray(16),
      Uint8Array.of(2, 4),
      utf8("lan:"),
      Uint8Array.of(9),
      utf8("ws://a:80"),
    ),
  ], withChecksum("punchline:")),
  textTarget("manual message", decodeManualMessage, [
    concat(Uint8Array.of(3, 1, 2, 3, 0, BODY.length), BODY),
  ], withChecksum("punchline-hand:")),
  bytesTarget("compact offer", (bytes) => decodeCompactOffer(bytes, new Uint8Array(0)), [
    encodeCompactOffer({ ...OFFER, key: SEEDED, answers: SEEDED }, new Uint8Array(0)),
    encodeCompactOffer({ ...OFFER, key: SEEDED, side: LINK_LOCAL }, new Uint8Array(0)),
    encodeCompactOffer({ ...OFFER, key: SEEDED, udp: OFFER.side }, new Uint8Array(0)),
    encodeCompactOffer({ ...OFFER, key: SEEDED, udp: LINK_LOCAL }, new Uint8Array(0)),
  ]),
  bytesTarget("compact request", signaling.decodeConnectionRequest, [
    signaling.encodeCompactRequest({
      ...{ sentAtMs: 1_790_000_000_000, protocol: "chat", body: BODY },
    }),
  ]),
  bytesTarget("LAN message", decodeLanMessage, [encodeLanMessage(new Uint8Array(8), TOPIC, BODY)]),
  bytesTarget("topic message", decodeTopicMessage, [
    encodeTopicMessage({ kind: "subscribe", topic: TOPIC }),
    encodeTopicMessage({ kind: "publish", topic: TOPIC, message: BODY }),
  ]),
  textTarget("rendezvous notice", decodeNotice, [
    utf8(encodeNotice({ kind: "peer", isPresent: true })),
    utf8(encodeNotice({ kind: "ping", id: 123 })),
  ]),
  textTarget("number notice", decodeNumberNotice, [
    utf8(encodeNumberNotice({ kind: "request" })),
    utf8(encodeNumberNotice({ kind: "allocated", number: 7 })),
  ]),
  textTarget("code", parseCode, [utf8("7-amber-walrus-otter"), utf8(" 12 Tulip.tulip_zodi")]),
  bytesTarget("code message", decodeCodeMessage, [
    encodeCodeMessage({ kind: "hello", id: HASH.subarray(16), share: HASH }),
    encodeCodeMessage({
      ...{ kind: "confirm", id: HASH.subarray(16), share: HASH, offererShare: HASH, tag: HASH },
    }),
    encodeCodeMessage({ kind: "ticket", id: HASH.subarray(16), tag: HASH, ciphertext: BODY }),
    encodeCodeMessage({ kind: "refusal", id: HASH.subarray(16), reason: "spent" }),
    encodeCodeMessage({ kind: "taken", id: HASH.subarray(16) }),
  ]),
  bytesTarget("WebSocket frame", (bytes) => decodeWebSocket(bytes), [
    websocket.encodeWebSocketFrame("binary", BODY),
    websocket.encodeWebSocketFrame("text", utf8("grüß"), Uint8Array.of(1, 2, 3, 4)),
    websocket.encodeWebSocketFrame("binary", new Uint8Array(300)),
    websocket.encodeWebSocketFrame("close", websocket.encodeClose(1001, "bye")),
    websocket.encodeWebSocketFrame("ping", BODY),
  ]),
  bytesTarget("HTTP head", (bytes) => upgrade.judgeUpgradeRequest(upgrade.decodeHead(bytes)), [
    upgrade.encodeUpgradeRequest("a:80", "/v1/topics", KEY, "mqtt"),
    upgrade.encodeUpgradeResponse(KEY),
    utf8(`GET / HTTP/1.1\r\na: b${" ".repeat(4000)}c\r\n\r\n`),
  ]),
  ...([4, 5] as const).map((version) =>
    bytesTarget(
      `MQTT ${version} packet`,
      (bytes) => {
        if (mqtt.mqttPacketLength(bytes, 65_536) === bytes.length) {
          mqtt.decodeMqttPacket(
            bytes,
            version,
          );
        }
      },
      MQTT_PACKETS.map((packet) => mqtt.encodeMqttPacket(packet, version)),
    )
  ),
  bytesTarget("session frame", (bytes) => session.decodeSessionFrame(bytes), SESSION_FRAMES),
  bytesTarget("stream frame", (bytes) => session.decodeStreamFrame(bytes), STREAM_FRAMES),
  bytesTarget("forward request", decodeForwardRequest, FORWARD_REQUESTS),
  bytesTarget("transfer header", transfer.decodeTransferHeader, [
    transfer.encodeTransferMessage(FILES[0]!).subarray(0, transfer.HEADER_BYTES),
  ]),
  ...FILES.map((message) =>
    bytesTarget(
      `transfer ${message.type}`,
      (bytes) => transfer.decodeTransferBody(message.type, bytes),
      [
        transfer.encodeTransferMessage(message).subarray(transfer.HEADER_BYTES),
      ],
    )
  ),
  bytesTarget("ChannelData", decodeChannelData, [
    encodeChannelData({ channel: 0x4000, data: BODY }),
  ]),
];

function decodeWebSocket(bytes: Uint8Array): void {
  const decoded = websocket.decodeWebSocketFrame(bytes, 65_536);
  if (decoded.kind !== "frame") return;
  const { opcode, payload } = decoded.frame;
  if (opcode === "close") websocket.decodeClose(payload);
  if (opcode === "text") websocket.decodeText(payload);
}
