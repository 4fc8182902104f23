/**
 * `time_mappings.ts COUNT`: how long it takes to map a port, by each protocol and by the race, in milliseconds. Every
 * call starts without knowing the gateway. Prints JSON.
 *
 * @module
 */

import { systemNetwork } from "../../../lib/net/system.ts";
import { mapPort } from "../../../lib/portmap/map_port.ts";
import type { MapperName } from "../../../lib/portmap/mapper.ts";

const count = Number(Deno.args[0]);
const PROTOCOLS: readonly (readonly [string, readonly MapperName[] | undefined])[] = [
  ["PCP", ["pcp"]],
  ["NAT-PMP", ["nat-pmp"]],
  ["UPnP", ["upnp"]],
  ["race", undefined],
];
const results: [string, number[]][] = [];
for (const [name, protocols] of PROTOCOLS) {
  const elapsedMs: number[] = [];
  for (let index = 0; index < count; index++) {
    const startMs = performance.now();
    const network = { ...systemNetwork }; // a new one, of which nothing is known yet
    await using _mapping = await mapPort({
      protocol: "tcp",
      internalPort: 8080,
      protocols,
      network,
    });
    elapsedMs.push(performance.now() - startMs);
  }
  results.push([name, elapsedMs]);
}
// deno-lint-ignore no-console -- a program
console.log(JSON.stringify(results));
