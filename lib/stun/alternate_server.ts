/**
 * Servers that send their clients to another: RFC 8489 §10.
 *
 * @module
 */

import { RefusedError } from "../errors.ts";
import {
  formatTransportAddress,
  ipFamily,
  ipScope,
  sameTransportAddress,
  type TransportAddress,
} from "../net/address.ts";

/** Whom to ask. */
export interface Target {
  readonly address: TransportAddress;
  /** The name in the certificate, for TLS. */
  readonly hostname: string;
}

/** What asking a server comes to. */
export type Outcome<T> =
  | { readonly kind: "answer"; readonly answer: T }
  | { readonly kind: "alternate"; readonly alternate: Target };

/** RFC 8489 §14.8: ALTERNATE-SERVER says whom to try. */
export const TRY_ALTERNATE = 300;

/**
 * Asks one server, and those that it sends to, until one answers.
 *
 * @throws {RefusedError} 300, if a server sends to where nobody should go
 */
export async function askWithAlternates<T>(
  first: Target,
  ask: (target: Target) => Promise<Outcome<T>>,
): Promise<T> {
  const asked: TransportAddress[] = [];
  let target = first;
  while (true) {
    asked.push(target.address);
    const outcome = await ask(target);
    if (outcome.kind === "answer") return outcome.answer;
    checkAlternate(outcome.alternate.address, asked);
    target = outcome.alternate;
  }
}

/** The loop guard and the family are of RFC 8489 §10. The scope is ours: no server on the internet sends to hosts that only we can reach. */
function checkAlternate(alternate: TransportAddress, asked: readonly TransportAddress[]): void {
  const from = asked.at(-1)!;
  const scope = ipScope(alternate.ip);
  const cannot = `Cannot follow ${formatTransportAddress(from)} to ${
    formatTransportAddress(alternate)
  }`;
  const refuse = (rule: string) => new RefusedError(`${cannot}: ${rule}`, TRY_ALTERNATE);
  if (asked.some((one) => sameTransportAddress(one, alternate))) {
    throw refuse("it was asked before");
  }
  if (asked.length > MAX_ALTERNATES) throw refuse(`${MAX_ALTERNATES} alternate servers are enough`);
  if (alternate.port === 0) throw refuse("it has no port");
  if (ipFamily(alternate.ip) !== ipFamily(from.ip)) throw refuse("it is of another family");
  if (scope !== "global" && scope !== ipScope(from.ip)) throw refuse(`it is a ${scope} address`);
}

/** Ours: load balancers need one. */
const MAX_ALTERNATES = 4;
