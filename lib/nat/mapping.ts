/**
 * Which outbound packets share a mapping: RFC 4787 §4.1, told from what servers say of one local port.
 *
 * @module
 */

import { formatTransportAddress, type TransportAddress } from "../net/address.ts";
import { type BehaviorVerdict, unknown } from "./behavior.ts";
import type { MappingSample } from "./probe.ts";

/**
 * The mapping behaviour that the samples show; `"unknown"` while they allow several.
 *
 * Two IP addresses that see the same external address prove an endpoint-independent mapping: a NAT that maps
 * by destination gives each a port of its own. A server that disagrees with such a pair is the one that lies.
 *
 * @param isOwn whether the external address is the local one: no NAT
 */
export function classifyMapping(
  samples: readonly MappingSample[],
  isOwn: (mapped: TransportAddress) => boolean,
): BehaviorVerdict {
  const own = samples.find(({ mapped }) => isOwn(mapped));
  if (own !== undefined) {
    const seen = formatTransportAddress(own.mapped);
    return sure("none", 0.999, `servers see this host's own address, ${seen}`);
  }
  const changing = samples.find((a) => samples.some((b) => sameTo(a, b) && !sameMapped(a, b)));
  if (changing !== undefined) {
    return unknown(`${describe(changing)}, and at another time sees another one`);
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
    return sure(
      "endpoint-independent",
      ips.size > 2 ? 0.999 : 0.99,
      `${[...ips].join(" and ")} see the same external address, ${seen}`,
      ...others.map((sample) => `${describe(sample)}: it does not count against the others`),
    );
  }
  if (byPort !== undefined) {
    const [a, b] = byPort;
    return sure(
      "address-and-port-dependent",
      0.99,
      describe(a),
      `${describe(b)}: same host, other port`,
    );
  }
  const byAddress = pairs(samples).find(([a, b]) => a.to.ip !== b.to.ip);
  if (byAddress === undefined) {
    return unknown(
      samples.length === 0
        ? "no server answered"
        : `${describe(samples[0]!)}; nothing at another IP address answered to compare it with`,
    );
  }
  const evidence = byAddress.map(describe);
  return oneHost.length > 0
    ? sure(
      "address-dependent",
      0.99,
      ...evidence,
      `${describe(oneHost[0]![1])}: same host, other port`,
    )
    : unknown(...evidence, "whether the port of the destination matters could not be tested");
}

/**
 * Whether the samples rule out an endpoint-independent mapping, even where they cannot tell which other it is: no two
 * IP addresses see the same external address.
 */
export function differsByDestination(samples: readonly MappingSample[]): boolean {
  const apart = pairs(samples).filter(([a, b]) => a.to.ip !== b.to.ip);
  return apart.length > 0 && apart.every(([a, b]) => !sameMapped(a, b));
}

function sure(
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
