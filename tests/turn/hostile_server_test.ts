import { assertEquals, assertRejects, assertStrictEquals } from "@std/assert";
import { MalformedMessageError, NoResponseError, RefusedError } from "../../lib/base/errors.ts";
import type { StunAttribute } from "../../lib/stun/attributes.ts";
import { longTermKey } from "../../lib/stun/credentials.ts";
import { verifyIntegrity } from "../../lib/stun/integrity.ts";
import type { TransportAddress } from "../../lib/net/address.ts";
import { encodeMessage, getAttribute } from "../../lib/stun/message.ts";
import {
  ALLOCATE,
  CREATE_PERMISSION,
  DATA,
  encodeChannelData,
  REFRESH,
  SEND,
} from "../../lib/turn/protocol.ts";
import { openRelay, openStreamRelay } from "../../lib/turn/open_relay.ts";
import { type Arrived, scriptTcp, scriptUdp } from "../stun/scripted_server.ts";
import { dataFrom, deny, grant, grantAll, GRANTED, withTurnHosts } from "./scripted_turn.ts";
import { nonceWithFeatures } from "../stun/nonces.ts";

const PEER = { ip: "203.0.113.9", port: 9 };
const BYTE = Uint8Array.of(1);

for (
  const [what, attributes, message] of [
    ["no relayed address", GRANTED.slice(1), "no relayed address"],
    ["no mapped address", [GRANTED[0]!, GRANTED[2]!], "no mapped address"],
    ["no lifetime", GRANTED.slice(0, 2), "no lifetime"],
    ["a lifetime of zero", [...GRANTED.slice(0, 2), lifetime(0)], "no lifetime"],
    ["a loopback relayed address", relayedAt("127.0.0.1", 80), "loopback"],
    ["a link-local relayed address", relayedAt("169.254.1.1", 80), "link-local"],
    ["a multicast relayed address", relayedAt("224.0.0.1", 80), "multicast"],
    ["a relayed address without a port", relayedAt("198.51.100.7", 0), "has no port"],
    ["an unknown comprehension-required attribute", [
      ...GRANTED,
      { type: 0x7ffe, value: BYTE },
    ], "unknown comprehension-required attributes, 0x7ffe"],
  ] as const
) {
  Deno.test(`openRelay() rejects an allocation with ${what}, and releases it`, async () => {
    await withTurnHosts(async ({ client, server, at }) => {
      using scripted = await scriptUdp(server.network, at, (one) => [grant(one, attributes)]);
      const opening = () => openRelay(`turn:${at.ip}`, { network: client, waitsMs: [100, 100] });
      await assertRejects(opening, MalformedMessageError, message);
      await new Promise((resolve) => setTimeout(resolve, 50));
      const last = scripted.arrived.at(-1)!.request;
      assertEquals([last.method, getAttribute(last, "LIFETIME")], [REFRESH, 0]);
    });
  });
}

Deno.test("a relay drops unsolicited messages", async () => {
  await withTurnHosts(async ({ client, server, at }) => {
    const script = (one: Arrived) => {
      if (one.request.method !== SEND) return [grantAll(one)];
      return [
        dataFrom({ ip: "203.0.113.66", port: 1 }, BYTE), // not permitted
        encodeChannelData({ channel: 0x4000, data: BYTE }), // not bound
        grant({ ...one, request: { ...one.request, transactionId: new Uint8Array(12) } }),
        Uint8Array.of(0x40),
        Uint8Array.of(1, 2, 3),
        dataFrom(PEER, Uint8Array.of(42)),
      ];
    };
    using _scripted = await scriptUdp(server.network, at, script);
    await using relay = await openRelay(`turn:${at.ip}`, { network: client, channels: false });
    await relay.socket.send(BYTE, PEER);
    assertEquals(await relay.socket.receive(), { data: Uint8Array.of(42), from: PEER });
  });
});

Deno.test("a flood of datagrams fills nothing but a bounded queue", async () => {
  await withTurnHosts(async ({ client, server, at }) => {
    const flood = Array.from({ length: 3000 }, () => dataFrom(PEER, BYTE));
    const script = (one: Arrived) => one.request.method === SEND ? flood : [grantAll(one)];
    using _scripted = await scriptUdp(server.network, at, script);
    await using relay = await openRelay(`turn:${at.ip}`, { network: client, channels: false });
    await relay.socket.send(BYTE, PEER);
    let waiting = 0;
    const signal = AbortSignal.timeout(5000);
    await new Promise((resolve) => setTimeout(resolve, 1000));
    try {
      for (;; waiting++) await relay.socket.receive({ signal });
    } catch (error) {
      assertStrictEquals(error, signal.reason);
    }
    assertEquals(waiting > 0 && waiting <= 1024, true, `${waiting}`);
  });
});

Deno.test("onIcmp receives the ICMP reports of permitted peers", async () => {
  await withTurnHosts(async ({ client, server, at }) => {
    const report = { type: 3, code: 3, data: 0 };
    const icmpFrom = (peer: TransportAddress) =>
      encodeMessage({
        class: "indication",
        method: DATA,
        transactionId: new Uint8Array(12),
        attributes: [{ type: "XOR-PEER-ADDRESS", value: peer }, { type: "ICMP", value: report }],
      });
    const script = (one: Arrived) =>
      one.request.method === SEND
        ? [icmpFrom({ ip: "203.0.113.66", port: 1 }), icmpFrom(PEER)]
        : [grantAll(one)];
    using _scripted = await scriptUdp(server.network, at, script);
    const reported: unknown[] = [];
    const onIcmp = (...args: unknown[]) => reported.push(args);
    await using relay = await openRelay(`turn:${at.ip}`, {
      network: client,
      channels: false,
      onIcmp,
    });
    await relay.socket.send(BYTE, PEER);
    await new Promise((resolve) => setTimeout(resolve, 100));
    assertEquals(reported, [[PEER, report]]);
  });
});

Deno.test("a relay is refreshed every 25 s over UDP, and permissions every 4 minutes", async () => {
  await withTurnHosts(async ({ client, server, at, time }) => {
    const seen: [number, number][] = [];
    using _scripted = await scriptUdp(server.network, at, (one) => {
      seen.push([one.request.method, Math.floor(time.nowMs / 1000)]);
      return one.request.class === "request" ? [grantAll(one)] : [];
    });
    await using relay = await openRelay(`turn:${at.ip}`, { network: client, channels: false });
    await relay.socket.send(BYTE, PEER);
    await new Promise((resolve) => setTimeout(resolve, 500_000));
    const timesOf = (method: number) => seen.filter(([m]) => m === method).map(([, s]) => s);
    assertEquals(timesOf(REFRESH).slice(0, 4), [25, 50, 75, 100]);
    assertEquals(timesOf(CREATE_PERMISSION), [0, 240, 480]);
  });
});

Deno.test("a relay whose server falls silent is lost when its lifetime ends", async () => {
  await withTurnHosts(async ({ client, server, at, time }) => {
    using _scripted = await scriptUdp(
      server.network,
      at,
      (one) => one.request.method === ALLOCATE ? [grantAll(one)] : [],
    );
    await using relay = await openRelay(`turn:${at.ip}`, { network: client });
    await assertRejects(() => relay.finished, NoResponseError);
    assertEquals(time.nowMs >= 600_000 && time.nowMs < 660_000, true, `${time.nowMs}`);
    await assertRejects(() => relay.socket.receive(), NoResponseError);
  });
});

Deno.test("openRelay() rejects with the reason of an abort, and releases the allocation", async () => {
  await withTurnHosts(async ({ client, server, at, time }) => {
    using scripted = await scriptUdp(server.network, at, () => []);
    const controller = new AbortController();
    const reason = new Error("enough");
    setTimeout(() => controller.abort(reason), 200);
    const opening = openRelay(`turn:${at.ip}`, { network: client, signal: controller.signal });
    assertStrictEquals(await assertRejects(() => opening), reason);
    assertEquals(time.nowMs, 200);
    await new Promise((resolve) => setTimeout(resolve, 50));
    const last = scripted.arrived.at(-1)!.request;
    assertEquals([last.method, getAttribute(last, "LIFETIME")], [REFRESH, 0]);
  });
});

Deno.test("a relay uses SHA-256 with servers that support it, and renews nonces", async () => {
  await withTurnHosts(async ({ client, server, at }) => {
    const credential = { username: "ann", password: "secret" };
    const key = longTermKey(credential, { realm: "r", algorithm: "SHA-256" });
    const integrity = { algorithm: "sha256", key } as const;
    let nonces = 0;
    const demand = (code: number, one: Arrived) => {
      const features = { passwordAlgorithms: true, usernameAnonymity: true };
      const parameters = new Uint8Array();
      return deny(one, code, [
        { type: "REALM", value: "r" },
        { type: "NONCE", value: nonceWithFeatures(features, `${++nonces}`) },
        {
          type: "PASSWORD-ALGORITHMS",
          value: [{ algorithm: "MD5", parameters }, { algorithm: "SHA-256", parameters }],
        },
      ]);
    };
    using scripted = await scriptUdp(server.network, at, (one) => {
      const verification = verifyIntegrity(one.bytes, integrity);
      if (verification !== "valid") return [demand(401, one)];
      const isFresh = getAttribute(one.request, "NONCE")!.endsWith(`${nonces}`);
      if (!isFresh || one.index % 3 === 2) return [demand(438, one)]; // every third nonce is stale
      return [grantAll(one, { integrity })];
    });
    await using relay = await openRelay(`turn:${at.ip}`, { network: client, credential });
    for (let i = 0; i < 5; i++) await relay.permit([`203.0.113.${i}`]);
    assertEquals(scripted.arrived.some(({ request }) => request.method === ALLOCATE), true);
    assertEquals(nonces > 2, true);
  });
});

Deno.test("garbage on the stream ends a relay over TCP", async () => {
  await withTurnHosts(async ({ client, server, at }) => {
    const garbage = new Uint8Array(100).fill(0xff);
    using _scripted = await scriptTcp(
      server.network,
      at,
      (one) => one.request.method === ALLOCATE ? [grantAll(one)] : [garbage],
    );
    const uri = `turn:${at.ip}?transport=tcp`;
    await using relay = await openStreamRelay(uri, { network: client });
    await assertRejects(() => relay.permit(["203.0.113.1"]), MalformedMessageError);
    await assertRejects(() => relay.finished, MalformedMessageError, "two zero bits");
  });
});

Deno.test("a refused refresh ends a relay with the error code", async () => {
  await withTurnHosts(async ({ client, server, at }) => {
    using _scripted = await scriptUdp(
      server.network,
      at,
      (one) => [one.request.method === REFRESH ? deny(one, 441) : grantAll(one)],
    );
    await using relay = await openRelay(`turn:${at.ip}`, { network: client });
    const error = await assertRejects(() => relay.finished, RefusedError, "441");
    assertEquals(error.remedy, "Use the credentials that the relayed address was opened with");
  });
});

function relayedAt(ip: string, port: number): readonly StunAttribute[] {
  return [{ type: "XOR-RELAYED-ADDRESS", value: { ip, port } }, ...GRANTED.slice(1)];
}

function lifetime(value: number): StunAttribute {
  return { type: "LIFETIME", value };
}
