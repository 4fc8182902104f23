import { assertEquals } from "@std/assert";
import { BINDING, decodeMessage, encodeMessage, getAttribute } from "../../lib/stun/message.ts";

Deno.test("decodeMessage() reads what encodeMessage() wrote", () => {
  const message = {
    class: "success",
    method: BINDING,
    transactionId: crypto.getRandomValues(new Uint8Array(12)),
    attributes: [
      { type: "XOR-MAPPED-ADDRESS", value: { ip: "192.0.2.1", port: 3478 } },
      { type: "OTHER-ADDRESS", value: { ip: "2001:db8::1", port: 3479 } },
      { type: 0xc001, value: Uint8Array.of(1, 2, 3) },
    ],
  } as const;
  const decoded = decodeMessage(encodeMessage(message));
  assertEquals(decoded, message);
  assertEquals(getAttribute(decoded, "OTHER-ADDRESS"), { ip: "2001:db8::1", port: 3479 });
});
