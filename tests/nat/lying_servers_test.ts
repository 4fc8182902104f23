import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import {
  MalformedMessageError,
  NetworkError,
  NoResponseError,
  RefusedError,
} from "../../lib/base/errors.ts";
import type { FamilyReport } from "../../lib/nat/behavior.ts";
import type { TransportAddress } from "../../lib/net/address.ts";
import { serveStun } from "../../lib/stun/server/server.ts";
import { NAT_BEHAVIORS } from "../../lab/model/nat_behavior.ts";
import { type Combination, judge, nameOf } from "../../lab/scenarios/verdicts/combinations.ts";
import type { Packet } from "../simnet/packet.ts";
import { destinationIp } from "../../lab/model/nat_packet.ts";
import { type Lies, serveLies } from "./lying_server.ts";
import { PRIMARY, type RunningNatScene, SERVER_IPS, withScene } from "../scenes/nat_scene.ts";

const NATS: readonly Combination[] = [
  NAT_BEHAVIORS.fullCone,
  NAT_BEHAVIORS.addressRestricted,
  NAT_BEHAVIORS.portRestricted,
  NAT_BEHAVIORS.symmetric,
];

const ELSEWHERE = ["203.0.113.60", "203.0.113.61"] as const;

/** Everything that a server may lie about. */
const LIES: Readonly<Record<string, Lies>> = {
  "reports its own address with another port": {
    other: ({ port }) => ({ ip: SERVER_IPS[0], port }),
  },
  "reports another address with its own port": {
    other: ({ ip }) => ({ ip, port: 3478 }),
  },
  "reports a dead address": { other: ({ port }) => ({ ip: "203.0.113.250", port }) },
  "reports the address of another, honest server": {
    other: ({ port }) => ({ ip: ELSEWHERE[1], port }),
  },
  "reports a private address": { other: ({ port }) => ({ ip: "192.168.1.1", port }) },
  "reports a loopback address": { other: ({ port }) => ({ ip: "127.0.0.1", port }) },
  "reports port 0": { other: ({ ip }) => ({ ip, port: 0 }) },
  "reports an address of the other family": {
    other: ({ port }) => ({ ip: "2001:db8::1", port }),
  },
  "reports a multicast address": { other: ({ port }) => ({ ip: "224.0.0.1", port }) },
  "reports a different address each time": {
    other: ({ ip }, index) => ({ ip, port: 3479 + index }),
  },
  "reports no alternate address": { other: () => undefined },
  "answers CHANGE-REQUEST from the address that was asked": { change: "ignored" },
  "does not answer CHANGE-REQUEST": { change: "dropped" },
  "refuses CHANGE-REQUEST": { change: "refused" },
  "reports one mapped address for every port": {
    mapped: () => ({ ip: "198.51.100.1", port: 4242 }),
  },
  "reports arbitrary mapped addresses": {
    mapped: (_, index) => ({ ip: "198.51.100.1", port: 1024 + (index * 7919) % 60_000 }),
  },
};

for (const [lie, lies] of Object.entries(LIES)) {
  for (const combination of NATS) {
    const nat = nameOf(combination);
    Deno.test(`${nat}: a server that ${lie} leads to a verdict that is right or unknown`, async () => {
      const { udp } = await testWith(lies, combination, [PRIMARY]);
      assertNotWrong(combination, udp);
    });

    Deno.test(`${nat}: a server that ${lie} does not spoil the verdict of an honest one`, async () => {
      for (const servers of [[PRIMARY, ELSEWHERE[0]], [ELSEWHERE[0], PRIMARY]]) {
        const { udp } = await testWith(lies, combination, servers);
        assertNotWrong(combination, udp);
        assertEquals(udp.filtering.behavior, combination.filtering, udp.details.servers.join("; "));
      }
    });
  }
}

Deno.test("nothing is sent to private, loopback or multicast addresses that a server reports", async () => {
  for (const ip of ["192.168.1.1", "127.0.0.1", "224.0.0.1", "0.0.0.0", "10.0.0.1", "100.64.0.1"]) {
    const lies: Lies = { other: ({ port }) => ({ ip, port }) };
    const { packets } = await testWith(lies, NAT_BEHAVIORS.portRestricted, [PRIMARY]);
    const destinations = new Set(packets.map(destinationIp));
    assert(!destinations.has(ip), `a packet was sent to ${ip}`);
  }
});

Deno.test("a server that reports one mapped address for two ports is disregarded", async () => {
  const { udp } = await testWith(
    LIES["reports one mapped address for every port"]!,
    NAT_BEHAVIORS.symmetric,
    [PRIMARY],
  );
  assertEquals([udp.reachable, udp.mapping.behavior], [true, "unknown"]);
  assertMatch(
    udp.details.servers.join(),
    /two external addresses for one local port, or one for two/,
  );
});

const NON_STUN = ["HTTP/1.1 400 Bad Request\r\n\r\n", "\0", "\x01\x01\0\x08!\x12¤Btoo short"];

for (const nonStun of NON_STUN) {
  Deno.test(`a server that answers ${JSON.stringify(nonStun)} is not a STUN server`, async () => {
    const error = await assertRejects(
      () => testWith({ nonStun }, NAT_BEHAVIORS.fullCone, [PRIMARY]),
      MalformedMessageError,
    );
    assertEquals(error.message, `Cannot test NAT: ${PRIMARY} answers, but not with STUN`);
  });
}

Deno.test("no lifetime is reported with a server that does not direct its answers", async () => {
  await withScene({ nat: { udpTimeoutMs: 20_000 } }, async ({ server, test }) => {
    using _liar = await serveLies(server.network, SERVER_IPS, { ignoresResponsePort: true });
    const { udp } = await test({ transports: ["udp"], lifetimeSeconds: 60 });
    assertEquals(udp.ipv4?.rfc3489Name, "Port Restricted Cone NAT");
    assertEquals(udp.ipv4?.details.lifetimeSeconds, null);
  });
});

Deno.test("a server that answers with errors is reported with its code", async () => {
  const error = await assertRejects(
    () => testWith({ errorCode: 500 }, NAT_BEHAVIORS.fullCone, [PRIMARY]),
    RefusedError,
  );
  assertEquals(error.code, 500);
});

Deno.test("a server that speaks HTTP over TCP and is silent over UDP is not a STUN server", async () => {
  await withScene({}, async ({ server, test }) => {
    using listener = await server.network.listenTcp({ ip: SERVER_IPS[0], port: 3478 });
    const serving = (async () => {
      for (;;) {
        const connection = await listener.accept();
        await connection.write(new TextEncoder().encode("HTTP/1.1 400 Bad Request\r\n\r\n"));
        connection.close();
      }
    })().catch(() => {});
    await assertRejects(() => test(), MalformedMessageError, "not with STUN");
    listener.close();
    await serving;
  });
});

Deno.test("a server that refuses connections and is silent over UDP does not exist", async () => {
  const error = await assertRejects(
    () => withScene({}, ({ test }) => test()),
    NoResponseError,
  );
  assertEquals(
    error.message,
    `Cannot test NAT: no STUN server at ${PRIMARY}: connection refused`,
  );
});

Deno.test("the default servers are not blamed for a network that refuses connections", async () => {
  await withScene({}, async ({ internet, test }) => {
    const { TWO_ADDRESS_SERVERS, ONE_ADDRESS_SERVERS } = await import("../../lib/nat/servers.ts");
    for (const name of [...TWO_ADDRESS_SERVERS, ...ONE_ADDRESS_SERVERS]) {
      internet.names.set(name.replace(/:\d+$/, ""), [SERVER_IPS[0]]);
    }
    const { verdict } = await test({ servers: undefined });
    assertEquals(verdict.difficulty, "blocked");
  });
});

for (const position of [0, 1]) {
  for (const dead of ["dead", "refuses TCP"]) {
    Deno.test(`server ${position} of two that ${dead === "dead" ? "is dead" : dead} costs only time`, async () => {
      const scene = { nat: NAT_BEHAVIORS.portRestricted };
      await withScene(scene, async ({ internet, server, test }) => {
        const host = internet.host("dead", dead === "dead" ? { fault: "silent" } : {});
        const servers = [PRIMARY];
        servers.splice(position, 0, host.addresses[0]!);
        await using _server = await serveStun({
          network: server.network,
          address: SERVER_IPS[0],
          alternateAddress: SERVER_IPS[1],
        });
        const { udp, tcp } = await test({ servers });
        for (const family of [udp.ipv4!, tcp.ipv4!]) {
          assertEquals(family.rfc3489Name, "Port Restricted Cone NAT");
          assertEquals(family.allocation.kind, "preserving");
        }
        assert(udp.ipv4!.elapsedMs <= 600, `${udp.ipv4!.elapsedMs}`);
        assert(tcp.ipv4!.elapsedMs <= 1500, `${tcp.ipv4!.elapsedMs}`);
      });
    });
  }
}

Deno.test("an unroutable server does not end the test with the other server", async () => {
  await withScene({ host: { addresses: ["192.168.1.2"] } }, async ({ client, server, test }) => {
    await using _server = await serveStun({
      network: server.network,
      address: SERVER_IPS[0],
      alternateAddress: SERVER_IPS[1],
    });
    const { bindUdp } = client.network;
    const unroutable = "198.18.0.1";
    const network = {
      ...client.network,
      bindUdp: async (local: TransportAddress) => {
        const socket = await bindUdp(local);
        const send = socket.send.bind(socket);
        socket.send = (data, to) =>
          to.ip === unroutable
            ? Promise.reject(new NetworkError("Cannot send: no route", "unreachable"))
            : send(data, to);
        return socket;
      },
    };
    for (const servers of [[unroutable, PRIMARY], [PRIMARY, unroutable]]) {
      const { udp } = await test({ network, servers, transports: ["udp"] });
      assertEquals(udp.ipv4?.rfc3489Name, "Port Restricted Cone NAT");
    }
  });
});

async function testWith(
  lies: Lies,
  nat: Combination,
  servers: string[],
): Promise<{ udp: FamilyReport; packets: Packet[] }> {
  return await withScene({ nat }, async ({ internet, server, test }: RunningNatScene) => {
    const packets: Packet[] = [];
    internet.onPacket = ({ at, what, packet }) => {
      if (at === "client" && what === "sent") packets.push(packet);
    };
    using _liar = await serveLies(server.network, SERVER_IPS, lies);
    const honest = internet.host("honest", { addresses: ELSEWHERE });
    await using _honest = await serveStun({
      network: honest.network,
      address: ELSEWHERE[0],
      alternateAddress: ELSEWHERE[1],
    });
    const { udp } = await test({ servers, transports: ["udp"] });
    return { udp: udp.ipv4!, packets };
  });
}

function assertNotWrong(combination: Combination, report: FamilyReport): void {
  for (const [part, judgement] of Object.entries(judge(combination, report))) {
    const found = report[part as "mapping" | "filtering" | "allocation"];
    assert(judgement !== "wrong", `${part}: ${JSON.stringify(found)}`);
  }
}
