import { assertEquals, assertRejects, assertStrictEquals } from "@std/assert";
import {
  MalformedMessageError,
  NetworkError,
  NoResponseError,
  RefusedError,
} from "../../lib/base/errors.ts";
import type { TransportAddress } from "../../lib/net/address.ts";
import type { StunAttribute } from "../../lib/stun/attributes.ts";
import { encodeMessage, getAttribute, type StunClass } from "../../lib/stun/message.ts";
import { at, withHosts } from "./client_hosts.ts";
import { respond, type Script, scriptTcp, scriptUdp, success } from "./scripted_server.ts";

Deno.test("requestBinding() returns the mapped address over UDP", async () => {
  await withHosts(async ({ client, server, ask }) => {
    using scripted = await scriptUdp(server.network, at(server, 3478), (one) => [success(one)]);
    const local = { ip: client.addresses[0]!, port: 5000 };
    const { response: _, ...binding } = await ask(scripted.address, { local });
    assertEquals(binding, {
      server: scripted.address,
      transport: "udp",
      local,
      mapped: local,
      otherAddress: undefined,
      rttMs: 40,
      requests: 1,
    });
  });
});

Deno.test("requestBinding() reports an unknown local address for a socket bound to a wildcard", async () => {
  await withHosts(async ({ client, server, ask }) => {
    using scripted = await scriptUdp(server.network, at(server, 3478), (one) => [success(one)]);
    const { local, mapped } = await ask(scripted.address);
    assertEquals(local, "unknown");
    assertEquals(mapped.ip, client.addresses[0]);
  });
});

Deno.test("requestBinding() retransmits as RFC 8489 §6.2.1 specifies, for 39.5 s in all", async () => {
  await withHosts(async ({ server, ask, time }) => {
    const sentMs: number[] = [];
    using scripted = await scriptUdp(server.network, at(server, 3478), () => {
      sentMs.push(time.nowMs - 20);
      return [];
    });
    await assertRejects(() => ask(scripted.address), NoResponseError, "no answer to 7 requests");
    assertEquals(sentMs, [0, 500, 1500, 3500, 7500, 15500, 31500]);
    assertEquals(time.nowMs, 39500);
  });
});

Deno.test("requestBinding() retransmits the same request, and reports how often", async () => {
  await withHosts(async ({ server, ask }) => {
    using scripted = await scriptUdp(
      server.network,
      at(server, 3478),
      (one) => one.index < 2 ? [] : [success(one)],
    );
    assertEquals((await ask(scripted.address)).requests, 3);
    assertEquals(scripted.arrived[0]!.bytes, scripted.arrived[2]!.bytes);
  });
});

Deno.test("requestBinding() ignores other transactions, methods, classes and senders", async () => {
  await withHosts(async ({ server, ask, internet }) => {
    const liar: TransportAddress = { ip: "198.51.100.6", port: 6 };
    const lie = { type: "XOR-MAPPED-ADDRESS", value: liar } as const;
    const other = internet.host("other");
    using elsewhere = await other.network.bindUdp(at(other, 3478));
    using otherPort = await server.network.bindUdp(at(server, 3479));
    const script: Script = (one) => {
      const { request, from } = one;
      const forged = respond(request, "success", [lie]);
      void elsewhere.send(forged, from);
      void otherPort.send(forged, from);
      return [
        respond({ ...request, transactionId: new Uint8Array(12) }, "success", [lie]),
        respond(request, "request", [lie]),
        respond(request, "indication", [lie]),
        encodeMessage({ ...request, class: "success", method: 2, attributes: [lie] }),
        new TextEncoder().encode("HTTP/1.1 400 Bad Request"),
        success(one),
      ];
    };
    using scripted = await scriptUdp(server.network, at(server, 3478), script);
    const { mapped, requests } = await ask(scripted.address);
    assertEquals(mapped, scripted.arrived[0]!.from);
    assertEquals(requests, 1);
  });
});

Deno.test("requestBinding() reports a server that answers with something other than STUN", async () => {
  await withHosts(async ({ server, ask }) => {
    const garbage = new TextEncoder().encode("HTTP/1.1 400 Bad Request");
    using scripted = await scriptUdp(server.network, at(server, 3478), () => [garbage]);
    await assertRejects(
      () => ask(scripted.address, { waitsMs: [100, 100] }),
      MalformedMessageError,
      "it answers, but not with STUN",
    );
  });
});

Deno.test("requestBinding() accepts the addresses of an RFC 3489 server", async () => {
  await withHosts(async ({ server, ask }) => {
    const mapped = { ip: "198.51.100.1", port: 1 };
    const changed = { ip: "198.51.100.2", port: 2 };
    using scripted = await scriptUdp(server.network, at(server, 3478), ({ request }) => [
      respond(request, "success", [
        { type: "MAPPED-ADDRESS", value: mapped },
        { type: "CHANGED-ADDRESS", value: changed },
      ]),
    ]);
    const binding = await ask(scripted.address);
    assertEquals([binding.mapped, binding.otherAddress], [mapped, changed]);
  });
});

Deno.test("requestBinding() prefers XOR-MAPPED-ADDRESS and OTHER-ADDRESS to the old attributes", async () => {
  await withHosts(async ({ server, ask }) => {
    const rewritten = { ip: "192.168.1.1", port: 9 };
    const right = { ip: "198.51.100.1", port: 1 };
    using scripted = await scriptUdp(server.network, at(server, 3478), ({ request }) => [
      respond(request, "success", [
        { type: "MAPPED-ADDRESS", value: rewritten },
        { type: "CHANGED-ADDRESS", value: rewritten },
        { type: "OTHER-ADDRESS", value: right },
        { type: "XOR-MAPPED-ADDRESS", value: right },
      ]),
    ]);
    const binding = await ask(scripted.address);
    assertEquals([binding.mapped, binding.otherAddress], [right, right]);
  });
});

const ODD_ADDRESSES: readonly (readonly [string, readonly StunAttribute[], unknown])[] = [
  ["an IPv4-mapped address", [
    { type: "XOR-MAPPED-ADDRESS", value: { ip: "::ffff:2c00:7", port: 5 } },
    { type: "OTHER-ADDRESS", value: { ip: "::ffff:cb00:7109", port: 3479 } },
  ], [{ ip: "44.0.0.7", port: 5 }, { ip: "203.0.113.9", port: 3479 }]],
  ["the number that XOR-MAPPED-ADDRESS had in drafts", [
    { type: "MAPPED-ADDRESS", value: { ip: "192.168.1.1", port: 9 } },
    { type: "OLD-XOR-MAPPED-ADDRESS", value: { ip: "44.0.0.7", port: 5 } },
  ], [{ ip: "44.0.0.7", port: 5 }, undefined]],
  ["an IPv6 address that only looks like an IPv4-mapped one", [
    { type: "XOR-MAPPED-ADDRESS", value: { ip: "::ffff:0:0:1", port: 5 } },
  ], [{ ip: "::ffff:0:0:1", port: 5 }, undefined]],
];

for (const [what, attributes, expected] of ODD_ADDRESSES) {
  Deno.test(`requestBinding() reads ${what}`, async () => {
    await withHosts(async ({ server, ask }) => {
      using scripted = await scriptUdp(server.network, at(server, 3478), ({ request }) => [
        respond(request, "success", [...attributes]),
      ]);
      const binding = await ask(scripted.address);
      assertEquals([binding.mapped, binding.otherAddress], expected);
    });
  });
}

for (
  const value of [{ ip: "0.0.0.0", port: 0 }, { ip: "44.0.0.7", port: 0 }, { ip: "::", port: 7 }]
) {
  Deno.test(`requestBinding() refuses ${value.ip} and port ${value.port} as an address`, async () => {
    await withHosts(async ({ server, ask }) => {
      using scripted = await scriptUdp(server.network, at(server, 3478), ({ request }) => [
        respond(request, "success", [{ type: "XOR-MAPPED-ADDRESS", value }]),
      ]);
      const error = await assertRejects(
        () => ask(scripted.address),
        MalformedMessageError,
        "no address",
      );
      assertEquals(error.remedy, "Name another STUN server");
    });
  });
}

Deno.test("requestBinding() sends further attributes", async () => {
  await withHosts(async ({ server, ask }) => {
    using scripted = await scriptUdp(server.network, at(server, 3478), (one) => [success(one)]);
    const value = { changeIp: false, changePort: true };
    await ask(scripted.address, { attributes: [{ type: "CHANGE-REQUEST", value }] });
    assertEquals(getAttribute(scripted.arrived[0]!.request, "CHANGE-REQUEST"), value);
  });
});

Deno.test("requestBinding() reports the code, the reason and the unknown attributes of an error", async () => {
  await withHosts(async ({ server, ask }) => {
    using scripted = await scriptUdp(server.network, at(server, 3478), ({ request }) => [
      respond(request, "error", [
        { type: "ERROR-CODE", value: { code: 420, reason: "\u001b[31mNo\0\0" } },
        { type: "UNKNOWN-ATTRIBUTES", value: [3, 0x24] },
      ]),
    ]);
    const error = await assertRejects(
      () => ask(scripted.address),
      RefusedError,
      `${server.addresses[0]}:3478 answered 420 ([31mNo) for 0x0003, 0x0024`,
    );
    assertEquals(error.code, 420);
  });
});

for (
  const [what, answer, message] of [
    ["a success without a mapped address", respondWith("success", []), "no mapped address"],
    [
      "a success with unknown comprehension-required attributes",
      respondWith("success", [{ type: 0x7fff, value: new Uint8Array() }]),
      "unknown comprehension-required attributes, 0x7fff",
    ],
    ["an error without a code", respondWith("error", []), "no ERROR-CODE"],
  ] as const
) {
  Deno.test(`requestBinding() rejects ${what}`, async () => {
    await withHosts(async ({ server, ask }) => {
      using scripted = await scriptUdp(server.network, at(server, 3478), answer);
      await assertRejects(() => ask(scripted.address), MalformedMessageError, message);
    });
  });
}

Deno.test("requestBinding() rejects with the reason of an abort", async () => {
  await withHosts(async ({ server, ask, time }) => {
    for (const start of [scriptUdp, scriptTcp]) {
      using scripted = await start(server.network, at(server, 3478), () => []);
      const controller = new AbortController();
      const reason = new Error("enough");
      const startMs = time.nowMs;
      setTimeout(() => controller.abort(reason), 333);
      const transport = start === scriptUdp ? "udp" : "tcp";
      const { signal } = controller;
      const error = await assertRejects(() => ask(scripted.address, { transport, signal }));
      assertStrictEquals(error, reason);
      assertEquals(time.nowMs - startMs, 333);
    }
  });
});

Deno.test("requestBinding() uses the given socket, and leaves it open", async () => {
  await withHosts(async ({ client, server, ask }) => {
    using scripted = await scriptUdp(server.network, at(server, 3478), (one) => [success(one)]);
    using socket = await client.network.bindUdp(at(client, 5000));
    for (let times = 0; times < 2; times++) {
      assertEquals((await ask(scripted.address, { socket })).mapped, socket.local);
    }
  });
});

Deno.test("requestBinding() works over TCP", async () => {
  await withHosts(async ({ client, server, ask }) => {
    using scripted = await scriptTcp(server.network, at(server, 3478), (one) => [success(one)]);
    const local = { ip: client.addresses[0]!, port: 5000 };
    const { mapped, rttMs, ...binding } = await ask(scripted.address, { transport: "tcp", local });
    assertEquals([binding.local, mapped, binding.transport, rttMs], [local, local, "tcp", 40]);
  });
});

Deno.test("requestBinding() waits 39.5 s for a response over TCP", async () => {
  await withHosts(async ({ server, ask, time }) => {
    using scripted = await scriptTcp(server.network, at(server, 3478), () => []);
    await assertRejects(
      () => ask(scripted.address, { transport: "tcp" }),
      NoResponseError,
      "no answer in 39500 ms",
    );
    assertEquals(time.nowMs, 40 + 39500);
  });
});

Deno.test("requestBinding() reports a TCP server that answers with something other than STUN", async () => {
  await withHosts(async ({ server, ask }) => {
    const garbage = new TextEncoder().encode("HTTP/1.1 400 Bad Request");
    using scripted = await scriptTcp(server.network, at(server, 3478), () => [garbage]);
    await assertRejects(
      () => ask(scripted.address, { transport: "tcp" }),
      MalformedMessageError,
      "two zero bits",
    );
  });
});

Deno.test("requestBinding() reports a TCP server that closes the connection", async () => {
  await withHosts(async ({ server, ask }) => {
    using listener = await server.network.listenTcp(at(server, 3478));
    const hangingUp = listener.accept().then((connection) => connection.close());
    const failing = assertRejects(() => ask(at(server, 3478), { transport: "tcp" }));
    await hangingUp;
    const error = await failing;
    // It is a FIN or a RST, depending on which of request and close comes first.
    assertEquals(error instanceof NoResponseError || error instanceof NetworkError, true);
  });
});

Deno.test("requestBinding() reports a TCP port that refuses connections", async () => {
  await withHosts(async ({ server, ask }) => {
    const error = await assertRejects(
      () => ask(at(server, 3478), { transport: "tcp" }),
      NetworkError,
    );
    assertEquals(error.reason, "refused");
  });
});

function respondWith(kind: StunClass, attributes: readonly StunAttribute[]): Script {
  return ({ request }) => [respond(request, kind, attributes)];
}
