/**
 * Independent programs test the lab's NATs and must find what was configured: coturn's
 * `turnutils_natdiscovery` (RFC 5780) against coturn, and vovida's `stun` (RFC 3489) against vovida's `stund`.
 *
 * @module
 */

import { assertEquals } from "@std/assert";
import { Lab } from "../../lab/kernel/lab.ts";
import type { LabHost } from "../../lab/kernel/lab_host.ts";
import { labTest } from "./lab_test_case.ts";
import type { NatBehavior, NatBehaviorName } from "../../lab/model/nat_behavior.ts";
import { nat } from "../../lab/kernel/topology.ts";

/** The NATs of RFC 3489, and what each program calls them. */
const CLASSIC: readonly { name: NatBehaviorName; coturn: readonly string[]; vovida: string }[] = [
  {
    name: "fullCone",
    coturn: ["Endpoint Independent Mapping", "Endpoint Independent Filtering"],
    vovida: "Independent Mapping, Independent Filter, preserves ports, will hairpin",
  },
  {
    name: "addressRestricted",
    coturn: ["Endpoint Independent Mapping", "Address Dependent Filtering"],
    vovida: "Independent Mapping, Address Dependent Filter, preserves ports, will hairpin",
  },
  {
    name: "portRestricted",
    coturn: ["Endpoint Independent Mapping", "Address and Port Dependent Filtering"],
    vovida: "Independent Mapping, Port Dependent Filter, preserves ports, will hairpin",
  },
  {
    name: "symmetric",
    coturn: ["Address and Port Dependent Mapping", "Address and Port Dependent Filtering"],
    vovida: "Dependent Mapping, random port, no hairpin",
  },
];

/** One host behind each of the classic NATs, and a server with two addresses. */
const CLASSIC_TOPOLOGY = {
  hosts: {
    server: { addresses: ["203.0.113.10", "203.0.113.11"] },
    ...Object.fromEntries(CLASSIC.map(({ name }) => [name, { behind: nat(name) }])),
  },
  internet: { rttMs: 20 },
};

labTest("coturn's natdiscovery identifies the classic NATs", async () => {
  await using lab = await Lab.start(CLASSIC_TOPOLOGY);
  await serveCoturn(lab.host("server"));
  await Promise.all(CLASSIC.map(async ({ name, coturn }) => {
    assertEquals(await discover(lab.host(name), lab.host("server")), coturn, name);
  }));
}, { programs: ["turnserver", "turnutils_natdiscovery"] });

labTest("vovida's stun client identifies the classic NATs", async () => {
  await using lab = await Lab.start(CLASSIC_TOPOLOGY);
  serveVovida(lab.host("server"));
  await Promise.all(CLASSIC.map(async ({ name, vovida }) => {
    assertEquals(await primary(lab.host(name), lab.host("server")), vovida, name);
  }));
}, { programs: ["stund", "stun"] });

labTest(
  "coturn's natdiscovery identifies all nine combinations of mapping and filtering",
  async () => {
    const behaviors = [
      "endpoint-independent",
      "address-dependent",
      "address-and-port-dependent",
    ] as const;
    const combinations = behaviors.flatMap((mapping) =>
      behaviors.map((filtering) => ({ name: `${mapping} ${filtering}`, mapping, filtering }))
    );
    await using lab = await Lab.start({
      hosts: {
        server: { addresses: ["203.0.113.10", "203.0.113.11"] },
        ...Object.fromEntries(
          combinations.map(({ name, mapping, filtering }) => [name, {
            behind: nat({ mapping, filtering, allocation: { kind: "random" } }),
          }]),
        ),
      },
    });
    await serveCoturn(lab.host("server"));
    await Promise.all(combinations.map(async ({ name, mapping, filtering }) => {
      const seen = await discover(lab.host(name), lab.host("server"));
      assertEquals(seen, [
        `${COTURN_NAMES[mapping]} Mapping`,
        `${COTURN_NAMES[filtering]} Filtering`,
      ]);
    }));
  },
  { programs: ["turnserver", "turnutils_natdiscovery"] },
);

labTest("vovida's stun client detects missing hairpinning and offset ports", async () => {
  await using lab = await Lab.start({
    hosts: {
      server: { addresses: ["203.0.113.10", "203.0.113.11"] },
      a: { behind: nat({ hairpinning: false, allocation: { kind: "offset", delta: 100 } }) },
    },
  });
  serveVovida(lab.host("server"));
  const expected = "Independent Mapping, Port Dependent Filter, random port, no hairpin";
  assertEquals(await primary(lab.host("a"), lab.host("server")), expected);
}, { programs: ["stund", "stun"] });

/** The mapping and filtering that natdiscovery reports for a host. */
async function discover(host: LabHost, server: LabHost): Promise<string[]> {
  const args = ["-m", "-f", "-L", host.ip, server.ip];
  const { stdout } = await host.output("turnutils_natdiscovery", args);
  return [...stdout.matchAll(/^NAT with (.*)!$/gm)].map(([, verdict]) => verdict!);
}

/** Serves STUN on all addresses of a host; with two of them, by RFC 5780. */
async function serveCoturn(host: LabHost): Promise<void> {
  const listeners = host.ips.flatMap((ip) => ["-L", ip]);
  const quiet = ["-n", "-S", "-z", "--no-cli", "--no-tls", "--no-dtls", "--log-file", "stdout"];
  const ports = ["-p", "3478", "--alt-listening-port", "3479", "--pidfile", "/dev/null"];
  await host.serve("turnserver", [...quiet, ...ports, ...listeners], {
    ready: /Total General servers/, // the last line before it is ready
    stderr: "null", // warnings that there is no SCTP
  });
}

/** What vovida's client reports for a host. */
async function primary(host: LabHost, server: LabHost): Promise<string | undefined> {
  const { stdout } = await host.output("stun", [server.ip]);
  return /^Primary: (.*?)\s*$/m.exec(stdout)?.[1];
}

/** It does not report when it is ready, but its client retransmits often enough. */
function serveVovida(host: LabHost): void {
  const [first, second] = host.ips as [string, string];
  const args = ["-h", first, "-a", second, "-p", "3478", "-o", "3479"];
  host.spawn("stund", args, { stdout: "null", stderr: "null" });
}

const COTURN_NAMES: Readonly<Record<Exclude<NatBehavior["mapping"], "none">, string>> = {
  "endpoint-independent": "Endpoint Independent",
  "address-dependent": "Address Dependent",
  "address-and-port-dependent": "Address and Port Dependent",
};
