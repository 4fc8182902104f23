/**
 * The ways to a peer, as users name them.
 *
 * @module
 */

/** A way to a peer; {@linkcode STRATEGIES} has all of them. */
export type Strategy = (typeof STRATEGIES)[number];

/** All ways, about in the order of what they cost. */
export const STRATEGIES = [
  "host", // on the same machine
  "lan", // by private addresses
  "ipv6",
  "direct", // to a public address, whichever side has it
  "mapped", // to a port that a router forwards
  "punch", // TCP simultaneous open
  "relay",
] as const;

/**
 * Reads the name of a strategy.
 *
 * @throws {TypeError} if it is none
 */
export function parseStrategy(name: string): Strategy {
  const found = STRATEGIES.find((strategy) => strategy === name);
  if (found !== undefined) return found;
  throw new TypeError(
    `Cannot connect by ${JSON.stringify(name)}: strategies are ${STRATEGIES.join(", ")}`,
  );
}
