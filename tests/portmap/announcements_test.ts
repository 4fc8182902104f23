import { assertEquals, assertRejects } from "@std/assert";
import {
  ANNOUNCEMENT_GROUPS,
  ANNOUNCEMENT_PORT,
  AnnouncementListener,
  listenForAnnouncements,
} from "../../lib/portmap/announcements.ts";
import { NetworkError } from "../../lib/base/errors.ts";
import type { UdpSocket } from "../../lib/net/network.ts";
import { NAT_PMP_REQUESTS, NAT_PMP_RESPONSES } from "../vectors/nat_pmp_messages.ts";
import { PCP_RESPONSES, UNSOLICITED_ANNOUNCE } from "../vectors/pcp_messages.ts";
import { atHome, GATEWAY_IP, HOST_IP } from "./fixtures.ts";

const PORT_5350 = { ip: HOST_IP, port: 5350 };

Deno.test("all hosts of the link receive the announcement of a restarted gateway", () =>
  atHome({}, async ({ network, gateway }) => {
    const where = { ip: GATEWAY_IP, localIp: HOST_IP };
    using first = await listenForAnnouncements(network, where);
    using second = await listenForAnnouncements(network, where); // another program
    gateway.table.restart();
    await gateway.announce({ ip: ANNOUNCEMENT_GROUPS.ipv4, port: ANNOUNCEMENT_PORT });
    assertEquals((await first.next()).mapper, "nat-pmp");
    assertEquals((await first.next()).mapper, "pcp");
    assertEquals((await second.next()).gateway, GATEWAY_IP);
  }));

Deno.test("AnnouncementListener receives announcements by both protocols", () =>
  atHome({}, async ({ network, gateway }) => {
    using listener = new AnnouncementListener(await network.bindUdp(PORT_5350), {
      gateways: [GATEWAY_IP],
    });
    gateway.table.restart();
    await gateway.announce(PORT_5350);
    const epoch = { seconds: 0, receivedAtMs: performance.now() + 1 };
    assertEquals(await listener.next(), {
      mapper: "nat-pmp",
      gateway: GATEWAY_IP,
      epoch,
      externalIp: "203.0.113.7",
    });
    assertEquals(await listener.next(), { mapper: "pcp", gateway: GATEWAY_IP, epoch });
  }));

Deno.test("AnnouncementListener ignores datagrams that are not from the gateway", () =>
  atHome({}, async ({ network, gateway, gatewayNetwork }) => {
    using listener = new AnnouncementListener(await network.bindUdp(PORT_5350), {
      gateways: [GATEWAY_IP],
    });
    const [announcement] = NAT_PMP_RESPONSES;
    await gateway.send({ data: announcement!.bytes, fromElsewhere: true }, PORT_5350);
    using other = await network.bindUdp({ ip: HOST_IP, port: 5351 });
    await other.send(announcement!.bytes, PORT_5350);
    using odd = await gatewayNetwork.bindUdp({ ip: GATEWAY_IP, port: 5352 });
    await odd.send(announcement!.bytes, PORT_5350);
    const signal = AbortSignal.timeout(1000);
    assertEquals(await assertRejects(() => listener.next({ signal })), signal.reason);
  }));

Deno.test("AnnouncementListener skips datagrams that are not announcements", () =>
  atHome({}, async ({ network, gateway }) => {
    using listener = new AnnouncementListener(await network.bindUdp(PORT_5350), {
      gateways: [GATEWAY_IP],
    });
    const others = [...NAT_PMP_REQUESTS, ...NAT_PMP_RESPONSES.slice(1), ...PCP_RESPONSES.slice(1)];
    for (const { bytes } of others) await gateway.send({ data: bytes }, PORT_5350);
    await gateway.send({ data: new Uint8Array(0) }, PORT_5350);
    await gateway.announce(PORT_5350);
    assertEquals((await listener.next()).epoch.seconds, 0);
  }));

Deno.test("AnnouncementListener ends when it is disposed", () =>
  atHome({}, async ({ network }) => {
    const listener = new AnnouncementListener(await network.bindUdp(PORT_5350), { gateways: [] });
    const next = assertRejects(() => listener.next(), NetworkError);
    listener[Symbol.dispose]();
    await next;
  }));

Deno.test("AnnouncementListener reports a link-local gateway with its zone, which datagrams lack", async () => {
  const socket: UdpSocket = {
    local: { ip: "::", port: 5350 },
    send: () => Promise.resolve(),
    receive: () => {
      return Promise.resolve({ data: UNSOLICITED_ANNOUNCE, from: { ip: "fe80::1", port: 5351 } });
    },
    close: () => {},
    [Symbol.dispose]: () => {},
  };
  using listener = new AnnouncementListener(socket, { gateways: ["fe80::1%eth0"] });
  assertEquals((await listener.next()).gateway, "fe80::1%eth0");
});
