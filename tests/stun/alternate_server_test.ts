import { assertEquals, assertRejects } from "@std/assert";
import { RefusedError } from "../../lib/base/errors.ts";
import type { TransportAddress } from "../../lib/net/address.ts";
import { at, withHosts } from "./client_hosts.ts";
import { refusal, type Script, scriptTcp, scriptUdp, success } from "./scripted_server.ts";

Deno.test("requestBinding() follows ALTERNATE-SERVER over UDP and TCP", async () => {
  await withHosts(async ({ internet, server, ask }) => {
    const other = internet.host("other");
    for (const [start, transport] of [[scriptUdp, "udp"], [scriptTcp, "tcp"]] as const) {
      using first = await start(server.network, at(server, 3478), to(at(other, 3000)));
      using second = await start(other.network, at(other, 3000), (one) => [success(one)]);
      const binding = await ask(first.address, { transport });
      assertEquals(binding.server, second.address);
      assertEquals([first.arrived.length, second.arrived.length], [1, 1]);
      if (transport === "udp") assertEquals(first.arrived[0]!.from, second.arrived[0]!.from);
    }
  });
});

Deno.test("requestBinding() refuses to follow a loop of redirects", async () => {
  await withHosts(async ({ server, ask }) => {
    using first = await scriptUdp(server.network, at(server, 1), to(at(server, 2)));
    using second = await scriptUdp(server.network, at(server, 2), to(at(server, 1)));
    const error = await assertRejects(
      () => ask(first.address),
      RefusedError,
      "it was asked before",
    );
    assertEquals(error.code, 300);
    assertEquals([first.arrived.length, second.arrived.length], [1, 1]);
  });
});

Deno.test("requestBinding() follows at most four redirects", async () => {
  await withHosts(async ({ server, ask }) => {
    using stack = new DisposableStack();
    for (let port = 1; port <= 6; port++) {
      stack.use(await scriptUdp(server.network, at(server, port), to(at(server, port + 1))));
    }
    using asked = await scriptUdp(server.network, at(server, 7), (one) => [success(one)]);
    assertEquals((await ask(at(server, 3))).server, asked.address);
    await assertRejects(() => ask(at(server, 2)), RefusedError, "more than 4 redirects away");
  });
});

for (
  const [what, alternate, message] of [
    ["this machine", { ip: "127.0.0.1", port: 3478 }, "it is a loopback address"],
    ["a private network", { ip: "192.168.1.1", port: 80 }, "it is a private address"],
    ["another family", { ip: "2001:4860::1", port: 3478 }, "it is of another family"],
    ["the mail server of others", { ip: "198.51.100.1", port: 25 }, "one of another service"],
    ["no port", { ip: "198.51.100.1", port: 0 }, "it has no port"],
  ] as const
) {
  Deno.test(`requestBinding() does not follow a redirect to ${what}`, async () => {
    await withHosts(async ({ server, ask }) => {
      using first = await scriptUdp(server.network, at(server, 3478), to(alternate));
      await assertRejects(() => ask(first.address), RefusedError, message);
    });
  });
}

Deno.test("requestBinding() rejects on a 300 without an address", async () => {
  await withHosts(async ({ server, ask }) => {
    using first = await scriptUdp(server.network, at(server, 3478), (one) => [refusal(one, 300)]);
    const error = await assertRejects(() => ask(first.address), RefusedError, "answered 300");
    assertEquals(error.code, 300);
  });
});

function to(alternate: TransportAddress): Script {
  return (one) => [refusal(one, 300, [{ type: "ALTERNATE-SERVER", value: alternate }])];
}
