// Real servers behind a proxy of HTTP or SOCKS5, which alone knows their names: coturn and mosquitto.

import { assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { RefusedError } from "../../lib/base/errors.ts";
import { throughProxy, withNames } from "../../lib/net/proxy/client.ts";
import { systemNetwork } from "../../lib/net/system.ts";
import { mqttTransport } from "../../lib/signal/mqtt/transport.ts";
import { openStreamRelay } from "../../lib/turn/open_relay.ts";
import { FakeProxy, httpProxy, socksProxy } from "../net/proxy/fake_proxy.ts";
import { COTURN, COTURN_TLS } from "./coturn.ts";
import { MOSQUITTO, Mosquitto } from "./mosquitto.ts";
import { toolTest } from "./tool_test_case.ts";
import { CREDENTIAL, LOOPBACK, readPattern, startTurn, writePattern } from "./turn_server.ts";

const KINDS = [["http", httpProxy], ["socks5", socksProxy]] as const;

for (const [scheme, make] of KINDS) {
  for (const transport of ["tcp", "tls"] as const) {
    toolTest(
      `coturn relays a stream over ${transport} through a ${scheme} proxy`,
      transport === "tls" ? COTURN_TLS : COTURN,
      async () => {
        await using coturn = await startTurn({
          tls: transport === "tls",
          // Of a server that is not on loopback, a relayed address there is refused.
          args: ["-X", "192.0.2.1/127.0.0.1"],
        });
        const { port } = transport === "tls" ? coturn.tlsAddress : coturn.address;
        const routes = new Map([[`turn.example:${port}`, { ...LOOPBACK, port }]]);
        await using fake = await FakeProxy.start(make({ routes }));
        const proxy = throughProxy(systemNetwork, { url: `${scheme}://${fake.host}` });
        // Its certificate is for `localhost`, which would go direct.
        const network = proxy.networkFor("turn.example");
        const uri = transport === "tls" ? "turns:turn.example" : "turn:turn.example";
        const open = (credential: typeof CREDENTIAL) =>
          withNames(proxy, () =>
            openStreamRelay(`${uri}:${port}?transport=tcp`, {
              network: {
                ...network,
                canReusePort: false,
                connectTls: (remote, options) =>
                  network.connectTls(remote, { ...options, hostname: "localhost" }),
              },
              caCerts: [coturn.caCert].filter((each) => each !== ""),
              credential,
            }));
        await using relay = await open(CREDENTIAL);
        using listener = await systemNetwork.listenTcp({ ...LOOPBACK, port: 0 });
        const [dialled, peer] = await Promise.all([
          relay.connect(listener.local),
          listener.accept(),
        ]);
        const [arrived] = await Promise.all([
          readPattern(peer, 300_000),
          writePattern(dialled, 300_000),
        ]);
        assertEquals(arrived, 0);
        dialled.close();
        peer.close();
        const error = await assertRejects(
          () => open({ ...CREDENTIAL, password: "wrong" }),
          RefusedError,
        );
        assertStringIncludes(error.message, `turn.example:${port}`);
      },
    );
  }

  toolTest(`two peers talk by mosquitto through a ${scheme} proxy`, MOSQUITTO, async () => {
    await using broker = await Mosquitto.start();
    for (const way of ["mqtt", "mqtt+ws"] as const) {
      const { port } = new URL(broker.url(way).replace(/^[a-z+]+/, "http"));
      const routes = new Map([[`broker.example:${port}`, { ip: "127.0.0.1", port: Number(port) }]]);
      await using fake = await FakeProxy.start(make({ routes }));
      const { networkFor } = throughProxy(systemNetwork, { url: `${scheme}://${fake.host}` });
      const network = networkFor("broker.example");
      const url = `${way}://broker.example:${port}`;
      await using one = await mqttTransport(url).open({ network });
      await using other = await mqttTransport(url).open({ network });
      const received = Promise.withResolvers<Uint8Array>();
      await using _subscription = await one.subscribe(TOPIC, received.resolve);
      await other.publish(TOPIC, new Uint8Array([1, 2, 3]));
      assertEquals(await received.promise, new Uint8Array([1, 2, 3]));
    }
  });
}

const TOPIC = "AAAAAAAAAAAAAAAAAAAAAA";
