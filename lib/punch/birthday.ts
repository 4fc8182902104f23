/**
 * The birthday paradox of ports: one side has mappings at `sockets` unknown places among `space` ports, the other
 * tries `ports` different ones of them.
 *
 * ```
 * P(hit) = 1 - (1 - N/S) (1 - N/(S-1)) ... (1 - N/(S-K+1))      N sockets, K ports, S space
 * ```
 *
 * @module
 */

/** How many dials each side makes. */
export interface BirthdaySplit {
  /** On the side whose ports are random. */
  readonly sockets: number;
  /** Of that side, tried by the other. */
  readonly ports: number;
}

/** The chance that at least one of `ports` different ports is one of the `sockets` random ones, 0 to 1. */
export function hitProbability({ sockets, ports }: BirthdaySplit, space: number): number {
  let miss = 1;
  for (let tried = 0; tried < ports; tried++) {
    miss *= Math.max(0, 1 - sockets / (space - tried));
  }
  return 1 - miss;
}

/**
 * The cheapest split that hits with `chance`, or the best within the caps: as many sockets as ports, since the
 * chance goes by their product, and more ports once the sockets have reached their cap, as a port costs no file
 * descriptor on the side of a NAT that is easy on it.
 */
export function splitForChance(
  chance: number,
  space: number,
  caps: BirthdaySplit & { readonly sum: number },
): BirthdaySplit {
  const maxSockets = Math.min(caps.sockets, Math.floor(caps.sum / 2), space);
  for (let sockets = 1; sockets < maxSockets; sockets++) {
    const ports = Math.min(sockets, caps.ports);
    if (hitProbability({ sockets, ports }, space) >= chance) return { sockets, ports };
  }
  const maxPorts = Math.min(caps.ports, caps.sum - maxSockets, space);
  let miss = 1;
  for (let ports = 1; ports <= maxPorts; ports++) {
    miss *= Math.max(0, 1 - maxSockets / (space - ports + 1));
    if (1 - miss >= chance) return { sockets: maxSockets, ports };
  }
  return { sockets: maxSockets, ports: maxPorts };
}
