import { assertEquals, assertRejects } from "@std/assert";
import { NetworkError } from "../../lib/base/errors.ts";
import { systemNetwork } from "../../lib/net/system.ts";
import { serveStun } from "../../lib/stun/server/server.ts";
import { stunBinding } from "../../lib/stun/stun_binding.ts";
import type { Host } from "../simnet/host.ts";
import { Internet } from "../simnet/internet.ts";
import { VirtualTime } from "../simnet/virtual_time.ts";
import { scriptUdp, success } from "./scripted_server.ts";

for (const transport of ["udp", "tcp"] as const) {
  Deno.test(`stunBinding() gets an answer from our own server over ${transport}`, async () => {
    await using server = await serveStun({ network: systemNetwork, address: "127.0.0.1", port: 0 });
    const { port } = server.addresses[0]!;
    const local = { ip: "127.0.0.1", port: 0 };
    const binding = await stunBinding(`127.0.0.1:${port}`, { transport, local });
    assertEquals(binding.mapped, binding.local);
  });
}

Deno.test("stunBinding() asks port 3478 of the IPv4 address of a name", async () => {
  await withServer(["203.0.113.7", "2001:db8::7"], async ({ client, server }) => {
    using scripted = await scriptUdp(server.network, at("203.0.113.7"), (one) => [success(one)]);
    const binding = await stunBinding("stun.example.org", { network: client.network });
    assertEquals(binding.server, scripted.address);
  });
});

Deno.test("stunBinding() asks the IPv6 address of a name if it has no other, or if family is 6", async () => {
  for (const addresses of [["2001:db8::7"], ["203.0.113.7", "2001:db8::7"]]) {
    await withServer(addresses, async ({ client, server }) => {
      using scripted = await scriptUdp(server.network, at("2001:db8::7"), (one) => [success(one)]);
      const binding = await stunBinding("stun.example.org:3478", {
        network: client.network,
        family: addresses.length === 1 ? undefined : 6,
      });
      assertEquals(binding.server, scripted.address);
    });
  }
});

Deno.test("stunBinding() asks port 5349 over TLS", async () => {
  const asked: unknown[] = [];
  const reason = new NetworkError("Cannot connect: the test ends here", "other");
  const network = {
    ...systemNetwork,
    connectTls: (remote: unknown, options: { hostname: string }) => {
      asked.push(remote, options.hostname);
      return Promise.reject(reason);
    },
  };
  await assertRejects(() => stunBinding("127.0.0.1", { network, transport: "tls" }), NetworkError);
  assertEquals(asked, [{ ip: "127.0.0.1", port: 5349 }, "127.0.0.1"]);
});

Deno.test("stunBinding() reports a name that does not resolve", async () => {
  await withServer([], async ({ client }) => {
    const error = await assertRejects(
      () => stunBinding("nowhere.example.org", { network: client.network }),
      NetworkError,
    );
    assertEquals(error.reason, "name-not-found");
  });
});

Deno.test("stunBinding() rejects text that names no server", async () => {
  for (const text of ["", "stun.example.org:99999", "stun.example.org:", "http://x", "1.2.3.4.5"]) {
    await assertRejects(() => stunBinding(text), TypeError);
  }
});

async function withServer(
  addresses: string[],
  test: (hosts: { client: Host; server: Host }) => Promise<void>,
): Promise<void> {
  using time = new VirtualTime();
  const internet = new Internet();
  const client = internet.host("client", { addresses: ["203.0.113.1", "2001:db8::1"] });
  const server = internet.host("server", { addresses });
  if (addresses.length > 0) internet.names.set("stun.example.org", addresses);
  await time.run(() => test({ client, server }));
  assertEquals(internet.openSockets(), []);
}

function at(ip: string) {
  return { ip, port: 3478 };
}
