import { assert, assertEquals } from "@std/assert";
import { mappingVerdict } from "../../lib/portmap/verdict.ts";

for (
  const [externalIp, seenIps, kind] of [
    ["44.0.0.7", ["44.0.0.7"], "public"],
    ["44.0.0.7", ["198.51.100.1", "44.0.0.7"], "public"],
    ["44.0.0.7", [], "unverified"],
    ["44.0.0.7", ["2600:1::2"], "unverified"],
    ["44.0.0.7", ["44.0.0.8"], "double-nat"],
    ["10.0.0.2", [], "double-nat"],
    ["172.31.0.2", ["44.0.0.7"], "double-nat"],
    ["192.168.2.2", [], "double-nat"],
    ["100.64.0.1", [], "cgnat"],
    ["100.127.255.254", ["44.0.0.7"], "cgnat"],
    ["192.0.0.2", [], "cgnat"],
    ["0.0.0.0", [], "unverified"],
    ["0.0.0.0", ["44.0.0.7"], "unverified"],
    ["127.0.0.1", [], "unverified"],
    ["2600:1::2", ["2600:1::2"], "public"],
    ["2600:1::2", [], "unverified"],
  ] as const
) {
  Deno.test(`mappingVerdict() judges ${externalIp} ${kind} if servers see ${seenIps.join(", ") || "nothing"}`, () => {
    const verdict = mappingVerdict({ externalIp, seenIps });
    assertEquals(verdict.kind, kind);
    const isPlausible = externalIp !== "0.0.0.0" && externalIp !== "127.0.0.1";
    const needsNone = kind === "public" || kind === "unverified" && isPlausible;
    assertEquals(verdict.remedy === undefined, needsNone);
    const seen = seenIps.filter((ip) => ip.includes(":") === externalIp.includes(":"));
    const isBeside = seen.length === 0 || seen.some((ip) => verdict.evidence.includes(ip));
    assert(isBeside, verdict.evidence);
  });
}

Deno.test("mappingVerdict() tells an address in reverse order, and corrects it", () => {
  const verdict = mappingVerdict({ externalIp: "7.0.0.44", seenIps: ["44.0.0.7"] });
  assertEquals([verdict.kind, verdict.correctedIp], ["public", "44.0.0.7"]);
  assert(/7\.0\.0\.44.*reverse/.test(verdict.evidence), verdict.evidence);
});
