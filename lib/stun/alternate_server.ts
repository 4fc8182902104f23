/**
 * Servers that send their clients to another: RFC 8489 §10.
 *
 * @module
 */

import { RefusedError } from "../base/errors.ts";
import {
  formatTransportAddress,
  ipFamily,
  ipScope,
  sameTransportAddress,
  type TransportAddress,
} from "../net/address.ts";
import { getAttribute, type StunMessage } from "./message.ts";

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

/**
 * Whom an error response sends to, if it does.
 *
 * @param hostname the name that was asked for, which the alternate has too unless it says otherwise
 */
export function alternateOf(response: StunMessage, hostname: string): Target | undefined {
  const code = getAttribute(response, "ERROR-CODE")?.code;
  const address = getAttribute(response, "ALTERNATE-SERVER");
  if (code !== TRY_ALTERNATE || address === undefined) return undefined;
  return { address, hostname: getAttribute(response, "ALTERNATE-DOMAIN") ?? hostname };
}

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

/** RFC 8489 §14.8: ALTERNATE-SERVER says whom to try. */
const TRY_ALTERNATE = 300;

/** Ours: load balancers need one. */
const MAX_ALTERNATES = 4;
