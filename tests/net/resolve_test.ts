import { assertEquals, assertRejects } from "@std/assert";
import { NetworkError } from "../../lib/base/errors.ts";
import type { Network } from "../../lib/net/network.ts";
import { networkWith } from "../../lib/net/local_address.ts";
import { resolveHost, resolvingOnce } from "../../lib/net/resolve.ts";
import { systemNetwork } from "../../lib/net/system.ts";
import { VirtualTime } from "../simnet/virtual_time.ts";

Deno.test("resolvingOnce() looks up a name once for all who ask while the answer is fresh", async () => {
  using time = new VirtualTime();
  const { network, lookups } = countingNetwork();
  const once = resolvingOnce(network, 60_000);
  const both = await Promise.all([once.resolve("a.example", 4), once.resolve("a.example", 4)]);
  assertEquals(both, [["192.0.2.1"], ["192.0.2.1"]]);
  await once.resolve("a.example", 6);
  await once.resolve("b.example", 4);
  assertEquals(lookups, ["a.example 4", "a.example 6", "b.example 4"]);
  await time.run(new Promise((resolve) => setTimeout(resolve, 60_000)));
  assertEquals(await once.resolve("a.example", 4), ["192.0.2.4"]);
});

Deno.test("resolvingOnce() tries again after a lookup that has failed", async () => {
  const { network, lookups } = countingNetwork({ fails: 1 });
  const once = resolvingOnce(network, 60_000);
  await assertRejects(() => once.resolve("a.example", 4), NetworkError, "not known");
  assertEquals(await once.resolve("a.example", 4), ["192.0.2.2"]);
  assertEquals(lookups.length, 2);
});

Deno.test("resolvingOnce() goes on for others if one of those who ask gives up", async () => {
  const answer = Promise.withResolvers<string[]>();
  const once = resolvingOnce(networkWith(systemNetwork, { resolve: () => answer.promise }), 60_000);
  const [first, second] = [new AbortController(), new AbortController()];
  const given = [first, second].map(({ signal }) => once.resolve("a.example", 4, { signal }));
  const waiting = once.resolve("a.example", 4);
  first.abort("enough");
  assertEquals(await given[0]!.catch((reason) => reason), "enough");
  second.abort("enough, too");
  assertEquals(await given[1]!.catch((reason) => reason), "enough, too");
  answer.resolve(["192.0.2.1"]);
  assertEquals(await waiting, ["192.0.2.1"]);
});

Deno.test("a name without any address is told by its IPv4 lookup, and another failure as it is", async () => {
  const failing = (reason: "name-not-found" | "timed-out") =>
    networkWith(systemNetwork, {
      resolve: (_, family) =>
        Promise.reject(
          new NetworkError(`no IPv${family}`, family === 4 ? "name-not-found" : reason),
        ),
    });
  await assertRejects(() => resolveHost(failing("name-not-found"), "a", {}), Error, "no IPv4");
  await assertRejects(() => resolveHost(failing("timed-out"), "a", {}), Error, "no IPv6");
});

Deno.test("networkWith() changes what it is told to, and nothing else", async () => {
  const changed = networkWith(systemNetwork, { localAddresses: () => Promise.resolve([]) });
  assertEquals(Object.keys(changed).sort(), Object.keys(systemNetwork).sort());
  assertEquals(await changed.localAddresses(), []);
  assertEquals(await changed.resolve("127.0.0.1", 4), ["127.0.0.1"]);
  assertEquals(changed.canReusePort, systemNetwork.canReusePort);
});

/** A network that counts lookups; the answer is `192.0.2.` and how many there were. */
function countingNetwork({ fails } = { fails: 0 }): { network: Network; lookups: string[] } {
  const lookups: string[] = [];
  const network = networkWith(systemNetwork, {
    resolve: (hostname, family) => {
      lookups.push(`${hostname} ${family}`);
      if (lookups.length > fails) return Promise.resolve([`192.0.2.${lookups.length}`]);
      return Promise.reject(new NetworkError(`${hostname} is not known`, "name-not-found"));
    },
  });
  return { network, lookups };
}
