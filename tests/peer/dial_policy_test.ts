import { assertEquals, assertRejects } from "@std/assert";
import { NetworkError } from "../../lib/base/errors.ts";
import { systemNetwork } from "../../lib/net/system.ts";
import { DialPolicy } from "../../lib/peer/dial_policy.ts";

const { signal } = new AbortController();

Deno.test("a peer that names ever more private relays cannot have an application asked without end", async () => {
  const asked: string[] = [];
  const policy = new DialPolicy({
    network: systemNetwork,
    named: [],
    allowUrl: (url) => {
      asked.push(url);
      return true;
    },
  });
  const answers: boolean[] = [];
  for (let port = 10_000; port < 10_300; port++) {
    answers.push(await policy.whyNotRelay({ ip: "192.168.77.5", port }, signal) === null);
  }
  await policy.whyNotRelay({ ip: "192.168.77.5", port: 10_000 }, signal);
  assertEquals(asked.length, 256);
  assertEquals(answers.filter((isAllowed) => isAllowed).length, 256);
});

for (const url of ["ws:127.0.0.1:80", "ws:/127.0.0.1", "mqtt://xn--a.example", "turn:127.0.0.1"]) {
  Deno.test(`a URL in which no host is found is not dialled: ${url}`, async () => {
    const policy = new DialPolicy({ network: systemNetwork, named: [], allowUrl: undefined });
    const error = await assertRejects(() => policy.networkFor(url, signal), NetworkError);
    assertEquals(error.reason, "not-allowed");
  });
}

Deno.test("lan: names no host, and needs no permission", async () => {
  const policy = new DialPolicy({ network: systemNetwork, named: [], allowUrl: undefined });
  assertEquals(await policy.networkFor("lan:", signal), systemNetwork);
});
