import { assertEquals } from "@std/assert";
import { eventText, probeText, tableText } from "../../lib/cli/map.ts";

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
