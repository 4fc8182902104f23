import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { REPLAY_LIMITS, ReplayGuard } from "../../lib/peer/replay_guard.ts";
import {
  decodeConnectionRequest,
  decodeRejection,
  encodeConnectionRequest,
  encodeRejection,
} from "../../lib/peer/signaling_message.ts";
import { decodeRelayState, encodeRelayState } from "../../lib/peer/relay_offer.ts";
import { MalformedMessageError } from "../../lib/base/errors.ts";

const NOW_MS = 1_790_000_000_000;

Deno.test("a knock says what it was told to", () => {
  for (
    const [resumes, wants] of [[null, "any"], [
      "00112233445566778899aabbccddeeff",
      "direct",
    ]] as const
  ) {
    const knock = {
      sentAtMs: NOW_MS,
      protocol: "chat/1",
      resumes,
      wants,
      body: Uint8Array.of(1, 2),
    };
    assertEquals(decodeConnectionRequest(encodeConnectionRequest(knock)), knock);
  }
});

Deno.test("encodeKnock() refuses a protocol with too long a name", () => {
  const knock = { sentAtMs: 0, resumes: null, wants: "any" as const, body: new Uint8Array(0) };
  assertThrows(() => encodeConnectionRequest({ ...knock, protocol: "x".repeat(65) }), RangeError);
});

Deno.test("a decline says what it was told to", () => {
  for (const why of ["refused", "protocol", "clock", "unknown"] as const) {
    assertEquals(decodeRejection(encodeRejection({ why, timeMs: NOW_MS })), {
      why,
      timeMs: NOW_MS,
    });
  }
});

Deno.test("a relay state says what it was told to", () => {
  const state = {
    nonce: "00112233445566778899aabbccddeeff",
    mayOffer: true,
    version: 3,
    heard: 2,
    ips: ["192.0.2.1", "2001:db8::1"],
    relayed: [{ ip: "192.0.2.9", port: 49_152 }],
  };
  assertEquals(decodeRelayState(encodeRelayState(state)), state);
});

for (
  const [name, bad] of Object.entries({
    nonce: { nonce: "12" },
    version: { version: -1 },
    heard: { heard: 0.5 },
    ips: { ips: ["example.org"] },
    "too many ips": { ips: Array.from({ length: 9 }, () => "192.0.2.1") },
    relayed: { relayed: ["192.0.2.9"] },
  })
) {
  Deno.test(`decodeRelayState() refuses a state with a wrong field: ${name}`, () => {
    const good = { nonce: "00".repeat(16), version: 1, heard: 0, ips: [], relayed: [] };
    const bytes = new TextEncoder().encode(JSON.stringify({ ...good, ...bad }));
    assertThrows(() => decodeRelayState(bytes), MalformedMessageError);
  });
}

Deno.test("decoders of the conversation throw nothing but MalformedMessageError", () => {
  const json = fc.json().map((text) => new TextEncoder().encode(text));
  fc.assert(fc.property(fc.oneof(json, fc.uint8Array()), (bytes) => {
    for (const decode of [decodeConnectionRequest, decodeRejection, decodeRelayState]) {
      try {
        decode(bytes);
      } catch (error) {
        assert(error instanceof MalformedMessageError, `${error}`);
      }
    }
  }));
});

Deno.test("KnockGuard takes a knock once", () => {
  const guard = new ReplayGuard();
  const knock = knockOf(1);
  assertEquals(guard.isRepeated(knock.ephemeralKey, NOW_MS), false);
  assertEquals(guard.judge(knock, NOW_MS), "fresh");
  assertEquals(guard.isRepeated(knock.ephemeralKey, NOW_MS), true);
});

Deno.test("KnockGuard remembers a knock for longer than it is fresh", () => {
  const guard = new ReplayGuard();
  const { maxClockDifferenceMs } = REPLAY_LIMITS;
  const early = { ...knockOf(1), sentAtMs: NOW_MS + maxClockDifferenceMs };
  assertEquals(guard.judge(early, NOW_MS), "fresh");
  const lastMs = NOW_MS + 2 * maxClockDifferenceMs;
  assertEquals(guard.isRepeated(early.ephemeralKey, lastMs - 1), true);
  assertEquals(guard.isRepeated(early.ephemeralKey, lastMs), false);
  assertEquals(guard.judge(early, lastMs + 1), "wrong-clock");
});

Deno.test("KnockGuard refuses knocks of another day", () => {
  const guard = new ReplayGuard();
  for (const difference of [-1, 1]) {
    const sentAtMs = NOW_MS + difference * (REPLAY_LIMITS.maxClockDifferenceMs + 1);
    assertEquals(guard.judge({ ...knockOf(difference + 5), sentAtMs }, NOW_MS), "wrong-clock");
  }
});

Deno.test("KnockGuard lets one key not take all the attention, and others in", () => {
  const guard = new ReplayGuard({ ...REPLAY_LIMITS, burstPerKey: 3, perKeyPerSecond: 1 });
  const verdicts = Array.from({ length: 5 }, (_, i) => guard.judge(knockOf(i), NOW_MS));
  assertEquals(verdicts, ["fresh", "fresh", "fresh", "too-many", "too-many"]);
  const other = { ...knockOf(9), remoteKey: Uint8Array.of(2) };
  assertEquals(guard.judge(other, NOW_MS), "fresh");
  assertEquals(guard.judge({ ...knockOf(10), sentAtMs: NOW_MS }, NOW_MS + 1000), "fresh");
});

Deno.test("KnockGuard remembers no more than it may", () => {
  const guard = new ReplayGuard({ ...REPLAY_LIMITS, maxRemembered: 2, burstPerKey: 100 });
  const verdicts = Array.from({ length: 3 }, (_, i) => guard.judge(knockOf(i), NOW_MS));
  assertEquals(verdicts, ["fresh", "fresh", "too-many"]);
});

function knockOf(index: number) {
  return {
    ephemeralKey: Uint8Array.of(index),
    remoteKey: Uint8Array.of(1),
    sentAtMs: NOW_MS,
  };
}
