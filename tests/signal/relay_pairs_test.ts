import { assertEquals } from "@std/assert";
import { type RelayPairLimits, RelayPairs } from "../../lib/signal/rendezvous/relay_pairs.ts";

const LIMITS: RelayPairLimits = { maxRelays: 2, maxRelaysPerSource: 2, maxRelayHalves: 2 };

Deno.test("two connections with one token are joined", () => {
  const pairs = new RelayPairs<string>(LIMITS);
  assertEquals(pairs.join("t", "a", "192.0.2.1"), { kind: "waiting", ousted: [] });
  assertEquals([pairs.halves, pairs.size], [1, 0]);
  assertEquals(pairs.join("t", "b", "192.0.2.2"), { kind: "joined", peer: "a" });
  assertEquals([pairs.halves, pairs.size], [0, 1]);
});

Deno.test("connections with different tokens are not joined", () => {
  const pairs = new RelayPairs<string>(LIMITS);
  pairs.join("t", "a", "192.0.2.1");
  assertEquals(pairs.join("u", "b", "192.0.2.2"), { kind: "waiting", ousted: [] });
  assertEquals([pairs.halves, pairs.size], [2, 0]);
});

Deno.test("a third connection with a token is refused, and the pair stays", () => {
  const pairs = new RelayPairs<string>(LIMITS);
  pairs.join("t", "a", "192.0.2.1");
  pairs.join("t", "b", "192.0.2.2");
  assertEquals(pairs.join("t", "c", "192.0.2.3"), { kind: "refused", why: "token-used" });
  assertEquals(pairs.leave("c"), undefined);
  assertEquals(pairs.leave("a"), "b");
  assertEquals(pairs.leave("b"), undefined);
  assertEquals([pairs.halves, pairs.size], [0, 0]);
});

Deno.test("a source has a limited number of relays, and a pair of one source counts once", () => {
  const pairs = new RelayPairs<string>({ ...LIMITS, maxRelays: 9 });
  pairs.join("t", "a", "192.0.2.1");
  assertEquals(pairs.join("t", "b", "192.0.2.1").kind, "joined");
  assertEquals(pairs.join("u", "c", "192.0.2.1").kind, "waiting");
  assertEquals(pairs.join("v", "d", "192.0.2.1"), { kind: "refused", why: "source-full" });
  pairs.leave("c");
  assertEquals(pairs.join("v", "d", "192.0.2.1").kind, "waiting");
});

Deno.test("an IPv6 /56 is one source, and another /56 is another", () => {
  const pairs = new RelayPairs<string>({ ...LIMITS, maxRelayHalves: 9 });
  pairs.join("t", "a", "2001:db8:0:1::1");
  pairs.join("u", "b", "2001:db8:0:2::1");
  assertEquals(pairs.join("v", "c", "2001:db8:0:ff::1").kind, "refused");
  assertEquals(pairs.join("v", "c", "2001:db8:0:100::1").kind, "waiting");
});

Deno.test("when the pairs are at their limit, a further half is refused", () => {
  const pairs = new RelayPairs<string>({ ...LIMITS, maxRelays: 1 });
  pairs.join("t", "a", "192.0.2.1");
  pairs.join("t", "b", "192.0.2.2");
  assertEquals(pairs.join("u", "c", "192.0.2.3"), { kind: "refused", why: "relay-full" });
  pairs.leave("b");
  assertEquals(pairs.join("u", "c", "192.0.2.3").kind, "waiting");
});

Deno.test("one half too many ousts the oldest, not a pair", () => {
  const pairs = new RelayPairs<string>(LIMITS);
  pairs.join("p", "x", "192.0.2.8");
  pairs.join("p", "y", "192.0.2.9");
  for (const each of ["a", "b"]) pairs.join(each, each, `192.0.2.${each.charCodeAt(0)}`);
  assertEquals(pairs.join("c", "c", "192.0.2.3"), { kind: "waiting", ousted: ["a"] });
  assertEquals([pairs.halves, pairs.size], [2, 1]);
  assertEquals(pairs.join("a", "a2", "192.0.2.4"), { kind: "waiting", ousted: ["b"] });
});
