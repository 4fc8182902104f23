import { assertEquals, assertRejects } from "@std/assert";
import { NoResponseError, RefusedError } from "../../lib/base/errors.ts";
import type { StunMessage } from "../../lib/stun/message.ts";
import { CHANNEL_BIND, CREATE_PERMISSION } from "../../lib/turn/protocol.ts";
import { openRelay } from "../../lib/turn/open_relay.ts";
import { type Arrived, scriptUdp } from "../stun/scripted_server.ts";
import { dataFrom, deny, grantAll, withTurnHosts } from "./scripted_turn.ts";

const PEER = { ip: "203.0.113.9", port: 9 };
const BYTE = Uint8Array.of(1);

Deno.test("a permission whose renewal failed is requested again before it expires", async () => {
  await withTurnHosts(async ({ client, server, at, time }) => {
    const asked: number[] = [];
    const isDown = () => time.nowMs > 239_000 && time.nowMs < 282_000;
    using _scripted = await scriptUdp(server.network, at, (one) => {
      if (one.request.class !== "request" || isDown()) return [];
      if (one.request.method === CREATE_PERMISSION) asked.push(Math.floor(time.nowMs / 1000));
      return [grantAll(one)];
    });
    const waitsMs = [500, 500, 1000];
    await using relay = await openRelay(`turn:${at.ip}`, { network: client, waitsMs });
    await relay.permit([PEER.ip]);
    await new Promise((resolve) => setTimeout(resolve, 300_000));
    assertEquals(asked.length, 2);
    assertEquals(asked[1]! >= 282 && asked[1]! < 290, true, `${asked}`);
  });
});

Deno.test("of permissions that are refused together, those that are granted one by one remain", async () => {
  await withTurnHosts(async ({ client, server, at, time }) => {
    const good = "203.0.113.1", bad = "203.0.113.66";
    const renewed: string[] = [];
    using _scripted = await scriptUdp(server.network, at, (one) => {
      if (one.request.class !== "request") return [];
      if (one.request.method !== CREATE_PERMISSION || time.nowMs < 1000) return [grantAll(one)];
      const ips = peersOf(one.request);
      if (ips.includes(bad)) return [deny(one, 403)];
      renewed.push(...ips);
      return [grantAll(one)];
    });
    await using relay = await openRelay(`turn:${at.ip}`, { network: client });
    await relay.permit([good, bad]);
    await new Promise((resolve) => setTimeout(resolve, 500_000));
    assertEquals(renewed, [good, good]); // at 240 and 480 s
    await assertRejects(() => relay.permit([bad]), RefusedError, "403");
  });
});

Deno.test("a channel without a permission is not used before a new permission is granted", async () => {
  await withTurnHosts(async ({ client, server, at, time }) => {
    const isDown = () => time.nowMs > 200_000 && time.nowMs < 400_000;
    const log: string[] = [];
    const script = (one: Arrived) => {
      if (one.request.class !== "request" || isDown()) return [];
      const { method } = one.request;
      if (method === CREATE_PERMISSION) log.push("permission");
      if (method === CHANNEL_BIND) log.push("channel");
      return [grantAll(one)];
    };
    using _scripted = await scriptUdp(server.network, at, script);
    const waitsMs = [500, 500, 1000];
    await using relay = await openRelay(`turn:${at.ip}`, { network: client, waitsMs });
    await relay.socket.send(BYTE, PEER);
    await new Promise((resolve) => setTimeout(resolve, 350_000));
    await assertRejects(() => relay.socket.send(BYTE, PEER), NoResponseError);
    await new Promise((resolve) => setTimeout(resolve, 60_000));
    await relay.socket.send(BYTE, PEER);
    assertEquals(log, ["channel", "permission"]);
  });
});

Deno.test("permit() accepts any notation of an IP address, and rejects other text", async () => {
  await withTurnHosts(async ({ client, server, at }) => {
    const peer = { ip: "2001:db8::1", port: 1 };
    using _scripted = await scriptUdp(
      server.network,
      at,
      (one) =>
        one.request.method === CREATE_PERMISSION
          ? [grantAll(one), dataFrom(peer, BYTE)]
          : [grantAll(one)],
    );
    await using relay = await openRelay(`turn:${at.ip}`, { network: client, channels: false });
    await relay.permit(["2001:DB8:0::0:1"]);
    assertEquals((await relay.socket.receive()).from, peer);
    await assertRejects(() => relay.permit(["kitchen"]), TypeError, "kitchen");
  });
});

function peersOf(request: StunMessage): string[] {
  return request.attributes.flatMap((each) =>
    each.type === "XOR-PEER-ADDRESS" ? [each.value.ip] : []
  );
}
