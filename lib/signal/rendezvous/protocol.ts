/**
 * What a rendezvous server and the two in a room say beside their messages: WebSocket text, of one JSON object.
 *
 * The server says who is there: `{"peer":"present"}` or `{"peer":"absent"}`. The two measure their round trip with
 * `{"ping":7}` and `{"pong":7}`, which the server passes on.
 *
 * @module
 */

/** One notice. Others, which a later version may send, are `unknown`. */
export type RendezvousNotice =
  | { readonly kind: "peer"; readonly isPresent: boolean }
  | { readonly kind: "ping" | "pong"; readonly id: number }
  | { readonly kind: "unknown" };

/** The text of a notice. */
export function encodeNotice(notice: Exclude<RendezvousNotice, { kind: "unknown" }>): string {
  return notice.kind === "peer"
    ? JSON.stringify({ peer: notice.isPresent ? "present" : "absent" })
    : JSON.stringify({ [notice.kind]: notice.id });
}

/** Reads a notice. Text that is none is `unknown`, and nobody's misfortune. */
export function decodeNotice(text: string): RendezvousNotice {
  const [, name, value] = /^\{"(peer|ping|pong)":("present"|"absent"|\d{1,9})\}$/.exec(text) ?? [];
  const isPeer = name === "peer";
  if (name === undefined || isPeer !== value!.startsWith('"')) return { kind: "unknown" };
  if (isPeer) return { kind: "peer", isPresent: value === '"present"' };
  return { kind: name === "ping" ? "ping" : "pong", id: Number(value) };
}
