/**
 * Mapping behavior (RFC 4787 §4.1), classified from the external addresses that servers see for one local port.
 *
 * @module
 */

import { formatTransportAddress, type TransportAddress } from "../net/address.ts";
import { type BehaviorVerdict, unknown } from "./behavior.ts";
import type { MappingSample } from "./probe.ts";

/**
 * The mapping behavior that the samples prove; `"unknown"` if they are compatible with more than one.
 *
 * If two destination IP addresses see the same external address, the mapping is endpoint-independent: a NAT that maps by
 * destination would have used a different port for each. A server that disagrees with such a pair is wrong.
 *
 * @param isOwn whether an external address is the local address, which means that there is no NAT
 */
export function classifyMapping(
  samples: readonly MappingSample[],
  isOwn: (mapped: TransportAddress) => boolean,
): BehaviorVerdict {
  const own = samples.find(({ mapped }) => isOwn(mapped));
  if (own !== undefined) {
    const seen = formatTransportAddress(own.mapped);
    return verdict("none", 0.999, `servers see this host's own address, ${seen}`);
  }
  const changing = samples.find((a) => samples.some((b) => sameTo(a, b) && !sameMapped(a, b)));
  if (changing !== undefined) {
    return unknown(`${describe(changing)}, but saw a different address at another time`);
  }

  const agreeing = samples.find((a) =>
    samples.some((b) => a.to.ip !== b.to.ip && sameMapped(a, b))
  );
  const oneHost = pairs(samples).filter(([a, b]) => a.to.ip === b.to.ip && a.to.port !== b.to.port);
  const byPort = oneHost.find(([a, b]) => !sameMapped(a, b));
  if (agreeing !== undefined && byPort !== undefined) {
    return unknown(describe(agreeing), describe(byPort[0]), describe(byPort[1]));
  }
  if (agreeing !== undefined) {
    const ips = new Set(samples.filter((s) => sameMapped(s, agreeing)).map(({ to }) => to.ip));
    const others = samples.filter((sample) => !sameMapped(sample, agreeing));
    const seen = formatTransportAddress(agreeing.mapped);
    return verdict(
      "endpoint-independent",
      ips.size > 2 ? 0.999 : 0.99,
      `${[...ips].join(" and ")} see the same external address, ${seen}`,
      ...others.map((sample) => `${describe(sample)}: disregarded, the others agree`),
    );
  }
  if (byPort !== undefined) {
    const [a, b] = byPort;
    return verdict(
      "address-and-port-dependent",
      0.99,
      describe(a),
      `${describe(b)}: same IP address, different port`,
    );
  }
  const byAddress = pairs(samples).find(([a, b]) => a.to.ip !== b.to.ip);
  if (byAddress === undefined) {
    return unknown(
      samples.length === 0
        ? "no server answered"
        : `${describe(samples[0]!)}; no server at another IP address answered, for comparison`,
    );
  }
  const evidence = byAddress.map(describe);
  return oneHost.length > 0
    ? verdict(
      "address-dependent",
      0.99,
      ...evidence,
      `${describe(oneHost[0]![1])}: same IP address, different port`,
    )
    : unknown(...evidence, "could not test whether the destination port matters");
}

/**
 * Whether the samples rule out an endpoint-independent mapping, even if they cannot decide between the others: no two
 * destination IP addresses see the same external address.
 */
export function differsByDestination(samples: readonly MappingSample[]): boolean {
  const apart = pairs(samples).filter(([a, b]) => a.to.ip !== b.to.ip);
  return apart.length > 0 && apart.every(([a, b]) => !sameMapped(a, b));
}

function verdict(
  behavior: BehaviorVerdict["behavior"],
  confidence: number,
  ...evidence: string[]
): BehaviorVerdict {
  return { behavior, confidence, evidence };
}

function describe({ to, mapped }: MappingSample): string {
  return `${formatTransportAddress(to)} sees ${formatTransportAddress(mapped)}`;
}

function sameMapped(a: MappingSample, b: MappingSample): boolean {
  return a.mapped.ip === b.mapped.ip && a.mapped.port === b.mapped.port;
}

function sameTo(a: MappingSample, b: MappingSample): boolean {
  return a.to.ip === b.to.ip && a.to.port === b.to.port;
}

function pairs<T>(items: readonly T[]): [T, T][] {
  return items.flatMap((a, i) => items.slice(i + 1).map((b): [T, T] => [a, b]));
}
