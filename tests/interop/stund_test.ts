// Our client against Vovida's stund, an independent RFC 3489 server.

import { assertEquals } from "@std/assert";
import { systemNetwork } from "../../lib/net/system.ts";
import { exchange } from "../../lib/net/retransmit.ts";
import { FAST_BINDING_WAITS_MS, requestBinding } from "../../lib/stun/client.ts";
import { BINDING, decodeMessage, encodeMessage, getAttribute } from "../../lib/stun/message.ts";
import { freePorts } from "./free_ports.ts";
import { toolTest } from "./tool_test_case.ts";

const STUND = { stund: "stun-server" };
const LOCAL = { ip: "127.0.0.1", port: 0 };

toolTest("stund returns the mapped address and its changed address", STUND, async () => {
  await using stund = startStund();
  const binding = await requestBinding(stund.address, {
    network: systemNetwork,
    local: LOCAL,
    waitsMs: FAST_BINDING_WAITS_MS,
  });
  assertEquals(binding.mapped, binding.local);
  assertEquals(binding.otherAddress, stund.changedAddress);
});

toolTest("stund answers an RFC 3489 message, without a magic cookie", STUND, async () => {
  await using stund = startStund();
  using socket = await systemNetwork.bindUdp(LOCAL);
  const transactionId = crypto.getRandomValues(new Uint8Array(16));
  const { answer } = await exchange(socket, {
    to: stund.address,
    request: encodeMessage({ class: "request", method: BINDING, transactionId, attributes: [] }),
    waitsMs: FAST_BINDING_WAITS_MS,
    accept: ({ data }) => decodeMessage(data),
  });
  assertEquals(answer.transactionId, transactionId);
  assertEquals(getAttribute(answer, "MAPPED-ADDRESS"), socket.local);
  assertEquals(getAttribute(answer, "SOURCE-ADDRESS"), stund.address);
  assertEquals(getAttribute(answer, "CHANGED-ADDRESS"), stund.changedAddress);
});

/** There is no sign that it is ready: requests are repeated until it answers. */
function startStund() {
  const [port, alternatePort] = freePorts(2);
  const process = new Deno.Command("stund", {
    args: ["-h", "127.0.0.1", "-a", "127.0.0.2", "-p", `${port}`, "-o", `${alternatePort}`],
    stdout: "null",
    stderr: "null",
  }).spawn();
  return {
    address: { ip: "127.0.0.1", port: port! },
    changedAddress: { ip: "127.0.0.2", port: alternatePort! },
    async [Symbol.asyncDispose]() {
      process.kill("SIGKILL");
      await process.status;
    },
  };
}
