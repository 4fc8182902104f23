// Independent clients for RFC 5780 and RFC 3489, run against our server.

import { assertEquals, assertMatch } from "@std/assert";
import { systemNetwork } from "../../lib/net/system.ts";
import { serveStun, type StunServer } from "../../lib/stun/server/server.ts";
import { outputOf, toolTest } from "./tool_test_case.ts";

const NATDISCOVERY = { turnutils_natdiscovery: "coturn" };
const STUNCLIENT = { turnutils_stunclient: "coturn" };
const VOVIDA = { stun: "stun-client" };

function serve(): Promise<StunServer> {
  return serveStun({
    network: systemNetwork,
    address: "127.0.0.1",
    alternateAddress: "127.0.0.2",
    port: 0,
    alternatePort: 0,
  });
}

async function natdiscovery(server: StunServer, ...args: string[]): Promise<string> {
  const { ip, port } = server.addresses[0]!;
  return await outputOf("turnutils_natdiscovery", [...args, "-p", `${port}`, ip]);
}

function count(text: string, pattern: RegExp): number {
  return text.match(new RegExp(pattern, "g"))?.length ?? 0;
}

toolTest("coturn's natdiscovery finds no mapping and no filter", NATDISCOVERY, async () => {
  await using server = await serve();
  const text = await natdiscovery(server, "-m", "-f");
  assertMatch(text, /NAT with Endpoint Independent Mapping!/);
  assertMatch(text, /NAT with Endpoint Independent Filtering!/);
  const [a1p1, a2p1, , a2p2] = server.addresses;
  for (const { ip, port } of [a1p1!, a2p1!, a2p2!]) {
    assertMatch(text, new RegExp(`Response origin: : ${ip}:${port}\n`));
  }
  assertMatch(text, new RegExp(`Other addr: : ${a2p2!.ip}:${a2p2!.port}\n`));
  assertEquals(count(text, /No ALG: Mapped == XOR-Mapped/), count(text, /RFC 5780 response/));
});

toolTest(
  "coturn's natdiscovery gets padded responses to padded requests",
  NATDISCOVERY,
  async () => {
    await using server = await serve();
    const text = await natdiscovery(server, "-m", "-f", "-P");
    assertMatch(text, /NAT with Endpoint Independent Mapping!/);
    assertMatch(text, /NAT with Endpoint Independent Filtering!/);
  },
);

toolTest("coturn's natdiscovery gets responses at another port", NATDISCOVERY, async () => {
  await using server = await serve();
  const text = await natdiscovery(server, "-t", "-T", "1");
  assertEquals(count(text, /RFC 5780 response/), 2);
  const reflexive = [...text.matchAll(/UDP reflexive addr: 127\.0\.0\.1:(\d+)/g)];
  assertEquals(new Set(reflexive.map(([, port]) => port)).size, 2);
});

toolTest(
  "coturn's natdiscovery finds no collision of two local addresses",
  NATDISCOVERY,
  async () => {
    await using server = await serve();
    const text = await natdiscovery(server, "-c", "-L", "127.0.0.1", "-A", "127.0.0.3");
    assertMatch(text, /UDP reflexive addr: 127\.0\.0\.1:/);
    assertMatch(text, /UDP reflexive addr: 127\.0\.0\.3:/);
  },
);

toolTest("coturn's stunclient recognises an RFC 5780 server", STUNCLIENT, async () => {
  await using server = await serve();
  const { ip, port } = server.addresses[0]!;
  const text = await outputOf("turnutils_stunclient", ["-f", "-p", `${port}`, ip]);
  assertEquals(count(text, /RFC 5780 response/), 3);
  const { ip: alternateIp, port: alternatePort } = server.addresses[3]!;
  assertEquals(count(text, new RegExp(`Response origin: : ${alternateIp}:${alternatePort}\n`)), 2);
});

toolTest("Vovida's RFC 3489 client finds an open network", VOVIDA, async () => {
  await using server = await serve();
  const { ip, port } = server.addresses[0]!;
  const text = await outputOf("stun", [`${ip}:${port}`, "-v"]);
  for (const test of ["test I = 1", "test II = 1", "test III = 1", "mapped IP same = 1"]) {
    assertMatch(text, new RegExp(test));
  }
  assertMatch(text, /Primary: Open/);
});
