import { assert, assertEquals } from "@std/assert";
import { systemNetwork } from "../../lib/net/mod.ts";
import { AcceptedConnections } from "../../lib/peer/accepted_connections.ts";

Deno.test("a hundred requests that come at once look for file descriptors with a few sockets", async () => {
  let [open, most] = [0, 0];
  const network = {
    ...systemNetwork,
    bindUdp: async (...[local]: Parameters<typeof systemNetwork.bindUdp>) => {
      most = Math.max(most, ++open);
      const socket = await systemNetwork.bindUdp(local);
      const close = () => {
        open--;
        socket.close();
      };
      return { ...socket, close };
    },
  };
  const connections = new AcceptedConnections(1024);
  const asking = Array.from({ length: 100 }, () => connections.isShortOfFiles(network));
  assertEquals(new Set(await Promise.all(asking)), new Set([false]));
  assert(most <= 16, `${most} sockets at once`);
  assertEquals([await connections.isShortOfFiles(network), open], [false, 0]); // a look of its own
});
