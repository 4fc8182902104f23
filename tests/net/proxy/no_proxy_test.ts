import { assertEquals } from "@std/assert";
import { directHosts } from "../../../lib/net/proxy/no_proxy.ts";

const CASES: readonly [list: string, direct: readonly string[], proxied: readonly string[]][] = [
  ["", ["localhost", "a.localhost", "127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"], [
    "example.org",
    "10.0.0.1",
    "localhost.example",
  ]],
  ["*", ["example.org", "192.0.2.1", "2001:db8::1"], []],
  ["example.org", ["example.org", "EXAMPLE.org.", "a.b.example.org"], [
    "notexample.org",
    "example.org.evil.example",
    "org",
  ]],
  [".example.org, *.intra", ["example.org", "a.example.org", "x.intra"], ["intra.example"]],
  ["10.0.0.0/8 192.0.2.7,2001:db8::/32", ["10.1.2.3", "192.0.2.7", "2001:db8:1::9"], [
    "11.0.0.1",
    "192.0.2.8",
    "2001:db9::1",
    "ten.example",
  ]],
  ["[2001:db8::1]", ["2001:db8::1"], ["2001:db8::2"]],
  // Ports, other wildcards and junk are no entries: what they may mean goes through the proxy.
  ["example.org:8080,a*b,,;http://x.example,10.0.0.0/99,999.0.0.1/8", ["localhost"], [
    "example.org",
    "ab",
    "x.example",
    "10.0.0.1",
  ]],
];

for (const [list, direct, proxied] of CASES) {
  Deno.test(`NO_PROXY ${JSON.stringify(list)}`, () => {
    const goesDirect = directHosts(list);
    assertEquals(direct.filter((host) => !goesDirect(host)), []);
    assertEquals(proxied.filter((host) => goesDirect(host)), []);
  });
}
