/**
 * How the nodes of one rendezvous pass on what the clients of one send to those of another: threads of a program, or
 * servers behind one name. A node tells the bus which subjects its clients wait for, and publishes what they send under
 * theirs; relayed bytes never go over it.
 *
 * @module
 */

import { toBase64url } from "../../base/bytes.ts";
import { hash } from "../../base/crypto.ts";

/** Carries messages between nodes. What is lost on the way is lost, as it would be on the way to a client. */
export interface RendezvousBus {
  /** From now on, calls `receive` with what other nodes publish under the subject, until it is unsubscribed. */
  subscribe(subject: string, receive: (message: Uint8Array<ArrayBuffer>) => void): void;
  /** Ends a subscription. */
  unsubscribe(subject: string): void;
  /** Sends a message to all other nodes that have subscribed. */
  publish(subject: string, message: Uint8Array<ArrayBuffer>): void;
}

/** The subject of a topic, a room or a token of the relay. It does not tell its name, as whatever carries it need not know that. */
export function subjectOf(kind: "topic" | "room" | "relay", name: string): string {
  const digest = hash("sha256", new TextEncoder().encode(`punchline ${kind} ${name}`));
  return toBase64url(digest.subarray(0, SUBJECT_BYTES));
}

/** Chosen by us: as many as a topic has. */
const SUBJECT_BYTES = 16;
