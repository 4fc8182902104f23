/**
 * What to do about a refusal: the error codes of TURN in plain words.
 *
 * @module
 */

/** What may help after a server answered with this code; `undefined` for codes that no RFC of TURN uses. */
export function remedyFor(code: number): string | undefined {
  return REMEDIES[code];
}

const REMEDIES: Readonly<Record<number, string>> = {
  // RFC 8489 §14.8
  300: "ask the server that it names, or another one if it names none",
  400: "the server cannot read the request, or it does not fit what is open; try another server",
  401: "check the username and the password; time-limited ones may have expired",
  420: "the server is older than this option; leave the option out",
  438: "the server's nonces expire sooner than requests arrive; try again",
  500: "the server is in trouble; try again in a minute, or another server",
  // RFC 8656 §19
  404: "the server has no such reservation, it may have expired; open a relay without it", // coturn's own
  403: "the server's administrator forbids this; try another peer address or another server",
  437:
    "the server knows no such relayed address, it may have been restarted, or another one is open " +
    "from this port; open a new one",
  440: "the server has no address of this family; ask for the other one",
  441: "somebody else's credentials opened this relayed address; use those",
  442: "the server does not relay this protocol; ask for the other one, or another server",
  443: "the peer's address is of another family than the relayed address; open one of that family",
  486:
    "this user has as many relayed addresses as the server allows; close one, or wait until old ones expire",
  508: "the server is full, or has no such port; try again in a minute, or another server",
  // RFC 6062 §6.3
  446: "a connection to this peer is open; close it first",
  447: "the peer does not answer the server; check that it listens there and lets the server in",
  // RFC 8016 §5
  405:
    "the server lets no relayed address move; leave mobility out, and open a new one after a move",
  // RFC 8445 §7.3.1.1
  487: "so answer ICE agents, not TURN servers; check the address",
};
