import { assertEquals } from "@std/assert";
import { parseIp, synthesizeIp, unwrapIp, whyNotPublic } from "../../lib/net/address.ts";
import { discoverNat64, prefixOf } from "../../lib/net/local_address.ts";
import { systemNetwork } from "../../lib/net/system.ts";

/** RFC 6052 §2.4, with 192.0.2.33. */
const EMBEDDED: readonly (readonly [prefix: string, bits: number, ip: string])[] = [
  ["2001:db8::", 32, "2001:db8:c000:221::"],
  ["2001:db8:100::", 40, "2001:db8:1c0:2:21::"],
  ["2001:db8:122::", 48, "2001:db8:122:c000:2:2100::"],
  ["2001:db8:122:300::", 56, "2001:db8:122:3c0:0:221::"],
  ["2001:db8:122:344::", 64, "2001:db8:122:344:c0:2:2100::"],
  ["2001:db8:122:344::", 96, "2001:db8:122:344::c000:221"],
];

for (const [ip, bits, embedded] of EMBEDDED) {
  Deno.test(`unwrapIp() finds the IPv4 address after a prefix of ${bits} bits`, () => {
    assertEquals(unwrapIp(embedded, [{ ip, bits }]), "192.0.2.33");
    assertEquals(unwrapIp(embedded), embedded);
  });
}

for (const [ip, bits, embedded] of EMBEDDED) {
  Deno.test(`synthesizeIp() writes an IPv4 address after a prefix of ${bits} bits`, () => {
    assertEquals(synthesizeIp("192.0.2.33", { ip, bits }), parseIp(embedded));
  });
}

Deno.test("unwrapIp() unwraps IPv4-mapped, 6to4 and well-known NAT64 addresses, and leaves others", () => {
  assertEquals(unwrapIp("::ffff:127.0.0.1"), "127.0.0.1");
  assertEquals(unwrapIp("2002:a00:1::1"), "10.0.0.1");
  assertEquals(unwrapIp("64:ff9b::7f00:1"), "127.0.0.1");
  for (const ip of ["192.0.2.1", "2001:db8::1", "::1", "fe80::1%eth0"]) {
    assertEquals(unwrapIp(ip), ip);
  }
});

Deno.test("whyNotPublic() judges what an address unwraps to", () => {
  const nat64 = [{ ip: "2001:db8:64::", bits: 96 }];
  assertEquals(whyNotPublic("2001:db8:64::a00:1", nat64), "in a private network");
  assertEquals(whyNotPublic("2001:db8:64::808:808", nat64), null);
  assertEquals(whyNotPublic("64:ff9b::a9fe:a9fe"), "a cloud metadata address");
  assertEquals(whyNotPublic("::ffff:127.0.0.1"), "loopback");
  assertEquals(whyNotPublic("203.0.113.1"), null);
});

Deno.test("discoverNat64() learns the prefix from the resolver", async () => {
  const resolve = (_name: string, family: number) =>
    Promise.resolve(family === 6 ? ["2001:db8:64::c000:aa", "2001:db8:64::c000:ab"] : []);
  assertEquals(await discoverNat64({ ...systemNetwork, resolve }), [
    { ip: "2001:db8:64::", bits: 96 },
    { ip: "2001:db8:64::", bits: 96 },
  ]);
  assertEquals(prefixOf("2001:db8:122:344:c0:0:aa00::"), { ip: "2001:db8:122:344::", bits: 64 });
  assertEquals(prefixOf("2001:db8::1"), undefined);
});

Deno.test("discoverNat64() finds none if the name does not resolve", async () => {
  const resolve = () => Promise.reject(new Error("no such name"));
  assertEquals(await discoverNat64({ ...systemNetwork, resolve }), []);
});

Deno.test("discoverNat64() asks the resolver once for many connections", async () => {
  let asked = 0;
  const resolve = () => Promise.resolve([`2001:db8:${++asked}::c000:aa`]);
  const network = { ...systemNetwork, resolve };
  const found = await Promise.all([1, 2, 3].map(() => discoverNat64(network)));
  found.push(await discoverNat64(network));
  assertEquals(new Set(found.map(([prefix]) => prefix!.ip)), new Set(["2001:db8:1::"]));
  assertEquals(asked, 1);
});

Deno.test("discoverNat64() asks again after all who asked have given up", async () => {
  const given = new AbortController();
  const asked: AbortSignal[] = [];
  const resolve = (_name: string, _family: number, { signal }: { signal?: AbortSignal } = {}) => {
    asked.push(signal!);
    if (asked.length > 1) return Promise.resolve(["2001:db8::c000:aa"]);
    const { promise, reject } = Promise.withResolvers<string[]>();
    signal!.addEventListener("abort", () => reject(signal!.reason), { once: true });
    return promise;
  };
  const network = { ...systemNetwork, resolve };
  const first = discoverNat64(network, { signal: given.signal });
  given.abort();
  assertEquals(await first, []);
  assertEquals(await discoverNat64(network), [{ ip: "2001:db8::", bits: 96 }]);
});
