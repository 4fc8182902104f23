import { assertEquals } from "@std/assert";
import type { MappingAttempt } from "../../lib/portmap/mapper.ts";
import { attemptsText, eventText, probeText, tableText } from "../../lib/cli/map.ts";

Deno.test("map add prints one line for each event of a mapping", () => {
  const report = {
    protocol: "pcp",
    transport: "tcp",
    internal: "192.168.1.2:8080",
    external: "44.0.0.7:8080",
    lifetimeSeconds: 3600,
    gateway: "192.168.1.1",
    verdict: "public",
  } as const;
  const events = ["mapped", "renewed", "changed", "lost", "released"] as const;
  assertEquals(events.map((event) => eventText({ event, ...report, reason: "why" })), [
    "Mapped TCP 44.0.0.7:8080 to 192.168.1.2:8080 by PCP on 192.168.1.1, for 3600 s\n  public",
    "Renewed TCP 44.0.0.7:8080 to 192.168.1.2:8080, for 3600 s",
    "Changed to TCP 44.0.0.7:8080 to 192.168.1.2:8080: why",
    "Lost TCP 44.0.0.7:8080 to 192.168.1.2:8080: why; requesting it again",
    "Released TCP 44.0.0.7:8080 to 192.168.1.2:8080: why",
  ]);
});

Deno.test("map add prints each reason once, with the protocols and gateways, and each remedy once", () => {
  const attempt = (
    strategy: MappingAttempt["strategy"],
    remote: string,
    reason: string,
    remedy: string,
  ): MappingAttempt => ({
    ...{ strategy, local: "192.168.1.2", remote, outcome: "unreachable", tries: 0, resets: 0 },
    ...{ elapsedMs: 5000, reason, remedy },
  });
  const permission = "Run the program with --allow-net";
  const denied = (verb: string, at: string) =>
    `Cannot ${verb} ${at}: network access to ${at} is not granted`;
  assertEquals(
    attemptsText([
      attempt("pcp", "192.168.1.1", denied("bind UDP", "192.168.1.2:0"), permission),
      attempt("pcp", "192.0.0.9", denied("bind UDP", "192.168.1.2:0"), permission),
      attempt("nat-pmp", "192.168.1.1", denied("send to", "192.168.1.1:5351"), permission),
      attempt("upnp", "192.168.1.1", denied("bind UDP", "[fe80::1]:0"), permission),
    ], permission),
    ["  PCP, NAT-PMP and UPnP at 192.168.1.1 and 192.0.0.9: network access is not granted"],
  );
  assertEquals(
    attemptsText([
      attempt("pcp", "192.168.1.1", "Cannot reach 192.168.1.1:5351: no answer", "Enable PCP"),
      attempt("nat-pmp", "192.168.1.1", "Cannot reach 192.168.1.1:5351: no answer", "Enable it"),
      attempt("upnp", "192.168.1.1", "the router answered 718: conflict", "Enable it"),
    ], "Enable PCP"),
    [
      "  PCP at 192.168.1.1: no answer",
      "  NAT-PMP at 192.168.1.1: no answer. Enable it",
      "  UPnP at 192.168.1.1: the router answered 718: conflict",
    ],
  );
});

Deno.test("map list prints a table", () => {
  const mapping = {
    transport: "tcp",
    externalPort: 80,
    internal: "192.168.1.2:8080",
    leaseSeconds: 0,
    description: "web",
    enabled: true,
  } as const;
  assertEquals(tableText([{ address: "192.168.1.1", mappings: [mapping], problem: null }]), [
    "192.168.1.1:",
    "  PROTO  EXTERNAL  INTERNAL          LEASE      DESCRIPTION",
    "  TCP    80        192.168.1.2:8080  permanent  web",
  ]);
});

Deno.test("map probe prints cause and remedy for each protocol", () => {
  const silent = { answer: "silent", detail: "UPnP is off: enable it in the router" } as const;
  const lines = probeText([{
    address: "192.168.1.1",
    pcp: silent,
    natPmp: null,
    upnp: silent,
    external: null,
    verdict: null,
    detail: "the router opens no ports",
  }]);
  assertEquals(lines, [
    "192.168.1.1",
    "  PCP      silent     UPnP is off: enable it in the router",
    "  UPnP     silent     UPnP is off: enable it in the router",
    "  no mappings: the router opens no ports",
  ]);
});
