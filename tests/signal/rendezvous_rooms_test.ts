import { assertEquals } from "@std/assert";
import fc from "fast-check";
import {
  decodeNotice,
  encodeNotice,
  isRoomName,
  roomOfPath,
} from "../../lib/signal/rendezvous/message.ts";
import { RendezvousRooms } from "../../lib/signal/rendezvous/rooms.ts";

const LIMITS = { maxRooms: 2, messageBurst: 3, messagesPerSecond: 2 };

function newRooms(): RendezvousRooms<string> {
  return new RendezvousRooms(LIMITS);
}

Deno.test("a room has two members, and a third is refused until one has left", () => {
  const rooms = newRooms();
  assertEquals(rooms.join("r", "a", 0), { kind: "joined", peer: undefined });
  assertEquals(rooms.join("r", "b", 0), { kind: "joined", peer: "a" });
  assertEquals(rooms.join("r", "c", 0), { kind: "refused", why: "room-full" });
  assertEquals(rooms.leave("a"), "b");
  assertEquals(rooms.join("r", "c", 0), { kind: "joined", peer: "b" });
});

Deno.test("rooms are limited, and free again once they are empty", () => {
  const rooms = newRooms();
  rooms.join("r", "a", 0);
  rooms.join("s", "b", 0);
  assertEquals(rooms.join("t", "c", 0), { kind: "refused", why: "no-room-free" });
  assertEquals(rooms.join("r", "c", 0).kind, "joined");
  assertEquals([rooms.leave("c"), rooms.leave("a"), rooms.leave("a")], ["a", undefined, undefined]);
  assertEquals(rooms.size, 1);
  assertEquals(rooms.join("t", "c", 0).kind, "joined");
});

Deno.test("messages go to the other member of the room, and to no one else", () => {
  const rooms = newRooms();
  rooms.join("r", "a", 0);
  rooms.join("s", "x", 0);
  assertEquals(rooms.route("a", 0), { kind: "no-peer" });
  rooms.join("r", "b", 0);
  assertEquals(rooms.route("a", 0), { kind: "to", peer: "b" });
  assertEquals(rooms.route("b", 0), { kind: "to", peer: "a" });
  rooms.leave("a");
  assertEquals([rooms.route("a", 0), rooms.route("b", 0)], [
    { kind: "no-peer" },
    { kind: "no-peer" },
  ]);
});

Deno.test("messages of each member are limited, and the bucket refills with time", () => {
  const rooms = newRooms();
  rooms.join("r", "a", 0);
  rooms.join("r", "b", 0);
  const kinds = (nowMs: number, count: number) =>
    Array.from({ length: count }, () => rooms.route("a", nowMs).kind);
  assertEquals(kinds(0, 4), ["to", "to", "to", "too-many"]);
  assertEquals(rooms.route("b", 0).kind, "to");
  assertEquals(kinds(499, 1), ["too-many"]);
  assertEquals(kinds(501, 2), ["to", "too-many"]);
  assertEquals(kinds(1_000_000, 4), ["to", "to", "to", "too-many"]);
});

Deno.test("in any order of joining and leaving, no room has three members, and the count is right", () => {
  const member = fc.integer({ min: 0, max: 9 });
  const step = fc.tuple(fc.boolean(), member, fc.constantFrom("r", "s", "t"));
  fc.assert(fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
    const rooms = new RendezvousRooms<number>(LIMITS);
    const inside = new Map<number, string>();
    for (const [joins, who, room] of steps) {
      if (!joins) {
        rooms.leave(who);
        inside.delete(who);
      } else if (!inside.has(who)) {
        if (rooms.join(room, who, 0).kind === "joined") inside.set(who, room);
      }
      const names = [...inside.values()];
      assertEquals(rooms.size, new Set(names).size);
      assertEquals(names.some((name) => names.filter((other) => other === name).length > 2), false);
      assertEquals(rooms.size <= LIMITS.maxRooms, true);
    }
  }));
});

Deno.test("roomOfPath() accepts only names that URLs do not change", () => {
  const good = ["/a", "/A-b._~9", `/${"x".repeat(64)}`];
  assertEquals(good.map(roomOfPath), good.map((path) => path.slice(1)));
  for (
    const bad of ["/", "/a/b", "/a?b", "/%41", "/é", `/${"x".repeat(65)}`, "/a b", "/.", "/.."]
  ) {
    assertEquals(roomOfPath(bad), undefined, bad);
  }
  fc.assert(fc.property(fc.string(), (name) => {
    if (isRoomName(name)) assertEquals(new URL(`ws://a/${name}`).pathname, `/${name}`);
  }));
});

Deno.test("notices round-trip through encode and decode, and other text decodes to unknown", () => {
  for (
    const [notice, text] of [
      [{ kind: "peer", isPresent: true }, '{"peer":"present"}'],
      [{ kind: "peer", isPresent: false }, '{"peer":"absent"}'],
      [{ kind: "ping", id: 7 }, '{"ping":7}'],
      [{ kind: "pong", id: 123456789 }, '{"pong":123456789}'],
    ] as const
  ) {
    assertEquals(encodeNotice(notice), text);
    assertEquals(decodeNotice(text), notice);
  }
  const others = [
    "",
    "{}",
    '{"peer":7}',
    '{"ping":"present"}',
    '{"ping":1e9}',
    '{"pong":-1}',
    "null",
  ];
  for (const text of others) assertEquals(decodeNotice(text), { kind: "unknown" }, text);
});
