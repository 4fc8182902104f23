/**
 * The keys and topics that follow from a ticket's secret, and the keys that follow from a handshake. Topics change by the
 * hour; only holders of the ticket can see which topics belong to one peer.
 *
 * @module
 */

import { concat, toBase64url, toHex } from "../base/bytes.ts";
import { hmac } from "../base/crypto.ts";
import type { Ticket } from "./ticket.ts";

/** The keys and topics that follow from a ticket's secret. */
export class TicketSecrets {
  /** The pre-shared key of the handshake; 32 bytes. */
  readonly presharedKey: Uint8Array;
  readonly #key: Uint8Array;

  constructor({ publicKey, secret }: Pick<Ticket, "publicKey" | "secret">) {
    this.#key = hmac("sha256", secret, utf8("punchline ticket "), publicKey);
    this.presharedKey = this.#derive("handshake");
  }

  /** The topic for requests to the ticket's owner, at a time in milliseconds since 1970. */
  topicAt(timeMs: number): string {
    return this.#topic(`ask ${Math.floor(timeMs / TOPIC_MS)}`);
  }

  /** The topics that the owner listens to: clocks may be wrong by as much as a topic lasts. */
  topicsAround(timeMs: number): string[] {
    return [-1, 0, 1].map((hours) => this.topicAt(timeMs + hours * TOPIC_MS));
  }

  /** The topic for answers; the initiator's ephemeral key makes it unique. */
  replyTopic(ephemeralKey: Uint8Array): string {
    return this.#topic("reply ", ephemeralKey);
  }

  /** Shows that the sender of a handshake message has the ticket; 16 bytes. */
  mac(kind: keyof typeof MAC_LABELS, ...message: readonly Uint8Array[]): Uint8Array {
    return hmac("sha256", this.#derive(MAC_LABELS[kind]), ...message).subarray(0, MAC_LENGTH);
  }

  #topic(purpose: string, context: Uint8Array = NO_BYTES): string {
    return toBase64url(this.#derive(`topic ${purpose}`, context).subarray(0, TOPIC_BYTES));
  }

  #derive(purpose: string, context: Uint8Array = NO_BYTES): Uint8Array {
    return hmac("sha256", this.#key, concat(utf8(purpose), context));
  }
}

/** The keys that encrypt one path. */
export interface PathKeys {
  /** For what this side sends. */
  readonly sendKey: Uint8Array<ArrayBuffer>;
  /** For what this side receives. */
  readonly receiveKey: Uint8Array<ArrayBuffer>;
  /** The same on both sides; not secret. */
  readonly handshakeHash: Uint8Array<ArrayBuffer>;
}

/**
 * Derives one side's keys for a path. The other side's are the same with sending and receiving swapped.
 *
 * @param connectionKey of the peers' handshake; no two handshakes have the same
 * @param channelBinding of the path; no two paths of one handshake have the same
 */
export function pathKeys(
  connectionKey: Uint8Array,
  channelBinding: Uint8Array,
  role: "controlling" | "controlled",
): PathKeys {
  const derive = (purpose: string) =>
    hmac("sha256", connectionKey, utf8(`path ${purpose} `), channelBinding);
  const otherRole = role === "controlling" ? "controlled" : "controlling";
  return {
    sendKey: derive(role),
    receiveKey: derive(otherRole),
    handshakeHash: derive("hash"),
  };
}

/** Names a connection to both sides when it has to be resumed: 32 hexadecimal digits; secret. */
export function resumptionId(connectionKey: Uint8Array): string {
  return toHex(hmac("sha256", connectionKey, utf8("resumption")).subarray(0, 16));
}

function utf8(text: string): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(text);
}

const NO_BYTES = new Uint8Array(0);

/** Hashed into the key of each MAC, so these bytes are part of the protocol. */
const MAC_LABELS = { request: "knock", answer: "answer" } as const;

/** Chosen by us: every guess at a MAC has to be sent to the peer. */
export const MAC_LENGTH = 16;

/** Chosen by us: some brokers bill and log topics, so they are short, yet long enough never to collide. */
const TOPIC_BYTES = 16;

/** How long a topic lasts. Chosen by us: clocks of computers on the internet are rarely wrong by more. */
const TOPIC_MS = 60 * 60 * 1000;
