/**
 * Public STUN servers, as a NAT test uses them where the caller names none.
 *
 * They are other people's: each test asks a few of them, chosen at random, with a few dozen packets.
 *
 * @module
 */

/**
 * Servers with two addresses (RFC 5780) over UDP and TCP by the published lists of August 2026. What a server
 * really does is tested at run time.
 */
export const TWO_ADDRESS_SERVERS: readonly string[] = [
  "stun.fitauto.ru:3478",
  "stun.m-online.net:3478",
  "stun.mixvoip.com:3478",
  "stun.sip.us:3478",
  "stun.siptrunk.com:3478",
  "stun.voipia.net:3478",
  "stun.dus.net:3478",
  "stun.voipgate.com:3478",
  "stun.pure-ip.com:3478",
  "stun.nextcloud.com:3478",
  "stun.radiojar.com:3478",
  "stun.axialys.net:3478",
  "stun.vomessen.de:3478",
];

/** Large operators' servers with one address: they tell the mapping, beside another, and little else. */
export const ONE_ADDRESS_SERVERS: readonly string[] = [
  "stun.l.google.com:19302",
  "stun.cloudflare.com:3478",
];

/**
 * A choice of servers for one test: two that can tell the filtering, and one of another operator that is
 * likely to be up.
 *
 * @param random as `Math.random`
 */
export function chooseServers(random: () => number): string[] {
  return [...sample(TWO_ADDRESS_SERVERS, 2, random), ...sample(ONE_ADDRESS_SERVERS, 1, random)];
}

function sample<T>(items: readonly T[], count: number, random: () => number): T[] {
  const left = [...items];
  return Array.from(
    { length: count },
    () => left.splice(Math.floor(random() * left.length), 1)[0]!,
  );
}
