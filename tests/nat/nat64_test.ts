import { assertEquals, assertMatch } from "@std/assert";
import { NetworkError } from "../../lib/base/errors.ts";
import { ipFamily, synthesizeIp, type TransportAddress, unwrapIp } from "../../lib/net/address.ts";
import type { Network, TcpConnection } from "../../lib/net/network.ts";
import { stunBinding } from "../../lib/stun/stun_binding.ts";
import { PRIMARY, SERVER_IPS, withServer } from "../scenes/nat_scene.ts";

const PREFIX = { ip: "2001:db8:64::", bits: 96 };

/** A host with IPv6 alone, behind a NAT64 whose resolver tells its prefix. Beyond it is the given network, with IPv4. */
function behindNat64(beyond: Network, { hasDns64 = true } = {}): Network {
  const out = ({ ip, port }: TransportAddress) => {
    if (ipFamily(ip) === 4) throw new NetworkError(`Cannot send to ${ip}`, "unreachable");
    return { ip: unwrapIp(ip, [PREFIX]), port };
  };
  const back = ({ ip, port }: TransportAddress) => ({ ip: synthesizeIp(ip, PREFIX), port });
  const here = ({ port }: TransportAddress) => ({ ip: "0.0.0.0", port });
  return {
    ...beyond,
    canReusePort: beyond.canReusePort,
    bindUdp: async (local) => {
      const socket = await beyond.bindUdp(here(local));
      return {
        local: { ip: local.ip, port: socket.local.port },
        // deno-lint-ignore require-await -- rejects where the synchronous call throws
        send: async (data, to) => socket.send(data, out(to)),
        receive: async (options) => {
          const { data, from } = await socket.receive(options);
          return { data, from: back(from) };
        },
        close: () => socket.close(),
        [Symbol.dispose]: () => socket.close(),
      };
    },
    connectTcp: async (remote, options) => {
      const local = options?.local && here(options.local);
      const connection = await beyond.connectTcp(out(remote), { ...options, local });
      const from: TransportAddress = { ip: "2001:db8:1::2", port: connection.local.port };
      return new Proxy(connection, {
        get: (target, name: keyof TcpConnection) => {
          if (name === "local") return from;
          if (name === "remote") return remote;
          const value = target[name];
          return typeof value === "function" ? value.bind(target) : value;
        },
      });
    },
    listenTcp: (local, options) => beyond.listenTcp(here(local), options),
    resolve: async (name, family, options) => {
      if (name === "ipv4only.arpa" && family === 6) {
        return [synthesizeIp("192.0.0.170", PREFIX)];
      }
      if (family === 6 && hasDns64) {
        return (await beyond.resolve(name, 4, options)).map((ip) => synthesizeIp(ip, PREFIX));
      }
      return await beyond.resolve(name, family, options);
    },
    localAddresses: () => Promise.resolve([{ interfaceName: "eth0", ip: "2001:db8:1::2" }]),
    ownsAddress: (ip) => Promise.resolve(ip === "2001:db8:1::2"),
  };
}

Deno.test("testNat() reaches servers by address through a NAT64, and uses the IPv4 address they see", async () => {
  await withServer({}, async ({ client, home, test }) => {
    const network = behindNat64(client.network);
    const { udp, tcp, findings, verdict } = await test({ network });
    assertEquals([udp.ipv4, tcp.ipv4], [null, null]);
    assertEquals([udp.ipv6?.reachable, tcp.ipv6?.reachable], [true, true]);
    assertMatch(udp.ipv6!.external!, new RegExp(`^${home.nat.externalIps[0]}:`));
    assertEquals(udp.ipv6!.translated, true);
    assertEquals(findings[0]?.kind, "nat64");
    assertEquals(["offline", "blocked"].includes(verdict.difficulty), false);
  });
});

Deno.test("testNat() reaches servers by name through a NAT64 with DNS64", async () => {
  await withServer({}, async ({ client, internet, test }) => {
    internet.names.set("stun.example.net", [SERVER_IPS[0]]);
    const network = behindNat64(client.network);
    const { udp } = await test({ network, servers: ["stun.example.net"] });
    assertEquals([udp.ipv4, udp.ipv6?.reachable], [null, true]);
  });
});

for (
  const [what, server, hasDns64] of [
    ["by address", PRIMARY, true],
    ["by a name with an A record, with DNS64", "stun.example.net", true],
    ["by a name with an A record, without DNS64", "stun.example.net", false],
  ] as const
) {
  Deno.test(`stunBinding() reaches a server ${what} through a NAT64`, async () => {
    await withServer({}, async ({ client, internet, home }) => {
      internet.names.set("stun.example.net", [SERVER_IPS[0]]);
      const network = behindNat64(client.network, { hasDns64 });
      const { mapped, server: asked } = await stunBinding(server, { network });
      assertEquals(mapped.ip, home.nat.externalIps[0]);
      assertEquals(asked.ip, synthesizeIp(SERVER_IPS[0], PREFIX));
    });
  });
}
