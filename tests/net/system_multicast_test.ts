import { assertEquals, assertRejects } from "@std/assert";
import { NetworkError } from "../../lib/base/errors.ts";
import { systemNetwork } from "../../lib/net/system.ts";

const GROUP = "239.255.77.77";

function member(port: number) {
  return systemNetwork.bindUdp({ ip: "0.0.0.0", port }, {
    multicast: { groups: [{ group: GROUP, interfaceIp: "127.0.0.1" }] },
  });
}

Deno.test("bindUdp() lets members of a group share a port, and all receive what is sent to it", async () => {
  using first = await member(0);
  using second = await member(first.local.port);
  using sender = await systemNetwork.bindUdp({ ip: "127.0.0.1", port: 0 }, {
    multicast: { hops: 2 },
  });
  await sender.send(new Uint8Array([7]), { ip: GROUP, port: first.local.port });
  for (const socket of [first, second]) {
    const { data, from } = await socket.receive();
    assertEquals([...data], [7]);
    assertEquals(from, sender.local);
  }
});

Deno.test("bindUdp() says in words that no interface takes part in a group", async () => {
  const groups = [{ group: GROUP, interfaceIp: "192.0.2.1" }];
  const { message, reason } = await assertRejects(
    () => systemNetwork.bindUdp({ ip: "0.0.0.0", port: 0 }, { multicast: { groups } }),
    NetworkError,
  );
  assertEquals(message, `Cannot join the multicast group ${GROUP}: no network interface takes it`);
  assertEquals(reason, "unreachable");
});
