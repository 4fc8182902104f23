/**
 * Meeting places: topics that follow from a number of at most four digits, for two sides that share a code.
 *
 * @module
 */

import { toBase64url } from "../base/bytes.ts";
import { hash } from "../base/crypto.ts";
import { TOPIC_BYTES } from "./transport.ts";

/** The topic where the two sides of a code meet; it follows from the number alone. */
export function meetingTopic(number: number): string {
  return codeTopic(`meeting ${number}`);
}

/** The topic for answers to the side whose request has this ID. */
export function answerTopic(id: Uint8Array): string {
  return codeTopic(`answer ${toBase64url(id)}`);
}

/** How many numbers there are: 0 to 9999. Chosen by us: four digits are quick to say, and two senders rarely collide. */
export const MEETING_PLACES = 10_000;

function codeTopic(purpose: string): string {
  const text = new TextEncoder().encode(`punchline code 1 ${purpose}`);
  return toBase64url(hash("sha256", text).subarray(0, TOPIC_BYTES));
}
