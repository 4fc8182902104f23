// Our client against coturn: all transports, RFC 5780, and long-term credentials.

import { assert, assertEquals, assertRejects } from "@std/assert";
import { delay } from "@std/async/delay";
import { NetworkError, RefusedError } from "../../lib/base/errors.ts";
import { systemNetwork } from "../../lib/net/system.ts";
import type { TransportAddress } from "../../lib/net/address.ts";
import type { Network } from "../../lib/net/network.ts";
import {
  FAST_BINDING_WAITS_MS,
  requestBinding,
  type RequestBindingOptions,
  type StunBinding,
} from "../../lib/stun/client.ts";
import { BINDING, decodeMessage, encodeMessage, getAttribute } from "../../lib/stun/message.ts";
import { COTURN, COTURN_TLS, startCoturn } from "./coturn.ts";
import { toolTest } from "./tool_test_case.ts";

const TWO_ADDRESSES = ["127.0.0.1", "127.0.0.2"];
const LOCAL: TransportAddress = { ip: "127.0.0.1", port: 0 };
const CREDENTIAL = { username: "someone", password: "secret" };
const LONG_TERM = ["--lt-cred-mech", "--secure-stun", "-u", "someone:secret", "-r", "example.org"];

for (const transport of ["udp", "tcp"] as const) {
  toolTest(`coturn returns the mapped address over ${transport}`, COTURN, async () => {
    await using coturn = await startCoturn({ args: ["--no-auth", "--stun-only"] });
    const { server, local, mapped, rttMs } = await ask(coturn.address, {
      transport,
      local: LOCAL,
    });
    assertEquals(server, coturn.address);
    assertEquals(mapped, local);
    assert(rttMs > 0);
  });
}

toolTest("coturn returns the mapped address over TLS", COTURN_TLS, async () => {
  await using coturn = await startCoturn({ tls: true, args: ["--no-auth", "--stun-only"] });
  const { local, mapped } = await ask(coturn.tlsAddress, {
    transport: "tls",
    hostname: "localhost",
    caCerts: [coturn.caCert],
  });
  assertEquals(mapped, local);
});

toolTest("a certificate for another name is rejected", COTURN_TLS, async () => {
  await using coturn = await startCoturn({ tls: true, args: ["--no-auth", "--stun-only"] });
  const options = { transport: "tls", hostname: "127.0.0.1", caCerts: [coturn.caCert] } as const;
  const error = await assertRejects(() => ask(coturn.tlsAddress, options), NetworkError);
  assertEquals(error.reason, "tls");
});

toolTest("coturn returns its other address, and answers there", COTURN, async () => {
  await using coturn = await startCoturn({
    addresses: TWO_ADDRESSES,
    args: ["--no-auth", "--stun-only"],
  });
  const { otherAddress, response } = await ask(coturn.address);
  assertEquals(otherAddress, coturn.alternate);
  assertEquals(getAttribute(response, "RESPONSE-ORIGIN"), coturn.address);
  assertEquals((await ask(coturn.alternate)).server, coturn.alternate);
});

toolTest("coturn accepts a RESPONSE-PORT of the length that we write", COTURN, async () => {
  await using coturn = await startCoturn({
    addresses: TWO_ADDRESSES,
    args: ["--no-auth", "--stun-only"],
  });
  using asking = await systemNetwork.bindUdp(LOCAL);
  using listening = await systemNetwork.bindUdp(LOCAL);
  const request = encodeMessage({
    class: "request",
    method: BINDING,
    transactionId: crypto.getRandomValues(new Uint8Array(12)),
    attributes: [{ type: "RESPONSE-PORT", value: listening.local.port }],
  });
  await asking.send(request, coturn.address);
  const { data } = await listening.receive({ signal: AbortSignal.timeout(5000) });
  assertEquals(getAttribute(decodeMessage(data), "XOR-MAPPED-ADDRESS"), asking.local);
});

toolTest("coturn names the unknown attribute", COTURN, async () => {
  await using coturn = await startCoturn({ args: ["--no-auth", "--stun-only"] });
  const attributes = [{ type: 0x7ffe, value: new Uint8Array(4) }] as const;
  const error = await assertRejects(
    () => ask(coturn.address, { attributes }),
    RefusedError,
    "answered 420",
  );
  assertEquals(error.code, 420);
});

for (const transport of ["udp", "tcp"] as const) {
  toolTest(`coturn accepts long-term credentials over ${transport}`, COTURN, async () => {
    await using coturn = await startCoturn({ args: LONG_TERM });
    const options = { transport, local: LOCAL, credential: CREDENTIAL };
    const { local, mapped, response } = await ask(coturn.address, options);
    assertEquals(mapped, local);
    assert(getAttribute(response, "MESSAGE-INTEGRITY") !== undefined);
  });
}

toolTest("coturn refuses a wrong password, and no credential at all", COTURN, async () => {
  await using coturn = await startCoturn({ args: LONG_TERM });
  for (const credential of [{ ...CREDENTIAL, password: "wrong" }, undefined]) {
    const error = await assertRejects(() => ask(coturn.address, { credential }), RefusedError);
    assertEquals(error.code, 401);
  }
});

toolTest("an expired nonce is renewed", COTURN, async () => {
  await using coturn = await startCoturn({ args: [...LONG_TERM, "--stale-nonce=1"] });
  const { network, answers } = slowToAnswerChallenges(systemNetwork, 2100);
  const { local, mapped } = await ask(coturn.address, {
    network,
    local: LOCAL,
    credential: CREDENTIAL,
  });
  assertEquals(mapped, local);
  const changes = answers.filter((answer, index) => answer !== answers[index - 1]);
  assertEquals(changes, [401, 438, "success"]); // a request that was sent twice is answered twice
});

/** A network that delays the first nonce that it sends until it has expired; and the answers that it received. */
function slowToAnswerChallenges(
  network: Network,
  delayMs: number,
): { network: Network; answers: (number | string | undefined)[] } {
  const answers: (number | string | undefined)[] = [];
  const slow: Network = {
    ...network,
    async bindUdp(local) {
      const socket = await network.bindUdp(local);
      let isDelayed = false;
      return {
        local: socket.local,
        async send(data, to) {
          const hasNonce = getAttribute(decodeMessage(data), "NONCE") !== undefined;
          if (hasNonce && !isDelayed) {
            isDelayed = true;
            await delay(delayMs);
          }
          await socket.send(data, to);
        },
        async receive(options) {
          const datagram = await socket.receive(options);
          const message = decodeMessage(datagram.data);
          answers.push(getAttribute(message, "ERROR-CODE")?.code ?? message.class);
          return datagram;
        },
        close: () => socket.close(),
        [Symbol.dispose]: () => socket.close(),
      };
    },
  };
  return { network: slow, answers };
}

function ask(
  server: TransportAddress,
  options: Partial<RequestBindingOptions> = {},
): Promise<StunBinding> {
  return requestBinding(server, {
    network: systemNetwork,
    waitsMs: FAST_BINDING_WAITS_MS,
    ...options,
  });
}
